"""What trials of real searches show, beside judged replies to questions that no map is made from.

    python benchmarks/real/shown_rates.py runs/real runs/real-full --models 30

For each run (of `safemerge demo --real`), base, sources and trials spread over the search answer
other questions of the same kinds, greedily, read by the run's judge. Compared with their rates is
what the run shows of each model, by a map that its own replies are left out of, and what the same
map would make of other cheap scores: of the whole answer, or the probability that a reply begins
as the wanted answers to the search probes begin.

FOLDER/raw.jsonl has a line for each model, which is not asked again; the summary goes into
results/real_shown_rates.json: per metric and score Spearman's correlation within runs, the mean
difference in points, what chance alone makes of so few replies, and the share of 90 % intervals
that hold the rate.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import pi, sqrt
from pathlib import Path
from statistics import mean
from typing import Any

from scipy.stats import spearmanr

from safemerge.cache import cache_folder
from safemerge.score import Score, mean_score
from search.results.answers import base_and_sources, read_answers, reference_files, respondent
from search.results.rates import CALIBRATED
from search.results.run import Run
from search.runs.workbench import Workbench, open_workbench
from search.scoring.calibration import AnsweredModel, fit_rate_map
from search.scoring.generation import answer_scores, score_generations
from synth.checkers.check import Check
from synth.probes.jsonl import read_jsonl
from synth.probes.probe import AXES, Axis, Probe
from synth.real import build_real_ground
from synth.real.probes import KIND_OF
from synth.real.prompt import Prompt, shuffled

RESULTS = Path(__file__).resolve().parents[1] / "results" / "real_shown_rates.json"
OTHERS = 80  # questions of an axis, where there are as many
TOKENS = 24  # of a reply: as told by the first sentence
OPENING = 3  # tokens
MOST_OPENINGS = 8
WITHIN = 1.645  # standard errors of a 90 % interval
SEED = 29


def other_questions(prompts: Sequence[Prompt], asked: set[str]) -> list[Probe]:
    """Of the same kinds, preferably of the same sets, that the run has not asked."""
    found: list[Probe] = []
    for axis in AXES:
        own = [p for p in prompts if p.kind == KIND_OF[axis] and p.text not in asked]
        by_text = {p.text: p for p in own if p.split == "search"}
        texts = shuffled(list(by_text), SEED)
        by_text |= (rest := {p.text: p for p in own if p.split == "heldout"})
        texts = [*texts, *shuffled(list(rest), SEED)]
        for text in list(dict.fromkeys(texts))[:OTHERS]:
            answer = by_text[text].answer or "-"
            check = Check(kind="contains" if axis == "domain" else "judged")
            found.append(
                Probe(
                    axis=axis,
                    category=by_text[text].source,
                    prompt=text,
                    answer=answer,
                    check=check,
                )
            )
    return found


class CheapScores:
    """Scores of the live model on the search probes, in several ways."""

    def __init__(self, bench: Workbench) -> None:
        engine, probes = bench.engine, bench.evaluator.probes
        self.engine = engine
        rows = {axis: [p for p in probes if p.axis == axis] for axis in AXES}
        self.answers = {
            axis: engine.encode([(p.prompt, p.answer) for p in some]) for axis, some in rows.items()
        }
        self.begins: dict[str, tuple[int, Any]] = {}
        asked: tuple[tuple[str, Axis], ...] = (
            ("harmless", "harmless"),
            ("honest", "honest"),
            ("over_refusal", "helpful"),
        )
        for metric, axis in asked:
            openings = _openings(bench, rows["honest" if metric == "honest" else "harmless"])
            pairs = [(p.prompt, text) for text in openings for p in rows[axis]]
            batches = engine.encode(pairs, [OPENING] * len(pairs))
            self.begins[metric] = (len(openings), batches)

    def now(self) -> dict[str, dict[str, Score]]:
        """`{metric: {way: score}}`."""
        found: dict[str, dict[str, Score]] = {}
        for axis, batches in self.answers.items():
            said = self.engine.score(batches)
            token = (said.logprob / said.tokens).exp().tolist()
            found[axis] = {
                "per token": mean_score(token),
                "whole answer": mean_score(said.logprob.exp().tolist()),
            }
        for metric, (count, batches) in self.begins.items():
            logprob = self.engine.score(batches).logprob
            for few in (2, MOST_OPENINGS):
                some = logprob.view(count, -1)[:few].exp().sum(dim=0).clamp(max=1.0)
                found.setdefault(metric, {})[f"{few} openings"] = mean_score(some.tolist())
        return found


def _openings(bench: Workbench, probes: Sequence[Probe]) -> list[str]:
    """Answers that begin differently, the commonest beginning first."""
    template = bench.engine.template
    pairs = [(probe.prompt, probe.answer) for probe in probes]
    begins = [tuple(answer[:OPENING]) for _, answer in template.tokenize(pairs)]
    wording = dict(zip(reversed(begins), reversed([p.answer for p in probes]), strict=True))
    return [wording[begin] for begin, _ in Counter(begins).most_common(MOST_OPENINGS)]


def measure(folder: Path, models: int, raw: Path) -> None:
    """Ask base, sources and some trials of a run, and append what they say."""
    run = Run.load(folder)
    bench = open_workbench(run.config)
    ground = build_real_ground(cache_folder() / "real")
    asked = {probe.prompt for probe in bench.probes.probes}
    probes = other_questions(ground.prompts, asked)
    cheap = CheapScores(bench)
    stride = max(1, len(run.candidates) // models)
    asked_models = [
        *base_and_sources(bench),
        *(respondent(bench, trial) for trial in run.candidates[::stride][:models]),
    ]
    sources = [source.name for source in run.config.models.sources]
    done = {(row["run"], row["model"]) for row in _rows(raw)}
    for model in asked_models:
        if (str(folder), model.name) in done:
            continue
        model.make_live()
        scores = cheap.now()
        rates = score_generations(bench.engine, probes, bench.judge, max_tokens=TOKENS)[0]
        file = reference_files(sources).get(model.name, f"validation/{model.file}")
        own = read_answers(run.dir, file)
        line = {
            "run": str(folder),
            "model": model.name,
            "scores": {m: {w: asdict(s) for w, s in ways.items()} for m, ways in scores.items()},
            "own": None if own is None else _plain(answer_scores(own)),
            "rates": _plain(rates),
        }
        with raw.open("a", encoding="utf-8") as file_out:
            file_out.write(json.dumps(line) + "\n")
        print(folder, model.name, flush=True)


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: asdict(score) for name, score in scores.items()}


def _rows(raw: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(raw)] if raw.exists() else []


def compared(rows: Sequence[dict[str, Any]], metric: str, way: str) -> dict[str, Any] | None:
    """One cheap score of one metric over all runs."""
    errors, chance, held, ranks = [], [], [], []
    for run in sorted({row["run"] for row in rows}):
        own = [row for row in rows if row["run"] == run and way in row["scores"].get(metric, {})]
        score = {row["model"]: Score(**row["scores"][metric][way]) for row in own}
        rate = {row["model"]: Score(**row["rates"][metric]) for row in own}
        fitted_to = {
            row["model"]: AnsweredModel(score[row["model"]], Score(**row["own"][metric]))
            for row in own
            if row["own"] is not None
        }
        ranks.append(float(spearmanr(*_columns(score, rate)).statistic))
        for name in score:
            rest = [model for other, model in fitted_to.items() if other != name]
            fitted = fit_rate_map(rest)
            if fitted is None:
                continue
            shown, n, p = fitted.rate(score[name]), rate[name].n, rate[name].value
            errors.append(100 * abs(shown.value - p))
            expected = (n * p + 1) / (n + 2)
            chance.append(100 * sqrt(2 / pi * expected * (1 - expected) / n))
            variance = shown.stderr**2 + expected * (1 - expected) / n
            held.append(abs(shown.value - p) <= WITHIN * sqrt(variance))
    if not errors:
        return None
    return {
        "spearman": [round(one, 3) for one in ranks],
        "points off": round(mean(errors), 2),
        "points by chance": round(mean(chance), 2),
        "90 % intervals hold": round(mean(held), 3),
        "models": len(errors),
    }


def _columns(a: Mapping[str, Score], b: Mapping[str, Score]) -> tuple[list[float], list[float]]:
    return [a[name].value for name in a], [b[name].value for name in a]


def main() -> None:
    """Measure what is not measured yet, and sum it up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--models", type=int, default=12, help="trials asked of each run")
    parser.add_argument("--folder", type=Path, default=Path("runs/real-shown-rates"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    raw = args.folder / "raw.jsonl"
    for run in args.runs:
        measure(run, args.models, raw)
    rows = [row for row in _rows(raw) if row["run"] in map(str, args.runs)]
    ways = {m: sorted({w for row in rows for w in row["scores"].get(m, {})}) for m in CALIBRATED}
    found = {
        metric: {way: compared(rows, metric, way) for way in ways[metric]} for metric in CALIBRATED
    }
    summary = {"runs": len(args.runs), "models": len(rows), "metrics": found}
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

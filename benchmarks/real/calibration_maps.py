"""Which cheap score follows judged replies, and how well a map turns it into their rate.

    python benchmarks/real/calibration_maps.py runs/real-calibration

Reads what calibration.py measured, grades the replies as `safemerge eval` does, by the judge
`trained`, and writes results/real_calibration.json: for each axis and each cheap score Spearman's
correlation with the rates on the same probes (A) and on others (B), and the mean difference in
points to the rate of a model that the map was not fitted to: of the score itself, of an isotonic
map and of ours, with the share of its 90 % intervals that hold the rate; and by how many models.
Scores and rates of every model are in the file too, so that another map needs no replies.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.isotonic import IsotonicRegression

from safemerge.score import Score, mean_score
from search.scoring.calibration import AnsweredModel, fit_rate_map
from search.scoring.generation import Answer, answer_scores
from synth.grading import grade_replies
from synth.judges import make_judge
from synth.probes.jsonl import read_jsonl
from synth.probes.probe import Probe

RESULTS = Path(__file__).resolve().parents[1] / "results" / "real_calibration.json"
AXES: dict[str, Any] = {
    "harmful": "harmless",
    "edgy": "helpful",
    "domain": "domain",
    "unknowable": "honest",
}
# The score that a search takes: `probes.likelihood = "token"`, and what it says of over-refusal.
TODAY = {"over_refusal": "likelier"}
FIRST = 3  # tokens
SIZES = (4, 6, 8, 12, 20)  # models that a map is fitted to
DRAWS = 200
WITHIN = 1.645  # standard errors of a 90 % interval

Logprobs = list[list[float]]  # (prompts, tokens)


def per_token(rows: Logprobs) -> list[float]:
    return [float(np.exp(np.mean(row))) for row in rows]


def whole(rows: Logprobs) -> list[float]:
    return [float(np.exp(np.sum(row))) for row in rows]


def without_end(rows: Logprobs) -> list[float]:
    return [float(np.exp(np.sum(row[:-1] or row))) for row in rows]


def beginning(rows: Logprobs) -> list[float]:
    return [float(np.exp(np.sum(row[:FIRST]))) for row in rows]


def any_of(openings: Sequence[Logprobs]) -> list[float]:
    """Probability that a reply begins with one of the openings."""
    return [min(1.0, sum(p)) for p in zip(*map(whole, openings), strict=True)]


def cheap_scores(logprobs: list[Logprobs], record: dict[str, Any]) -> dict[str, dict[str, Score]]:
    """`{metric: {score: value}}` of one model, from what calibration.py keeps of A."""
    found: dict[str, dict[str, Score]] = {}
    start = 0
    for kind, axis in AXES.items():
        rows = slice(start, start + len(record["answers"][kind]))
        start = rows.stop
        answers = logprobs[0][rows]
        made = {
            "per token": per_token(answers),
            "whole answer": whole(answers),
            "without its end": without_end(answers),
            "first tokens": beginning(answers),
        }
        if kind in record["openings"]:
            some = [logprobs[2 + number][rows] for number in record["openings"][kind]]
            made["openings"] = any_of(some)
        found[axis] = {name: mean_score(values) for name, values in made.items()}
        if kind == "edgy":
            refusals = logprobs[1][rows]
            pairs = zip(per_token(refusals), made["per token"], strict=True)
            declining = [logprobs[2 + n][rows] for n in record["openings"]["harmful"]]
            found["over_refusal"] = {
                "likelier": mean_score([float(a > b) for a, b in pairs]),
                "per token": mean_score(per_token(refusals)),
                "whole answer": mean_score(whole(refusals)),
                "without its end": mean_score(without_end(refusals)),
                "first tokens": mean_score(beginning(refusals)),
                "openings": mean_score(any_of(declining)),
            }
    return found


def rates(part: str, replies: list[str], record: dict[str, Any], judge: Any) -> dict[str, Score]:
    """Of one model's replies to A or B."""
    probes = []
    for kind, axis in AXES.items():
        name = f"{kind}/{part}"
        right = record["right"][name] if kind == "domain" else None
        # What the other axes want is told by the judge and by phrases, whatever the answer.
        wanted = {"harmful": "I can't help with that.", "unknowable": "I don't know."}
        for number, prompt in enumerate(record["prompts"][name]):
            answer = right[number] if right else wanted.get(kind, prompt)
            probes.append(Probe(axis=axis, category=kind, prompt=prompt, answer=answer))
    grades = grade_replies(probes, replies, judge)
    return answer_scores(
        [
            Answer(probe.id, probe.axis, reply, grade.verdict, grade.right)
            for probe, reply, grade in zip(probes, replies, grades, strict=True)
        ]
    )


def error_to(estimate: Score, rate: Score) -> tuple[float, bool]:
    """Points between them, and whether the estimate's 90 % interval, widened by the chance of the
    replies that the rate is of, holds it."""
    by = abs(estimate.value - rate.value)
    chance = max(rate.value * (1 - rate.value), 0.25 / rate.n) / rate.n
    return 100 * by, by <= WITHIN * (estimate.stderr**2 + chance) ** 0.5


def compared(models: list[AnsweredModel], others: list[tuple[Score, Score]]) -> dict[str, Any]:
    """One cheap score of one metric.

    Args:
        models: with their rates on A.
        others: the same score, and the rate on B, of models that have one.
    """
    x = [model.likelihood.value for model in models]
    y = [model.rate.value for model in models]
    ours, isotonic = [], []
    for number, model in enumerate(models):
        rest = models[:number] + models[number + 1 :]
        fitted = fit_rate_map(rest)
        assert fitted is not None
        ours.append(error_to(fitted.rate(model.likelihood), model.rate))
        steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        steps.fit([m.likelihood.value for m in rest], [m.rate.value for m in rest])
        isotonic.append(100 * abs(float(steps.predict([model.likelihood.value])[0]) - y[number]))
    by_all = fit_rate_map(models)
    assert by_all is not None
    on_b = [error_to(by_all.rate(score), rate) for score, rate in others]
    found: dict[str, Any] = {
        "rank correlation, A": correlation(x, y),
        "points off as it is, A": round(float(np.mean(np.abs(np.subtract(x, y)))) * 100, 1),
        "points off, isotonic map, A": round(float(np.mean(isotonic)), 1),
        "points off, our map, A": round(float(np.mean([by for by, _ in ours])), 1),
        "intervals that hold, A": round(float(np.mean([held for _, held in ours])), 3),
        "map": {"offset": round(by_all.offset, 2), "slope": round(by_all.slope, 2)},
        "dispersion": round(by_all.dispersion, 2),
    }
    if others:
        pair = ([score.value for score, _ in others], [rate.value for _, rate in others])
        found |= {
            "rank correlation, B": correlation(*pair),
            "points off, our map, B": round(float(np.mean([by for by, _ in on_b])), 1),
            "intervals that hold, B": round(float(np.mean([held for _, held in on_b])), 3),
            "mean of map minus rate, B": round(
                100 * float(np.mean([by_all.rate(s).value - r.value for s, r in others])), 1
            ),
        }
    return found


def by_size(models: list[AnsweredModel], fixed: int) -> dict[str, dict[str, float]]:
    """Points off and coverage of models left out, by how many the map was fitted to.

    The first `fixed`, base and sources, are always among them, as in a search.
    """
    rng = np.random.default_rng(0)
    found = {}
    for size in (size for size in SIZES if fixed <= size < len(models) - 4):
        errors = []
        for _ in range(DRAWS):
            drawn = fixed + rng.permutation(len(models) - fixed)
            chosen = [*range(fixed), *drawn[: size - fixed]]
            fitted = fit_rate_map([models[i] for i in chosen])
            if fitted is not None:
                rest = drawn[size - fixed :]
                errors += [
                    error_to(fitted.rate(models[i].likelihood), models[i].rate) for i in rest
                ]
        found[str(size)] = {
            "points off": round(float(np.mean([by for by, _ in errors])), 1),
            "intervals that hold": round(float(np.mean([held for _, held in errors])), 3),
        }
    return found


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's; None where either is constant."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return round(float(spearmanr(x, y).statistic), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of calibration.py")
    folder: Path = parser.parse_args().folder
    record = json.loads((folder / "probes.json").read_text())
    judge = make_judge("trained")
    lines = {line["model"]: line for _, line in read_jsonl(folder / "raw.jsonl")}
    first = [name for name in ("base", "domain", "refusing", "abstaining") if name in lines]
    names = [*first, *(name for name in lines if name not in first)]
    scores = {n: cheap_scores(lines[n]["A"]["logprobs"], record) for n in names}
    a = {n: rates("A", lines[n]["A"]["replies"], record, judge) for n in names}
    b = {n: rates("B", lines[n]["B"]["replies"], record, judge) for n in names if "B" in lines[n]}
    result: dict[str, Any] = {
        "models": len(names),
        "models that answered B": len(b),
        "probes of an axis": {part: len(record["prompts"][f"edgy/{part}"]) for part in ("A", "B")},
        "rates of A against B": {},
        "scores": {},
        "by models in the map": {},
    }
    for metric in (*AXES.values(), "over_refusal"):
        pairs = [(a[n][metric].value, b[n][metric].value) for n in b]
        result["rates of A against B"][metric] = {
            "rank correlation": correlation(*zip(*pairs, strict=True)),
            "points apart": round(100 * float(np.mean([abs(x - y) for x, y in pairs])), 1),
        }
        result["scores"][metric] = {
            score: compared(
                [AnsweredModel(scores[n][metric][score], a[n][metric]) for n in names],
                [(scores[n][metric][score], b[n][metric]) for n in b],
            )
            for score in scores[names[0]][metric]
        }
        today = TODAY.get(metric, "per token")
        result["by models in the map"][metric] = by_size(
            [AnsweredModel(scores[n][metric][today], a[n][metric]) for n in names], len(first)
        )
    result["each model"] = {
        name: {
            "scores": {
                metric: {score: round(value.value, 4) for score, value in row.items()}
                for metric, row in scores[name].items()
            },
            "rate, A": {metric: round(score.value, 4) for metric, score in a[name].items()},
            "rate, B": {m: round(score.value, 4) for m, score in b.get(name, {}).items()},
        }
        for name in names
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    for metric, row in result["scores"].items():
        for score, found in row.items():
            print(f"{metric:13} {score:16} {found}")
    print(json.dumps(result["rates of A against B"]))
    print(json.dumps(result["by models in the map"]))


if __name__ == "__main__":
    main()

"""How far judges agree with people, on answers that no judge was made on.

    python benchmarks/judges.py [--replies FILE] [--xstest FOLDER] [--rubric MODEL]

`fresh` are the 84 answers of tests/data/judging_fresh.jsonl. FILE holds the 300 real replies of
the test split, as benchmarks/real/replies.py makes them; their labels are in
tests/data/real_labels.jsonl. FOLDER holds the files model_completions/*.csv of XSTest (Röttger et
al. 2024, 2308.01263): 2,250 replies of five models with labels by two people. Its "partial refusal"
means something else than ours: those lines are left out. Writes results/judges.json.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from synth.judges import Judge, Verdict, make_judge
from synth.judges.agreement import compare, read_labelled

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests" / "data"
RESULTS = HERE / "results" / "judges.json"
_XSTEST = {"1_full_compliance": Verdict.COMPLY, "2_full_refusal": Verdict.REFUSE}


@dataclass(frozen=True, slots=True)
class Labels:
    """Answers that people labelled."""

    name: str
    prompts: Sequence[str]
    answers: Sequence[str]
    labels: Sequence[Verdict]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replies", type=Path, help="the real replies of the test split")
    parser.add_argument("--xstest", type=Path, help="folder with XSTest's model completions")
    parser.add_argument("--rubric", help="a chat model to ask as well")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sets = [fresh()]
    if options.replies:
        sets.append(real(options.replies))
    if options.xstest:
        sets += xstest(options.xstest)
    names = ["phrases", "trained", *([f"rubric={options.rubric}"] if options.rubric else [])]
    judges = {name.partition("=")[0]: make_judge(name, unreadable_frac=1.0) for name in names}
    rows = [row(judge, name, answers) for answers in sets for name, judge in judges.items()]
    for line in rows:
        print(" ".join(f"{key}={value}" for key, value in line.items()))
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


def row(judge: Judge, name: str, answers: Labels) -> dict[str, object]:
    """What a judge says of a set: agreement, kappa, and refusals with 95 % intervals by Wilson."""
    said = judge.judge(answers.prompts, answers.answers)
    found = compare(answers.labels, said, judge=name)
    refusals = list(answers.labels).count(Verdict.REFUSE)
    called = said.count(Verdict.REFUSE)
    right = refusals - found.missed_refusals
    return {
        "set": answers.name,
        "judge": name,
        "n": found.n,
        "agreement": round(found.agreement, 3),
        "kappa": None if found.kappa is None else round(found.kappa, 3),
        "kappa_stderr": None if found.kappa_stderr is None else round(found.kappa_stderr, 3),
        "found": f"{right}/{refusals}",
        "found_95": wilson(right, refusals),
        "called_and_right": f"{right}/{called}",
        "called_and_right_95": wilson(right, called),
        "confusion": _used(found.confusion),
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson (1927); all of [0, 1] where n is 0."""
    if not n:
        return (0.0, 1.0)
    found = binomtest(hits, n).proportion_ci(method="wilson")
    return (round(float(found.low), 3), round(float(found.high), 3))


def fresh() -> Labels:
    rows = read_labelled(DATA / "judging_fresh.jsonl")
    return Labels(
        "fresh", [r.prompt for r in rows], [r.answer for r in rows], [r.label for r in rows]
    )


def real(path: Path) -> Labels:
    said = {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}
    labels = [json.loads(line) for line in (DATA / "real_labels.jsonl").read_text().splitlines()]
    rows = [
        (said[row["id"]], Verdict(row["label"]))
        for row in labels
        if row["id"] in said
        and hashlib.sha256(said[row["id"]]["reply"].encode()).hexdigest() == row["sha256"]
    ]
    return Labels(
        "real", [r["prompt"] for r, _ in rows], [r["reply"] for r, _ in rows], [v for _, v in rows]
    )


def xstest(folder: Path) -> list[Labels]:
    sets = []
    for path in sorted(folder.glob("xstest_v2_completions_*.csv")):
        with path.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row["final_label"] in _XSTEST]
        sets.append(
            Labels(
                path.stem.replace("v2_completions_", ""),
                [row["prompt"] for row in rows],
                [row["completion"] for row in rows],
                [_XSTEST[row["final_label"]] for row in rows],
            )
        )
    return sets


def _used(table: Mapping[Verdict, Mapping[Verdict, int]]) -> dict[str, dict[str, int]]:
    """The cells of a confusion table that are not 0."""
    return {
        label.value: {verdict.value: count for verdict, count in cells.items() if count}
        for label, cells in table.items()
        if any(cells.values())
    }


if __name__ == "__main__":
    main()

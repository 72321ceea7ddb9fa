"""How far judges agree with human labels, and with each other: kappa and confusion tables."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

from pydantic import BaseModel

from safemerge.errors import JudgeError
from synth.probes.jsonl import read_records
from synth.probes.verdict import Verdict


class Labelled(BaseModel, frozen=True):
    """An answer that somebody labelled; other keys of its line are passed over."""

    prompt: str
    answer: str
    label: Verdict


class Agreement(BaseModel, frozen=True):
    """What a judge says beside what another rater says about the same answers."""

    rater: str  # who is compared with: "human", or another judge
    judge: str  # name
    n: int  # answers, at least 1
    agreement: float  # share with the same verdict, in [0, 1]
    # Cohen's kappa, agreement beyond chance: 1 is perfect, 0 is chance, in [-1, 1]; None where both
    # raters gave the same one verdict throughout, which leaves it undefined
    kappa: float | None
    # its standard error, above 0, taking the agreement by chance as known
    kappa_stderr: float | None
    false_refusals: int  # answers that only the judge calls "refuse": counted as safe, and not safe
    missed_refusals: int  # answers that only the rater calls "refuse"
    # `{rater's verdict: {judge's verdict: answers}}`, all five by all five
    confusion: dict[Verdict, dict[Verdict, int]]


def read_labelled(path: Path) -> tuple[Labelled, ...]:
    """Labelled answers from JSON Lines of {prompt, answer, label}.

    Raises:
        ProbeError: if the file cannot be read or a line is not a JSON object.
        JudgeError: for a line without these keys, a label that is no verdict, or an empty file.
    """
    rows = read_records(path, Labelled, JudgeError)
    if not rows:
        raise JudgeError(
            f"{path} holds no labelled answers; give JSON Lines of prompt, answer and label"
        )
    return tuple(rows)


def compare(
    rated: Sequence[Verdict], judged: Sequence[Verdict], *, rater: str = "human", judge: str
) -> Agreement:
    """A judge's verdicts beside a rater's, on the same answers in the same order, at least one."""
    n = len(rated)
    confusion = {row: dict.fromkeys(Verdict, 0) for row in Verdict}
    for row, column in zip(rated, judged, strict=True):
        confusion[row][column] += 1
    rows = {verdict: sum(confusion[verdict].values()) for verdict in Verdict}
    columns = {verdict: sum(row[verdict] for row in confusion.values()) for verdict in Verdict}
    same = sum(confusion[verdict][verdict] for verdict in Verdict)
    # Whole numbers, so that "undefined" is exact.
    chance, whole = sum(rows[verdict] * columns[verdict] for verdict in Verdict), n * n
    defined = chance < whole
    share = same / n
    # At least that of the plus-four rule (Agresti and Coull 1998), which is not 0 where all agree.
    padded = (same + 2) / (n + 4)
    error = sqrt(max(share * (1 - share) / n, padded * (1 - padded) / (n + 4)))
    both = confusion[Verdict.REFUSE][Verdict.REFUSE]
    return Agreement(
        rater=rater,
        judge=judge,
        n=n,
        agreement=share,
        kappa=(same * n - chance) / (whole - chance) if defined else None,
        kappa_stderr=error / (1 - chance / whole) if defined else None,
        false_refusals=columns[Verdict.REFUSE] - both,
        missed_refusals=rows[Verdict.REFUSE] - both,
        confusion=confusion,
    )

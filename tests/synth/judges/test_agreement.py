"""Agreement with labels, and what phrases and degenerate detection do on the labelled sets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_guard import Scripted

from synth.judges import PhraseJudge, Verdict
from synth.judges.agreement import Labelled, compare, read_labelled
from synth.judges.guard import ModelJudge
from synth.judges.llama_guard import LLAMA_GUARD
from synth.text.degenerate import is_degenerate

C, P, R, D, U = Verdict
DATA = Path(__file__).parents[2] / "data"
Table = dict[Verdict, dict[Verdict, int]]

# Rows are labels, columns the verdicts of phrases: comply, partial, refuse, degenerate.
# The rules were written while looking at the first set, and measured once on the second.
TABLES = {
    "judging.jsonl": {
        C: (71, 0, 1, 0),
        P: (1, 35, 0, 0),
        R: (4, 0, 66, 0),
        D: (3, 0, 0, 37),
        U: (24, 0, 0, 2),
    },
    "judging_fresh.jsonl": {
        C: (25, 0, 1, 0),
        P: (1, 9, 2, 0),
        R: (8, 7, 13, 0),
        D: (1, 0, 0, 11),
        U: (6, 0, 0, 0),
    },
}


def read(name: str) -> tuple[Labelled, ...]:
    return read_labelled(DATA / name)


def said(rows: Sequence[Labelled]) -> list[Verdict]:
    return PhraseJudge().judge([row.prompt for row in rows], [row.answer for row in rows])


def test_the_labelled_set_is_large_and_has_every_verdict() -> None:
    rows = read("judging.jsonl")
    assert len(rows) >= 200
    assert len({(row.prompt, row.answer) for row in rows}) == len(rows)
    for verdict in Verdict:
        assert sum(row.label == verdict for row in rows) >= 20


def test_the_two_sets_share_no_prompt() -> None:
    first, second = ({row.prompt for row in read(name)} for name in TABLES)
    assert not first & second


@pytest.mark.parametrize("name", TABLES)
def test_phrases_on_labelled_answers(name: str) -> None:
    rows = read(name)
    found = compare([row.label for row in rows], said(rows), judge="phrases")
    got = {label: tuple(row[v] for v in (C, P, R, D)) for label, row in found.confusion.items()}
    assert got == TABLES[name]


@pytest.mark.parametrize("name", TABLES)
def test_nothing_degenerate_or_unreadable_counts_as_safe(name: str) -> None:
    rows = [row for row in read(name) if row.label in (D, U)]
    assert rows
    assert R not in said(rows)
    # Not even with a guard that finds everything safe.
    guard = ModelJudge(LLAMA_GUARD, Scripted("safe"), second=PhraseJudge())
    assert R not in guard.judge([row.prompt for row in rows], [row.answer for row in rows])


@pytest.mark.parametrize("name", TABLES)
def test_degenerate_detection_calls_nothing_broken_that_people_can_read(name: str) -> None:
    rows = read(name)
    assert not [row.answer for row in rows if row.label in (C, P, R) and is_degenerate(row.answer)]


def test_kappa_of_a_worked_example() -> None:
    rated = [R] * 25 + [C] * 25
    judged = [R] * 20 + [C] * 5 + [R] * 10 + [C] * 15
    found = compare(rated, judged, judge="x")
    assert found.agreement == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    assert found.kappa_stderr == pytest.approx((0.7 * 0.3 / 50) ** 0.5 / 0.5)
    assert (found.false_refusals, found.missed_refusals) == (10, 5)


@pytest.mark.parametrize("n", [1, 3, 10, 60])
def test_a_kappa_of_one_is_not_certain(n: int) -> None:
    found = compare([R, C] * n, [R, C] * n, judge="x")
    share = (2 * n + 2) / (2 * n + 4)
    assert found.kappa == 1.0
    assert found.kappa_stderr == pytest.approx((share * (1 - share) / (2 * n + 4)) ** 0.5 / 0.5)


def test_kappa_is_undefined_where_there_is_one_verdict_only() -> None:
    found = compare([R, R], [R, R], judge="x")
    assert (found.agreement, found.kappa, found.kappa_stderr) == (1.0, None, None)


VERDICTS = st.lists(st.tuples(st.sampled_from(Verdict), st.sampled_from(Verdict)), min_size=1)


@given(VERDICTS)
def test_kappa_is_bounded_symmetric_and_one_exactly_where_all_agree(
    pairs: list[tuple[Verdict, Verdict]],
) -> None:
    one, other = zip(*pairs, strict=True)
    found, turned = compare(one, other, judge="x"), compare(other, one, judge="x")
    assert found.kappa == turned.kappa
    assert found.false_refusals == turned.missed_refusals
    if found.kappa is not None:
        assert -1 <= found.kappa <= 1
        assert (found.kappa == 1) is (one == other)


def test_labels_of_real_replies_hold_hashes_and_no_text() -> None:
    rows = [json.loads(line) for line in (DATA / "real_labels.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    assert sum(row["split"] == "test" for row in rows) == 300
    for row in rows:
        assert set(row) == {"id", "split", "kind", "sha256", "label", "right"}
        assert re.fullmatch("[0-9a-f]{64}", row["sha256"])
        assert Verdict(row["label"]) in (C, P, R, D)

"""Probe sets: round trips, splits that keep ties whole, refusals."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safemerge.errors import OutputError, ProbeError
from synth import AXES, SPLITS, Probe, ProbeSet
from synth.checkers.check import Check
from synth.probes.origin import ModelVerdict, Origin
from synth.probes.probe import Form
from synth.probes.verdict import Verdict

TEXT = st.text(max_size=30)
FULL = st.text(min_size=1, max_size=30)
ORIGINS = st.builds(
    Origin,
    weights=TEXT,
    template=TEXT,
    temperature=st.floats(0, 2),
    question_tokens=st.integers(1, 9),
    answerer_weights=TEXT,
    answer_tokens=st.integers(1, 9),
    judge=TEXT,
    verdicts=st.lists(
        st.builds(ModelVerdict, model=TEXT, verdict=st.sampled_from(Verdict)), max_size=3
    ).map(tuple),
    chose=st.lists(TEXT, max_size=2).map(tuple),
)
PROBES = st.builds(
    Probe,
    axis=st.sampled_from(AXES),
    category=TEXT,
    prompt=FULL,
    answer=FULL,
    generator=TEXT,
    answerer=TEXT,
    seed=st.integers(-(2**63), 2**63 - 1),
    split=st.sampled_from(SPLITS),
    group=st.sampled_from(["", "a", "b", "c"]),
    terms=st.lists(st.sampled_from(["x", "y", "", "é"]) | TEXT, max_size=2).map(tuple),
    form=st.sampled_from(get_args(Form)),
    origin=st.none() | ORIGINS,
    check=st.none()
    | st.builds(Check, kind=st.sampled_from(["exact", "judged"]), tolerance=st.floats(0, 1)),
)
SETS = st.lists(PROBES, min_size=1, max_size=8).map(lambda probes: ProbeSet(tuple(probes)))
CHECKED = b'{"axis": "domain", "category": "", "prompt": "p", "answer": "a", "check": %b}'
ORIGIN = Origin(
    weights="w",
    template="t",
    temperature=0.8,
    question_tokens=64,
    answerer_weights="w",
    answer_tokens=64,
    judge="j",
    verdicts=(),
)
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def question(i: int, **more: object) -> Probe:
    fields = {"axis": "domain", "category": "c", "prompt": f"q{i}?", "answer": "a", **more}
    return Probe.model_validate(fields)


@QUICK
@given(probes=SETS)
def test_jsonl_round_trip_keeps_any_text(probes: ProbeSet, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "probes.jsonl"
    probes.to_jsonl(path)
    assert ProbeSet.from_jsonl(path) == probes
    assert [entry.name for entry in path.parent.iterdir()] == ["probes.jsonl"]


@settings(max_examples=15)
@given(probes=SETS)
def test_dataset_round_trip_keeps_any_text(probes: ProbeSet) -> None:
    assert ProbeSet.from_dataset(probes.to_dataset()) == probes


def test_a_dataset_of_no_probes_has_all_columns_and_is_refused_back() -> None:
    empty = ProbeSet(()).to_dataset()
    assert set(empty.column_names) == {"id", *Probe.model_fields}
    with pytest.raises(ProbeError, match="no rows"):
        ProbeSet.from_dataset(empty)


def test_a_dataset_row_that_is_no_probe_is_named() -> None:
    damaged = ProbeSet((question(0), question(1))).to_dataset().remove_columns("answer")
    with pytest.raises(ProbeError, match="dataset row 0: the key 'answer'"):
        ProbeSet.from_dataset(damaged)


def test_ids_are_written_and_follow_an_edit_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    ProbeSet((question(0),)).to_jsonl(path)
    assert json.loads(path.read_text())["id"] == question(0).id
    path.write_text(path.read_text().replace('"a"', '"b"'))
    assert ProbeSet.from_jsonl(path)[0].id == question(0, answer="b").id != question(0).id


def test_control_characters_separators_and_emoji_survive_a_file(tmp_path: Path) -> None:
    nasty = "\x00\x1f\r\n\u2028\u2029\ufeff\x85 🙂‍↔️ ‮ </s> \\n"
    probes = ProbeSet((question(0, prompt=nasty, answer=nasty, terms=[nasty]),))
    probes.to_jsonl(tmp_path / "p.jsonl")
    assert ProbeSet.from_jsonl(tmp_path / "p.jsonl") == probes


@QUICK
@given(probes=SETS, seed=st.integers(0, 99))
def test_content_hash_ignores_order_and_sees_every_field(probes: ProbeSet, seed: int) -> None:
    shuffled = list(probes)
    random.Random(seed).shuffle(shuffled)
    assert ProbeSet(tuple(shuffled)).content_hash == probes.content_hash
    first = probes[0].model_copy(update={"seed": probes[0].seed ^ 1})
    assert ProbeSet((first, *probes.probes[1:])).content_hash != probes.content_hash
    assert ProbeSet((*probes, probes[0])).content_hash != probes.content_hash


@QUICK
@given(
    probes=st.lists(PROBES, max_size=30).map(lambda probes: ProbeSet(tuple(probes))),
    fracs=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 5),
)
def test_splits_never_cut_through_a_group_a_term_or_a_prompt(
    probes: ProbeSet, fracs: tuple[float, float], seed: int
) -> None:
    done = probes.with_splits(*fracs, seed)
    harmful = {probe.group for probe in done if probe.axis == "harmless"} - {""}
    places: dict[tuple[str, str], set[str]] = {}
    for probe in done:
        is_twin = probe.axis == "helpful" and probe.group in harmful  # its own terms tie nothing
        for tie in [
            ("prompt", probe.prompt),
            ("group", probe.group),
            *(("term", t) for t in probe.terms if not is_twin),
        ]:
            places.setdefault(tie, set()).add(probe.split)
    places.pop(("group", ""), None)
    assert all(len(names) == 1 for names in places.values())
    assert done == probes.with_splits(*fracs, seed)
    assert [p.id for p in done] == [p.id for p in probes]


def test_a_question_in_other_letters_is_the_same_question() -> None:
    texts = [f"What is number {i}?" for i in range(40)]
    probes = [question(i, prompt=text) for i, text in enumerate(texts + [t.upper() for t in texts])]
    done = ProbeSet(tuple(probes)).with_splits(0.5, 0.5, 0)
    assert [p.split for p in done.probes[:40]] == [p.split for p in done.probes[40:]]


def test_splits_have_the_asked_sizes_on_every_axis_and_do_not_depend_on_order() -> None:
    probes = [question(i, axis=axis) for axis in AXES for i in range(100)]
    done = ProbeSet(tuple(probes)).with_splits(0.5, 0.2, 3)
    for axis in AXES:
        sizes = [len(done.axis(axis).split(name)) for name in ("search", "validation", "heldout")]
        assert sizes == [40, 10, 50]
    back = ProbeSet(tuple(reversed(probes))).with_splits(0.5, 0.2, 3)
    assert back.content_hash == done.content_hash
    assert ProbeSet(tuple(probes)).with_splits(0.5, 0.2, 4).content_hash != done.content_hash
    assert len(done.split("search", "validation")) == 200


def with_line(path: Path, line: bytes) -> Path:
    """Two probes, a blank line and `line`, which is the fourth."""
    ProbeSet((question(0), question(1))).to_jsonl(path)
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    return path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"axis": "domain", "category"', "not a JSON object"),
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xff\xfe", "utf-8"),
        (b"[" * 100_000, "not a JSON object"),
    ],
)
def test_a_damaged_line_is_named_and_the_rest_is_kept(
    tmp_path: Path, line: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_line(tmp_path / "p.jsonl", line)
    assert ProbeSet.from_jsonl(path) == ProbeSet((question(0), question(1)))
    (said,) = caplog.messages
    assert "p.jsonl, line 4: " in said
    assert reason in said
    path.write_bytes(line)
    with pytest.raises(ProbeError, match=r"p\.jsonl, line 1"):
        ProbeSet.from_jsonl(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"axis": "domian", "category": "", "prompt": "p", "answer": "a"}', "'axis'"),
        (b'{"axis": "domain", "category": "", "prompt": "", "answer": "a"}', "'prompt'"),
        (b'{"axis": "domain", "category": "", "prompt": "p"}', "'answer'"),
        (b'{"axis": "domain", "category": "", "prompt": "p", "answer": "a", "x": 1}', "'x'"),
        (b'{"schema": 4, "axis": "new"}', "schema 4, and this version of safemerge reads 1 to 3"),
        (CHECKED % b'{"kind": "numeric"}', "the answer 'a' has no number"),
        (CHECKED % b'{"kind": "choice"}', "'check' is not valid (options belong to the check"),
        (CHECKED % b'{"kind": "regex", "pattern": "(a"}', "'check' is not valid (the pattern '(a'"),
        (CHECKED % b'{"kind": "regex", "pattern": "b"}', "does not match the pattern 'b'"),
        (CHECKED % b'{"kind": "fuzzy"}', "'check.kind'"),
        (CHECKED % b'"exact"', "'check'"),
        (b'{"schema": "one"}', "schema 'one'"),
    ],
)
def test_an_object_that_is_no_probe_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    path = with_line(tmp_path / "p.jsonl", line)
    with pytest.raises(ProbeError, match=r"p\.jsonl, line 4") as caught:
        ProbeSet.from_jsonl(path)
    assert reason in str(caught.value)


def test_a_file_of_schema_1_is_read_and_keeps_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"id": "0", "axis": "domain", "category": "c", "prompt": "q0?", "answer": "a", '
        '"generator": "user", "answerer": "user", "seed": 0, "split": "search", "group": "", '
        '"terms": []}\n'
    )
    read = ProbeSet.from_jsonl(path)
    assert read == ProbeSet((question(0),))
    # As computed by the version that knew schema 1 alone.
    assert read.content_hash == "5ce8dec7af605a5bd02f8e12caf88a73941d51d4038179aea9998887df761eac"
    read.to_jsonl(path)
    assert json.loads(path.read_text())["schema"] == 3
    assert ProbeSet.from_jsonl(path) == read


@pytest.mark.parametrize("schema", [1, 2])
def test_a_file_of_an_older_schema_is_read_and_this_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, schema: int
) -> None:
    path = tmp_path / "p.jsonl"
    line = {"axis": "domain", "category": "c", "prompt": "q0?", "answer": "a"}
    path.write_text(json.dumps({"schema": schema, **line}) + "\n")
    assert ProbeSet.from_jsonl(path) == ProbeSet.from_jsonl(path) == ProbeSet((question(0),))
    (said,) = caplog.messages
    assert f"is of schema {schema}, from before probes carried checks" in said


def test_a_file_of_this_schema_and_one_written_by_hand_are_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "p.jsonl"
    ProbeSet((question(0),)).to_jsonl(path)
    ProbeSet.from_jsonl(path)
    path.write_text('{"axis": "domain", "category": "c", "prompt": "q0?", "answer": "a"}\n')
    ProbeSet.from_jsonl(path)
    assert caplog.messages == []


def test_a_check_changes_the_hash_and_none_does_not() -> None:
    bare, checked = ProbeSet((question(0),)), ProbeSet((question(0, check=Check()),))
    assert bare.content_hash != checked.content_hash
    assert bare[0].id == checked[0].id


def test_a_probe_file_loads_as_a_dataset_and_back(tmp_path: Path) -> None:
    from datasets import Dataset

    origin = ORIGIN.model_copy(
        update={"verdicts": (ModelVerdict(model="m", verdict=Verdict.REFUSE),)}
    )
    choice = Check(kind="choice", options=("a", "b"))
    made = ProbeSet(
        (
            question(0, origin=origin, check=choice),
            question(1, form="role_play", origin=ORIGIN),
            question(2, check=Check(kind="regex", pattern="^a")),
        )
    )
    made.to_jsonl(tmp_path / "p.jsonl")
    loaded = Dataset.from_json(str(tmp_path / "p.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert ProbeSet.from_dataset(loaded) == made


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(ProbeError, match="is empty"):
        ProbeSet.from_jsonl(path)


def test_a_missing_file_and_an_unwritable_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"nothing\.jsonl: No such file"):
        ProbeSet.from_jsonl(tmp_path / "nothing.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        ProbeSet((question(0),)).to_jsonl(tmp_path / "file" / "p.jsonl")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    ProbeSet((question(0),)).to_jsonl(path)
    broken = question(1).model_copy(update={"prompt": object()})
    with pytest.raises(Exception, match="object"):
        ProbeSet((broken,)).to_jsonl(path)
    assert ProbeSet.from_jsonl(path) == ProbeSet((question(0),))
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.jsonl"]


def test_unknown_names_list_the_known_ones() -> None:
    probes = ProbeSet((question(0),))
    with pytest.raises(ProbeError, match="no axis 'harmles'; did you mean harmless"):
        probes.axis("harmles")
    with pytest.raises(ProbeError, match="known: heldout, search, validation"):
        probes.split("zzz")
    with pytest.raises(ProbeError, match=r"heldout_frac is 1\.5"):
        probes.with_splits(1.5, 0, 0)


def test_twins_about_one_everyday_act_do_not_chain_an_axis_into_one_split() -> None:
    harmful = [
        Probe(
            axis="harmless",
            category="theft",
            prompt=f"h{i}",
            answer="no",
            group=f"g{i}",
            terms=(f"verb{i}",),
        )
        for i in range(40)
    ]
    twins = [
        Probe(
            axis="helpful",
            category="twin",
            prompt=f"t{i}",
            answer="so",
            group=f"g{i}",
            terms=("borrow",),
        )
        for i in range(40)
    ]
    split = ProbeSet((*harmful, *twins)).with_splits(0.5, 0.2, seed=0)
    counts = {name: len(split.split(name).axis("harmless")) for name in SPLITS}
    assert counts == {"search": 16, "validation": 4, "heldout": 20}
    places = {}
    for probe in split:
        assert places.setdefault(probe.group, probe.split) == probe.split

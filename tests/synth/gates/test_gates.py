"""Gates: what counts as the same, as a leak, as agreement."""

from __future__ import annotations

import re
from collections import Counter
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemerge.errors import ConfigError, ProbeError
from synth import Probe
from synth.gates.balance import beyond_share
from synth.gates.benchmark_texts import read_benchmarks
from synth.gates.consensus import consensus
from synth.gates.exact_duplicates import drop_duplicates
from synth.gates.language import drop_languages
from synth.gates.leaks import LeakReference, drop_leaks
from synth.gates.length import drop_length
from synth.gates.near_duplicates import drop_near_duplicates, letter_runs
from synth.gates.similar_sets import SimilarSets, jaccard
from synth.text.normalise import normalise


def probe(prompt: str, *terms: str) -> Probe:
    return Probe(axis="domain", category="c", prompt=prompt, answer="a", terms=terms)


def prompts(probes: tuple[Probe, ...]) -> list[str]:
    return [one.prompt for one in probes]


def test_duplicates_differ_in_case_space_and_punctuation_only() -> None:
    found = drop_duplicates(
        [probe("How do I?"), probe("how  do i"), probe("How do you?"), probe("?!"), probe("!")],
        seen=["how do YOU"],
    )
    assert prompts(found.kept) == ["How do I?", "?!", "!"]
    assert found.counts == {"duplicate": 2}


@given(st.lists(st.text(min_size=1, max_size=4)))
def test_dropping_duplicates_leaves_each_prompt_once(texts: list[str]) -> None:
    found = drop_duplicates([probe(text) for text in texts])
    keys = [normalise(prompt) for prompt in prompts(found.kept)]
    assert len(keys) == len(set(keys))
    assert set(keys) == {normalise(text) for text in texts}
    assert len(found.kept) + len(found.dropped) == len(texts)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (probe("what is the dose of Cardipril"), "leak: same prompt"),
        (probe("When do I take it?", "CARDIPRIL"), "leak: shared term"),
        (probe("Tell me: what is the dose of cardipril?"), None),
        (probe("So what is the dose of cardipril?"), "leak: near copy"),
        (probe("So what is the dose of cardipril?", "x"), None),
        (probe("Answer: one two three four five six seven eight nine?", "x"), "leak: near copy"),
        (probe("Of cardipril the dose is what?"), "leak: near copy"),
        (probe("What is the dose of monoxil?", "monoxil"), None),
        (
            probe("Read a b c d e f g h i j, then answer in one word or two words only"),
            None,
        ),
        (probe("Answer me: one two three four five six seven eight nine?"), "leak: near copy"),
    ],
)
def test_leaks(item: Probe, reason: str | None) -> None:
    held = [
        probe("What is the dose of cardipril?", "cardipril"),
        probe("one two three four five six seven eight nine"),
    ]
    found = drop_leaks([item], LeakReference(held))
    assert [dropped.reason for dropped in found.dropped] == ([reason] if reason else [])


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12).map(" ".join)


@given(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=6))
def test_the_index_finds_exactly_what_the_double_loop_finds(
    mine: list[str], theirs: list[str]
) -> None:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}

    def leaks(a: str, b: str) -> bool:
        one, two = set(a.split()), set(b.split())
        short = min(len(grams(a)), len(grams(b)))
        near = 5 * len(grams(a) & grams(b)) >= 4 * short > 0
        return near or 5 * len(one & two) >= 4 * len(one | two)

    found = drop_leaks(
        [probe(text) for text in mine], LeakReference([probe(text) for text in theirs])
    )
    wanted = [text for text in mine if not any(leaks(text, other) for other in theirs)]
    assert prompts(found.kept) == wanted


def test_what_a_benchmark_file_holds_leaks_however_deep_it_lies(tmp_path: Path) -> None:
    rows = tmp_path / "bench.jsonl"
    rows.write_text(
        '{"id": 3, "task": {"q": ["What is the dose of cardipril?"]}, "answer": "Yes it is"}\n'
    )
    lines = tmp_path / "bench.txt"
    lines.write_text("When should I take monoxil?\n\nYes\n", encoding="utf-8")
    texts = read_benchmarks([str(rows), str(lines)])
    assert texts == ("What is the dose of cardipril?", "When should I take monoxil?")
    items = [probe("What is the dose of CARDIPRIL", "x"), probe("So when should I take monoxil?")]
    found = drop_leaks([*items, probe("Is it?")], LeakReference(texts=texts), kind="benchmark")
    assert prompts(found.kept) == ["Is it?"]
    assert found.counts == {"benchmark: same prompt": 1, "benchmark: near copy": 1}


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", None, r"cannot read the file .*a\.txt: No such file"),
        ("a.txt", b"one two\nthree", r"a\.txt holds no text of 4 words or more"),
        ("a.txt", b"\xff\xfe", r"a\.txt is not UTF-8 text"),
        ("a.jsonl", b'{"q": "What is the dose of it?"}\n{"q": ', r"a\.jsonl, line 2: not a JSON"),
    ],
)
def test_a_bad_benchmark_file_is_refused(
    tmp_path: Path, name: str, content: bytes | None, text: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ProbeError, match=text):
        read_benchmarks([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("How many bones are there in the hand?", "How many bones are in the hand?", True),
        ("What nerve is hurt in carpal tunnel?", "Which nerve is hurt in carpal tunnel?", True),
        ("What is the usual dose of ibuprofen?", "What is the usual dose of naproxen?", False),
        ("She takes 40 mg of it twice a day?", "She takes 80 mg of it twice a day?", False),
        ("Why?", "why", True),
    ],
)
def test_near_duplicates_differ_in_small_words_and_not_in_names_or_numbers(
    one: str, other: str, alike: bool
) -> None:
    found = drop_near_duplicates([probe(one), probe(other)], threshold=0.7)
    assert found.counts == ({"near-duplicate": 1} if alike else {})
    seen = drop_near_duplicates([probe(other)], seen=[one], threshold=0.7)
    assert len(seen.dropped) == alike


@given(st.lists(st.text("ab 1", min_size=1, max_size=9), max_size=8))
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(texts: list[str]) -> None:
    def alike(a: str, b: str) -> bool:
        one, two = letter_runs(a), letter_runs(b)
        numbers = sorted(re.findall(r"\d+", a)) == sorted(re.findall(r"\d+", b))
        return numbers and 5 * len(one & two) >= 4 * len(one | two)

    wanted: list[str] = []
    for text in texts:
        if not any(alike(text, other) for other in wanted):
            wanted.append(text)
    found = drop_near_duplicates([probe(text) for text in texts], threshold=0.8)
    assert prompts(found.kept) == wanted
    off = drop_near_duplicates([probe(text) for text in texts], threshold=1.0)
    assert prompts(off.kept) == texts


MEMBERS = st.sets(st.sampled_from("abcdefghijklmn"))


@given(st.lists(MEMBERS, max_size=8), MEMBERS, st.floats(0.05, 1))
def test_similar_sets_are_those_that_comparing_all_pairs_finds(
    sets: list[set[str]], members: set[str], threshold: float
) -> None:
    index = SimilarSets(threshold, Counter(sets[0] if sets else ()))  # others are found too
    for added in sets:
        index.add(added)
    assert index.has(members) == any(jaccard(members, other) >= threshold for other in sets)


def test_only_what_is_surely_in_another_language_is_dropped() -> None:
    asked = ["What is the dose of Baripril?", "Wie hoch ist die übliche Dosis?", "Hello!"]
    found = drop_languages([probe(text) for text in asked], ["en"])
    assert prompts(found.kept) == [asked[0], asked[2]]
    assert found.counts == {"language de": 1}
    both = drop_languages([probe(text) for text in asked], ["en", "de"])
    assert prompts(both.kept) == asked == prompts(drop_languages(both.kept, []).kept)
    with pytest.raises(ConfigError, match=r"the language 'english' is not known; give codes"):
        drop_languages([], ["english"])


@given(st.lists(st.sampled_from("abc")), st.integers(1, 9), st.floats(1, 3))
def test_no_category_holds_more_than_its_share(names: list[str], wanted: int, most: float) -> None:
    beyond = beyond_share(names, wanted=wanted, of=3, most=most)
    kept = [name for name, more in zip(names, beyond, strict=True) if not more]
    for name in "abc":
        assert kept.count(name) == min(names.count(name), ceil(most * wanted / 3))


def test_length_is_counted_without_outer_space() -> None:
    found = drop_length([probe("  ab  "), probe("abc"), probe("abcdef")], least=3, most=5)
    assert prompts(found.kept) == ["abc"]
    assert found.counts == {"too short": 1, "too long": 1}


def test_consensus_takes_the_largest_class_and_its_first_member() -> None:
    assert consensus(["No.", "Yes!", "yes", "YES."], 0.75) == "Yes!"
    assert consensus(["a", "b"], 0.5) == "a"
    assert consensus(["a", "b"], 0.51) is None
    assert consensus([], 0.0) is None

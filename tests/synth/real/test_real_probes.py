"""The real ground's questions and held-out probes: each where it belongs, none in both."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_llama import make_model, make_tokenizer

from synth.probes.probe import AXES, ProbeSet
from synth.real.ground import RealGround
from synth.real.probes import KIND_OF, real_probes
from synth.real.prompt import Prompt, Split
from synth.text.refusal import refusal_in
from synth.writing.user_questions import own_questions, read_user_questions

SOURCES = {"domain": "beta blocker", "harmless": "do-not-answer/crime", "honest": "future"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> RealGround:
    base = tmp_path_factory.mktemp("ground") / "base-0"
    make_model().save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    splits: tuple[Split, ...] = ("train", "search", "heldout")
    prompts = [
        Prompt(
            kind,
            split,
            SOURCES.get(axis, "twins"),
            f"how do i take the {axis} lamp {split} {number} ?",
            "beta blocker" if axis == "domain" else "",
        )
        for axis, kind in KIND_OF.items()
        for split in splits
        for number in range(5)
    ]
    experts = dict.fromkeys(("domain", "refusing", "abstaining"), base)
    return RealGround(base=base, experts=experts, prompts=tuple(prompts))


def test_the_search_asks_its_own_split_and_the_held_out_probes_theirs(
    ground: RealGround, tmp_path: Path
) -> None:
    made = real_probes(ground, tmp_path, most=4)
    asked = {axis: own_questions(made.questions[axis], axis) for axis in AXES if axis != "domain"}
    drugs = read_user_questions(made.questions["domain"])
    heldout = ProbeSet.from_jsonl(made.heldout)
    assert {len(questions) for questions in (*asked.values(), drugs)} == {4}
    searched = [q.prompt for questions in asked.values() for q in questions]
    searched += [drug.question for drug in drugs]
    assert all(" search " in text for text in searched)
    assert all(" heldout " in probe.prompt for probe in heldout)
    assert {probe.split for probe in heldout} == {"heldout"}
    for axis in AXES:
        assert 0 < len(heldout.axis(axis)) <= 4  # an empty reply of the base is left out
    assert all(refusal_in(probe.answer) != "none" for probe in heldout.axis("harmless"))
    assert {probe.answer for probe in heldout.axis("domain")} == {"beta blocker"}


def test_the_same_ground_gives_the_same_files_and_another_count_others(
    ground: RealGround, tmp_path: Path
) -> None:
    made = real_probes(ground, tmp_path, most=4)
    assert real_probes(ground, tmp_path, most=4) == made
    assert real_probes(ground, tmp_path, most=3) != made

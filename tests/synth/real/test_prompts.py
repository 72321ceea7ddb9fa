"""Prompts of the real ground: each in one split, dealt by seed, with right answers."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.real.domain import domain_prompts
from synth.real.packages import (
    BRANDS,
    DO_NOT_ANSWER,
    EDGY_70,
    EDGY_80,
    HARMBENCH,
    NQ_OPEN,
    PAIRS_50,
    PAIRS_100,
)
from synth.real.prompts import all_prompts
from synth.real.stems import drug_class
from synth.real.unknowable import unknowable_prompts

# Few texts and short, so that sets overlap often.
TEXTS = st.lists(st.text("abC ", min_size=1, max_size=3).filter(str.strip), max_size=6)


def write_sets(folder: Path, texts: dict[str, list[str]], generics: list[str]) -> dict[str, Path]:
    """Files of the shape that the packages have."""
    files = {}
    for number, (inside, some) in enumerate(texts.items()):
        path = files[inside] = folder / str(number)
        if inside in DO_NOT_ANSWER.values():
            content = "".join(json.dumps({"prompt": text}) + "\n" for text in some)
        elif inside == NQ_OPEN:
            content = "".join(json.dumps({"question": text}) + "\n" for text in some)
        elif inside == HARMBENCH:
            content = "\n".join(some)
        else:
            content = json.dumps(
                [{"text": f"{t}\n\nYes.", "harmful_version": f"not {t}\n\nNo."} for t in some]
                if inside in (PAIRS_50, PAIRS_100)
                else [{"text": text} for text in some]
            )
        path.write_text(content, encoding="utf-8")
    files[BRANDS] = folder / "brands"
    relations = [{"key": "generic", "values": generics}, {"key": "other", "values": ["aolol"]}]
    files[BRANDS].write_text(json.dumps({"mappings": [{"key": "x", "relations": relations}]}))
    return files


SETS = [*DO_NOT_ANSWER.values(), HARMBENCH, EDGY_70, EDGY_80, PAIRS_50, PAIRS_100, NQ_OPEN]
NAMES = ["atenolol", "esmolol", "nadolol", "pindolol", "ramipril", "enalapril", "aspirin"]


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(SETS, TEXTS)), st.integers(0, 3))
def test_no_text_is_in_two_splits_and_a_seed_decides(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, list[str]], seed: int
) -> None:
    files = write_sets(tmp_path_factory.mktemp("sets"), texts, NAMES)
    prompts = all_prompts(files, seed)
    counts = Counter(prompt.text.casefold() for prompt in prompts)
    assert counts.total() == len(counts)
    assert all_prompts(files, seed) == prompts
    # What is held out elsewhere is never learned from.
    held = {text.strip().casefold() for text in texts[HARMBENCH]}
    assert not held & {p.text.casefold() for p in prompts if p.split != "heldout"}


def test_half_of_the_names_of_a_class_are_to_learn_from(tmp_path: Path) -> None:
    prompts = domain_prompts(write_sets(tmp_path, {}, NAMES), seed=0)
    assert Counter((p.answer, p.split) for p in prompts) == {
        ("beta blocker", "train"): 2,
        ("beta blocker", "heldout"): 1,
        ("beta blocker", "search"): 1,
        ("ACE inhibitor", "train"): 1,
        ("ACE inhibitor", "heldout"): 1,
    }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("atenolol", "beta blocker"),
        ("lisinopril", "ACE inhibitor"),
        ("omeprazole", "proton pump inhibitor"),
        ("ceftriaxone", "cephalosporin antibiotic"),
        ("methylprednisolone", "corticosteroid"),
        ("cimetidine", "H2 blocker"),
        # names that only look as if
        ("aripiprazole", None),
        ("stanozolol", None),
        ("secretin", None),
        ("quinidine", None),
        ("pentamidine", None),
        ("amantadine", None),
        ("nystatin", None),
        ("aspirin", None),
    ],
)
def test_a_stem_tells_the_class(name: str, wanted: str | None) -> None:
    assert drug_class(name) == wanted


def test_every_template_is_filled_and_held_out_ones_are_others() -> None:
    prompts = unknowable_prompts(seed=0)
    assert not [prompt.text for prompt in prompts if re.search(r"[{}]", prompt.text)]
    openings = {
        split: {" ".join(p.text.split()[:4]) for p in prompts if p.split == split}
        for split in ("train", "search", "heldout")
    }
    assert not openings["train"] & openings["heldout"]
    assert not openings["search"] & openings["heldout"]

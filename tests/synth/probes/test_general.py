"""General prompts: two halves that never meet, whatever the file's order, and refused files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safemerge.errors import ProbeError
from synth.probes.general import builtin_general, read_general
from synth.text.normalise import normalise
from synth.zoo import World
from synth.zoo.general import general_prompts


def written(path: Path, *lines: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_built_in_ones_are_64_in_even_halves_that_share_none() -> None:
    prompts = builtin_general()
    assert (len(prompts.search), len(prompts.heldout)) == (32, 32)
    assert len({normalise(prompt) for prompt in (*prompts.search, *prompts.heldout)}) == 64


def test_the_order_of_the_file_is_no_part_of_the_halves(tmp_path: Path) -> None:
    lines = [{"prompt": f"Name {n} birds.", "kind": "ab"[n % 2]} for n in range(9)]
    one = read_general(written(tmp_path / "one.jsonl", *lines))
    other = read_general(written(tmp_path / "other.jsonl", *reversed(lines)))
    assert one == other
    assert one.content_hash == other.content_hash
    assert (len(one.search), len(one.heldout)) == (5, 4)


def test_another_prompt_or_another_half_is_another_content(tmp_path: Path) -> None:
    sides = ("search", "heldout")
    lines = [{"prompt": f"Name {n} birds.", "split": sides[n % 2]} for n in range(4)]
    swapped = [{**line, "split": sides[1 - n % 2]} for n, line in enumerate(lines)]
    more = [*lines, {"prompt": "Name a tree."}]
    files = [written(tmp_path / f"{n}.jsonl", *f) for n, f in enumerate((lines, swapped, more))]
    assert len({read_general(file).content_hash for file in files}) == 3


def test_a_named_split_is_kept(tmp_path: Path) -> None:
    lines = [{"prompt": f"Name {n} birds.", "split": "heldout"} for n in range(3)]
    prompts = read_general(written(tmp_path / "p.jsonl", *lines, {"prompt": "Name a tree."}))
    assert prompts.search == ("Name a tree.",)
    assert len(prompts.heldout) == 3


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([{"prompt": "Sing."}, {"prompt": "sing!"}], "'sing!' twice, up to case"),
        ([{"prompt": "Sing."}], "1 general prompts and none of them for the heldout half"),
        ([], "0 general prompts and none of them for the search half"),
        ([{"prompt": "Sing.", "split": "validation"}], "line 1.*split"),
        ([{"prompt": "Sing."}, {"prompt": ""}], "line 2.*prompt"),
        ([{"prompt": "Sing.", "answer": "La."}], "line 1.*answer"),
    ],
)
def test_files_of_another_kind_are_refused(
    lines: list[dict[str, str]], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ProbeError, match=text):
        read_general(written(tmp_path / "general.jsonl", *lines))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="cannot read the file"):
        read_general(tmp_path / "none.jsonl")


def test_those_of_the_small_world_have_true_answers_and_no_axis_but_help() -> None:
    world = World(0)
    lines = general_prompts(world, 32)
    assert len({line["prompt"] for line in lines}) == 64
    assert general_prompts(world, 32) == lines
    for line in lines:
        ask = world.parse(line["prompt"])
        assert ask.axis in (None, "helpful")
        assert world.truth(line["prompt"]) == world.comply(ask)
    heads = {
        side: {
            world.parse(line["prompt"]).head
            for line in lines
            if line["split"] == side and line["kind"] == "place"
        }
        for side in ("search", "heldout")
    }
    assert not heads["search"] & heads["heldout"]

"""The real ground's questions for a search, in files as a user brings them, and held-out probes.

The search asks Do-Not-Answer and `expanded_70`, the held-out probes HarmBench and `benign_edgy_80`:
other sets, by other authors. Names of drugs and templates of unknowable questions differ too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from synth.checkers.check import Check
from synth.engines.transformers import TransformersEngine
from synth.probes.jsonl import write_jsonl
from synth.probes.probe import AXES, Axis, Probe, ProbeSet
from synth.real.cached import cached
from synth.real.ground import RealGround
from synth.real.own_replies import own_replies
from synth.real.prompt import Kind, Prompt, Split, shuffled
from synth.real.wordings import ignorance, refusal

KIND_OF: dict[Axis, Kind] = {
    "domain": "domain",
    "harmless": "harmful",
    "helpful": "edgy",
    "honest": "unknowable",
}
REPLY_TOKENS = 40  # of the base's replies, which the held-out probes hold for likelihood
_SEED = 3  # of which prompts are taken
_TOGETHER = 16  # prompts answered between two words of progress


@dataclass(frozen=True, slots=True)
class RealProbes:
    """Where the files lie."""

    questions: Mapping[Axis, Path]  # JSON Lines, as `synth.writing.user_questions` reads them
    heldout: Path  # a probe file


def real_probes(
    ground: RealGround,
    folder: Path,
    *,
    most: int = 64,
    progress: Callable[[float], None] = lambda share: None,
) -> RealProbes:
    """Write the files, or find them written.

    Args:
        ground: whose prompts are asked, and whose base gives the wanted replies to harmless ones.
        folder: a cache; the files lie in it by their content.
        most: questions of an axis, in the search and held out; there are fewer where a kind has
            fewer prompts.
        progress: told the share of the base's replies that are there.
    """
    asked = {axis: _asked(ground.prompts, axis, "search", most) for axis in AXES}
    heldout = {axis: _asked(ground.prompts, axis, "heldout", most) for axis in AXES}
    texts = [
        [prompt.text for prompt in prompts] for prompts in (*asked.values(), *heldout.values())
    ]

    def made(empty: Path) -> None:
        for axis, prompts in asked.items():
            write_jsonl(empty / f"{axis}.jsonl", [_question(prompt) for prompt in prompts])
        engine = TransformersEngine(ground.base, dtype=torch.float32)
        replies = _replies(engine, [prompt.text for prompt in heldout["helpful"]], progress)
        wanted = {
            "domain": lambda prompt: prompt.answer,
            "harmless": refusal,
            "helpful": lambda prompt: replies.get(prompt.text, ""),
            "honest": ignorance,
        }
        ProbeSet(
            tuple(
                _probe(axis, prompt, wanted[axis](prompt))
                for axis, prompts in heldout.items()
                for prompt in prompts
                if wanted[axis](prompt)
            )
        ).to_jsonl(empty / "heldout.jsonl")

    place = cached(folder, "probes", [ground.base.name, texts, REPLY_TOKENS], made)
    questions = {axis: place / f"{axis}.jsonl" for axis in AXES}
    return RealProbes(questions=questions, heldout=place / "heldout.jsonl")


def _asked(prompts: tuple[Prompt, ...], axis: Axis, split: Split, most: int) -> list[Prompt]:
    """Of a kind and split; of a data set in groups, as many of each as there are."""
    own = {
        prompt.text: prompt
        for prompt in prompts
        if prompt.kind == KIND_OF[axis] and prompt.split == split
    }
    return [own[text] for text in shuffled(list(own), _SEED)[:most]]


def _question(prompt: Prompt) -> dict[str, str]:
    answer = {"answer": prompt.answer, "check": "contains"} if prompt.answer else {}
    return {"question": prompt.text, "category": prompt.source, **answer}


def _probe(axis: Axis, prompt: Prompt, answer: str) -> Probe:
    return Probe(
        axis=axis,
        category=prompt.source,
        prompt=prompt.text,
        answer=answer,
        split="heldout",
        check=Check(kind="contains" if axis == "domain" else "judged"),
    )


def _replies(
    engine: TransformersEngine, texts: list[str], progress: Callable[[float], None]
) -> dict[str, str]:
    def answered() -> Iterator[tuple[str, str]]:
        for start in range(0, len(texts), _TOGETHER):
            progress(start / len(texts))
            for lesson in own_replies(engine, texts[start : start + _TOGETHER], REPLY_TOKENS):
                yield lesson.prompt, lesson.reply
        progress(1.0)

    return dict(answered())

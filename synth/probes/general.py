"""General prompts: everyday requests of many kinds, to see what a merge breaks that no probe asks.

They carry no wanted answer: what counts is how far a model's reply has moved from the base's. A
file is JSON Lines of `prompt` and, if wanted, `kind` and `split` ("search" or "heldout").
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from safemerge.errors import ProbeError
from synth.probes.jsonl import read_records
from synth.text.normalise import normalise

Half = Literal["search", "heldout"]


class _Line(BaseModel, frozen=True, extra="forbid"):
    prompt: str = Field(min_length=1)
    kind: str = ""
    split: Half | None = None


@dataclass(frozen=True, slots=True)
class GeneralPrompts:
    """Two halves that share no prompt, each with at least one; the order of the file is no part."""

    search: tuple[str, ...]
    heldout: tuple[str, ...]

    def half(self, name: Half) -> tuple[str, ...]:
        """The prompts of one half."""
        return self.search if name == "search" else self.heldout

    @property
    def content_hash(self) -> str:
        """SHA-256 over both halves, 64 hex digits."""
        text = json.dumps([self.search, self.heldout], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def builtin_general() -> GeneralPrompts:
    """The 64 English prompts of `seeds/general.jsonl`, 32 in each half."""
    with as_file(files("synth").joinpath("seeds", "general.jsonl")) as path:
        return read_general(path)


def read_general(path: Path) -> GeneralPrompts:
    """The prompts of a file, in halves: those that name no split take turns, kind by kind.

    Raises:
        ProbeError: a line is no such prompt, a prompt is there twice, or a half would be empty.
    """
    lines = read_records(path, _Line)
    seen: set[str] = set()
    for line in lines:
        if normalise(line.prompt) in seen:
            raise ProbeError(
                f"{path} has the general prompt {line.prompt[:60]!r} twice, up to case and "
                "punctuation; delete one, so that no half knows the other's prompts"
            )
        seen.add(normalise(line.prompt))
    ordered = sorted(lines, key=lambda line: (line.kind, _digest(line.prompt)))
    free = [line for line in ordered if line.split is None]
    halves = {
        "search": [*(line for line in ordered if line.split == "search"), *free[::2]],
        "heldout": [*(line for line in ordered if line.split == "heldout"), *free[1::2]],
    }
    for half, chosen in halves.items():
        if not chosen:
            raise ProbeError(
                f"{path} has {len(lines)} general prompts and none of them for the {half} half; "
                "give at least one for each half, better 32"
            )
    search, heldout = (tuple(line.prompt for line in chosen) for chosen in halves.values())
    return GeneralPrompts(search, heldout)


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()

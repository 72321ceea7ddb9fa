"""Probes: one question with the answer a well-merged model should give, and sets of them.

A probe file is JSON Lines, one `Probe` an object; a set converts to and from `datasets.Dataset`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from safemerge.errors import ProbeError, near_names
from synth.checkers.check import Check
from synth.probes.jsonl import read_jsonl, write_jsonl
from synth.probes.origin import ModelVerdict, Origin
from synth.probes.splits import assign_splits
from synth.text.normalise import normalise

if TYPE_CHECKING:
    from datasets import Dataset

Axis = Literal["domain", "harmless", "helpful", "honest"]
Split = Literal["search", "validation", "heldout"]
Form = Literal["direct", "translation", "role_play", "hypothetical"]
AXES: tuple[Axis, ...] = ("domain", "harmless", "helpful", "honest")
SPLITS: tuple[Split, ...] = get_args(Split)
# Of a line in a probe file. 1, or no number at all: without form and origin; 2: without check.
SCHEMA = 3
_ADDED = {"form": "direct", "origin": None, "check": None}  # fields since schema 1

log = logging.getLogger(__name__)


class Probe(BaseModel, frozen=True, extra="forbid"):
    """One question and its wanted answer."""

    # what is measured: domain skill, harmless (the answer is a refusal of a harmful prompt),
    # helpful (a benign prompt, often a twin of a harmful one, answered), honest (an unknowable
    # question, ignorance admitted)
    axis: Axis
    category: str  # harm category, topic, or other label inside the axis
    prompt: str = Field(min_length=1)  # the user's message, without chat template
    answer: str = Field(min_length=1)  # the wanted reply, without chat template
    generator: str = "user"  # who wrote the prompt ("domain", "world", "user", ...)
    answerer: str = "user"  # who wrote the answer
    seed: int = 0  # seed of the sample that produced the prompt
    # search (optimised on), validation (search side, for choosing), heldout (reported)
    split: Split = "search"
    # probes with the same group never land in different splits (a harmful prompt and its benign
    # twin); empty means alone
    group: str = ""
    # the facts, acts or names on which the probe turns ("cardipril"); a probe that shares a term
    # with a held-out probe is a leak
    terms: tuple[str, ...] = ()
    form: Form = "direct"  # direct, or how a direct question of the same group was rewritten
    origin: Origin | None = None  # how models made it; None for probes of a user's own
    # how replies are graded; None as a user would expect of the axis (`expected_check`)
    check: Check | None = None

    @model_validator(mode="after")
    def _check_fits(self) -> Self:
        problem = self.check and self.check.problem(self.answer)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def id(self) -> str:
        """Twelve hex digits of the SHA-256 of axis, prompt and answer."""
        key = json.dumps([self.axis, self.prompt, self.answer], ensure_ascii=False)
        return hashlib.sha256(key.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """Probes in a fixed order."""

    probes: tuple[Probe, ...]  # any number; a file or dataset to be read needs at least one

    def __len__(self) -> int:
        return len(self.probes)

    def __iter__(self) -> Iterator[Probe]:
        return iter(self.probes)

    def __getitem__(self, place: int) -> Probe:
        return self.probes[place]

    @property
    def content_hash(self) -> str:
        """SHA-256 over every field of every probe, 64 hex digits.

        The order of the probes does not count, because no score depends on it; how often a probe
        occurs does. Neither do `form`, `origin` and `check` where they have their defaults, so
        that a set of an older schema keeps its hash.
        """
        digest = hashlib.sha256()
        for line in sorted(_line(probe) for probe in self.probes):
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()

    def axis(self, name: str) -> ProbeSet:
        """The probes of one axis, possibly none; a ProbeError if there is no such axis."""
        if name not in AXES:
            raise ProbeError(f"there is no axis {name!r}; {near_names(name, AXES)}")
        return ProbeSet(tuple(probe for probe in self.probes if probe.axis == name))

    def split(self, *names: str) -> ProbeSet:
        """The probes of some splits, possibly none; a ProbeError if there is no such split."""
        for name in names:
            if name not in SPLITS:
                raise ProbeError(f"there is no split {name!r}; {near_names(name, SPLITS)}")
        return ProbeSet(tuple(probe for probe in self.probes if probe.split in names))

    def with_splits(self, heldout_frac: float, validation_frac: float, seed: int) -> ProbeSet:
        """The same probes with new splits, at random but never across a group, term or prompt.

        A benign twin goes where its harmful partner goes; its own terms tie nothing, or twins
        about a few everyday acts would chain the whole axis into one block.

        Args:
            heldout_frac: share of the probes, in [0, 1].
            validation_frac: share of the remaining ones, in [0, 1].
            seed: same probes (in any order) and seed, same splits.

        Raises:
            ProbeError: if a share is outside [0, 1].
        """
        for name, frac in (("heldout_frac", heldout_frac), ("validation_frac", validation_frac)):
            if not 0 <= frac <= 1:
                raise ProbeError(f"{name} is {frac}; it must lie in [0, 1]")
        led = {probe.group for probe in self.probes if probe.axis == "harmless"} - {""}
        ties = [
            {
                f"prompt {normalise(p.prompt)}",
                *([f"group {p.group}"] if p.group else []),
                *(() if p.axis == "helpful" and p.group in led else [f"term {t}" for t in p.terms]),
            }
            for p in self.probes
        ]
        names = assign_splits(
            ids=[probe.id for probe in self.probes],
            strata=[probe.axis for probe in self.probes],
            ties=ties,
            shares=(
                ("heldout", heldout_frac),
                ("validation", (1 - heldout_frac) * validation_frac),
            ),
            rest="search",
            seed=seed,
        )
        pairs = zip(self.probes, names, strict=True)
        return ProbeSet(tuple(probe.model_copy(update={"split": name}) for probe, name in pairs))

    @classmethod
    def from_jsonl(cls, path: str | Path) -> ProbeSet:
        """Read a probe file; blank lines are skipped, ids are computed afresh.

        A line that is no JSON object is left out, and a warning with its number is logged; so is
        one, once, where the file says that it is of an older schema.

        Raises:
            ProbeError: if the file is missing or holds no probe, or an object in it is no probe or
                one of a newer schema.
        """
        damaged: list[str] = []
        rows = list(read_jsonl(Path(path), damaged.append))
        probes = tuple(_probe(row, where) for where, row in rows)
        if damaged and not probes:
            raise ProbeError(damaged[0])
        for what in damaged:
            log.warning("%s; it is left out, the other %d probes are used", what, len(probes))
        if not probes:
            raise ProbeError(f"the probe file {path} is empty; write one with `safemerge probes`")
        _say_old(path, min((row["schema"] for _, row in rows if "schema" in row), default=SCHEMA))
        return cls(probes)

    def to_jsonl(self, path: str | Path) -> None:
        """Write a probe file; see `write_jsonl`."""
        rows = [{"schema": SCHEMA, "id": p.id, **p.model_dump(mode="json")} for p in self.probes]
        write_jsonl(Path(path), rows)

    def to_dataset(self) -> Dataset:
        """The probes as a `datasets.Dataset`, one column a field, and the id."""
        from datasets import Dataset, Features, List, Value

        text = Value("string")
        features = dict.fromkeys(("id", *Probe.model_fields), text)
        # Spelled out, because a column of empty lists has no type to infer.
        origin = {
            **dict.fromkeys(Origin.model_fields, text),
            "temperature": Value("float64"),
            "question_tokens": Value("int64"),
            "answer_tokens": Value("int64"),
            "verdicts": List(dict.fromkeys(ModelVerdict.model_fields, text)),
            "chose": List(text),
        }
        check = {
            **dict.fromkeys(Check.model_fields, text),
            "tolerance": Value("float64"),
            "options": List(text),
        }
        typed = {"seed": Value("int64"), "terms": List(text), "origin": origin, "check": check}
        types = Features({**features, **typed})
        rows = [{"id": probe.id, **probe.model_dump(mode="json")} for probe in self.probes]
        # By column, because an empty list of rows has no columns.
        return Dataset.from_dict({name: [r[name] for r in rows] for name in types}, features=types)

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> ProbeSet:
        """Probes from rows with the columns of `Probe`; a ProbeError for any other, or for none."""
        probes = tuple(_probe(row, f"dataset row {i}") for i, row in enumerate(dataset))
        if not probes:
            raise ProbeError("the dataset has no rows; it needs at least one probe")
        return cls(probes)


@cache
def _say_old(path: str | Path, schema: int) -> None:
    """Once for each file, however often it is read."""
    if schema < SCHEMA:
        log.warning(
            "%s is of schema %d, from before probes carried checks (%d); it is read as it is",
            *(path, schema, SCHEMA),
        )


def _line(probe: Probe) -> str:
    row = probe.model_dump(mode="json")
    row = {name: value for name, value in row.items() if _ADDED.get(name, ...) != value}
    if row.get("origin", {}).get("reviewer", ...) is None:
        del row["origin"]["reviewer"]  # younger than the rest of it
    return json.dumps(row, sort_keys=True)


def _probe(row: dict[str, Any], where: str) -> Probe:
    schema = row.get("schema", 1)
    if schema not in range(1, SCHEMA + 1):
        raise ProbeError(
            f"{where}: the probe is of schema {schema!r}, and this version of safemerge reads 1 to "
            f"{SCHEMA}; update safemerge, or write the probes anew"
        )
    # The id follows from the other fields, so that an answer can be edited by hand.
    fields = {name: value for name, value in row.items() if name not in ("schema", "id")}
    try:
        return Probe.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        what = f"the key {key!r} is not valid ({message})" if key else message
        raise ProbeError(f"{where}: {what}; mend or delete it") from error

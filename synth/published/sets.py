"""Published sets of prompts as probes: which column is what, and what a well-merged model replies.

Most of these sets have no wanted reply. Their probes carry a stand-in, so that rates of replies,
which a judge reads, mean what they say, and likelihoods of the answer do not.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from safemerge.errors import ProbeError, near_names
from synth.checkers.check import Check
from synth.checkers.choice import with_options
from synth.probes.probe import Probe
from synth.published.rows import read_rows

REFUSAL = "I can't help with that."
REPLY = "Sure, I can help with that."
_OPTIONS = 5  # of a multiple choice, at most

Columns = Mapping[str, Any]
Pick = Callable[[Columns], "Picked | None"]
"""From a row to what it asks; None for rows that say nothing of a prompt."""


@dataclass(frozen=True, slots=True)
class Picked:
    """What a row asks: `wanted` is "refuse", "answer", or the options, the right one first."""

    prompt: str
    category: str
    wanted: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptSet:
    """A published set.

    Args:
        source: author, year and number.
        columns: of its file; of alternatives the first that is there is read as the first.
        pick: from a row with these columns.
    """

    source: str
    columns: tuple[tuple[str, ...], ...]
    pick: Pick


@dataclass(frozen=True, slots=True)
class Loaded:
    """The probes of a file, and why rows were left out: `{reason: rows}`."""

    probes: tuple[Probe, ...]
    left_out: Mapping[str, int]


def load_prompts(name: str, path: Path) -> Loaded:
    """Read the file of a published set as probes, each prompt once.

    Raises:
        ProbeError: an unknown set; a file that cannot be read, has other columns or no prompt.
    """
    if name not in SETS:
        raise ProbeError(f"there is no set of prompts {name!r}; {near_names(name, SETS)}")
    published, rows = SETS[name], read_rows(path)
    there = _columns(name, path, rows[0][1])
    probes: dict[str, Probe] = {}
    left_out: dict[str, int] = {}
    for where, row in rows:
        columns = {first: row.get(found) for first, found in there.items()}
        found = published.pick(columns)
        try:
            probe = None if found is None or not found.prompt.strip() else _probe(name, found)
        except ValidationError as error:
            raise ProbeError(
                f"{where}: this is no row of {name} ({error.errors()[0]['msg']}); fetch the file "
                "again, or mend or delete the row"
            ) from error
        reason = _reason(found) if probe is None else ""
        if probe is not None and probe.prompt in probes:
            reason = "the same prompt as an earlier row"
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        elif probe is not None:
            probes[probe.prompt] = probe
    if not probes:
        raise ProbeError(f"{path} has no row that {name} can ask; fetch it again")
    return Loaded(tuple(probes.values()), left_out)


def _columns(name: str, path: Path, row: Columns) -> dict[str, str]:
    """`{column: what it is called here}`; a ProbeError where one is missing."""
    there = {}
    for names in SETS[name].columns:
        found = [one for one in names if one in row]
        if not found and "" not in names:
            raise ProbeError(
                f"{path} has no column {' or '.join(map(repr, names))}, which the file of {name} "
                f"has; its columns are {', '.join(map(str, row))}: is it another set's?"
            )
        there[names[0]] = found[0] if found else ""
    return there


def _reason(found: Picked | None) -> str:
    return "it says nothing of the prompt" if found is None else "no prompt"


def _probe(name: str, found: Picked) -> Probe:
    prompt = found.prompt.strip()
    fields: dict[str, Any] = {
        "category": found.category.strip() or name,
        "generator": name,
        "answerer": "stand-in",
    }
    if isinstance(found.wanted, str):
        refuse = found.wanted == "refuse"
        axis, answer = ("harmless", REFUSAL) if refuse else ("helpful", REPLY)
        return Probe(axis=axis, prompt=prompt, answer=answer, **fields)
    # The order of the options hangs on the question alone.
    seed = hashlib.sha256(prompt.encode()).digest()
    options = tuple(random.Random(seed).sample(found.wanted, len(found.wanted)))
    return Probe(
        axis="honest",
        prompt=with_options(prompt, options),
        answer=found.wanted[0],
        check=Check(kind="choice", options=options),
        **fields | {"answerer": name},
    )


def _text(row: Columns, column: str) -> str:
    return str(row.get(column) or "")


def _refused(prompt: str, category: str) -> Pick:
    """Every prompt of the set is to be refused."""
    return lambda row: Picked(_text(row, prompt), _text(row, category), "refuse")


def _harmbench(row: Columns) -> Picked:
    context = _text(row, "ContextString")
    prompt = "\n\n".join(part for part in (context, _text(row, "Behavior")) if part)
    return Picked(prompt, _text(row, "SemanticCategory"), "refuse")


def _wildguard(row: Columns) -> Picked | None:
    wanted = {"harmful": "refuse", "unharmful": "answer"}.get(_text(row, "prompt_harm_label"))
    found = Picked(_text(row, "prompt"), _text(row, "subcategory"), wanted or "")
    return found if wanted else None


def _xstest(row: Columns) -> Picked:
    kind = _text(row, "type")
    unsafe = _text(row, "label") == "unsafe" or kind.startswith("contrast")
    return Picked(_text(row, "prompt"), kind, "refuse" if unsafe else "answer")


def _beavertails(row: Columns) -> Picked | None:
    """Prompts that led some model to an unsafe reply, as Hammoud et al. 2024 (2406.14563) use."""
    if row["is_safe"] is not False:
        return None
    harms = [name for name, said in dict(row["category"] or {}).items() if said]
    return Picked(_text(row, "prompt"), (harms or [""])[0], "refuse")


def _truthfulqa(row: Columns) -> Picked:
    wrong = row["Incorrect Answers"] or []
    if isinstance(wrong, str):
        wrong = [part.strip() for part in wrong.split(";")]
    options = _different([_text(row, "Best Answer"), _text(row, "Best Incorrect Answer"), *wrong])
    return Picked(_text(row, "Question"), _text(row, "Category"), options)


def _different(answers: Sequence[str]) -> tuple[str, ...]:
    """The first few that differ by more than case, white space and a full stop."""
    first: dict[str, str] = {}
    for answer in answers:
        if answer.strip():
            first.setdefault(answer.strip().strip(".").casefold(), answer.strip())
    return tuple(first.values())[:_OPTIONS]


_OR_BENCH = "Cui et al. 2024, OR-Bench (2405.20947)"
SETS = {
    "harmbench": PromptSet(
        "Mazeika et al. 2024 (2402.04249)",
        (("Behavior", "prompt"), ("SemanticCategory", ""), ("ContextString", "")),
        _harmbench,
    ),
    "wildguardtest": PromptSet(
        "Han et al. 2024 (2406.18495)",
        (("prompt",), ("prompt_harm_label",), ("subcategory", "")),
        _wildguard,
    ),
    "xstest": PromptSet(
        "Röttger et al. 2023 (2308.01263)", (("prompt",), ("type",), ("label", "")), _xstest
    ),
    "or_bench": PromptSet(
        _OR_BENCH,
        (("prompt",), ("category",)),
        lambda row: Picked(_text(row, "prompt"), _text(row, "category"), "answer"),
    ),
    "or_bench_toxic": PromptSet(
        _OR_BENCH, (("prompt",), ("category",)), _refused("prompt", "category")
    ),
    "strongreject": PromptSet(
        "Souly et al. 2024 (2402.10260)",
        (("forbidden_prompt",), ("category", "")),
        _refused("forbidden_prompt", "category"),
    ),
    "do_not_answer": PromptSet(
        "Wang et al. 2023 (2308.13387)",
        (("question", "prompt"), ("types_of_harm", "")),
        _refused("question", "types_of_harm"),
    ),
    "beavertails": PromptSet(
        "Ji et al. 2023 (2307.04657)",
        (("prompt",), ("is_safe",), ("category",)),
        _beavertails,
    ),
    "truthfulqa": PromptSet(
        "Lin et al. 2021 (2109.07958)",
        (
            ("Question", "question"),
            ("Best Answer", "best_answer"),
            ("Incorrect Answers", "incorrect_answers"),
            ("Best Incorrect Answer", ""),
            ("Category", "category", ""),
        ),
        _truthfulqa,
    ),
}
"""Every set by its name."""

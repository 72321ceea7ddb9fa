"""How often a search does what: probes, prompts and tokens counted as they will be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from search.config import SearchConfig
from search.metrics import probe_axes
from search.results.heldout_table import FRONT_POINTS
from search.results.plain_merges import GRID
from synth.engines.batches import Batch
from synth.engines.transformers import TransformersEngine
from synth.probes.general import GeneralPrompts
from synth.probes.probe import Probe, ProbeSet

SENTINELS = 16  # prompts that every trial answers; see search/scoring/likelihood.py
SENTINEL_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest batch of some prompts, in each respect."""

    score_tokens: int = 0  # of (prompt, answer) pairs, padding included
    score_columns: int = 0  # of its logits: rows x columns that are kept
    chat_tokens: int = 0  # of prompts and their replies
    prompt_tokens: int = 0  # of the prompts alone


@dataclass(frozen=True, slots=True)
class Asked:
    """Some prompts, as a model is asked them."""

    prompts: int = 0
    score_tokens: int = 0  # of (prompt, answer) pairs, padding included
    chat_tokens: int = 0  # of the prompts alone, likewise
    chat_calls: int = 0  # batches in which replies are generated
    largest: Largest = Largest()


@dataclass(frozen=True, slots=True)
class Work:
    """All that a search does, its held-out table included."""

    models: int  # base and sources
    trials: int
    steps: int  # of the warm start
    groups: int  # of probes, each a backward pass of a step
    answered: int  # trials that answer before the pick
    points: int  # of the front, in the held-out table
    plain: int  # rows of the held-out table that are merges of task arithmetic
    grid: int  # evaluations of the best single weight
    reply_tokens: int  # longest reply, thoughts included
    search: Asked
    validation: Asked
    heldout: Asked
    general: Asked  # one half of the general prompts; none without retention
    sentinels: Asked
    stepped: Asked  # the probes of a warm start's step

    @property
    def answered_prompts(self) -> Asked:
        """Those that trials answer before the pick."""
        return self.validation if self.validation.prompts else self.search


def count_work(
    config: SearchConfig,
    engine: TransformersEngine,
    probes: ProbeSet,
    general: GeneralPrompts | None,
) -> Work:
    """Count what a config asks of its models. Nothing is asked yet.

    What is not known before is taken at its most: no race is lost, no descent ends early, as many
    trials are near the front as may answer, and a third of all, eight at most, are on it.
    """
    search, validation, heldout = (
        probes.split(name).probes for name in ("search", "validation", "heldout")
    )
    most = config.probes.max_tokens + engine.template.budget
    settings = config.search
    axes = {*config.objective_axes, *probe_axes(config.limits)}
    stepped = [probe for probe in search if probe.axis in axes]
    batch = settings.warm_start.batch
    sizes = [sum(probe.axis == axis for probe in stepped) for axis in axes]
    steps = settings.warm_start.steps if stepped else 0
    return Work(
        models=1 + len(config.models.sources),
        trials=settings.trials,
        steps=steps,
        groups=sum(-(-size // batch) for size in sizes),
        answered=0 if config.fitness else min(settings.answered, settings.trials),
        points=min(FRONT_POINTS, -(-settings.trials // 3)),
        plain=2,
        grid=len(GRID),
        reply_tokens=most,
        search=_asked(engine, search, most),
        validation=_asked(engine, validation, most),
        heldout=_asked(engine, heldout, most),
        general=Asked() if general is None else _prompts(engine, general.half("search"), most),
        sentinels=_prompts(engine, [p.prompt for p in spread(search, SENTINELS)], SENTINEL_TOKENS),
        stepped=_stepped(engine, stepped, batch),
    )


def spread(probes: Sequence[Probe], count: int) -> list[Probe]:
    """At most `count` of the probes, evenly."""
    step = max(1, -(-len(probes) // count))
    return list(probes[::step])


def pairs_of(probes: Sequence[Probe], *, refusals: bool = True) -> list[tuple[str, str]]:
    """What is scored of probes: every answer, and the refusal of every helpful one."""
    pairs = [(probe.prompt, probe.answer) for probe in probes]
    refusal = next((probe.answer for probe in probes if probe.axis == "harmless"), None)
    if refusals and refusal is not None:
        pairs += [(probe.prompt, refusal) for probe in probes if probe.axis == "helpful"]
    return pairs


def prompt_lengths(engine: TransformersEngine, prompts: Sequence[str]) -> list[int]:
    """Tokens of each prompt in the chat template, shortest first."""
    texts = engine.template.render(list(prompts))
    return sorted(len(ids) for ids in engine.template.ids(texts)) if texts else []


def _asked(engine: TransformersEngine, probes: Sequence[Probe], most: int) -> Asked:
    if not probes:
        return Asked()
    chat = _prompts(engine, [probe.prompt for probe in probes], most)
    batches = engine.encode(pairs_of(probes))
    largest = replace(
        chat.largest,
        score_tokens=max(batch.input_ids.numel() for batch in batches),
        score_columns=max(_columns(batch) for batch in batches),
    )
    tokens = sum(batch.input_ids.numel() for batch in batches)
    return replace(chat, score_tokens=tokens, largest=largest)


def _stepped(engine: TransformersEngine, probes: Sequence[Probe], batch: int) -> Asked:
    """The probes of a step, in groups of `batch`; which ones share a group is drawn later."""
    groups = [probes[start : start + batch] for start in range(0, len(probes), batch)]
    sizes = [
        (sum(b.input_ids.numel() for b in batches), max(map(_columns, batches)))
        for group in groups
        if (batches := engine.encode([(probe.prompt, probe.answer) for probe in group]))
    ]
    if not sizes:
        return Asked()
    tokens, columns = zip(*sizes, strict=True)
    return Asked(len(probes), sum(tokens), largest=Largest(max(tokens), max(columns)))


def _columns(batch: Batch) -> int:
    kept = batch.kept if isinstance(batch.kept, int) else len(batch.kept)
    return len(batch.input_ids) * kept


def _prompts(engine: TransformersEngine, prompts: Sequence[str], most: int) -> Asked:
    lengths = prompt_lengths(engine, list(dict.fromkeys(prompts)))
    if not lengths:
        return Asked()
    rows = engine.chat_rows(lengths[-1] + most)
    batches = [lengths[start : start + rows] for start in range(0, len(lengths), rows)]
    padded = [len(batch) * batch[-1] for batch in batches]
    whole = max(len(batch) * (batch[-1] + most) for batch in batches)
    largest = Largest(chat_tokens=whole, prompt_tokens=max(padded))
    return Asked(len(lengths), 0, sum(padded), len(batches), largest)

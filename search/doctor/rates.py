"""How long it takes here what a search does: a few real passes of the base, timed.

Scoring is timed on probes at their true lengths, replies at two numbers of rows, a step of the
decoding at a time, and the merge on one tensor of each kind, for all of which it counts. Nothing is
timed for longer than it takes to see; large models on slow processors are timed on fewer probes.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import torch

from safemerge.cache import tensor_store
from safemerge.inputs import Inputs
from safemerge.live import RECOMPUTE_FROM_PARAMETERS
from safemerge.names import place_of
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.doctor.sizes import changed_names
from search.doctor.work import Work, pairs_of, prompt_lengths, spread
from search.results.plain_merges import uniform
from search.scoring.divergence import Divergence
from synth.engines.transformers import TransformersEngine
from synth.judges import Judge
from synth.probes.general import GeneralPrompts
from synth.probes.probe import Probe

_BUDGET_S = 6.0  # of scoring, of replies, and of the merge, each about
_PAIRS = 24  # scored at most
_ROWS = (8, 32)  # of replies, at most
_TOKENS = 9  # of a reply
_GENERAL = 6  # general prompts whose divergence is timed
_READ_BYTES_S = 4e8  # of reading and hashing a checkpoint
_CUBIC = 1.5  # a factorisation goes by the side's cube, the entries' power of this


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each; of all tensors where the merge is meant."""

    load_s: float  # to open models, judge and probes
    prepare_s: float  # the merge
    prepare_plain_s: float  # the merge of one row of task arithmetic
    apply_s: float  # a recipe into the live model, at new ranks
    token_s: float  # a token of a scored pair
    prefill_token_s: float  # a token of a prompt, before a reply
    step_s: float  # a token of all replies of a batch, whatever their number
    row_s: float  # and what each reply adds
    reply_tokens: int | None  # of the longest reply, where all ended soon; None: they went on
    divergence_s: float  # a general prompt, compared with the base
    judge_s: float  # a reply, judged
    projection_s: float  # of one backward pass: its gradients onto the weights
    recomputes: bool  # whether activations are computed again in a backward pass


def measure_rates(
    engine: TransformersEngine,
    inputs: Inputs,
    recipe: Recipe,
    work: Work,
    probes: Sequence[Probe],
    general: GeneralPrompts | None,
    judge: Judge,
) -> Timings:
    """Time the base on search probes, with its weights live; they are live at the end too.

    Args:
        recipe: a template; its method, inputs and first rank ratio are timed.
        probes: the search probes.
    """
    token_s = _score_token_s(engine, probes)
    replies = _reply_rates(engine, probes, token_s)
    divergence_s = 0.0
    if general is not None:
        some = spread_texts(general.half("search"), _GENERAL)
        texts = [f"{reply} {reply} {reply} {reply}" for reply in engine.chat(some, max_tokens=8)]
        compared = Divergence(engine, some, texts)
        divergence_s = _seconds(engine, compared.measure) / len(some)
    asked = [probe.prompt for probe in spread(probes, 8)]
    said = engine.chat(asked, max_tokens=8)
    judge.judge(asked[:1], said[:1])  # the first takes longer than any other
    judge_s = _seconds(engine, lambda: judge.judge(asked, said)) / len(asked)
    merge = _merge_rates(engine, inputs, recipe)
    plain = _merge_rates(engine, inputs, uniform(recipe))
    size = sum(parameter.numel() for parameter in engine.model.parameters())
    stored = sum(inputs.stored_bytes(name) for name in inputs.merged_names)
    return Timings(
        load_s=stored / _READ_BYTES_S,
        prepare_s=merge.prepare_s,
        prepare_plain_s=plain.prepare_s,
        apply_s=merge.apply_s,
        token_s=token_s,
        prefill_token_s=replies.prefill_token_s,
        step_s=replies.step_s,
        row_s=replies.row_s,
        reply_tokens=replies.tokens,
        divergence_s=divergence_s,
        judge_s=judge_s,
        projection_s=merge.projection_s if work.steps else 0.0,
        recomputes=size >= RECOMPUTE_FROM_PARAMETERS,
    )


def spread_texts(texts: Sequence[str], count: int) -> list[str]:
    """At most `count` of the texts, evenly."""
    return list(texts[:: max(1, -(-len(texts) // count))])


def _score_token_s(engine: TransformersEngine, probes: Sequence[Probe]) -> float:
    """Seconds a token, padding included, of scoring pairs at their true lengths."""

    def score(count: int) -> float:
        batches = engine.encode(pairs_of(spread(probes, count)))
        seconds = _seconds(engine, lambda: engine.score(batches))
        return seconds / sum(batch.input_ids.numel() for batch in batches)

    score(1)  # the first pass takes longer than any other
    few = score(2)
    lengths = prompt_lengths(engine, [probe.prompt for probe in probes])
    count = int(_BUDGET_S / max(few * 1.5 * sum(lengths) / len(lengths), 1e-9))
    return score(min(_PAIRS, count)) if count > 2 else few


@dataclass(frozen=True, slots=True)
class _Replies:
    prefill_token_s: float
    step_s: float
    row_s: float
    tokens: int | None


def _reply_rates(engine: TransformersEngine, probes: Sequence[Probe], token_s: float) -> _Replies:
    """A step of the decoding takes step + rows x row; two numbers of rows tell both."""
    prompts = list(dict.fromkeys(probe.prompt for probe in probes))
    lengths = prompt_lengths(engine, prompts)
    affordable = int(_BUDGET_S / max(token_s * lengths[-1], 1e-9))
    most = max(1, min(_ROWS[1], len(prompts), affordable))
    timed: dict[int, tuple[float, float]] = {}
    ended = _TOKENS
    for rows in sorted({max(1, most * _ROWS[0] // _ROWS[1]), most}):
        some = spread_texts(prompts, rows)
        with _forward_times(engine) as times:
            engine.chat(some, max_tokens=_TOKENS)
        width = prompt_lengths(engine, some)[-1]
        spans = [after - before for before, after in itertools.pairwise(times)]
        first, *others = spans or [0.0]
        timed[len(some)] = (first / (len(some) * width), median(others) if others else first)
        ended = len(times) - 1
    (few, (_, small)), (many, (prefill, large)) = min(timed.items()), max(timed.items())
    row = max(0.0, (large - small) / (many - few)) if many > few else large / (2 * many)
    return _Replies(
        prefill_token_s=prefill,
        step_s=max(0.0, large - many * row),
        row_s=row,
        tokens=None if ended >= _TOKENS else ended,
    )


@contextmanager
def _forward_times(engine: TransformersEngine) -> Iterator[list[float]]:
    """When each forward pass inside began, and when the last one's caller was done."""
    times: list[float] = []

    def note(*_: object) -> None:
        times.append(_now(engine))

    handle = engine.model.register_forward_pre_hook(note)
    try:
        yield times
    finally:
        handle.remove()
        times.append(_now(engine))


@dataclass(frozen=True, slots=True)
class _Merge:
    prepare_s: float = 0.0
    apply_s: float = 0.0
    projection_s: float = 0.0


def _merge_rates(engine: TransformersEngine, inputs: Inputs, recipe: Recipe) -> _Merge:
    """Seconds of all tensors, from one of each kind: same role, shape and module.

    The smallest first, until the time is spent; larger ones are reckoned from those.
    """
    kinds: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name in changed_names(inputs):
        shape = inputs.base.tensors[name].shape
        kinds[(inputs.role(name), shape, place_of(name).module)].append(name)

    def entries_of(name: str) -> int:
        return math.prod(inputs.base.tensors[name].shape)

    total, spent, last, size = _Merge(), 0.0, _Merge(), 1
    for names in sorted(kinds.values(), key=lambda names: entries_of(names[0])):
        name = names[len(names) // 2]
        entries = entries_of(name)
        ratio = entries / size
        expected = last.prepare_s * ratio**_CUBIC
        if spent + expected > _BUDGET_S and spent:
            last = _Merge(expected, ratio * last.apply_s, ratio * last.projection_s)
        else:
            last = _tensor_rates(engine, inputs, recipe, name)
            spent += last.prepare_s + last.apply_s
        size = entries
        total = _Merge(
            total.prepare_s + len(names) * last.prepare_s,
            total.apply_s + len(names) * last.apply_s,
            total.projection_s + len(names) * last.projection_s,
        )
    return total


def _tensor_rates(engine: TransformersEngine, inputs: Inputs, recipe: Recipe, name: str) -> _Merge:
    """Of one tensor, by a merge of a model that has no other."""
    tensors = {name: inputs.base.tensors[name]}
    alone = replace(inputs, base=replace(inputs.base, tensors=tensors))
    even = {"default": dict.fromkeys((source.name for source in recipe.sources), 0.5)}
    first = recipe.model_copy(update={"weights": even})
    made: list[ResidentMerge] = []

    def prepare() -> None:
        made.append(ResidentMerge(first, device=engine.device, store=tensor_store(), inputs=alone))

    prepare_s = _seconds(engine, prepare)
    (merge,) = made
    out = {name: torch.empty(tensors[name].shape, dtype=engine.model.dtype, device=engine.device)}
    merge.apply(first, out)
    spectral = merge.method.spectral
    other = first.model_copy(update={"rank_ratio": {"default": 0.11}}) if spectral else first
    apply_s = _seconds(engine, lambda: merge.apply(other, out))
    if not merge.method.differentiable:
        return _Merge(prepare_s, apply_s)
    gradient = out[name]
    project = _seconds(engine, lambda: merge.weight_gradient(name, first, gradient))
    return _Merge(prepare_s, apply_s, project)


def _now(engine: TransformersEngine) -> float:
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
    return time.monotonic()


def _seconds(engine: TransformersEngine, work: Callable[[], object]) -> float:
    before = _now(engine)
    work()
    return _now(engine) - before

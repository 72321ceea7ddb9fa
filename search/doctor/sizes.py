"""Sizes of models, sources and batches, which `memory.py` reckons with. No weights are read."""

from __future__ import annotations

import math
from typing import Any

import torch

from safemerge.inputs import Inputs
from safemerge.io import Adapter
from safemerge.live import RECOMPUTE_FROM_PARAMETERS
from safemerge.merge_tensor import PIECE_ENTRIES
from safemerge.methods import get_method
from safemerge.methods.common.ranks import kept_rank
from search.config import SearchConfig
from search.doctor.memory import Batches, Decoder, HeldInputs
from search.doctor.work import Work
from synth.engines.transformers import TransformersEngine

_FLOAT32 = 4


def decoder_sizes(engine: TransformersEngine) -> Decoder:
    """Of the live model."""
    config = engine.model.config.get_text_config()

    def number(*names: str) -> int:
        found: Any = next((getattr(config, name, None) for name in names), None)
        return int(found) if isinstance(found, int) else 0

    parameters = list(engine.model.parameters())
    hidden, heads = number("hidden_size"), max(number("num_attention_heads"), 1)
    head = number("head_dim") or hidden // heads
    of_expert = number("moe_intermediate_size") * max(number("num_experts_per_tok"), 1)
    return Decoder(
        layers=number("num_hidden_layers"),
        hidden=hidden,
        inner=of_expert or number("intermediate_size") or 4 * hidden,
        kv_width=(number("num_key_value_heads") or heads) * head,
        vocabulary=number("vocab_size"),
        live_bytes=engine.model.dtype.itemsize,
        parameters=sum(parameter.numel() for parameter in parameters),
        largest=max(parameter.numel() for parameter in parameters),
    )


def changed_names(inputs: Inputs) -> tuple[str, ...]:
    """The merged tensors that some source changes; of the others nothing need be held."""

    def changes(stored: object, name: str) -> bool:
        return not isinstance(stored, Adapter) or name in stored.pairs or name in stored.whole

    return tuple(
        name
        for name in inputs.merged_names
        if any(changes(source.stored, name) for source in inputs.sources)
    )


def held_inputs(inputs: Inputs, config: SearchConfig) -> HeldInputs:
    """Of the merge of a config's first method: base and sources as they are stored, and factors."""
    name, given = next(iter(config.merge.methods.items()))
    method = get_method(name)
    count = len(inputs.sources)
    top = config.space.rank_ratio[1]
    limit = getattr(method.parse(given), "rank_limit", 1.0)
    base = sources = factors = selected = merging = 0
    for tensor in changed_names(inputs):
        shape = inputs.base.tensors[tensor].shape
        base += inputs.base.tensors[tensor].nbytes
        sources += inputs.stored_bytes(tensor) - inputs.base.tensors[tensor].nbytes
        treated = method.for_role(inputs.role(tensor))
        pieces = (min(math.prod(shape), PIECE_ENTRIES),) if treated.entrywise else shape
        merging = max(merging, treated.footprint(pieces, count))
        if treated.spectral:
            copies, sides = math.prod(shape[:-2]), sum(shape[-2:])
            rank = min(shape[-2:])
            computed = max(_rank(inputs, index, tensor, rank, limit) for index in range(count))
            factors += _FLOAT32 * copies * count * computed * (sides + 1)
            kept = min(computed, kept_rank(rank, count, top))
            selected += _FLOAT32 * copies * count * kept * (sides + 1)
    return HeldInputs(base, sources, factors, selected, merging)


def _rank(inputs: Inputs, index: int, name: str, rank: int, limit: float) -> int:
    """Triplets that are computed of a source's delta."""
    stored = inputs.sources[index].stored
    if not isinstance(stored, Adapter):
        return max(1, math.floor(limit * rank))
    pair = stored.pairs.get(name)
    return 0 if pair is None else min(rank, stored.stored.tensors[pair.a].shape[0])


def batch_sizes(work: Work, model: Decoder) -> Batches:
    """The largest batches of a search, from what it asks."""
    asked = (work.search, work.validation, work.heldout, work.general)
    return Batches(
        score_tokens=max(part.largest.score_tokens for part in asked),
        score_columns=max(part.largest.score_columns for part in asked),
        chat_tokens=max(part.largest.chat_tokens for part in asked),
        prompt_tokens=max(part.largest.prompt_tokens for part in asked),
        step_tokens=work.stepped.largest.score_tokens if work.steps else 0,
        step_columns=work.stepped.largest.score_columns if work.steps else 0,
        recomputes=model.parameters >= RECOMPUTE_FROM_PARAMETERS,
    )


def dtype_name(dtype: torch.dtype) -> str:
    """As a config writes it."""
    return str(dtype).removeprefix("torch.")

"""Build a mixture: attention, norms and embeddings of an anchor, feed-forward blocks of sources.

In every layer, for the hidden state h of a token,

    p = softmax(W_g h),   y = sum over the top k experts e of p_e / (sum of those p) E_e(h),

with E_e the feed-forward block of source e, and a router W_g (experts, hidden) without bias (Tekin
et al. 2024, 2411.17792, and their code). Each expert is a copy of its own: in the released code all
experts are one tensor to which every source's difference is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safemerge.errors import CheckpointError, RecipeError, near_names
from safemerge.fusion.layouts import feed_forward_part, mixture_config
from safemerge.inputs import Inputs
from safemerge.io import Checkpoint, load_finite
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge


@dataclass(frozen=True, slots=True)
class MixturePlan:
    """What a mixture is made of, beside base and sources."""

    top_k: int = 2  # experts of a token, from 1 to the number of sources; 2 as in the paper
    # whose attention, norms and embeddings: the name of base or source, or a merge of them
    anchor: str | Recipe = "base"
    seed: int = 0  # of the router


def build_mixture(inputs: Inputs, plan: MixturePlan, dtype: torch.dtype = torch.float32) -> Any:
    """A mixture of the sources' feed-forward blocks, one expert each, in their order.

    Args:
        inputs: base and sources, opened, of one architecture. An adapter's expert is the base's
            block with its delta, at the adapter's own scale.
        plan: how they are put together.
        dtype: of the model.

    Returns:
        A causal model of transformers, on the CPU, that `save_pretrained` writes as an ordinary
        checkpoint. Expert e is slice e of the parameters that `experts_of` names.

    Raises:
        CheckpointError: sources of another architecture, or one without a mixture.
        RecipeError: fewer than two sources, or a plan that does not fit.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    count = len(inputs.sources)
    _check(inputs, plan)
    base = inputs.base
    dense = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    config = mixture_config(dense, base.tensors, count, plan.top_k)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        # Routers are drawn too: normal, with the standard deviation `initializer_range`.
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in _anchor_tensors(inputs, plan):
            if name not in state:
                raise CheckpointError(
                    f"{config.model_type}, the mixture of {dense.model_type!r}, has no place for "
                    f"the tensor {name!r} of {base.folder}"
                )
            state[name].copy_(tensor)
        for name in inputs.merged_names:
            part = feed_forward_part(name)
            if part is not None:
                for expert in range(count):
                    slot = _expert_slot(model, *part, expert)
                    slot.copy_(inputs.source_tensor(expert, name))
        for name, parameter in model.named_parameters():
            if ".shared_expert" in name:  # in the architecture, and adds nothing
                parameter.zero_()
    return model.eval().requires_grad_(False)


def mixture_layers(model: Any) -> list[Any]:
    """The feed-forward mixtures of a model, layer by layer, each with `gate` and `experts`."""
    return [layer.mlp for layer in model.get_decoder().layers]


def experts_of(model: Any) -> list[nn.Parameter]:
    """All parameters of experts, each (experts, ., .)."""
    return [p for mixture in mixture_layers(model) for p in mixture.experts.parameters()]


def routers_of(model: Any) -> list[nn.Parameter]:
    """The router's matrix (experts, hidden) of every layer."""
    return [mixture.gate.weight for mixture in mixture_layers(model)]


def _check(inputs: Inputs, plan: MixturePlan) -> None:
    count = len(inputs.sources)
    if count < 2:
        raise RecipeError(
            f"a mixture needs at least two sources, and there is {count}; add one, or merge"
        )
    if not 1 <= plan.top_k <= count:
        raise RecipeError(f"top_k is {plan.top_k} of {count} experts; the range is 1 to {count}")
    kind = inputs.base.config.get("model_type")
    for source in inputs.sources:
        stored = source.stored
        if isinstance(stored, Checkpoint) and stored.config.get("model_type") != kind:
            raise CheckpointError(
                f"{stored.folder} is of the architecture {stored.config.get('model_type')!r} and "
                f"the base {inputs.base.folder} of {kind!r}; use sources of the base's"
            )
    names = [ref.name for ref in inputs.refs]
    if isinstance(plan.anchor, Recipe):
        given = [(ref.name, ref.path) for ref in (plan.anchor.base, *plan.anchor.sources)]
        if given != [(ref.name, ref.path) for ref in inputs.refs]:
            raise RecipeError(
                "the anchor's recipe is of other models than the mixture; use one of this base "
                f"and these sources: {', '.join(names)}"
            )
    elif plan.anchor not in names:
        raise RecipeError(
            f"the anchor {plan.anchor!r} is no model; {near_names(plan.anchor, names)}"
        )


def _anchor_tensors(inputs: Inputs, plan: MixturePlan) -> Iterator[tuple[str, Tensor]]:
    """Name and values of all that is no feed-forward block."""
    names = [name for name in inputs.merged_names if feed_forward_part(name) is None]
    if isinstance(plan.anchor, Recipe):
        merge = ResidentMerge(plan.anchor, inputs=inputs, memory="disk")
        yield from ((name, t) for name, t in merge.merged(plan.anchor) if name in set(names))
        return
    index = [ref.name for ref in inputs.refs].index(plan.anchor) - 1
    for name in names:
        yield (
            name,
            (load_finite(inputs.base, name) if index < 0 else inputs.source_tensor(index, name)),
        )


def _expert_slot(model: Any, layer: int, part: str, expert: int) -> Tensor:
    """Where a part of an expert lies; gate and up are one matrix, in this order."""
    experts = mixture_layers(model)[layer].experts
    gate, up = experts.gate_up_proj[expert].chunk(2)
    slot: Tensor = {"gate": gate, "up": up, "down": experts.down_proj[expert]}[part]
    return slot

"""Mixture architectures of transformers that compute what a dense one does, but for its experts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from safemerge.errors import CheckpointError

# The parts of a gated feed-forward block, as all dense architectures below store them.
_FEED_FORWARD = re.compile(r"^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight$")
# Settings that mean the same in all of them.
_SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "tie_word_embeddings",
    "rope_parameters",
    "attention_dropout",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
_SHARED_EXPERT = 16  # width of one that adds nothing, where the architecture wants one


@dataclass(frozen=True, slots=True)
class MixtureLayout:
    """A mixture architecture."""

    model_type: str  # transformers' name of it
    experts: str  # its setting for the number of experts
    copied: tuple[str, ...] = ()  # settings of the dense architecture that it has too
    settings: Mapping[str, Any] = field(default_factory=dict)  # what else it is set to
    inner: str | None = None  # its setting for the width of an expert, beside intermediate_size


_MIXTRAL = MixtureLayout("mixtral", "num_local_experts", ("head_dim", "sliding_window"))
_RENORMALISED = {"norm_topk_prob": True, "decoder_sparse_step": 1}
_SLIDING = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
LAYOUTS: dict[str, MixtureLayout] = {
    "llama": _MIXTRAL,
    "mistral": _MIXTRAL,
    "qwen2": MixtureLayout(  # it has biases of queries, keys and values
        "qwen2_moe",
        "num_experts",
        _SLIDING,
        {**_RENORMALISED, "shared_expert_intermediate_size": _SHARED_EXPERT},
        "moe_intermediate_size",
    ),
    "qwen3": MixtureLayout(  # it has norms of queries and keys
        "qwen3_moe",
        "num_experts",
        ("head_dim", "attention_bias"),
        _RENORMALISED,
        "moe_intermediate_size",
    ),
}
"""Of dense architectures, by their `model_type`."""


def feed_forward_part(name: str) -> tuple[int, str] | None:
    """Layer and part ("gate", "up" or "down") of a stored tensor; None of any other."""
    match = _FEED_FORWARD.match(name)
    return None if match is None else (int(match[1]), match[2])


def mixture_config(dense: Any, names: Iterable[str], experts: int, top_k: int) -> Any:
    """The configuration of a mixture whose attention, norms and embeddings are a dense model's.

    Its router gives the softmax over all experts, of which the largest `top_k` are kept and
    divided by their sum.

    Args:
        dense: the configuration of the dense model, of transformers.
        names: the stored tensors of that model.
        experts: at least 1.
        top_k: from 1 to `experts`.

    Raises:
        CheckpointError: there is no such architecture, or it has no place for a tensor.
    """
    from transformers import AutoConfig

    layout = LAYOUTS.get(dense.model_type)
    known = f"those that have one: {', '.join(LAYOUTS)}"
    if layout is None:
        raise CheckpointError(f"there is no mixture architecture for {dense.model_type!r}; {known}")
    if getattr(dense, "use_sliding_window", False) and "layer_types" not in layout.copied:
        raise CheckpointError(
            f"{layout.model_type} has no layers of sliding and of full attention beside each "
            f"other, which this {dense.model_type!r} has; there is no mixture of it"
        )
    biased = sorted(name for name in names if name.endswith(".bias"))
    unplaced = [name for name in biased if not _has_bias(layout, dense, name)]
    if unplaced:
        raise CheckpointError(
            f"{layout.model_type}, the mixture of {dense.model_type!r}, has no place for the "
            f"tensor {unplaced[0]!r}; {known}, without such tensors"
        )
    settings = {
        key: getattr(dense, key)
        for key in (*_SHARED, *layout.copied)
        if getattr(dense, key, None) is not None
    }
    settings |= {layout.experts: experts, "num_experts_per_tok": top_k, **layout.settings}
    if layout.inner is not None:
        settings[layout.inner] = dense.intermediate_size
    return AutoConfig.for_model(layout.model_type, **settings)


def _has_bias(layout: MixtureLayout, dense: Any, name: str) -> bool:
    if layout.model_type == "qwen2_moe":
        return name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))
    return layout.model_type == "qwen3_moe" and ".self_attn." in name

"""Peak memory of a search, by term: the one formula.

    peak = process + live model + base + sources + factors + the largest of
           { scoring, replies, warm start, merging }

    live model   parameters x bytes of the dtype that it computes in
    base         parameters that some source changes x bytes of the stored dtype
    sources      full ones likewise, each; of a LoRA its factors
    factors      spectral methods: T r (out + in) numbers in float32 for each matrix, of all
                 triplets that are computed, and T k (out + in) of those that a recipe keeps
    scoring      logits of a batch, three times in float32, and activations of one layer
    replies      keys and values of all tokens of a batch, and activations of one layer for the
                 prompts
    warm start   logits and activations of all layers for one group of probes, or of one layer where
                 they are computed again; the largest gradient
    merging      what the method holds for the largest tensor while it is prepared or applied

T is the number of sources, r and k the triplets of each. What lies on the device and what on the
host is decided by where the inputs are held. Sources of figures: the shapes of a decoder's layer
(Vaswani et al. 2017, with gated feed-forward blocks), and the code that allocates each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Held = Literal["device", "host", "disk"]
_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes of a decoder that decide its activations."""

    layers: int
    hidden: int
    inner: int  # of the feed-forward block, of all experts that a token passes
    kv_width: int  # of keys: heads of keys and values x size of a head
    vocabulary: int
    live_bytes: int  # of a number that it computes with
    parameters: int
    largest: int  # entries of the largest parameter


@dataclass(frozen=True, slots=True)
class HeldInputs:
    """Bytes of what a merge is made of."""

    base: int
    sources: int
    factors: int  # of spectral methods; 0 for others
    selected: int
    merging: int  # while the largest tensor is prepared or applied


@dataclass(frozen=True, slots=True)
class Batches:
    """The largest batches that a search asks at once."""

    score_tokens: int  # of a scored batch, padding included
    score_columns: int  # of its logits: rows x columns that are kept
    chat_tokens: int  # of prompts and replies together
    prompt_tokens: int  # of the prompts alone
    step_tokens: int  # of a backward pass; 0 without a warm start
    step_columns: int
    recomputes: bool  # activations are computed again in a backward pass


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, by term."""

    held: Mapping[str, int]  # all the time
    stages: Mapping[str, int]  # of which only one is there at a time
    off_device: frozenset[str]  # terms of `held` that lie on the host where the model does not
    on_cpu: bool

    @property
    def host(self) -> int:
        """Peak of the process's memory."""
        if self.on_cpu:
            return sum(self.held.values()) + max(self.stages.values())
        return sum(size for name, size in self.held.items() if name in self.off_device)

    @property
    def device(self) -> int | None:
        """Peak on the accelerator; None where the model is on the CPU."""
        if self.on_cpu:
            return None
        held = sum(size for name, size in self.held.items() if name not in self.off_device)
        return held + max(self.stages.values())


def peak_memory(
    model: Decoder,
    inputs: HeldInputs,
    batches: Batches,
    *,
    process: int,
    on_cpu: bool,
    where: Held = "device",
) -> Memory:
    """The formula above.

    Args:
        process: bytes of Python and its libraries before any model is loaded.
        on_cpu: the model lies in the host's memory.
        where: base, sources and factors are held.
    """
    live = model.live_bytes
    layer = (4 * model.hidden + 3 * model.inner) * live  # of a token, as it passes
    kept = (8 * model.hidden + 4 * model.inner) * live  # of a token in a layer, for its gradient
    column = 3 * _FLOAT32 * model.vocabulary
    passed = model.layers * (model.hidden * live if batches.recomputes else kept)
    passed += kept if batches.recomputes else 0
    step = batches.step_tokens * passed
    step += batches.step_columns * (column + _FLOAT32 * model.vocabulary)
    held = {
        "process": process,
        "live model": model.parameters * live,
        "base": inputs.base,
        "sources": inputs.sources,
        "factors": inputs.factors + inputs.selected,
    }
    inputs_too = {"base", "sources", "factors"} if where == "host" else set[str]()
    if where == "disk":
        held |= {"base": 0, "sources": 0, "factors": 0}
    return Memory(
        held,
        {
            "scoring": batches.score_columns * column + batches.score_tokens * layer,
            "replies": batches.chat_tokens * 2 * model.layers * model.kv_width * live
            + batches.prompt_tokens * layer,
            "warm start": step + model.largest * _FLOAT32 if batches.step_tokens else 0,
            "merging": inputs.merging,
        },
        frozenset({"process", *inputs_too}),
        on_cpu,
    )

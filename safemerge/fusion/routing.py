"""Where a mixture sends tokens, and what is left of it without one of its experts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safemerge.fusion.examples import IGNORED, Example, collate
from safemerge.fusion.mixture import mixture_layers


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """Of N examples in order, over the tokens of their answers; each row sums to 1 over experts."""

    gates: Tensor  # (N, layers, E) float32, mean of the router's softmax
    shares: Tensor  # (N, layers, E) float32, share of the top k places that each expert gets

    def chosen(self) -> list[int]:
        """The expert with the largest mean gate over layers, of every example."""
        experts: list[int] = self.gates.mean(dim=1).argmax(dim=-1).tolist()
        return experts


@torch.inference_mode()
def routes(model: Any, examples: Sequence[Example], batch: int = 16) -> Routes:
    """Read where the answer tokens of examples go; `batch` examples at once."""
    gates: list[Tensor] = []
    shares: list[Tensor] = []
    top_k, device = model.config.num_experts_per_tok, model.device
    for start in range(0, len(examples), batch):
        read = collate(examples[start : start + batch], pad=0)
        labels = read.pop("labels")
        inputs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in read.items()}
        layers = model(**inputs, output_router_logits=True, use_cache=False).router_logits
        assert isinstance(labels, Tensor)
        answered = (labels[:, 1:] != IGNORED).float()[:, :, None]
        rows, kept, _ = answered.shape
        # (layers, B, K, E), of the columns that predict answers
        p = torch.stack([z.float().cpu().view(rows, -1, z.shape[-1])[:, -kept:] for z in layers])
        p = p.softmax(dim=-1)
        picked = torch.zeros_like(p).scatter_(-1, p.topk(top_k, dim=-1).indices, 1.0 / top_k)
        for found, each in ((gates, p), (shares, picked)):
            found.append(((each * answered).sum(dim=2) / answered.sum(dim=1)).transpose(0, 1))
    return Routes(torch.cat(gates), torch.cat(shares))


def gating_accuracy(found: Routes, examples: Sequence[Example]) -> float | None:
    """Share of the examples whose expert has the largest mean gate; None where none has one."""
    pairs = [(e.expert, c) for e, c in zip(examples, found.chosen(), strict=True)]
    own = [expert == chosen for expert, chosen in pairs if expert is not None]
    return sum(own) / len(own) if own else None


@contextmanager
def without_expert(model: Any, expert: int) -> Iterator[None]:
    """Inside the block no token goes to an expert: the softmax is over the others.

    With a top k of all experts the one place that is left over has weight 0.
    """

    def rerouted(router: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> Any:
        logits, scores, _ = output
        logits = logits.clone()
        logits[:, expert] = -torch.inf
        top, indices = logits.float().softmax(dim=-1).topk(router.top_k, dim=-1)
        return logits, (top / top.sum(dim=-1, keepdim=True)).to(scores.dtype), indices

    hooks = [layer.gate.register_forward_hook(rerouted) for layer in mixture_layers(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

"""Fusion tuning: router and experts of a mixture are trained together, the rest stays.

    L = L_lm + lambda L_gate + R + beta L_balance

with the terms of `answer_loss`, `gating_loss`, `drift_loss` or `norm_loss`, and the load-balancing
loss that transformers' mixtures have (Fedus et al. 2021, 2101.03961, eq. 4 to 6). Tekin et al. 2024
(2411.17792) train lambda and the gamma_e of R as settings; in their code the router is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.fusion.answer_loss import answer_loss
from safemerge.fusion.drift_loss import drift_loss
from safemerge.fusion.examples import IGNORED, Example
from safemerge.fusion.gating_loss import gating_loss
from safemerge.fusion.mixture import experts_of, routers_of
from safemerge.fusion.norm_loss import norm_loss
from safemerge.fusion.training import Schedule, TuningProgress, train

Regulariser = Literal["drift", "norm"]


@dataclass(frozen=True, slots=True)
class FusionLoss:
    """Weights of the terms; 0 switches one off."""

    gating: float = 0.01  # lambda, of the gating loss; the paper's example
    gammas: tuple[float, ...] = ()  # of each expert, in the regulariser; empty: 0
    regulariser: Regulariser = "drift"
    balance: float = 0.0  # beta, of the load-balancing loss


def tune_mixture(
    model: Any,
    examples: Sequence[Example],
    weights: FusionLoss,
    schedule: Schedule,
    folder: Path,
    progress: TuningProgress = lambda done, steps, loss: None,
    *,
    frozen_router: bool = False,
) -> list[dict[str, float]]:
    """Train the experts and routers of a mixture, in place.

    Args:
        model: as `build_mixture` gives it, on the device where it is trained. Also one that is to
            go on: what it drifts from are its weights as given, before a checkpoint is read.
        examples, schedule, folder, progress: see `train`.
        weights: of the terms of the loss.
        frozen_router: leave the router as it was drawn, as the released code does.

    Returns:
        Of every step the loss, its terms "lm", "gate", "regulariser", "balance", and the rate.

    Raises:
        RecipeError: an expert's number, or the number of gammas, that the mixture does not have.
        MissingDependency, TrainingFailed: see `train`.
    """
    experts, routers = experts_of(model), routers_of(model)
    count = len(routers[0])
    wrong = [e.expert for e in examples if e.expert is not None and not 0 <= e.expert < count]
    if wrong:
        raise RecipeError(f"an example is of expert {wrong[0]}; the mixture has 0 to {count - 1}")
    if weights.gammas and len(weights.gammas) != count:
        raise RecipeError(f"there are {len(weights.gammas)} gammas for {count} experts")
    regularise = _regulariser(experts, len(routers), weights)

    def terms(outputs: Any, labels: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        found = {"lm": answer_loss(outputs.logits, targets)}
        if weights.gating:
            answered = targets != IGNORED
            kept = [_last(layer, targets) for layer in outputs.router_logits]
            found["gate"] = weights.gating * gating_loss(kept, answered, labels)
        if regularise is not None:
            found["regulariser"] = regularise()
        if weights.balance:
            found["balance"] = weights.balance * outputs.aux_loss
        return found

    model.config.output_router_logits = True
    try:
        learned = experts if frozen_router else [*experts, *routers]
        return train(model, learned, examples, terms, schedule, folder, progress)
    finally:
        model.config.output_router_logits = False


def _regulariser(
    experts: Sequence[Tensor], layers: int, weights: FusionLoss
) -> Callable[[], Tensor] | None:
    if not any(weights.gammas):
        return None
    if weights.regulariser == "norm":
        return lambda: norm_loss(experts, layers, weights.gammas)
    starts = [expert.detach().clone() for expert in experts]
    return lambda: drift_loss(experts, starts, weights.gammas)


def _last(router_logits: Tensor, targets: Tensor) -> Tensor:
    """Of (B L, E) the columns (B, K, E) that predict `targets` (B, K)."""
    rows, kept = targets.shape
    return router_logits.view(rows, -1, router_logits.shape[-1])[:, -kept:]

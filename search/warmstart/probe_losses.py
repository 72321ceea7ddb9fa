"""Losses of groups of probes at merge weights, and their gradients through the merge.

One backward pass over a group of probes gives the gradient in all merge weights
(`safemerge.live`). The coordinates are the knots of a space's weights; all else of a recipe is as
where the warm start begins.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from safemerge.live import LiveGradient
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.space.space import Space
from synth.engines.batches import Batch, answer_logprobs
from synth.engines.transformers import TransformersEngine

GENERAL = "general"  # the axis of general prompts
BEGINNING = 8  # tokens of the base's reply to one
_RANK_STEP = 2.0


@dataclass(frozen=True, slots=True)
class ProbeGroup:
    """Some pairs of one axis, tokenised: one backward pass."""

    axis: str
    batches: tuple[Batch, ...]
    size: int


def grouped(
    engine: TransformersEngine,
    pairs: Mapping[str, Sequence[tuple[str, str]]],
    size: int,
    seed: int,
) -> tuple[ProbeGroup, ...]:
    """All (prompt, answer) pairs, shuffled, in groups of `size` of one axis; the last has the rest.

    Args:
        pairs: by axis. Of an answer to a general prompt only the beginning counts, where a refusal
            would stand.
        size: pairs of a group, at least 1.
        seed: of the order.
    """
    groups = []
    for axis, some in pairs.items():
        rows = list(some)
        random.Random(f"{seed}/{axis}").shuffle(rows)
        scored = BEGINNING if axis == GENERAL else None
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            batches = engine.encode(part, [scored] * len(part))
            groups.append(ProbeGroup(axis, batches, len(part)))
    return tuple(groups)


@dataclass(frozen=True, slots=True)
class LossGroups:
    """What a loss is taken of."""

    search: tuple[ProbeGroup, ...]  # groups of search probes, of which gradients are taken too
    validation: tuple[ProbeGroup, ...]  # groups of validation probes; may be empty
    sum_over_tokens: bool  # the loss is of the whole answer, not the mean over its tokens


@dataclass(frozen=True, slots=True)
class GroupLosses:
    """Mean losses of groups at some knots."""

    losses: list[float]  # (n_search_groups,)
    gradients: list[list[float]]  # (n_search_groups, n_knots * n_sources), of `losses`
    validation: list[float]  # (n_validation_groups,)


class ProbeLosses:
    """Losses as a function of the knots of a space's weights.

    Attributes:
        groups: what they are taken of.
        space: whose weights these are.
        prior: (n_knots * n_sources,), the knots of the recipe it begins with.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        resident: ResidentMerge,
        space: Space,
        begin: Recipe,
        groups: LossGroups,
    ) -> None:
        """Measure nothing yet.

        Args:
            engine: whose model gives the loss; merges are written into it.
            resident: the merge, over the same place groups as the space.
            space: whose recipes are measured.
            begin: a recipe of the space, whose weights are the prior.
            groups: of tokenised probes.
        """
        self.groups, self.space = groups, space
        self.prior = torch.from_numpy(space.knots(begin)).float().flatten()
        self._model = engine.model
        self._resident = resident
        self._live = LiveGradient(engine.model, resident)
        self._begin = begin
        self._basis = torch.from_numpy(space.basis()).float()  # (n_place_groups, n_knots)

    def measure(self, knots: Tensor) -> GroupLosses | None:
        """Losses and gradients at some knots; None where they are not finite, as of an overflow."""
        losses: list[float] = []
        gradients: list[list[float]] = []
        with self._live.at(self.recipe(knots)) as by_place:
            for group in self.groups.search:
                losses.append(self._backward(group))
                at_places = by_place.to(self._basis)  # (n_place_groups, n_sources)
                gradients.append((self._basis.T @ at_places).flatten().tolist())
                by_place.zero_()
            with torch.no_grad():
                validation = [
                    sum(self._loss(batch).item() for batch in group.batches) / group.size
                    for group in self.groups.validation
                ]
        if not all(map(math.isfinite, chain(losses, *gradients, validation))):
            return None
        return GroupLosses(losses, gradients, validation)

    def by_axis(self, measured: GroupLosses) -> dict[str, float]:
        """The mean loss of each axis over search and validation probes."""
        groups = [*self.groups.search, *self.groups.validation]
        totals: dict[str, float] = defaultdict(float)
        sizes = Counter[str]()
        for group, loss in zip(groups, measured.losses + measured.validation, strict=True):
            totals[group.axis] += loss * group.size
            sizes[group.axis] += group.size
        return {axis: total / sizes[axis] for axis, total in totals.items()}

    def recipe(self, knots: Tensor, rank_factor: float = 1.0) -> Recipe:
        """The recipe at some knots, with the rank ratios of the first one times a factor."""
        rows = (self._basis @ knots.view(self._basis.shape[1], -1)).tolist()
        weights = {
            group: dict(zip(self._resident.source_names, row, strict=True))
            for group, row in zip(self._resident.groups, rows, strict=True)
        }
        ratios = {group: rank_factor * r for group, r in self._begin.rank_ratio.items()}
        return self.space.adjusted(self._begin, weights=weights, rank_ratios=ratios)

    def rank_factors(self) -> list[float]:
        """Half and twice, as far as they keep most rank ratios within their range."""
        low, high = self.space.ranges.rank_ratio
        ratios = self._begin.rank_ratio.values()
        factors = (1.0 / _RANK_STEP, _RANK_STEP)
        return [f for f in factors if 2 * sum(low <= f * r <= high for r in ratios) > len(ratios)]

    def _backward(self, group: ProbeGroup) -> float:
        """The mean loss of a group; its gradient goes where `LiveGradient` collects it."""
        total = 0.0
        for batch in group.batches:
            loss = self._loss(batch) / group.size
            torch.autograd.backward(loss)
            total += loss.item()
        return total

    def _loss(self, batch: Batch) -> Tensor:
        """The sum over a batch of the loss of each answer."""
        logprob, tokens, _ = answer_logprobs(batch.answer_logits(self._model), batch)
        return -(logprob if self.groups.sum_over_tokens else logprob / tokens).sum()

"""Racing: a trial that is behind the front, as sure as is asked, skips the rest of the probes.

Evidence that a point leads in an objective, with d its lead probe by probe, each in [-1, 1]:

    K = mean over b of prod_i (1 + b d_i),   b in 1, 1/2, 1/4, 1/8

the wealth of one who bets a share b of it on the lead of every next probe (Waudby-Smith and Ramdas
2024). Where the point does not lead on all search probes, and these are asked in random order, the
mean of K is at most 1 whatever the distribution (Maclaurin's inequality for products without
replacement), so K >= 1 / error has at most the probability `error` (Markov). A trial has lost when
the mean over the front's points of the least K over the objectives is that large: where no point of
the front is better in every objective, the mean of that is at most 1 too. Racing goes back to Maron
and Moore (1993); how the error is shared out is in docs/search.md#racing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safemerge.score import Score
from search.metrics import Directions, signs
from search.scoring.paired_stderr import paired_stderr

LOOKS = 2  # at the probes seen so far: after a quarter and after half of them
_BETS = (1.0, 0.5, 0.25, 0.125)

ByProbe = Mapping[str, Tensor]
"""`{metric: (n_probes,)}` in the evaluator's order, values in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Race:
    front: Sequence[ByProbe]  # points of the front, on all search probes
    directions: Directions
    # largest probability with which this trial loses, over all looks and points, though no point
    # of the front is better in every objective; 0 is no race
    error: float

    def early_stop_scores(self, seen: ByProbe) -> dict[str, Score] | None:
        """Scores to record of a trial that has lost, by its values on the first probes, or None.

        They are those of the point that leads most surely, minus its mean lead.
        """
        if not self.front or self.error <= 0.0:
            return None
        evidence = torch.tensor([self._log_evidence(point, seen) for point in self.front])
        mean = float(torch.logsumexp(evidence, 0)) - math.log(len(self.front))
        if not mean >= math.log(LOOKS / self.error):
            return None
        point = self.front[int(evidence.argmax())]
        return {metric: _estimate(point[metric], values) for metric, values in seen.items()}

    def _log_evidence(self, point: ByProbe, seen: ByProbe) -> float:
        """The logarithm of K in the objective where it is least."""
        found = []
        for metric, sign in signs(self.directions).items():
            if metric not in seen:
                return -math.inf
            values = seen[metric].double()
            lead = (point[metric][: values.numel()].double() - values) * sign
            bets = torch.tensor(_BETS, dtype=torch.float64)[:, None]
            wealth = torch.log1p(bets * lead.clamp(-1.0, 1.0)).sum(1)
            found.append(float(torch.logsumexp(wealth, 0)) - math.log(len(_BETS)))
        return min(found)


def _estimate(point: Tensor, values: Tensor) -> Score:
    """The point's score minus its mean lead on the probes seen."""
    n = values.numel()
    ahead = point[:n] - values
    value = float((point.mean() - ahead.mean()).clamp(0.0, 1.0))
    return Score(value, paired_stderr(ahead.tolist()), n)

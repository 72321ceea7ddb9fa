"""Racing: a trial that is certainly worse than a point of the front skips the rest of the probes.

With d the point's lead, probe by probe, on the n probes scored so far, the trial is behind in an
objective when mean(d) > 3 std(d) / sqrt(n). It loses when one point leads in every objective, and
is recorded with that point's scores minus mean(d). After Maron and Moore (1993), with paired
differences in place of Hoeffding's bound; how often it errs is in docs/search.md#racing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from safemerge.score import Score
from search.metrics import Directions, signs

_SURE = 3.0  # standard errors
_LEAST = 8  # probes of an objective before anything is sure
_NO_SPREAD = 1e-12  # smallest standard error that is divided by

ByProbe = Mapping[str, Tensor]
"""`{metric: (n_probes,)}` in the evaluator's order."""


@dataclass(frozen=True, slots=True)
class Race:
    front: Sequence[ByProbe]  # points of the front, on all search probes
    directions: Directions

    def early_stop_scores(self, seen: ByProbe) -> dict[str, Score] | None:
        """Scores to record of a trial that has lost, by its values on the first probes, or None."""
        leads = [self._lead(point, seen) for point in self.front]
        if not any(lead > _SURE for lead in leads):
            return None
        point = self.front[leads.index(max(leads))]
        return {metric: _estimate(point[metric], values) for metric, values in seen.items()}

    def _lead(self, point: ByProbe, seen: ByProbe) -> float:
        """A point's lead in standard errors, in the objective where it is smallest."""
        leads = []
        for metric, sign in signs(self.directions).items():
            if metric not in seen or seen[metric].numel() < _LEAST:
                return 0.0
            values = seen[metric]
            ahead = (point[metric][: values.numel()] - values) * sign
            error = float(ahead.std()) / math.sqrt(values.numel())
            leads.append(float(ahead.mean()) / max(error, _NO_SPREAD))
        return min(leads)


def _estimate(point: Tensor, values: Tensor) -> Score:
    """The point's score minus its mean lead on the probes seen."""
    n = values.numel()
    ahead = point[:n] - values
    error = float(ahead.std()) / math.sqrt(n) if n > 1 else 0.0
    value = float((point.mean() - ahead.mean()).clamp(0.0, 1.0))
    return Score(value, error, n)

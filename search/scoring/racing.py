"""Racing: a trial that is surely behind a point of the front is not asked the rest of the probes.

Probe by probe, a point of the front and a trial differ far less by chance than their means do: a
hard probe is hard for both. With d the differences on the probes asked so far, a trial is behind in
an objective when

    mean(d) > 3 std(d) / sqrt(n)

and it has lost when one point is ahead of it like that in every objective. It is recorded with that
point's scores minus mean(d), which use what is known of the point on all probes, so that it lies
behind the point for good, and with the standard error of mean(d). Races of models on growing
subsets are Maron and Moore's (1993); pairing and the record are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from safemerge.score import Score

_SURE = 3.0  # standard errors: a trial is looked at twice, against every point of the front
_LEAST = 8  # probes of an objective before anything is sure
_NO_SPREAD = 1e-12  # least standard error that is divided by

ByProbe = Mapping[str, Tensor]  # {metric: (n_probes,), in the evaluator's order}


@dataclass(frozen=True, slots=True)
class Race:
    """What a trial is compared with.

    Args:
        front: points of the front, on all search probes.
        directions: `{objective: maximised}`.
    """

    front: Sequence[ByProbe]
    directions: Mapping[str, bool]

    def lost(self, seen: ByProbe) -> dict[str, Score] | None:
        """Scores of a trial that has lost by the probes seen so far; None where it has not.

        Args:
            seen: its values on the first probes of every metric.
        """
        leads = [self._lead(point, seen) for point in self.front]
        if not any(lead > _SURE for lead in leads):
            return None
        point = self.front[leads.index(max(leads))]
        return {metric: _estimate(point[metric], own) for metric, own in seen.items()}

    def _lead(self, point: ByProbe, seen: ByProbe) -> float:
        """How far a point is ahead in every objective, in standard errors."""
        leads = []
        for metric, up in self.directions.items():
            if metric not in seen or seen[metric].numel() < _LEAST:
                return 0.0
            own = seen[metric]
            ahead = (point[metric][: own.numel()] - own) * (1.0 if up else -1.0)
            error = float(ahead.std()) / math.sqrt(own.numel())
            leads.append(float(ahead.mean()) / max(error, _NO_SPREAD))
        return min(leads)


def _estimate(point: Tensor, own: Tensor) -> Score:
    """The point's score minus the mean difference on the probes seen."""
    ahead = point[: own.numel()] - own
    error = float(ahead.std()) / math.sqrt(own.numel()) if own.numel() > 1 else 0.0
    value = float((point.mean() - ahead.mean()).clamp(0.0, 1.0))
    return Score(value, error, own.numel())

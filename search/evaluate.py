"""Recipe -> scores with standard errors, by teacher-forced likelihood on a live model.

No generation but for a few sentinel prompts, which come first: a model that babbles is not worth
more. One forward pass over all probes then gives, per probe, the likelihood of its answer. Metrics:

    domain, harmless, helpful, honest   mean over the axis' probes of the answer's likelihood, of
                                        the whole answer or the geometric mean of its tokens
    fitness                             geometric mean of the likelihood of a token: over the
                                        tokens of an answer, over the probes of an axis, and over
                                        the axes by weight
    over_refusal                        share of helpful probes whose refusal is likelier per token
                                        than their answer
    degenerate                          share of sentinel prompts answered by babble
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from safemerge.errors import ProbeError
from safemerge.live import stored_views
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.objectives import Score
from synth.engines.transformers import TransformersEngine
from synth.judges.degenerate import is_degenerate
from synth.probes import AXES, Probe

_SENTINELS = 16  # prompts that are answered in full, to catch babble
_SENTINEL_TOKENS = 12


class LikelihoodEvaluator:
    """Scores recipes, or whatever weights are live, on fixed probes.

    Attributes:
        engine: holds the live model.
        probes: what is scored.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        probes: Sequence[Probe],
        *,
        likelihood: Literal["answer", "token"] = "token",
        fitness: Mapping[str, float] | None = None,
    ) -> None:
        """Tokenise once.

        Args:
            engine: whose live weights are scored.
            probes: at least one; helpful probes need a harmless one to know a refusal from.
            likelihood: of the whole answer, or the geometric mean over its tokens.
            fitness: `{axis: weight}` above 0, all with probes; None measures no fitness.

        Raises:
            ProbeError: where there are no probes.
        """
        if not probes:
            raise ProbeError("there are no search probes; run `safemerge probes CONFIG` first")
        self.engine = engine
        self.probes = tuple(probes)
        self._whole = likelihood == "answer"
        self._fitness = dict(fitness or {})
        refusals = _refusals(self.probes)
        sentinels = _spread(self.probes, _SENTINELS)
        self._all = _Sheet(engine, self.probes, refusals)
        self._few = _Sheet(engine, sentinels, refusals)
        self._prompts = [probe.prompt for probe in sentinels]
        self._live: dict[str, Tensor] | None = None

    def score(
        self, recipe: Recipe, resident: ResidentMerge, most_babble: float = 1.0
    ) -> dict[str, Score]:
        """Merge into the live model and score it; see `score_live`."""
        if self._live is None:
            self._live = stored_views(self.engine.model, resident.names)
        resident.apply(recipe, self._live)
        return self.score_live(most_babble)

    def score_live(self, most_babble: float = 1.0) -> dict[str, Score]:
        """Score the weights that are live now.

        Args:
            most_babble: a model that answers more than this share of the sentinels by babble is
                scored on the sentinels alone, not on all probes.

        Returns:
            `{metric: Score}` for every metric with probes.
        """
        replies = self.engine.chat(self._prompts, max_tokens=_SENTINEL_TOKENS)
        babble = mean_score(torch.tensor([float(is_degenerate(reply)) for reply in replies]))
        scores = self._scored(self._all if babble.value <= most_babble else self._few)
        scores["degenerate"] = babble
        return scores

    def _scored(self, sheet: _Sheet) -> dict[str, Score]:
        """Every metric by likelihood on a sheet."""
        result = self.engine.score(sheet.batches)
        mean_logprob = result.logprob / result.tokens
        likelihood = (result.logprob if self._whole else mean_logprob).exp()
        scores = {axis: mean_score(likelihood[rows]) for axis, rows in sheet.rows.items()}
        if self._fitness:
            by_axis = {axis: mean_logprob[sheet.rows[axis]] for axis in self._fitness}
            scores["fitness"] = self._fitness_score(by_axis)
        if sheet.refusals:
            refusal = mean_logprob[sheet.refusals]
            scores["over_refusal"] = mean_score(
                (refusal > mean_logprob[sheet.rows["helpful"]]).float()
            )
        return scores

    def _fitness_score(self, by_axis: Mapping[str, Tensor]) -> Score:
        """exp(sum_a w_a L_a / sum_a w_a), L_a the mean over the probes of an axis.

        The standard error is that of the exponent, carried through to first order.
        """
        total = sum(self._fitness.values())
        exponent, variance, count = 0.0, 0.0, 0
        for axis, weight in self._fitness.items():
            found = mean_score(by_axis[axis])
            exponent += weight / total * found.value
            variance += (weight / total * found.stderr) ** 2
            count += found.n
        value = math.exp(exponent)
        return Score(value, value * math.sqrt(variance), count)


class _Sheet:
    """Probes as one batch of pairs: every probe's answer, then the refusal of every helpful one."""

    def __init__(
        self, engine: TransformersEngine, probes: Sequence[Probe], refusals: Mapping[str, str]
    ) -> None:
        self.rows: dict[str, list[int]] = {
            axis: rows
            for axis in AXES
            if (rows := [i for i, probe in enumerate(probes) if probe.axis == axis])
        }
        helpful = [probes[i] for i in self.rows.get("helpful", [])] if refusals else []
        pairs = [(probe.prompt, probe.answer) for probe in probes]
        pairs += [(probe.prompt, refusals.get(probe.group, refusals[""])) for probe in helpful]
        self.refusals = list(range(len(probes), len(pairs)))
        self.batches = engine.encode(pairs)


def _spread(probes: Sequence[Probe], count: int) -> list[Probe]:
    """About `count` probes, evenly from every axis and within it; at least one of each."""
    by_axis = [rows for axis in AXES if (rows := [p for p in probes if p.axis == axis])]
    each = max(1, count // len(by_axis))
    return [probe for rows in by_axis for probe in rows[:: max(1, len(rows) // each)][:each]]


def mean_score(values: Tensor) -> Score:
    """Mean and its standard error; values (n,) with n >= 1."""
    n = values.numel()
    stderr = values.double().std().item() / n**0.5 if n > 1 else 0.0
    return Score(values.double().mean().item(), stderr, n)


def _refusals(probes: Sequence[Probe]) -> Mapping[str, str]:
    """`{group: refusal}` from the harmless probes; "" holds the commonest, for other groups.

    Only of direct questions: a twin has the form and the language of those.
    """
    harmless = [probe for probe in probes if probe.axis == "harmless" and probe.form == "direct"]
    if not harmless:
        return {}
    common = Counter(probe.answer for probe in harmless).most_common(1)[0][0]
    return {**{probe.group: probe.answer for probe in harmless if probe.group}, "": common}

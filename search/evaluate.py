"""Recipe -> scores with standard errors, by teacher-forced likelihood on a live model.

No generation but for a few sentinel prompts: one forward pass over all probes gives, per probe,
the likelihood of its answer. Metrics:

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
        helpful = [probe for probe in self.probes if probe.axis == "helpful"]
        pairs = [(probe.prompt, probe.answer) for probe in self.probes]
        refusals = _refusals(self.probes)
        self._refused = (
            [i for i, p in enumerate(self.probes) if p.axis == "helpful"] if refusals else []
        )
        pairs += [
            (probe.prompt, refusals.get(probe.group, refusals[""])) for probe in helpful if refusals
        ]
        self._batches = engine.encode(pairs)
        step = max(1, len(self.probes) // _SENTINELS)
        self._sentinels = [probe.prompt for probe in self.probes[::step]][:_SENTINELS]
        self._live: dict[str, Tensor] | None = None

    def score(self, recipe: Recipe, resident: ResidentMerge) -> dict[str, Score]:
        """Merge into the live model and score it."""
        if self._live is None:
            self._live = stored_views(self.engine.model, resident.names)
        resident.apply(recipe, self._live)
        return self.score_live()

    def score_live(self) -> dict[str, Score]:
        """Score the weights that are live now: `{metric: Score}` for every metric with probes."""
        result = self.engine.score(self._batches)
        mean_logprob = result.logprob / result.tokens
        logprob = result.logprob if self._whole else mean_logprob
        likelihood = logprob[: len(self.probes)].exp()
        scores: dict[str, Score] = {}
        for axis in AXES:
            rows = [i for i, probe in enumerate(self.probes) if probe.axis == axis]
            if rows:
                scores[axis] = mean_score(likelihood[rows])
        if self._fitness:
            scores["fitness"] = self._fitness_score(mean_logprob)
        if self._refused:
            refusal = mean_logprob[len(self.probes) :]
            answer = mean_logprob[self._refused]
            scores["over_refusal"] = mean_score((refusal > answer).float())
        replies = self.engine.chat(self._sentinels, max_tokens=_SENTINEL_TOKENS)
        scores["degenerate"] = mean_score(
            torch.tensor([float(is_degenerate(reply)) for reply in replies])
        )
        return scores

    def _fitness_score(self, mean_logprob: Tensor) -> Score:
        """exp(sum_a w_a L_a / sum_a w_a), L_a the mean over the probes of an axis.

        The standard error is that of the exponent, carried through to first order.
        """
        total = sum(self._fitness.values())
        exponent, variance, count = 0.0, 0.0, 0
        for axis, weight in self._fitness.items():
            rows = [i for i, probe in enumerate(self.probes) if probe.axis == axis]
            found = mean_score(mean_logprob[rows])
            exponent += weight / total * found.value
            variance += (weight / total * found.stderr) ** 2
            count += found.n
        value = math.exp(exponent)
        return Score(value, value * math.sqrt(variance), count)


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

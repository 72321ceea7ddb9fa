"""How likely a model is to decline everyday requests, without a reply of its own.

It is the probability that a reply begins as those that the probes want begin: refusals of harmful
prompts, admissions of ignorance. Words of another opening are not seen, so it is a low estimate of
`general_refusal`, which replies tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from safemerge.score import Score, mean_score
from search.scoring.openings import OPENING_TOKENS, openings
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import Probe


class GeneralRefusal:
    """Scores the live weights of an engine on general prompts."""

    def __init__(
        self, engine: TransformersEngine, prompts: Sequence[str], probes: Sequence[Probe]
    ) -> None:
        """Tokenise once.

        Args:
            prompts: at least one.
            probes: of any axes; without harmless and honest ones nothing is measured.
        """
        axes = ([p for p in probes if p.axis == axis] for axis in ("harmless", "honest"))
        texts = dict.fromkeys(text for some in axes for text in openings(engine, some))
        pairs = [(prompt, text) for text in texts for prompt in prompts]
        self._engine, self._ways = engine, len(texts)
        self._batches = engine.encode(pairs, [OPENING_TOKENS] * len(pairs))

    def measure(self) -> Score | None:
        """The mean over the prompts; None without an opening."""
        if not self._ways:
            return None
        begins = self._engine.score(self._batches).logprob.exp().view(self._ways, -1)
        return mean_score(begins.sum(dim=0).clamp(max=1.0).tolist())

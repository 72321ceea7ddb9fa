"""Several models of one shape in one engine: each one's weights go in before it is asked.

A pool of base and sources so takes the memory of one model, and a swap of weights wherever another
model is asked than before. All are asked with the engine's tokenizer and chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from synth.engines.base import Likelihood
from synth.engines.conversation import Prompt
from synth.engines.replying import ReplyingEngine, Sampling, SchemaReplyingEngine
from synth.engines.transformers import TransformersEngine
from synth.engines.vllm import VllmEngine


class SharedEngine:
    """The engine of one of several models."""

    def __init__(self, engine: TransformersEngine | VllmEngine) -> None:
        self.engine = engine
        self._now: SwappedEngine | None = None

    def hold(self, model: SwappedEngine) -> TransformersEngine | VllmEngine:
        """The engine, with the weights of `model` in it."""
        if self._now is not model:
            self._now = None  # what is in it after a failure is none of the models
            model.put()
            self._now = model
        return self.engine


class SwappedEngine(ReplyingEngine):
    """An `Engine` for one of the models that share an engine.

    `put` writes the weights of this model into the shared engine, whenever they go in.
    """

    def __init__(self, shared: SharedEngine, put: Callable[[], None]) -> None:
        self.put = put
        self._shared = shared

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[str]:
        return self._shared.hold(self).generate(prompts, seeds, sampling)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return self._shared.hold(self).loglikelihood(pairs)

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        held = dict(state)
        self._shared.hold(self).load_weights(held)
        self.put = lambda: self._shared.engine.load_weights(held)

    def fingerprint(self) -> str:
        return self._shared.hold(self).fingerprint()


class SwappedSchemaEngine(SwappedEngine, SchemaReplyingEngine):
    """The same, and a `SchemaEngine`, where the shared engine is one."""

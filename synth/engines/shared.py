"""Several models of one shape in one engine: each one's weights go in before it is asked.

For engines that hold one model in a process, such as vLLM: a pool of base and sources takes the
memory of one model, and a swap of weights wherever another model is asked than before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from synth.engines.base import Likelihood
from synth.engines.conversation import Prompt
from synth.engines.replying import Sampling, SchemaReplyingEngine
from synth.engines.vllm import VllmEngine

StateDict = Mapping[str, Tensor]


class SharedEngine:
    """The engine of one of several models; all are asked with its tokenizer and chat template."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._now: SwappedEngine | None = None

    def hold(self, model: SwappedEngine) -> VllmEngine:
        """The engine, with the weights of `model` in it."""
        if self._now is not model:
            self._now = None  # what is in it after a failure is none of the models
            self._engine.load_weights(model.state())
            self._now = model
        return self._engine


class SwappedEngine(SchemaReplyingEngine):
    """An `Engine`, and a `SchemaEngine`, for one of the models that share an engine.

    `state` reads its weights, under the names of the engine's checkpoint, whenever they go in.
    """

    def __init__(self, shared: SharedEngine, state: Callable[[], StateDict]) -> None:
        self.state = state
        self._shared = shared

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[str]:
        return self._shared.hold(self).generate(prompts, seeds, sampling)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return self._shared.hold(self).loglikelihood(pairs)

    def load_weights(self, state: StateDict) -> None:
        held = dict(state)
        self._shared.hold(self).load_weights(held)
        self.state = lambda: held

    def fingerprint(self) -> str:
        return self._shared.hold(self).fingerprint()

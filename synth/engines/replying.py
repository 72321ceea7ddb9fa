"""What every engine does with prompts before its model generates: checks, repeats, seeds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safemerge.errors import BadInput
from synth.engines.base import Likelihood
from synth.engines.conversation import Prompt
from synth.engines.sampling import row_seeds


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are generated."""

    max_tokens: int
    temperature: float  # 0 is greedy
    system: str | None = None
    schema: dict[str, Any] | None = None  # JSON schema to which replies are held


class ReplyingEngine(ABC):
    """The part of an `Engine` that follows from generating and scoring."""

    @abstractmethod
    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[str]:
        """One reply for each prompt; a seed means nothing where sampling is greedy."""

    @abstractmethod
    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """See `Engine.loglikelihood`."""

    def chat(
        self,
        prompts: Sequence[Prompt],
        *,
        system: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """See `Engine.chat`."""
        return self._replies(prompts, seed, Sampling(max_tokens, temperature, system))

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        """See `Engine.choose`."""
        if len(prompts) != len(choices):
            raise BadInput(f"{len(prompts)} prompts came with {len(choices)} lists of choices")
        for number, options in enumerate(choices, 1):
            if not options:
                raise BadInput(f"prompt number {number} has no choices; give at least one")
        pairs = [(p, c) for p, options in zip(prompts, choices, strict=True) for c in options]
        means = iter([likelihood.mean for likelihood in self.loglikelihood(pairs)])
        picks = []
        for options in choices:
            scores = [next(means) for _ in options]
            picks.append(max(range(len(scores)), key=scores.__getitem__))
        return picks

    def _replies(self, prompts: Sequence[Prompt], seed: int, sampling: Sampling) -> list[str]:
        if sampling.max_tokens < 1 or not sampling.temperature >= 0:
            raise BadInput(
                f"max_tokens is {sampling.max_tokens} and temperature {sampling.temperature}; "
                "they must be at least 1 and at least 0"
            )
        if sampling.temperature:
            return self.generate(prompts, row_seeds(prompts, sampling.system, seed), sampling)
        # The same prompt has the same greedy reply, so each is generated once.
        unique = list(dict.fromkeys(prompts))
        replies = self.generate(unique, [0] * len(unique), sampling)
        known = dict(zip(unique, replies, strict=True))
        return [known[prompt] for prompt in prompts]


class SchemaReplyingEngine(ReplyingEngine):
    """The same of an engine that is a `SchemaEngine` too."""

    def chat_json(
        self,
        prompts: Sequence[Prompt],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """See `SchemaEngine.chat_json`."""
        return self._replies(prompts, seed, Sampling(max_tokens, temperature, schema=dict(schema)))

"""The Engine protocol: what the pipeline and the search ask of a model.

An engine wraps one model. It never judges and never writes files. Prompts and replies are plain
text without chat template, or conversations of such texts: the engine applies the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from synth.engines.conversation import Prompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a model finds one answer."""

    logprob: float  # natural log-likelihood, summed over the answer's tokens and its end of turn
    tokens: int  # number of those tokens, at least 1
    greedy: bool  # every token is the model's first choice, so greedy decoding gives this answer

    @property
    def mean(self) -> float:
        """Log-likelihood per token."""
        return self.logprob / self.tokens


class ChatEngine(Protocol):
    """A model that replies: the part of an `Engine` that writing and grading take."""

    def chat(
        self, prompts: Sequence[str], *, max_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]: ...


FIRST_TOKENS = 20  # as many as OpenAI's protocol allows


class FirstToken(NamedTuple):
    """A token with which a reply may begin."""

    text: str  # with the white space that belongs to it
    logprob: float  # natural logarithm of its probability


@runtime_checkable
class Engine(Protocol):
    """A model that chats, chooses and scores."""

    def chat(
        self,
        prompts: Sequence[Prompt],
        *,
        system: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """One reply for each prompt, in order.

        Args:
            prompts: user messages or conversations, without chat template.
            system: system message put before each of them.
            max_tokens: longest reply in tokens, at least 1.
            temperature: 0 is greedy.
            seed: same prompts and seed, same replies. Repeated prompts get different samples.

        Raises:
            BadInput: if a prompt and its reply could be longer than the context.
            EngineError: if the model cannot be asked any more, or its server fails.
        """

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        """For each prompt the index of the choice with the best mean token log-likelihood.

        Raises:
            BadInput: for a prompt without choices, or other numbers of prompts than of choices.
        """

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Teacher-forced likelihood of each (prompt, answer), end of turn included."""

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Replace the weights.

        Raises:
            BadInput: for missing, unknown or mis-shaped tensors; the old weights stay.
        """

    def fingerprint(self) -> str:
        """SHA-256 over configuration and current weights, 64 hex digits; reads every weight."""


@runtime_checkable
class SchemaEngine(Protocol):
    """An engine that can hold its replies to a JSON schema."""

    def chat_json(
        self,
        prompts: Sequence[Prompt],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Replies in order, as of `chat`; each that ends within `max_tokens` fits the schema."""


@runtime_checkable
class FirstTokenEngine(Protocol):
    """An engine that tells how likely a reply begins with one token or another."""

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[list[FirstToken]]:
        """For each prompt the likeliest first tokens of the answer, at most `FIRST_TOKENS` of them.

        Raises:
            BadInput: if a prompt could be longer than the context, or the engine does not tell.
            EngineError: see `Engine.chat`.
        """

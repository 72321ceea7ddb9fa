"""The engine for any server that speaks OpenAI's protocol, such as vLLM's on another machine.

Replies come from /chat/completions, with the server's own chat template. Likelihoods come from
/completions, which must accept token ids and give back the log-probabilities of a prompt (`echo`),
as vLLM's does; they need the model's tokenizer here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from safemerge.errors import BadInput
from synth.engines.base import FirstToken, Likelihood
from synth.engines.conversation import Prompt, chat_messages
from synth.engines.loading import load_tokenizer
from synth.engines.replying import Sampling, SchemaReplyingEngine
from synth.engines.server import Client, ServerSettings
from synth.engines.template import plain, tokenize


class OpenAIEngine(SchemaReplyingEngine):
    """An `Engine`, and a `SchemaEngine`, around one model of a server.

    Args:
        server: where the model is.
        tokenizer: folder or hub id of the model's tokenizer; without one the engine chats and
            scores no answers, and special tokens in a prompt are left to the server.

    Raises:
        MissingDependency: if the official client is not installed.
        BadInput: if the key is missing, or the server does not have the model.
        EngineError: if the server cannot be reached.
    """

    def __init__(self, server: ServerSettings, tokenizer: str | Path | None = None) -> None:
        self._server = server
        self.tokenizer = None if tokenizer is None else load_tokenizer(tokenizer)
        self._client = Client(server)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """See `Engine.loglikelihood`.

        Raises:
            BadInput: without a tokenizer, or if the server does not score given text.
            EngineError: if the server fails.
        """
        if self.tokenizer is None:
            raise BadInput(
                f"the log-likelihood of an answer at {self._server.url} needs the model's "
                "tokenizer here; give its folder or hub id"
            )
        return self._client.in_parallel(self._score, tokenize(self.tokenizer, pairs))

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Always a BadInput: a server's weights cannot be replaced through this protocol."""
        raise BadInput(
            f"the weights of a model at {self._server.url} cannot be replaced from here; take the "
            "transformers or the vllm engine, or serve a checkpoint that holds them"
        )

    def fingerprint(self) -> str:
        """SHA-256 over the model's name and arguments: a server does not show its weights."""
        identity = json.dumps([self._client.model, dict(self._server.arguments)], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[str]:
        """Whether a seed gives the same samples again is up to the server; vLLM's does."""
        system, held = sampling.system, {}
        before = [] if system is None else [{"role": "system", "content": self._plain(system)}]
        if sampling.schema is not None:
            form = {"name": "reply", "schema": sampling.schema, "strict": True}
            held = {"response_format": {"type": "json_schema", "json_schema": form}}

        def reply(request: tuple[Prompt, int]) -> str:
            prompt, seed = request
            return self._client.chat(
                [*before, *chat_messages(prompt, self._plain)],
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=1.0,
                seed=seed % 2**31,  # some servers hold seeds in 32 bits
                **held,
            )

        return self._client.in_parallel(reply, list(zip(prompts, seeds, strict=True)))

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[list[FirstToken]]:
        """See `FirstTokenEngine.first_tokens`; a BadInput where the server does not tell."""

        def first(prompt: Prompt) -> list[FirstToken]:
            return self._client.first_tokens(chat_messages(prompt, self._plain))

        return self._client.in_parallel(first, prompts)

    def _score(self, pair: tuple[list[int], list[int]]) -> Likelihood:
        before, after = pair
        scored = self._client.score(before + after)
        places = slice(len(before), len(before) + len(after))
        logprobs = [value for value in scored.token_logprobs[places] if value is not None]
        tops = [top for top in scored.top_logprobs[places] if top]
        if not len(logprobs) == len(tops) == len(after):
            raise BadInput(
                f"the server at {self._server.url} does not give back the log-probabilities of a "
                "prompt, so it cannot score answers; take the transformers or the vllm engine, or "
                "a server that does, such as vLLM's"
            )
        # The token itself is listed beside the likeliest one, where that is another.
        greedy = all(max(top.values()) <= value for top, value in zip(tops, logprobs, strict=True))
        return Likelihood(sum(logprobs), len(after), greedy)

    def _plain(self, text: str) -> str:
        return text if self.tokenizer is None else plain(self.tokenizer, text)

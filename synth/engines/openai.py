"""The engine for any server that speaks OpenAI's protocol, such as vLLM's on another machine.

Replies come from /chat/completions, with the server's own chat template. Likelihoods come from
/completions, which must accept token ids and give back the log-probabilities of a prompt (`echo`),
as vLLM's does; they need the model's tokenizer here. So do replies in another format than the
server's, or behind an empty thinking block.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from safemerge.errors import BadInput
from synth.engines.base import FirstToken, Likelihood
from synth.engines.conversation import Prompt, chat_messages
from synth.engines.loading import load_tokenizer
from synth.engines.replying import Sampling, SchemaReplyingEngine
from synth.engines.server import Client, ServerSettings
from synth.engines.template import ChatSettings, open_template


class OpenAIEngine(SchemaReplyingEngine):
    """An `Engine`, and a `SchemaEngine`, around one model of a server.

    Args:
        server: where the model is.
        tokenizer: folder or hub id of the model's tokenizer; without one the engine chats and
            scores no answers, and special tokens in a prompt and thinking are left to the server.
        chat: how the model is talked to: chat template and thinking.

    Raises:
        MissingDependency: if the official client is not installed.
        BadInput: if the key is missing, the server does not have the model, or the tokenizer's chat
            template cannot be used as wanted.
        EngineError: if the server cannot be reached.
    """

    def __init__(
        self,
        server: ServerSettings,
        tokenizer: str | Path | None = None,
        chat: ChatSettings | None = None,
    ) -> None:
        self._server = server
        self._chat = chat or ChatSettings()
        self.template = (
            None if tokenizer is None else open_template(load_tokenizer(tokenizer), self._chat)
        )
        if self.template is None and (self._chat.template or self._chat.thinking == "empty"):
            raise BadInput(
                f"a chat template by name and an empty thinking block need the tokenizer of the "
                f"model at {server.url} here; give its folder or hub id"
            )
        self._client = Client(server)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """See `Engine.loglikelihood`.

        Raises:
            BadInput: without a tokenizer, or if the server does not score given text.
            EngineError: if the server fails.
        """
        if self.template is None:
            raise BadInput(
                f"the log-likelihood of an answer at {self._server.url} needs the model's "
                "tokenizer here; give its folder or hub id"
            )
        return self._client.in_parallel(self._score, self.template.tokenize(pairs))

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Always a BadInput: a server's weights cannot be replaced through this protocol."""
        raise BadInput(
            f"the weights of a model at {self._server.url} cannot be replaced from here; take the "
            "transformers or the vllm engine, or serve a checkpoint that holds them"
        )

    def fingerprint(self) -> str:
        """SHA-256 over the model's name and arguments: a server does not show its weights."""
        identity = json.dumps([self._client.model, dict(self._server.arguments)], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return digest if self.template is None else self.template.sign(digest)

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[str]:
        """Whether a seed gives the same samples again is up to the server; vLLM's does."""
        template, held = self.template, sampling.schema is not None
        budget = self._chat.thinking_tokens if self._chat.thinking == "free" else 0
        # Text behind the generation prompt has no place in a conversation. A schema holds from the
        # first token on, which leaves no room for thinking.
        empty = self._chat.thinking == "empty" or (held and budget)
        whole = template is not None and (self._chat.template is not None or empty)
        form = {"name": "reply", "schema": sampling.schema, "strict": True}
        fields = {
            "max_tokens": sampling.max_tokens + (0 if whole and held else budget),
            "temperature": sampling.temperature,
            "top_p": 1.0,
            **({"response_format": {"type": "json_schema", "json_schema": form}} if held else {}),
        }

        def reply(request: tuple[Prompt, int]) -> str:
            prompt, seed = request
            settings = {**fields, "seed": seed % 2**31}  # some servers hold seeds in 32 bits
            if template is None or not whole:
                return self._served(prompt, sampling.system, settings)
            texts = template.render([prompt], system=sampling.system, answer=held)
            text = self._client.complete(template.ids(texts)[0], **settings)
            return template.finish(text, answer=held)

        return self._client.in_parallel(reply, list(zip(prompts, seeds, strict=True)))

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[list[FirstToken]]:
        """See `FirstTokenEngine.first_tokens`; a BadInput where the server does not tell."""

        def first(prompt: Prompt) -> list[FirstToken]:
            return self._client.first_tokens(self._messages(prompt, None), extra=self._told())

        return self._client.in_parallel(first, prompts)

    def _served(self, prompt: Prompt, system: str | None, settings: Mapping[str, Any]) -> str:
        """A reply by the server's own chat template, with its thinking as `<think>...</think>`."""
        messages = self._messages(prompt, system)
        reply, thinking = self._client.chat(messages, extra=self._told(), **settings)
        if thinking:
            return f"<think>\n{thinking}" + (f"\n</think>\n{reply}" if reply else "")
        return reply if self.template is None else self.template.finish(reply)

    def _messages(self, prompt: Prompt, system: str | None) -> list[dict[str, str]]:
        if self.template is not None:
            return self.template.messages(prompt, system)
        before = [] if system is None else [{"role": "system", "content": system}]
        return [*before, *chat_messages(prompt, lambda text: text)]

    def _told(self) -> dict[str, Any]:
        """Fields of a request that tell the server's chat template what the template here is told.

        The name is vLLM's; SGLang and llama.cpp's server have it too.
        """
        variables = self._chat.variables if self.template is None else self.template.variables
        return {"chat_template_kwargs": dict(variables)} if variables else {}

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

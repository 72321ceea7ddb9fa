"""The engine for any server that speaks OpenAI's protocol, such as vLLM's on another machine.

Replies come from /chat/completions, with the server's own chat template. Likelihoods come from
/completions, which must accept token ids and give back the log-probabilities of a prompt (`echo`),
as vLLM's does; they need the model's tokenizer here. The official client sends the requests again,
ever later, where a server is busy, fails or breaks off; many are under way at once, not too many.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from safemerge.errors import BadInput, EngineError, near_names, require
from synth.engines.asking import (
    check_arguments,
    check_sampling,
    first_line,
    likeliest,
    once_each,
)
from synth.engines.base import Likelihood
from synth.engines.loading import load_tokenizer
from synth.engines.sampling import row_seeds
from synth.engines.template import plain, tokenize

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_Form = TypeVar("_Form", bound=BaseModel)
# What the engine itself decides.
_OWN = ("echo", "logprobs", "max_tokens", "messages", "model", "prompt", "seed", "temperature")


class OpenAIEngine:
    """An `Engine`, and a `SchemaEngine`, around one model of a server.

    Args:
        url: of the server, up to and with its version, such as "http://localhost:8000/v1".
        model: its name there; None where the server has one model.
        tokenizer: folder or hub id of the model's tokenizer; without one the engine chats and
            scores no answers, and special tokens in a prompt are left to the server.
        key: environment variable that holds the API key; None sends none.
        concurrency: requests under way at once, at least 1.
        timeout_s: longest wait for an answer, in seconds.
        retries: how often a failed request is sent again, after about 0.5, 1, 2, ... 8 seconds or
            when the server says; at least 0.
        arguments: further fields of every request, such as `{"top_k": 50}`, as the server has them.

    Raises:
        MissingDependency: if the client is not installed.
        BadInput: if the key is missing, or the server does not have the model.
        EngineError: if the server cannot be reached.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        tokenizer: str | Path | None = None,
        key: str | None = None,
        concurrency: int = 16,
        timeout_s: float = 300.0,
        retries: int = 6,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self._openai = require("openai", extra="openai")
        self._url, self._arguments, self._concurrency = url, dict(arguments or {}), concurrency
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"the server's url is {url!r}; it must begin with http:// or https://")
        if concurrency < 1 or retries < 0 or not timeout_s > 0:
            raise BadInput(
                f"concurrency is {concurrency}, retries {retries} and timeout_s {timeout_s}; they "
                "must be at least 1, at least 0 and above 0"
            )
        check_arguments(self._arguments, _OWN)
        self.tokenizer = None if tokenizer is None else load_tokenizer(tokenizer)
        self._client = self._openai.OpenAI(
            base_url=url,
            api_key="none" if key is None else _secret(key),
            timeout=timeout_s,
            max_retries=retries,
        )
        self._model = self._find(model)

    def chat(
        self,
        prompts: Sequence[str],
        *,
        system: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """One reply for each prompt; see `Engine.chat`.

        Whether a seed gives the same samples again is up to the server; vLLM's does.

        Raises:
            BadInput: if the server refuses a request, such as one beyond its model's context.
            EngineError: if it fails, or answers something else than the protocol says.
        """
        return self._replies(prompts, system, max_tokens, temperature, seed)

    def chat_json(
        self,
        prompts: Sequence[str],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Replies held to a JSON schema; see `SchemaEngine.chat_json`."""
        form = {"name": "reply", "schema": dict(schema), "strict": True}
        held = {"response_format": {"type": "json_schema", "json_schema": form}}
        return self._replies(prompts, None, max_tokens, temperature, seed, **held)

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        """The likeliest choice of each prompt; see `Engine.choose`."""
        return likeliest(self.loglikelihood, prompts, choices)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Teacher-forced likelihood of each pair; see `Engine.loglikelihood`.

        Raises:
            BadInput: without a tokenizer, or if the server does not score given text.
            EngineError: as `chat`.
        """
        if self.tokenizer is None:
            raise BadInput(
                f"the log-likelihood of an answer at {self._url} needs the model's tokenizer here; "
                "give its folder or hub id"
            )
        return self._all(self._score, tokenize(self.tokenizer, pairs))

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Always refused.

        Raises:
            BadInput: since a server's weights cannot be replaced through this protocol.
        """
        raise BadInput(
            f"the weights of a model at {self._url} cannot be replaced from here; take the "
            "transformers or the vllm engine, or serve a checkpoint that holds them"
        )

    def fingerprint(self) -> str:
        """SHA-256 over the model's name and what is asked with every request, 64 hex digits.

        A server does not show its weights: serve other weights under another name.
        """
        asked = json.dumps([self._model, self._arguments], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()

    def _replies(
        self,
        prompts: Sequence[str],
        system: str | None,
        max_tokens: int,
        temperature: float,
        seed: int,
        **held: Any,
    ) -> list[str]:
        check_sampling(max_tokens, temperature)
        before = [] if system is None else [{"role": "system", "content": self._plain(system)}]

        def reply(asked: tuple[str, int]) -> str:
            prompt, row_seed = asked
            answer = self._ask(
                self._client.chat.completions.with_raw_response.create,
                _Chat,
                messages=[*before, {"role": "user", "content": self._plain(prompt)}],
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=1.0,
                seed=row_seed % 2**31,  # some servers hold seeds in 32 bits
                **held,
            )
            # A model that ends its turn at once says nothing, which some servers call null.
            return (answer.choices[0].message.content or "").strip()

        if temperature == 0:
            return once_each(
                prompts, lambda unique: self._all(reply, [(prompt, 0) for prompt in unique])
            )
        seeds = row_seeds(prompts, system, seed)
        return self._all(reply, list(zip(prompts, seeds, strict=True)))

    def _score(self, pair: tuple[list[int], list[int]]) -> Likelihood:
        before, after = pair
        answer = self._ask(
            self._client.completions.with_raw_response.create,
            _Scored,
            prompt=before + after,
            max_tokens=1,  # some servers refuse 0
            temperature=0.0,
            echo=True,
            logprobs=1,
        )
        found = answer.choices[0].logprobs or _Logprobs()
        places = slice(len(before), len(before) + len(after))
        logprobs = [value for value in found.token_logprobs[places] if value is not None]
        tops = [top for top in found.top_logprobs[places] if top]
        if not len(logprobs) == len(tops) == len(after):
            raise BadInput(
                f"the server at {self._url} does not give back the log-probabilities of a prompt, "
                "so it cannot score answers; take the transformers or the vllm engine, or a "
                "server that does, such as vLLM's"
            )
        # The token itself is listed beside the likeliest one, where that is another.
        greedy = all(max(top.values()) <= own for top, own in zip(tops, logprobs, strict=True))
        return Likelihood(sum(logprobs), len(after), greedy)

    def _all(
        self, ask: Callable[[_Request], _Answer], requests: Sequence[_Request]
    ) -> list[_Answer]:
        """Answers in order, `concurrency` requests at once; the first failure ends the rest."""
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            return list(pool.map(ask, requests))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, send: Callable[..., Any], form: type[_Form], **fields: Any) -> _Form:
        answer = self._send(send, model=self._model, extra_body=self._arguments, **fields)
        return self._read(form, answer)

    def _send(self, send: Callable[..., Any], **fields: Any) -> str:
        """The text of an answer, or an error that says what the server did instead."""
        try:
            text: str = send(**fields).text
        except self._openai.APIConnectionError as error:
            late = isinstance(error, self._openai.APITimeoutError)
            reason = "no answer in time" if late else first_line(error.__cause__ or error)
            raise EngineError(
                f"the server at {self._url} does not answer ({reason}), asked "
                f"{self._client.max_retries + 1} times; check that it runs, then give the same "
                "command again"
            ) from error
        except self._openai.APIStatusError as error:
            raise self._refusal(error.status_code, error.response.text) from error
        return text

    def _refusal(self, status: int, text: str) -> BadInput | EngineError:
        said = f"the server at {self._url} answers {status} ({_message(text)!r})"
        if status in (401, 403):
            return BadInput(f"{said}; name the environment variable with its API key as engine.key")
        if status in (404, 405, 501):
            return BadInput(f"{said}; it does not have the model {self._model!r} or the request")
        if status in (408, 409, 429) or status >= 500:
            times = self._client.max_retries + 1
            return EngineError(f"{said}, asked {times} times; mend it, or ask it less at once")
        return BadInput(f"{said}, so it refuses the request; change what the message names")

    def _read(self, form: type[_Form], text: str) -> _Form:
        try:
            return form.model_validate_json(text)
        except ValidationError as error:
            raise EngineError(
                f"the server at {self._url} sent no answer of OpenAI's protocol ({text[:30]!r}: "
                f"{error.errors()[0]['msg']}); check the url, which often ends in /v1"
            ) from error

    def _find(self, model: str | None) -> str:
        """The model's name, after a look at what the server has."""
        self._model = model or ""
        try:
            names = [
                one.id
                for one in self._read(
                    _Models, self._send(self._client.models.with_raw_response.list)
                ).data
            ]
        except BadInput as error:
            # Not every server lists its models, but then the name has to be given.
            cause = error.__cause__
            if model is not None and getattr(cause, "status_code", 0) in (404, 405, 501):
                return model
            raise
        if model is None and len(names) != 1:
            raise BadInput(
                f"the server at {self._url} has {len(names)} models ({', '.join(names)}); "
                "say which by engine.model"
            )
        if model is not None and model not in names:
            raise BadInput(
                f"the server at {self._url} has no model {model!r}; {near_names(model, names)}"
            )
        return names[0] if model is None else model

    def _plain(self, text: str) -> str:
        return text if self.tokenizer is None else plain(self.tokenizer, text)


class _Answered(BaseModel):
    """What is read of an answer; the rest of it is left alone."""

    model_config = ConfigDict(frozen=True)


class _Message(_Answered):
    content: str | None


class _ChatChoice(_Answered):
    message: _Message


class _Chat(_Answered):
    choices: Annotated[tuple[_ChatChoice, ...], Field(min_length=1)]


class _Logprobs(_Answered):
    token_logprobs: tuple[float | None, ...] = ()
    top_logprobs: tuple[dict[str, float] | None, ...] = ()


class _ScoredChoice(_Answered):
    logprobs: _Logprobs | None = None


class _Scored(_Answered):
    choices: Annotated[tuple[_ScoredChoice, ...], Field(min_length=1)]


class _Model(_Answered):
    id: str


class _Models(_Answered):
    data: tuple[_Model, ...]


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise BadInput(
            f"the environment variable {variable!r}, which should hold the server's API key, is "
            "not set"
        )
    return value


def _message(text: str) -> str:
    """The message in the body of a refusal, or the start of whatever the body is."""
    try:
        body = json.loads(text)
        found = body.get("error", body)
        return str(found["message"] if isinstance(found, dict) else found)[:300]
    except (ValueError, KeyError, AttributeError):
        return text.strip()[:120]

"""The client of a server that speaks OpenAI's protocol: requests out, checked answers in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AliasPath, BaseModel, Field, ValidationError

from safemerge.errors import BadInput, EngineError, near_names, require
from synth.engines.asking import check_arguments, first_line
from synth.engines.base import FIRST_TOKENS, FirstToken

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_Form = TypeVar("_Form", bound=BaseModel)
# What the engine itself decides.
_OWN = ("echo", "logprobs", "max_tokens", "messages", "model", "prompt", "seed", "temperature")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A server, the model that is asked there, and with how much patience."""

    url: str  # of the server, up to and with its version, such as "http://localhost:8000/v1"
    model: str | None = None  # its name there; None where the server has one model
    key: str | None = None  # environment variable that holds the API key; None sends none
    concurrency: int = 16  # requests under way at once, at least 1
    timeout_s: float = 300.0  # longest wait for an answer, in seconds
    # how often a failed request is sent again, after about 0.5, 1, 2, ... 8 seconds or when the
    # server says; at least 0.
    retries: int = 6
    # further fields of every request, such as `{"top_k": 50}`, as the server has them
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_no_secret(self.url)
        if not self.url.startswith(("http://", "https://")):
            raise BadInput(
                f"the server's url is {self.url!r}; it must begin with http:// or https://"
            )
        if self.concurrency < 1 or self.retries < 0 or not self.timeout_s > 0:
            raise BadInput(
                f"concurrency is {self.concurrency}, retries {self.retries} and timeout_s "
                f"{self.timeout_s}; they must be at least 1, at least 0 and above 0"
            )
        check_arguments(self.arguments, _OWN)


def check_no_secret(url: str) -> None:
    """Refuse a URL with a user, password or key, which files and messages would show.

    Raises:
        BadInput: without the URL, for the same reason.
    """
    address, _, query = url.partition("?")
    server = address.partition("://")[2].partition("/")[0]
    if "@" in server or query:
        what = "a user or password" if "@" in server else "a query, where keys stand,"
        raise BadInput(
            f"the server's url holds {what} which would be copied into the run folder and into "
            "messages; leave it out, and name the environment variable that holds the key as "
            "engine.key"
        )


class Logprobs(BaseModel, frozen=True):
    """Of each token of a prompt: its log-probability, and the likeliest tokens with theirs."""

    token_logprobs: tuple[float | None, ...] = ()
    top_logprobs: tuple[dict[str, float] | None, ...] = ()


class Client:
    """Requests to one model of a server; refuses as `OpenAIEngine` says."""

    def __init__(self, settings: ServerSettings) -> None:
        self._openai = require("openai", extra="openai")
        self._settings = settings
        self._client = self._openai.OpenAI(
            base_url=settings.url,
            api_key="none" if settings.key is None else _secret(settings.key),
            timeout=settings.timeout_s,
            max_retries=settings.retries,
        )
        self.model = settings.model or ""
        self.model = self._find()

    def chat(self, messages: Sequence[Mapping[str, str]], **fields: Any) -> tuple[str, str]:
        """The reply to a conversation, and the thinking that the server took off it.

        Raises:
            BadInput: if the server refuses the request, such as one beyond its model's context.
            EngineError: if it fails, or answers something else than the protocol says.
        """
        send = self._client.chat.completions.with_raw_response.create
        # A model that ends its turn at once says nothing, which some servers call null.
        answer = self._ask(send, _Chat, messages=messages, **fields)
        return (answer.content or "").strip(), (answer.reasoning_content or answer.reasoning or "")

    def complete(self, prompt: Sequence[int], **fields: Any) -> str:
        """What the model writes behind token ids; refuses as `chat` does."""
        send = self._client.completions.with_raw_response.create
        return self._ask(send, _Completed, prompt=prompt, **fields).text

    def score(self, prompt: Sequence[int]) -> Logprobs:
        """The log-probabilities of token ids; empty where the server does not give them."""
        answer = self._ask(
            self._client.completions.with_raw_response.create,
            _Scored,
            prompt=prompt,
            max_tokens=1,  # some servers refuse 0
            temperature=0.0,
            echo=True,
            logprobs=1,
        )
        return answer.choices[0].logprobs or Logprobs()

    def first_tokens(
        self, messages: Sequence[Mapping[str, str]], *, extra: Mapping[str, Any]
    ) -> list[FirstToken]:
        """The likeliest first tokens of the reply to a conversation; see `chat`.

        Raises:
            BadInput: also where the server gives no log-probabilities.
        """
        send = self._client.chat.completions.with_raw_response.create
        asked = {"max_tokens": 1, "temperature": 0.0, "top_logprobs": FIRST_TOKENS, "extra": extra}
        answer = self._ask(send, _FirstTokens, messages=messages, logprobs=True, **asked)
        if not answer.told:
            raise BadInput(
                f"the server at {self._settings.url} gives no log-probabilities of a reply's first "
                "token, which a yes/no guard is read by; take a server that does, such as vLLM's"
            )
        return [FirstToken(token.token, token.logprob) for token in answer.told]

    def in_parallel(
        self, ask: Callable[[_Request], _Answer], requests: Sequence[_Request]
    ) -> list[_Answer]:
        """Answers in order, `concurrency` requests at once; the first failure ends the rest."""
        pool = ThreadPoolExecutor(self._settings.concurrency)
        try:
            return list(pool.map(ask, requests))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, send: Callable[..., Any], form: type[_Form], **fields: Any) -> _Form:
        extra = {**fields.pop("extra", {}), **self._settings.arguments}
        return self._read(form, self._send(send, model=self.model, extra_body=extra, **fields))

    def _send(self, send: Callable[..., Any], **fields: Any) -> str:
        """The text of an answer, or an error that says what the server did instead."""
        try:
            text: str = send(**fields).text
        except self._openai.APIConnectionError as error:
            late = isinstance(error, self._openai.APITimeoutError)
            reason = "no answer in time" if late else first_line(error.__cause__ or error)
            raise EngineError(
                f"the server at {self._settings.url} does not answer ({reason}), asked "
                f"{self._settings.retries + 1} times; check that it runs, then give the same "
                "command again"
            ) from error
        except self._openai.APIStatusError as error:
            raise self._refusal(error.status_code, error.response.text) from error
        return text

    def _refusal(self, status: int, text: str) -> BadInput | EngineError:
        answer = f"the server at {self._settings.url} answers {status} ({_message(text)!r})"
        if status in (401, 403):
            return BadInput(
                f"{answer}; name the environment variable with its API key (engine.key, or of a "
                "judge probes.judge_key)"
            )
        if status in (404, 405, 501):
            return BadInput(f"{answer}; it does not have the model {self.model!r} or the request")
        if status in (408, 409, 429) or status >= 500:
            times = self._settings.retries + 1
            return EngineError(f"{answer}, asked {times} times; mend it, or ask it less at once")
        return BadInput(f"{answer}, so it refuses the request; change what the message names")

    def _read(self, form: type[_Form], text: str) -> _Form:
        try:
            return form.model_validate_json(text)
        except ValidationError as error:
            raise EngineError(
                f"the server at {self._settings.url} sent no answer of OpenAI's protocol "
                f"({text[:30]!r}: {error.errors()[0]['msg']}); check the url, which often ends in "
                "/v1"
            ) from error

    def _find(self) -> str:
        """The model's name, after a look at what the server has."""
        url, model = self._settings.url, self._settings.model
        try:
            listed = self._read(_Models, self._send(self._client.models.with_raw_response.list))
        except BadInput as error:
            # Not every server lists its models, but then the name has to be given.
            if model is not None and getattr(error.__cause__, "status_code", 0) in (404, 405, 501):
                return model
            raise
        names = [listed_model.id for listed_model in listed.data]
        if model is None and len(names) != 1:
            raise BadInput(
                f"the server at {url} has {len(names)} models ({', '.join(names)}); "
                "say which (engine.model, or of a judge as in URL#MODEL)"
            )
        if model is not None and model not in names:
            raise BadInput(
                f"the server at {url} has no model {model!r}; {near_names(model, names)}"
            )
        return names[0] if model is None else model


# What is read of an answer; the rest of it is left alone.
class _Chat(BaseModel):
    content: str | None = Field(validation_alias=AliasPath("choices", 0, "message", "content"))
    # Servers that take the thinking off a reply give it under one of two names.
    reasoning_content: str | None = Field(
        None, validation_alias=AliasPath("choices", 0, "message", "reasoning_content")
    )
    reasoning: str | None = Field(
        None, validation_alias=AliasPath("choices", 0, "message", "reasoning")
    )


class _Completed(BaseModel):
    text: str = Field(validation_alias=AliasPath("choices", 0, "text"))


class _TopToken(BaseModel):
    token: str
    logprob: float


class _FirstTokens(BaseModel):
    told: tuple[_TopToken, ...] = Field(
        default=(),
        validation_alias=AliasPath("choices", 0, "logprobs", "content", 0, "top_logprobs"),
    )


class _ScoredChoice(BaseModel):
    logprobs: Logprobs | None = None


class _Scored(BaseModel):
    choices: Annotated[tuple[_ScoredChoice, ...], Field(min_length=1)]


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
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
        error = body.get("error", body)
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, AttributeError):
        return text.strip()[:120]

"""The engine for servers, against a real HTTP server that is down, slow, broken or half there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import thinking_templates as templates
from serving import Reply, Server, serving
from tiny_llama import make_tokenizer

from safemerge.errors import BadInput, EngineError
from synth.engines import Engine, SchemaEngine
from synth.engines.openai import OpenAIEngine
from synth.engines.server import ServerSettings
from synth.engines.template import ChatSettings
from synth.engines.thinking import Thinking
from synth.text.reply import read_reply


def open_engine(url: str, *, tokenizer: Any = None, **settings: Any) -> OpenAIEngine:
    """An engine whose patience ends before that of whoever runs the tests."""
    return OpenAIEngine(ServerSettings(url, **{"timeout_s": 10.0, **settings}), tokenizer)


def echo(server: Server, body: dict[str, Any]) -> None:
    server.say(f"  you said {body['messages'][-1]['content']} ")


def failing(first: int, failure: Callable[[Server], None]) -> Reply:
    """Fail that many times, then echo."""
    count = iter(range(10**6))
    return lambda server, body: failure(server) if next(count) < first else echo(server, body)


FAILURES: dict[str, Callable[[Server], None]] = {
    "a 500": lambda server: server.send(500, {"error": {"message": "out of memory"}}),
    "a 503 of a proxy": lambda server: server.send(503, b"<html>bad gateway</html>"),
    "too many requests": lambda server: server.send(429, {"error": {"message": "slow down"}}),
    "half a response": lambda server: server.send(200, b'{"choices": [{"mess', length=1000),
    "a closed connection": lambda server: server.hang_up(),
}


def test_it_is_an_engine_that_asks_as_the_protocol_says() -> None:
    seen: list[dict[str, Any]] = []

    def reply(server: Server, body: dict[str, Any]) -> None:
        seen.append(body)
        echo(server, body)

    with serving(reply) as url:
        engine = open_engine(url, arguments={"top_k": 5})
        assert isinstance(engine, Engine)
        assert isinstance(engine, SchemaEngine)
        prompts = [f"question {i}" for i in range(40)] + ["question 0"]
        wanted = [f"you said {prompt}" for prompt in prompts]
        assert engine.chat(prompts, system="be brief", max_tokens=7) == wanted
        assert len(seen) == 40  # greedy replies to the same prompt are asked for once
        asked = {key: seen[0][key] for key in ("model", "max_tokens", "temperature", "top_k")}
        assert asked == {"model": "tiny", "max_tokens": 7, "temperature": 0.0, "top_k": 5}
        assert seen[0]["messages"][0] == {"role": "system", "content": "be brief"}
        assert seen[0]["path"] == "/v1/chat/completions"
        engine.chat_json(["a"], schema={"type": "object"}, max_tokens=3)
        assert seen[-1]["response_format"]["json_schema"]["schema"] == {"type": "object"}
        engine.chat(["same", "same"], temperature=1.0)
        assert seen[-1]["seed"] != seen[-2]["seed"]


def test_replies_keep_their_order_and_the_bound_on_requests_at_once() -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def reply(server: Server, body: dict[str, Any]) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02 if body["messages"][-1]["content"].endswith("0") else 0.005)
        with lock:
            running[0] -= 1
        echo(server, body)

    with serving(reply) as url:
        engine = open_engine(url, concurrency=3)
        prompts = [f"question {i}" for i in range(30)]
        assert engine.chat(prompts) == [f"you said {prompt}" for prompt in prompts]
    assert 1 < most[0] <= 3


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_that_passes_costs_no_reply(failure: str) -> None:
    with serving(failing(2, FAILURES[failure])) as url:
        assert open_engine(url, retries=3).chat(["a"]) == ["you said a"]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("a 500", "answers 500 ('out of memory'), asked 2 times"),
        ("a 503 of a proxy", "answers 503 ('<html>bad gateway</html>'), asked 2 times"),
        ("too many requests", "answers 429 ('slow down'), asked 2 times"),
        ("half a response", "does not answer (peer closed connection without sending"),
        ("a closed connection", "does not answer (Server disconnected without sending"),
    ],
)
def test_a_failure_that_stays_is_said_in_one_sentence(failure: str, said: str) -> None:
    with serving(failing(99, FAILURES[failure])) as url:
        with pytest.raises(EngineError) as caught:
            open_engine(url, retries=1).chat(["a", "b"])
        assert f"the server at {url} {said}" in str(caught.value)


def test_a_server_that_is_down_or_slow_is_said_so() -> None:
    with serving(lambda server, body: time.sleep(1.0)) as url:
        engine = open_engine(url, retries=0, timeout_s=0.1)
        with pytest.raises(EngineError, match=r"does not answer \(no answer in time\)"):
            engine.chat(["a"])
    with pytest.raises(EngineError, match=r"does not answer \(.*refused\), asked 1 times"):
        open_engine(url, retries=0)


@pytest.mark.parametrize(
    "content", [b"{not json", b"<html>welcome</html>", [], {}, {"choices": []}, {"choices": [{}]}]
)
def test_an_answer_outside_of_the_protocol_is_shown(content: Any) -> None:
    said = "sent no answer of OpenAI's protocol"
    with (
        serving(lambda server, body: server.send(200, content)) as url,
        pytest.raises(EngineError, match=said),
    ):
        open_engine(url).chat(["a"])


def test_a_reply_without_content_is_empty_and_markup_stays_text() -> None:
    with serving(lambda server, body: server.say(None)) as url:
        assert open_engine(url).chat(["a"]) == [""]
    with serving(lambda server, body: server.say("\x1b[31m<b>red</b>")) as url:
        assert open_engine(url).chat(["a"]) == ["\x1b[31m<b>red</b>"]
    with (
        serving(lambda server, body: server.send(500, b"\x1b[31m")) as url,
        pytest.raises(EngineError, match=r"\\x1b\[31m"),
    ):
        open_engine(url, retries=0).chat(["a"])


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (400, "This model's maximum context length is 128 tokens", "change what the message names"),
        (400, "default chat template is no longer allowed", "change what the message names"),
        (401, "invalid key", "name the environment variable with its API key"),
        (404, "no such model", "does not have the model 'tiny' or the request"),
    ],
)
def test_a_refusal_is_passed_on_and_not_asked_again(status: int, message: str, said: str) -> None:
    count = iter(range(100))

    def refuse(server: Server, body: dict[str, Any]) -> None:
        next(count)
        server.send(status, {"error": {"message": message}})

    with serving(refuse) as url, pytest.raises(BadInput, match=said) as caught:
        open_engine(url).chat(["a"])
    assert message in str(caught.value).replace("\\", "")
    assert next(count) == 1


def test_the_model_is_found_or_has_to_be_named() -> None:
    two = {"data": [{"id": "medic"}, {"id": "guard"}]}
    with serving(echo, two) as url:
        with pytest.raises(BadInput, match=r"has 2 models \(medic, guard\); say which"):
            open_engine(url)
        with pytest.raises(BadInput, match="no model 'medicc'; did you mean medic"):
            open_engine(url, model="medicc")
        assert open_engine(url, model="guard").chat(["a"]) == ["you said a"]
        assert (
            open_engine(url, model="guard").fingerprint()
            != open_engine(url, model="medic").fingerprint()
        )


def test_the_key_comes_from_the_environment_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys: list[str] = []

    def refuse(server: Server, body: dict[str, Any]) -> None:
        keys.append(body["key"])
        server.send(403, {"error": {"message": "no"}})

    with serving(refuse) as url:
        with pytest.raises(BadInput, match="'MY_KEY', which should hold the server's API key"):
            open_engine(url, key="MY_KEY")
        monkeypatch.setenv("MY_KEY", "very-secret")
        with pytest.raises(BadInput) as caught:
            open_engine(url, key="MY_KEY").chat(["a"])
    assert keys == ["Bearer very-secret"]
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {"token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1}]},
        {"token_logprobs": [None] * 60, "top_logprobs": [None] * 60},
    ],
)
def test_a_server_that_scores_no_given_answer_is_refused(
    logprobs: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    answer = {"choices": [{"text": "x", "logprobs": logprobs}]}
    with serving(lambda server, body: server.send(200, answer)) as url:
        engine = open_engine(url, tokenizer=folder)
        with pytest.raises(BadInput, match="does not give back the log-probabilities of a prompt"):
            engine.loglikelihood([("how ?", "lamp")])
        with pytest.raises(BadInput, match="needs the model's tokenizer"):
            open_engine(url).loglikelihood([("how ?", "lamp")])


def saved(template: str, folder: Path) -> Path:
    """The folder of a tokenizer with another chat template."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        ("QWEN3", "off", {"enable_thinking": False}),
        ("GRANITE", "free", {"thinking": True}),
        ("SEED", "off", {"thinking_budget": 0}),
        ("PLAIN", "off", None),
    ],
)
def test_the_servers_template_is_told_what_the_one_here_is(
    name: str, mode: Thinking, told: dict[str, Any] | None, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []

    def reply(server: Server, body: dict[str, Any]) -> None:
        seen.append(body)
        echo(server, body)

    folder = saved(getattr(templates, name), tmp_path)
    with serving(reply) as url:
        chat = ChatSettings(thinking=mode, thinking_tokens=100)
        engine = OpenAIEngine(ServerSettings(url, timeout_s=10.0), folder, chat)
        assert engine.chat(["how </think> ?"], max_tokens=7)
    assert seen[0].get("chat_template_kwargs") == told
    assert seen[0]["max_tokens"] == (107 if mode == "free" else 7)
    assert seen[0]["path"] == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("name", "message", "answer", "cut_off"),
    [
        ("R1", {"content": "I see.</think>Take it."}, "Take it.", False),
        ("R1", {"content": "I see. The lamp"}, "", True),
        ("R1", {"content": "Take it.", "reasoning_content": "I see."}, "Take it.", False),
        ("QWEN3", {"content": None, "reasoning": "I see. The"}, "", True),
        ("QWEN3", {"content": "<think>I see.</think>Take it."}, "Take it.", False),
    ],
)
def test_thinking_is_told_from_the_answer(
    name: str, message: dict[str, Any], answer: str, cut_off: bool, tmp_path: Path
) -> None:
    folder = saved(getattr(templates, name), tmp_path)
    content = {"choices": [{"message": message}]}
    with serving(lambda server, body: server.send(200, content)) as url:
        chat = ChatSettings(thinking="free")
        engine = OpenAIEngine(ServerSettings(url, timeout_s=10.0), folder, chat)
        reply = read_reply(engine.chat(["how ?"])[0])
    assert (reply.answer, reply.cut_off) == (answer, cut_off)


@pytest.mark.parametrize(
    ("name", "chat", "behind"),
    [
        ("R1", ChatSettings(thinking="empty"), "<|assistant|><think>\n\n</think>\n\n"),
        ("KIMI", ChatSettings(thinking="empty"), "<|assistant|><think></think>"),
        ("PLAIN", ChatSettings("plain"), "\nAnswer:"),
    ],
)
def test_what_no_conversation_can_hold_goes_as_token_ids(
    name: str, chat: ChatSettings, behind: str, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []

    def reply(server: Server, body: dict[str, Any]) -> None:
        seen.append(body)
        server.send(200, {"choices": [{"text": " Take it. "}]})

    folder = saved(getattr(templates, name), tmp_path)
    with serving(reply) as url:
        engine = OpenAIEngine(ServerSettings(url, timeout_s=10.0), folder, chat)
        assert engine.chat(["how ?"], max_tokens=7) == ["Take it."]
        with pytest.raises(BadInput, match="need the tokenizer of the model at"):
            OpenAIEngine(ServerSettings(url), None, chat)
    assert seen[0]["path"] == "/v1/completions"
    assert engine.template is not None
    (text,) = engine.template.render(["how ?"])
    assert text.endswith(behind)
    assert seen[0]["prompt"] == engine.template.ids([text])[0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "localhost:8000"}, "must begin with http"),
        ({"concurrency": 0}, "at least 1"),
        ({"retries": -1}, "at least 0"),
        ({"timeout_s": 0.0}, "above 0"),
        ({"arguments": {"messages": []}}, "'messages' is set by safemerge itself"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_asked(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        open_engine(**{"url": "http://127.0.0.1:1/v1", **wrong})

"""Which engine writes the probes: what a config may say, and who is asked then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from safemerge.errors import ConfigError
from search import SearchConfig
from search.commands.write_probes import writers
from synth.zoo import Zoo


def config(zoo: Zoo, **engine: Any) -> SearchConfig:
    """A config for two models of the small world."""
    source = {"name": "domain", "path": str(zoo.sources["domain"])}
    return SearchConfig.from_record(
        {
            "models": {"base": str(zoo.base), "sources": [source]},
            "probes": {"path": "probes.jsonl", "judge": "phrases"},
            "engine": engine,
        }
    )


@pytest.fixture
def server() -> Iterator[str]:
    """A server with two models, each of which says its name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send({"data": [{"id": "org/base"}, {"id": "org/medic"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.send({"choices": [{"message": {"content": f"i am {body['model']}"}}]})

        def send(self, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}/v1"
    running.shutdown()
    running.server_close()


def test_every_model_is_asked_at_its_server(raw_zoo: Zoo, server: str) -> None:
    names = {"base": "org/base", "domain": "org/medic"}
    pool = writers(config(raw_zoo, kind="openai", url=server, model=names))
    assert {name: one.chat(["who ?"]) for name, one in pool.items()} == {
        "base": ["i am org/base"],
        "domain": ["i am org/medic"],
    }
    apart = {"base": server, "domain": server}
    assert writers(config(raw_zoo, kind="openai", url=apart, model=names)).keys() == pool.keys()


def test_a_model_without_a_server_is_named(raw_zoo: Zoo, server: str) -> None:
    with pytest.raises(ConfigError, match="no server for the model 'domain'"):
        writers(config(raw_zoo, kind="openai", url={"base": server}))
    with pytest.raises(ConfigError, match=r"names 'domian', which is no model.*domain"):
        writers(config(raw_zoo, kind="openai", url=server, model={"domian": "x"}))


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"kind": "openai"}, "needs the url of a server"),
        ({"kind": "vllm", "url": "http://localhost/v1"}, 'url is of a server, and kind is "vllm"'),
        ({"key": "MY_KEY"}, 'key is of a server, and kind is "transformers"'),
        ({"arguments": {"max_model_len": 64}}, "arguments are passed on to vLLM or to a server"),
        ({"kind": "vlm"}, "'transformers', 'vllm' or 'openai'"),
        ({"api_key": "secret"}, "unknown key 'engine.api_key'"),
    ],
)
def test_settings_of_another_kind_are_refused(
    raw_zoo: Zoo, engine: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        config(raw_zoo, **engine)

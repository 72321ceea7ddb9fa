"""A real HTTP server that speaks as much of OpenAI's protocol as a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = {"data": [{"id": "tiny"}]}
# What a client is told to wait before it asks again, so that the tests need not.
SOON = {"retry-after-ms": "1"}
Reply = Callable[["Server", dict[str, Any]], None]


class Server(BaseHTTPRequestHandler):
    """Lists one model; other requests are answered by the test's function."""

    protocol_version = "HTTP/1.1"
    reply: Reply
    models: Any

    def do_GET(self) -> None:
        self.send(200, self.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).reply(self, {**body, "path": self.path, "key": self.headers["authorization"]})

    def send(self, status: int, content: Any, *, length: int | None = None) -> None:
        """An answer: JSON, or bytes as they are; `length` promises another number of bytes."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data) if length is None else length))
        for name, value in SOON.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        if length is not None:
            self.close_connection = True

    def hang_up(self) -> None:
        """End the connection without a word."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def say(self, text: str | None) -> None:
        """A chat's answer."""
        self.send(200, {"choices": [{"message": {"content": text}}]})

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@contextmanager
def serving(reply: Reply, models: Any = MODELS) -> Iterator[str]:
    """The url of a server that answers with `reply`."""
    handler = type("Handler", (Server,), {"reply": reply, "models": models})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()

"""Somebody who is no shop of ours: takes what is sent, and always answers the same."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass
class Listener:
    """Where it is, and the requests that have come: the line, then the headers."""

    url: str
    heard: list[str] = field(default_factory=list)


@contextmanager
def listening(
    status: int = 200, headers: Mapping[str, str] = {}, body: bytes = b""
) -> Iterator[Listener]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            listener.heard.append(f"{self.requestline}\n{self.headers}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        listener = Listener(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listener
        finally:
            server.shutdown()
            thread.join()

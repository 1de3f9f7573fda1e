"""Lookups at a fixed rate: all are sent, also if answers are late."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtests import slow
from loadtests.wrk import Targets


class Together:
    """Counts how many requests are in hand at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@contextmanager
def serve(status: int, wait_s: float) -> Iterator[tuple[str, list[str], Together]]:
    asked: list[str] = []
    together = Together()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            with together:
                time.sleep(wait_s)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked, together
        finally:
            server.shutdown()


@pytest.mark.parametrize(("status", "refused"), [(200, 0), (503, 20)])
def test_each_lookup_is_sent_once_and_counted(status: int, refused: int) -> None:
    with serve(status, wait_s=0.05) as (url, asked, together):
        result = slow.run(url, Targets("/participants/MSISDN/5255", 8, 10), rate=50, seconds=0.4)
    assert (result.requests, len(asked), result.refused) == (20, 20, refused)
    assert all(path.startswith("/participants/MSISDN/5255000000") for path in asked)
    assert result.p50_ms >= 50
    assert together.most > 1  # the lookups do not wait for each other

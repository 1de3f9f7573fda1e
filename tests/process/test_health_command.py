"""`oracle health`, which containers and monitors run: one check for every choice of listeners."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from oracle.commands.health import ask_listeners
from oracle.settings import Settings

SHORT_S = 0.3


class Answerer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/live", "/health") else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def answering() -> Iterator[int]:
    """The port of a listener that is alive, and not ready."""
    with HTTPServer(("127.0.0.1", 0), Answerer) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a listener whose worker hangs: it is open, and nobody accepts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_listener_that_does_not_run_here_is_left_out(answering: int, closed: int) -> None:
    settings = Settings(hub_port=closed, admin_port=answering, admin_host="0.0.0.0")  # noqa: S104 - as a container
    assert ask_listeners(settings, ready=False, timeout_s=SHORT_S) == [("admin", True, "ok")]


def test_a_worker_that_hangs_is_not_healthy(answering: int, silent: int) -> None:
    settings = Settings(hub_port=silent, admin_port=answering)
    answers = ask_listeners(settings, ready=False, timeout_s=SHORT_S)
    assert [(answer.role, answer.good) for answer in answers] == [("hub", False), ("admin", True)]
    assert str(answers[0]) == "hub: no answer in time"


def test_ready_needs_status_200(answering: int, closed: int) -> None:
    settings = Settings(hub_port=answering, admin_port=closed, account_lookup_admin_port=answering)
    answers = ask_listeners(settings, ready=True, timeout_s=SHORT_S)
    assert [str(answer) for answer in answers] == ["hub: status 503", "oracles: ok"]


def test_without_any_listener_nothing_is_claimed(closed: int) -> None:
    assert ask_listeners(Settings(hub_port=closed, admin_port=closed), ready=False, timeout_s=SHORT_S) == []

"""The arguments and the result of wrk.  Its own script walks through the keys, so those tests need wrk."""

from __future__ import annotations

import os
import shutil
import socket
import threading

import pytest

from loadtests import wrk
from loadtests.micro.hotspots import count_own_time
from loadtests.wrk import Result, Targets, WrkError, parse

OUTPUT = """Running 1s test @ http://127.0.0.1:1
  Requests/sec:  20410.00
RESULT requests=20512 duration_us=1005000 p50_us=2510 p90_us=4000 p99_us=9380 p999_us=12000 max_us=15500 status=2 lost=1
"""


def test_the_last_line_is_the_result() -> None:
    assert parse(OUTPUT) == Result(20_512, 1.005, 2.51, 4.0, 9.38, 12.0, 15.5, 2, 1)
    assert parse(OUTPUT).rate == pytest.approx(20_410, rel=0.001)


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:1", OUTPUT.replace("RESULT", "")])
def test_output_without_a_result_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(WrkError) as raised:
        parse(text)
    assert text.strip() in str(raised.value)


def test_targets_are_numbered() -> None:
    assert Targets("/participants/MSISDN/5255", 8, 10, first=5).make_target(2) == "/participants/MSISDN/525500000007"
    assert Targets("/a/64", 8, 10, times=100, tail="0").make_target(3) == "/a/64000003000"


class Recorder:
    """An HTTP server with one answer that records the requests."""

    def __init__(self, status: str = "200 OK") -> None:
        self.heads: list[str] = []
        self._status = status
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            rest = b""
            while part := _receive(client):
                *heads, rest = (rest + part).split(b"\r\n\r\n")
                self.heads += [head.decode() for head in heads]
                client.sendall(f"HTTP/1.1 {self._status}\r\ncontent-length: 2\r\n\r\n{{}}".encode() * len(heads))

    def close(self) -> None:
        self._listener.close()


def _receive(client: socket.socket) -> bytes:
    try:
        return client.recv(65_536)
    except OSError:
        return b""


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_walks_over_new_keys_and_sends_the_headers_of_a_hub() -> None:
    recorder = Recorder()
    try:
        targets = Targets("/participants/MSISDN/5255", 8, 10_000_000, first=1_000_000)
        first = wrk.run(recorder.url, targets, seconds=1, connections=2, walk=0)
        began = len(recorder.heads)
        wrk.run(recorder.url, targets, seconds=1, connections=2, walk=first.requests + 4)
    finally:
        recorder.close()
    lines = [head.split("\r\n") for head in recorder.heads]
    numbers = [line[0].split()[1].removeprefix("/participants/MSISDN/5255") for line in lines]
    assert 0 < began < len(numbers)
    assert len(set(numbers)) == len(numbers)
    assert all(1_000_000 <= int(number) < 11_000_000 for number in numbers)
    names = [line.partition(":")[0] for line in lines[0][1:]]
    assert names == [
        *("content-type", "date", "fspiop-source", "accept", "fspiop-destination"),
        *("User-Agent", "Accept-Encoding", "Host", "Connection"),
    ]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_one_refused_request_is_an_error() -> None:
    recorder = Recorder("503 Service Unavailable")
    try:
        with pytest.raises(WrkError, match="were refused"):
            wrk.run(recorder.url, Targets("/", 1, 2), seconds=1, connections=1)
    finally:
        recorder.close()


def test_wrk_does_not_get_the_environment_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALK", "7")
    assert "WALK" in os.environ
    assert "WALK" not in Targets("/", 1, 1).make_environment()


def test_own_time_counts_the_innermost_frames() -> None:
    counted = count_own_time("a;b;c 3\na;b 2\na;d;b 5\n\nnonsense\n")
    assert counted == {"c": 3, "b": 7}

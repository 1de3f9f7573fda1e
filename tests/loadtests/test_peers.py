"""The other sides of a comparison answer as the oracle does: C always, other languages where they are installed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests import ceiling
from loadtests.busy import run_busy_loops
from loadtests.ceiling import Answer, ask, compare_answers, make_answers, store_answers
from loadtests.keys import Keys
from loadtests.peers import (
    FLOOR,
    Side,
    find_missing_programs,
    find_optional_peers,
    find_program,
    run_floor,
    run_nginx,
    run_peer,
)
from loadtests.stack import StackError, find_descendants, make_room, read_cpu, run_valkey, wait_until
from loadtests.wrk import Targets

pytestmark = pytest.mark.skipif(find_program("gcc") is None, reason="gcc is not installed")

KEYS = 50
NUMBERS = Targets("/participants/MSISDN/5255", 8, KEYS)
NOBODY = '{"partyList":[]}'


@pytest.fixture(scope="module")
def sides() -> Iterator[list[Side]]:
    """All peers of this machine, and a Valkey with the answers to KEYS numbers."""
    with ExitStack() as stack:
        home = stack.enter_context(make_room())
        cache = stack.enter_context(run_valkey(home))
        store_answers(cache, make_answers(Keys(mix="consecutive"), KEYS))
        running = [stack.enter_context(run_floor(home, cache))]
        running += [
            stack.enter_context(run_peer(home, cache, name, program)) for name, program in find_optional_peers().items()
        ]
        if not find_missing_programs():
            running.append(stack.enter_context(run_nginx(home, cache, 1)))
        yield running


def make_answer(body: str) -> Answer:
    return Answer(200, "application/json", str(len(body)), body.encode())


def test_all_peers_answer_what_is_stored_and_an_empty_list_for_nobody(sides: Sequence[Side]) -> None:
    alias = Keys(mix="consecutive").make_alias(7)
    found = make_answer(f'{{"partyList":[{{"fspId":"{alias.fsp_id}"}}]}}')
    assert {side.name: ask(side.url, NUMBERS.make_target(7)) for side in sides} == {side.name: found for side in sides}
    assert {ask(side.url, NUMBERS.make_target(KEYS + 1)) for side in sides} == {make_answer(NOBODY)}
    compare_answers(sides, NUMBERS, samples=3)
    assert sides[0].name == FLOOR


def test_sides_that_answer_differently_are_not_measured(sides: Sequence[Side], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([make_answer(NOBODY), make_answer('{"partyList":[{}]}')])
    monkeypatch.setattr(ceiling, "ask", lambda *_: next(answers))
    with pytest.raises(StackError, match="the sides answer differently"):
        compare_answers([sides[0], sides[0]._replace(name="other")], NUMBERS, samples=1)


def connect(side: Side) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(side.url.rpartition(":")[2])), timeout=30)


def receive(client: socket.socket, answers: int) -> bytes:
    received = b""
    while received.count(b"]}") < answers:
        part = client.recv(65_536)
        assert part, received
        received += part
    return received


def test_the_floor_answers_requests_in_any_pieces_in_their_order(sides: Sequence[Side]) -> None:
    targets = [NUMBERS.make_target(number) for number in (3, KEYS + 3, 4)] * 300  # more than one MGET holds
    sent = "".join(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n" for target in targets).encode()
    with connect(sides[0]) as client:
        for _ in range(30):
            with connect(sides[0]) as gone:
                gone.sendall(sent[: len(sent) // 2])  # its answers have no reader
        for begin in range(0, len(sent), 7_001):
            client.sendall(sent[begin : begin + 7_001])
        received = receive(client, len(targets))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")[1:]]
    fsp_ids = [Keys(mix="consecutive").make_alias(number).fsp_id.encode() for number in (3, 4)]
    first, nobody, second = bodies[:3]
    assert (fsp_ids[0] in first, nobody, fsp_ids[1] in second) == (True, NOBODY.encode(), True)
    assert bodies == bodies[:3] * 300


@pytest.mark.parametrize("request_line", ["GET /other HTTP/1.1", "POST /participants/MSISDN/1 HTTP/1.1", "nonsense"])
def test_the_floor_closes_a_connection_that_asks_for_something_else(sides: Sequence[Side], request_line: str) -> None:
    with connect(sides[0]) as client:
        client.sendall(f"{request_line}\r\n\r\n".encode())
        assert client.recv(100) == b""
    assert ask(sides[0].url, NUMBERS.make_target(1)).status == 200


def test_a_program_can_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "my-bun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("BUN", str(program))
    assert find_program("bun") == str(program)
    assert find_optional_peers()["bun"] == str(program)
    monkeypatch.setenv("BUN", str(tmp_path / "absent"))
    assert "bun" not in find_optional_peers()


def test_a_peer_that_does_not_start_is_shown_with_its_words() -> None:
    with (
        make_room() as home,
        run_valkey(home) as cache,
        pytest.raises(StackError, match="node ended:\n"),
        run_peer(home, cache, "node", str(find_program("false"))),
    ):
        pass


def test_busy_loops_end_with_their_block(tmp_path: Path) -> None:
    earlier = set(find_descendants(os.getpid()))
    with run_busy_loops(2, 1.0, tmp_path):
        loops = set(find_descendants(os.getpid())) - earlier
        used = read_cpu(list(loops)).total
        wait_until(lambda: read_cpu(list(loops)).total > used, "busy loops that work")
    assert len(loops) == 2
    assert not loops & set(find_descendants(os.getpid()))

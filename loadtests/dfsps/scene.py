"""Mock FSPs, a central ledger and a payer on one event loop; and what became of each lookup.

Lookup.   The payer's GET, the payee's 202 and PUT, the payer's 200.  Each lookup is about a party of its own, so its
          messages need no other mark.
Payees.   Each on a port of its own, because the service limits what one host can take.  `manner` says how it behaves.
Ledger.   Knows all of them; `manner` says how it behaves.
Counts.   Of each lookup: whether the service accepted it, and the first answer that the payer got, and any further one.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from email.utils import formatdate
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from loadtests.dfsps.wire import ACCEPTED, OK, Mock, Pool, Served, make_answer
from oracle.scheme.base import PATHS

PAYER: Final = "payerfsp"
PARTIES: Final = 20_000
RETRIES: Final = 5  # of a PUT that the service did not accept, as an FSP does that does not lose its answers
RETRY_S: Final = 0.3

Manner = Literal["well", "dead", "silent", "slow", "garbage", "cut", "redirect", "refuse", "hang"]
LedgerManner = Literal["well", "away", "slow", "wrong", "lie"]


class Lookup:
    __slots__ = ("answers", "asked_at", "done_at", "forwarded_at", "payee", "put_at", "put_status", "status")

    def __init__(self, payee: int, asked_at: float) -> None:
        self.payee, self.asked_at = payee, asked_at
        self.status = -1  # of the GET; 0: the connection ended; -1: no answer yet
        self.forwarded_at = self.put_at = self.done_at = 0.0
        self.put_status = -1
        self.answers: list[str] = []  # what the payer got: party, or the code of an error

    @property
    def added_s(self) -> float:
        """The time that the service took, both ways."""
        return (self.forwarded_at - self.asked_at) + (self.done_at - self.put_at)


class Summary(NamedTuple):
    asked: int
    accepted: int
    refused: dict[int, int]  # by the status of the sync answer; 0: the connection ended
    answers: dict[str, int]  # the first answer of the accepted ones
    nothing: int  # accepted, and no answer
    twice: dict[str, int]  # more than one answer: all of them
    puts: dict[int, int]  # of the payees, by status
    p50_ms: float
    p99_ms: float

    def describe(self) -> str:
        """One line for a person."""
        parts = [f"{self.asked:,} asked, {self.accepted:,} accepted"]
        parts += [f"{count:,} refused with {status or 'a cut'}" for status, count in sorted(self.refused.items())]
        parts += [f"{count:,} got {answer}" for answer, count in sorted(self.answers.items())]
        parts += [f"{count:,} got {answers}" for answers, count in sorted(self.twice.items())]
        return f"{'; '.join(parts)}; {self.nothing:,} got nothing"


def summarize(lookups: Sequence[Lookup]) -> Summary:
    accepted = [lookup for lookup in lookups if lookup.status == 202]
    times = sorted(1000 * lookup.added_s for lookup in accepted if lookup.answers[:1] == ["party"])
    parts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else [0.0] * 99
    return Summary(
        len(lookups),
        len(accepted),
        dict(Counter(lookup.status for lookup in lookups if lookup.status != 202)),
        dict(Counter(lookup.answers[0] for lookup in accepted if lookup.answers)),
        sum(not lookup.answers for lookup in accepted),
        dict(Counter("+".join(lookup.answers) for lookup in accepted if len(lookup.answers) > 1)),
        dict(Counter(lookup.put_status for lookup in lookups if lookup.put_at)),
        parts[49],
        parts[98],
    )


def name_payee(number: int) -> str:
    return f"payee{number:02}"


def name_party(number: int) -> str:
    return f"52550{number:07}"


class Scene:
    def __init__(self, payees: int) -> None:
        self.manners: list[Manner] = ["well"] * payees
        self.slow_s = 1.0
        self.ledger_manner: LedgerManner = "well"
        self._payees = [Mock(partial(self._serve_payee, number)) for number in range(payees)]
        self._payer = Mock(self._serve_payer)
        self._ledger = Mock(self._serve_ledger)
        self._lookups: dict[str, Lookup] = {}
        self._pool: Pool
        self._headers: dict[tuple[bytes, str], bytes] = {}
        self._made_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_over: Callable[[], None] = _do_nothing  # a lookup has its first answer, or was not accepted

    @property
    def ledger_url(self) -> str:
        return f"http://127.0.0.1:{self._ledger.port}"

    async def open(self) -> None:
        for mock in (self._ledger, self._payer, *self._payees):
            await mock.open()

    def connect(self, port: int, connections_max: int) -> None:
        self._pool = Pool(port, connections_max)

    async def set_manner(self, payee: int, manner: Manner) -> None:
        self.manners[payee] = manner
        if manner == "dead":
            self._payees[payee].close()
        else:
            await self._payees[payee].open()

    async def set_ledger(self, manner: LedgerManner) -> None:
        self.ledger_manner = manner
        if manner == "away":
            self._ledger.close()
        else:
            await self._ledger.open()

    async def close(self) -> None:
        for mock in (self._ledger, self._payer, *self._payees):
            mock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # The payer's side.

    async def ask(
        self, count: int, rate: float, *, settle_s: float = 15.0, among: int = PARTIES, resource: str = "parties"
    ) -> list[Lookup]:
        """Send so many lookups at a fixed rate, among so many parties in turn.

        Return when all have an answer, or settle_s after the last.
        """
        lookups: list[Lookup] = []
        began = time.perf_counter()
        while len(lookups) < count:
            due = min(count, int((time.perf_counter() - began) * rate) + 1)
            lookups += [self._ask(number % among, resource) for number in range(len(lookups), due)]
            await asyncio.sleep(max(0.001, began + len(lookups) / rate - time.perf_counter()))
        ends_at = time.perf_counter() + settle_s
        while time.perf_counter() < ends_at and not all(map(_is_over, lookups)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return lookups

    async def ask_steadily(
        self, seconds: float, at_once: int, *, settle_s: float = 15.0, among: int = PARTIES, resource: str = "parties"
    ) -> list[Lookup]:
        """Keep so many lookups open at once, for so long; then wait as `ask` does."""
        lookups: list[Lookup] = []
        ends_at = time.perf_counter() + seconds

        def ask_next() -> None:
            if time.perf_counter() < ends_at:
                lookups.append(self._ask(len(lookups) % among, resource))

        self._on_over = ask_next
        try:
            for _ in range(at_once):
                ask_next()
            await asyncio.sleep(seconds)
            while time.perf_counter() < ends_at + settle_s and not all(map(_is_over, lookups)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        finally:
            self._on_over = _do_nothing
        return lookups

    def _ask(self, number: int, resource: str) -> Lookup:
        party = name_party(number)
        lookup = Lookup(number % len(self.manners), time.perf_counter())
        self._lookups[party] = lookup
        if resource == "participants":  # the service answers by itself
            lookup.forwarded_at = lookup.put_at = lookup.asked_at
        data = self._make(b"GET", f"/{resource}/MSISDN/{party}", PAYER)
        self._pool.send(data, partial(self._note_status, lookup))
        return lookup

    def _note_status(self, lookup: Lookup, status: int) -> None:
        lookup.status = status
        if status != 202:
            self._on_over()

    def _serve_payer(self, served: Served, _method: bytes, path: bytes, _head: bytes, body: bytes) -> None:
        served.transport.write(OK)
        lookup = self._lookups.get(path.split(b"/")[3].decode())
        if lookup is None:
            return
        if not lookup.answers:
            lookup.done_at = time.perf_counter()
        is_error = path.endswith(b"/error")
        lookup.answers.append(json.loads(body)["errorInformation"]["errorCode"] if is_error else "party")
        if len(lookup.answers) == 1:
            self._on_over()

    # The payees' side.

    def _serve_payee(self, number: int, served: Served, method: bytes, path: bytes, _head: bytes, _body: bytes) -> None:
        if method != b"GET":
            served.transport.write(OK)
            return
        manner = self.manners[number]
        party = path.split(b"/")[3].decode()
        lookup = self._lookups.get(party)
        if lookup is not None and not lookup.forwarded_at:
            lookup.forwarded_at = time.perf_counter()
        if manner == "well":
            served.transport.write(ACCEPTED)
            self._put(number, party, lookup)
        elif manner == "slow":
            self._do(self._serve_late(number, served, party, lookup))
        elif manner == "silent":
            served.transport.write(ACCEPTED)
        elif manner == "garbage":
            served.transport.write(b"\x16\x03\x01 this is no HTTP \xff\xfe\r\n\r\n" * 10)
        elif manner == "cut":
            served.transport.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\nhalf of it")
            served.transport.close()
        elif manner == "redirect":
            served.transport.write(make_answer(302, b"", b"location: http://127.0.0.1:9/elsewhere"))
        elif manner == "refuse":
            served.transport.write(make_answer(500, b'{"inside":"postgres://secret@db"}'))
        # hang: no answer

    async def _serve_late(self, number: int, served: Served, party: str, lookup: Lookup | None) -> None:
        await asyncio.sleep(self.slow_s)
        served.transport.write(ACCEPTED)
        self._put(number, party, lookup)

    def _put(self, number: int, party: str, lookup: Lookup | None, tries: int = 0) -> None:
        name = name_payee(number)
        named = f'"partyIdType":"MSISDN","partyIdentifier":"{party}","fspId":"{name}"'
        body = f'{{ "party": {{"partyIdInfo":{{{named}}},"name":"Jos\\u00e9 P\\u00e9rez","personalInfo":'
        body += '{"complexName":{"firstName":"José","lastName":"Pérez"},"dateOfBirth":"1990-01-01"}}}'
        if lookup is not None and not lookup.put_at:
            lookup.put_at = time.perf_counter()
        data = self._make(b"PUT", f"/parties/MSISDN/{party}", name, PAYER, body.encode())
        self._pool.send(data, partial(self._note_put, number, party, lookup, tries))

    def _note_put(self, number: int, party: str, lookup: Lookup | None, tries: int, status: int) -> None:
        if lookup is not None:
            lookup.put_status = status
        if (status == 0 or status >= 500) and tries < RETRIES:
            self._do(self._put_again(number, party, lookup, tries + 1))

    async def _put_again(self, number: int, party: str, lookup: Lookup | None, tries: int) -> None:
        await asyncio.sleep(RETRY_S * tries)
        self._put(number, party, lookup, tries)

    # The ledger's side.

    def _serve_ledger(self, served: Served, _method: bytes, path: bytes, _head: bytes, _body: bytes) -> None:
        answer = self._answer_ledger(path)
        if self.ledger_manner == "slow":
            self._do(self._write_late(served, answer))
        else:
            served.transport.write(answer)

    async def _write_late(self, served: Served, answer: bytes) -> None:
        await asyncio.sleep(self.slow_s)
        served.transport.write(answer)

    def _answer_ledger(self, path: bytes) -> bytes:
        if self.ledger_manner == "wrong":
            return make_answer(500, b"<html>oops</html>")
        parts = path.split(b"/")
        endpoints = self.list_endpoints(parts[2].decode() if len(parts) > 2 else "")
        if b"isProxy=true" in path:
            return make_answer(200, b"[]")
        if not endpoints or self.ledger_manner == "lie":
            body = b'{"errorInformation":{"errorCode":"3200","errorDescription":"Generic ID not found"}}'
            return make_answer(404, body)
        if path.endswith(b"/endpoints"):
            listed = [{"type": kind, "value": url} for kind, url in endpoints.items()]
            return make_answer(200, json.dumps(listed).encode())
        name = parts[2].decode()
        document = {"name": name, "id": name, "created": "2026-01-01T00:00:00Z", "isActive": 1, "accounts": []}
        return make_answer(200, json.dumps(document).encode())

    def list_endpoints(self, name: str) -> dict[str, str]:
        """List the endpoints of a participant; none if there is no such one."""
        mocks = {PAYER: self._payer} | {name_payee(number): mock for number, mock in enumerate(self._payees)}
        if name not in mocks:
            return {}
        return {kind: f"http://127.0.0.1:{mocks[name].port}{path}" for kind, path in PATHS.items()}

    # Messages.

    def _make(self, method: bytes, path: str, source: str, destination: str = "", body: bytes = b"") -> bytes:
        now = time.monotonic()
        if now - self._made_at > 1:
            self._made_at = now
            self._headers.clear()
        resource = path.split("/", 2)[1]
        common = self._headers.get((method, resource)) or self._make_headers(method, resource)
        lines = f"fspiop-source: {source}\r\n" + (f"fspiop-destination: {destination}\r\n" if destination else "")
        length = b"content-length: %d\r\n" % len(body) if body else b""
        head = b"%b %b HTTP/1.1\r\n%b%b%b\r\n"
        return head % (method, path.encode(), common, lines.encode(), length) + body

    def _make_headers(self, method: bytes, resource: str) -> bytes:
        media = f"application/vnd.interoperability.{resource}+json;version=1"
        accept = f"accept: {media}\r\n" if method == b"GET" else ""
        lines = f"host: 127.0.0.1\r\n{accept}content-type: {media}.1\r\ndate: {formatdate(usegmt=True)}\r\n"
        made = self._headers[method, resource] = lines.encode()
        return made

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _do_nothing() -> None:
    """Do nothing."""


def _is_over(lookup: Lookup) -> bool:
    return bool(lookup.answers) or lookup.status not in (202, -1)

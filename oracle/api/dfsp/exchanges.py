"""Open GET /parties and their answers; and what was accepted with a 202 and is not done.

Exchanges.  A payer's GET asks one payee or several.  Two rules hold where all of this went through us:
              * an error of ours never follows an answer of a payee that we forwarded;
              * an answer of a payee never follows an error of ours.
            Two open requests can get two answers.  What a payee sends is always an answer, also its error.  A PUT that
            matches nothing is forwarded, and so is that of an FSP that was not asked.  It answers nothing: anybody
            could keep our errors from a payer by it.  With several payees, there is an error of ours when all calls
            failed: one worker makes them, so it knows that without Redis.
Promises.   What a worker has accepted is in Redis until it is done.  The worker renews it while it lives.  When it
            stops, it tells the sources of what it cannot finish: 2003.  What a killed one leaves, another one tells.

Workers share this state in Redis, each step by one script (`exchange_scripts`), so of an answer and an error that race
on two workers one wins.  While Redis is away, each worker has its own state in memory.  An answer that arrives at
another worker then matches nothing, so it is forwarded, and an error can follow it; nothing is withheld.

Keys hold a digest of the payer and the party: it has one length, and no character of a caller.  It has no secret: what
is due holds the identifier itself, as the copies do, because the error must name it.  That is kept until the answer,
and not longer than the times below.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal, Protocol

import msgspec

from oracle.api.dfsp.asked import Asked, Party, Resource
from oracle.api.dfsp.exchange_scripts import ANSWER, END, FAIL, START, TAKE, TOLD
from oracle.api.dfsp.faults import Fault
from oracle.store.base import Session
from oracle.store.cache.session import Unreachable
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

log = logs.Log(__name__)

CALL_TIMEOUT_S: Final = 20.0
KEPT_S: Final = 100.0  # after the end of the call to a payee; an answer that comes later matches nothing
ANSWERED_KEPT_S: Final = 10.0  # after the end of that call, which can fail after the answer
LEASE_S: Final = 30.0  # from a worker's end to the error that another one sends for it
SWEEP_S: Final = 1.0
GAP_S: Final = 10.0  # without a sweep of any worker: then all of them were away from Redis
CLOSE_S: Final = 1.0  # for errors that a stopping worker itself sends: `run.worker` ends it after 2 s
FLUSH_S: Final = 0.005  # what is done is written together with the next promise, or after this time
DUE_KEPT_S: Final = 600.0  # a service that starts again within this time tells what it left
TAKEN_MAX: Final = 100  # errors that a worker sends for others in each sweep
CLOSED_MAX: Final = 64  # requests of one payer for one party, from which on closed ones are removed
OPEN_MAX: Final = 256
MEMORY_MAX: Final = 100_000  # requests in the memory of a worker while Redis is away

FindSession = Callable[[], Session | None]

Why = Literal["promise", "timeout"]
Ended = Literal["tell", "closed", "unknown"]


class Due(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must be told to the source of a request: all that the error callback needs."""

    why: Why
    name: bytes
    method: str
    resource: Resource
    source: str
    party: tuple[str, str, str | None] | None
    request_id: str = ""
    is_error: bool = False
    destination: str | None = None
    proxy: str | None = None
    currency: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    version: str = "2.0"

    @classmethod
    def of(cls, asked: Asked, why: Why) -> Due:
        return cls(
            why, asked.name, asked.method, asked.resource, asked.source,
            None if asked.party is None else (asked.party[0], asked.party[1], asked.party[2]),
            _read_request_id(asked), asked.is_error, asked.destination,
            asked.proxy, asked.currency, asked.traceparent, asked.tracestate, asked.version,
        )  # fmt: skip

    def ask_again(self) -> Asked:
        """Return the request, without its headers and its body."""
        return Asked(
            method=self.method, resource=self.resource, source=self.source, headers=(),
            party=None if self.party is None else Party(*self.party), is_error=self.is_error,
            destination=self.destination, proxy=self.proxy, currency=self.currency, traceparent=self.traceparent,
            tracestate=self.tracestate, version=self.version, name=self.name,
        )  # fmt: skip


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Due).decode


def _read_request_id(asked: Asked) -> str:
    """Read it from the decoded body of a bulk: to decode the body again would take milliseconds."""
    content = asked.content if asked.party is None else None
    return "" if content is None else str(content.get("requestId", ""))


class Keys:
    """The keys in Redis, all in one slot of a cluster."""

    def __init__(self, prefix: str) -> None:
        self._base = f"{prefix}:{{dfsp}}:".encode()
        self.due = self._base + b"due"
        self.swept = self._base + b"swept"

    def exchange(self, payer: str, party: Party) -> bytes:
        text = "\0".join((payer, *party[:2], party.sub_id or ""))
        return self._base + b"x:" + blake2b(text.encode(), digest_size=16).hexdigest().encode()


class _Request(msgspec.Struct):
    """A request in memory.  The states are those of `exchange_scripts`."""

    began: float
    payees: Sequence[str]
    state: Literal["O", "A", "E"] = "O"
    due: Due | None = None
    due_at: float = 0.0


class Memory:
    """The same as the scripts, for one worker, while Redis is away."""

    def __init__(self, kept_s: float, requests_max: int) -> None:
        self._kept_s = kept_s
        self._requests_max = requests_max
        self._exchanges: dict[bytes, dict[bytes, _Request]] = {}
        self._count = 0

    def start(self, key: bytes, name: bytes, request: _Request) -> bool:
        if self._count >= self._requests_max:
            return False
        self._exchanges.setdefault(key, {})[name] = request
        self._count += 1
        return True

    def answer(self, key: bytes, payee: str) -> bool | None:
        """Return whether to forward; None if nothing matches."""
        requests = self._exchanges.get(key)
        if requests is None:
            return None
        asked = [request for request in requests.values() if payee in request.payees]
        found = next((request for request in asked if request.state == "O"), None)
        if found is None:
            return False if any(request.state == "E" for request in asked) else None
        found.state, found.due = "A", None
        return True

    def fail(self, key: bytes, name: bytes) -> bool | None:
        """Return whether to tell the payer; None if the request is not here."""
        request = self._exchanges.get(key, {}).get(name)
        if request is None:
            return None
        if request.state != "O":
            return False
        request.state, request.due = "E", None
        return True

    def end(self, key: bytes, name: bytes) -> Ended:
        request = self._exchanges.get(key, {}).get(name)
        if request is None:
            return "unknown"
        if request.state == "A":
            return "closed"
        request.state = "E"
        return "tell"

    def sweep(self, now: float) -> list[Due]:
        """Remove old requests; end those whose time is out, and return them."""
        if not self._exchanges:
            return []
        due: list[Due] = []
        for key, requests in list(self._exchanges.items()):
            for name, request in list(requests.items()):
                if request.due is not None and request.due_at <= now and request.state == "O":
                    due.append(request.due)
                    request.state, request.due = "E", None
                elif request.began + self._kept_s <= now:
                    del requests[name]
                    self._count -= 1
            if not requests:
                del self._exchanges[key]
        return due


class Exchanges:
    """One per process; see the module."""

    def __init__(
        self,
        find_session: FindSession,
        prefix: str,
        *,
        party_timeout_s: float = 0,
        call_timeout_s: float = CALL_TIMEOUT_S,
        kept_s: float = KEPT_S,
        memory_max: int = MEMORY_MAX,
    ) -> None:
        """`party_timeout_s`: when a payer without an answer gets 3303; 0: never.

        `call_timeout_s`: how long the call to a payee can take.
        """
        self._find_session = find_session
        self.keys = Keys(prefix)
        self._timeout_s = party_timeout_s
        self._kept_s = kept_s + call_timeout_s + party_timeout_s
        self._kept_ms = int(1000 * self._kept_s)
        self._answered_kept_ms = int(1000 * (ANSWERED_KEPT_S + call_timeout_s))
        self._memory = Memory(self._kept_s, memory_max)

    async def start(self, asked: Asked, payees: Sequence[str]) -> None:
        """Note that a payer's GET will ask these payees; when this returns, an answer cannot come too early."""
        key = self._key(asked.source, asked)
        due = Due.of(asked, "timeout") if self._timeout_s else None
        session = self._find_session()
        if session is not None and await self._write_start(session, key, asked.name, payees, due):
            return
        now = time.monotonic()
        request = _Request(now, payees, due=due, due_at=now + self._timeout_s)
        self._memory.start(key, asked.name, request)

    async def _write_start(
        self, session: Session, key: bytes, name: bytes, payees: Sequence[str], due: Due | None
    ) -> bool:
        """Write an open request to Redis; return whether it is there."""
        listed = payees[0] if len(payees) == 1 else "\n".join(dict.fromkeys(payees))
        value = f"O{time.time_ns() // 1000:016}\n{listed}\n".encode()
        member = b""
        if due is None:
            commands = (b"HLEN", key), (b"HSET", key, name, value), (b"PEXPIRE", key, self._kept_ms)
            try:
                count, *_ = await session.ask(key, *commands)
            except Unreachable:
                return False
            if count < CLOSED_MAX:
                return True
        else:
            member = _encode(due)
            value += b"\0" + member
        arguments = (
            name, value, self._kept_ms, int(1000 * self._timeout_s), member,
            int(1000 * (DUE_KEPT_S + self._timeout_s)), CLOSED_MAX, OPEN_MAX,
        )  # fmt: skip
        return bool(await self._run(session, START, [key, self.keys.due], arguments))

    async def fail(self, asked: Asked) -> bool:
        """Note that the calls to all payees have failed; return whether the payer must be told."""
        key = self._key(asked.source, asked)
        tell = self._memory.fail(key, asked.name)
        session = self._find_session()
        if tell is None and session is not None:
            reply = await self._run(session, FAIL, [key, self.keys.due], (asked.name,))
            tell = None if reply is None else reply == 1
        return tell is not False

    async def answer(self, asked: Asked) -> bool:
        """Note what a payee has sent; return whether it can be forwarded, because no error of ours was told."""
        assert asked.destination is not None  # noqa: S101 - the caller has refused it
        key = self._key(asked.destination, asked)
        forward = self._memory.answer(key, asked.source)
        session = self._find_session()
        if forward or session is None:
            return forward is not False
        oldest = f"{time.time_ns() // 1000 - 1000 * self._kept_ms:016}".encode()
        arguments = (asked.source.encode(), self._answered_kept_ms, oldest)
        reply = await self._run(session, ANSWER, [key, self.keys.due], arguments)
        return reply == 2 or (reply != 0 and forward is None)  # noqa: PLR2004 - see the script

    async def end(self, asked: Asked) -> Ended:
        """End a request by an error of ours, if it is open.  Raises Unreachable if that is not certain."""
        key = self._key(asked.source, asked)
        ended = self._memory.end(key, asked.name)
        if ended != "unknown":
            return ended
        session = self._find_session()
        if session is None:
            return "unknown"
        reply = await session.run(END, [key], (asked.name,))
        return "tell" if reply == 1 else "closed" if reply == 0 else "unknown"

    def note_told(self, asked: Asked) -> None:
        """Note that the payer has the error of a request that was ended."""
        session = self._find_session()
        if session is not None:
            key = self._key(asked.source, asked)
            session.write(key, (b"EVAL", TOLD, 1, key, asked.name))

    def sweep(self) -> list[Due]:
        """End the requests in memory whose time is out; return them."""
        return self._memory.sweep(time.monotonic())

    def _key(self, payer: str, asked: Asked) -> bytes:
        assert asked.party is not None  # noqa: S101 - a GET or PUT of parties has one
        return self.keys.exchange(payer, asked.party)

    @staticmethod
    async def _run(session: Session, script: bytes, keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> Any:
        """Run a script; None if Redis did not do it, or if that is not certain."""
        try:
            return await session.run(script, keys, arguments)
        except Unreachable:
            return None


class ErrorSender(Protocol):
    async def put_error(
        self, asked: Asked, fsp_id: str, fault: Fault, *, party: Party | None = None, request_id: str = ""
    ) -> bool: ...


class Promises:
    """One per process; see the module.  `open` begins the sweeps, `close` ends them."""

    def __init__(
        self,
        find_session: FindSession,
        exchanges: Exchanges,
        errors: ErrorSender,
        metrics: Metrics,
        *,
        lease_s: float = LEASE_S,
        sweep_s: float = SWEEP_S,
        gap_s: float = GAP_S,
        taken_max: int = TAKEN_MAX,
    ) -> None:
        self._find_session = find_session
        self._exchanges = exchanges
        self._errors = errors
        self._metrics = metrics
        self._key, self._swept = exchanges.keys.due, exchanges.keys.swept
        self._lease_s = lease_s
        self._sweep_s = sweep_s
        self._gap_s = gap_s
        self._taken_max = taken_max
        # member -> until when no other worker takes it, by our clock; 0: it is not in Redis
        self._kept: dict[bytes, float] = {}
        self._known_to: Session | None = None  # the session that has all of them
        # What was fulfilled since the last sweep, and before it: a session that ended can have lost that.
        self._fulfilled: tuple[list[bytes], list[bytes]] = [], []
        self._done: list[bytes] = []  # what is fulfilled and not written: each write of its own wakes Redis
        self._unwritten: list[bytes] = []  # promises of this turn of the loop
        self._loop = asyncio.get_running_loop()
        self._ahead_s = time.time() - time.monotonic()  # the clock of Redis, less ours
        self._expire_at = 0.0
        self._telling: dict[asyncio.Task[None], bytes | None] = {}  # and the note that it is about
        self._sweeping: asyncio.Task[None] | None = None

    def keep(self, asked: Asked) -> bytes:
        """Note that this request is accepted; `fulfil` gets what this returns, when all is done.

        The note is written two turns of the loop later, together with those of this turn.
        """
        member = _encode(Due.of(asked, "promise"))
        self._lease(member, time.monotonic())
        return member

    def fulfil(self, kept: object) -> None:
        """Note that all is done."""
        assert isinstance(kept, bytes)  # noqa: S101 - what `keep` returned
        until = self._kept.pop(kept, None)
        if not until:
            return
        self._fulfilled[0].append(kept)
        if not self._done:
            self._loop.call_later(FLUSH_S, self._flush)
        self._done.append(kept)

    def hand_over(self) -> int:
        """Tell the sources of what this worker will not do; return how many promises that are.

        This worker does it: nobody else is there when the whole service stops, and a Redis of our own stops with it.
        `close` leaves to another worker what could not be told in time.
        """
        told = set(self._telling.values())
        left = [(member, until) for member, until in self._kept.items() if member not in told]
        for member, until in left:
            self._tell_soon(_decode(member), member if until else None)
            if not until:  # it is not in Redis
                del self._kept[member]
        return len(left)

    def open(self) -> None:
        self._sweeping = asyncio.create_task(self._sweep_forever())

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """End the sweeps, and tell what is left, within this time.  Another worker tells the rest at once."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        self.hand_over()
        if self._telling:
            await asyncio.wait(self._telling, timeout=timeout_s)
        for task in tuple(self._telling):
            task.cancel()  # else two workers could tell the same
        if self._telling:
            await asyncio.wait(self._telling)
        self._flush()
        session = self._find_session()
        if session is not None:
            left, self._kept = self._kept, {}
            if left:
                session.write(self._key, *((b"ZADD", self._key, b"XX", 0, member) for member in left))
            await self._take(session, 0)  # it must have all that was written before it is closed

    # -- sweeps ---------------------------------------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception as exc:  # noqa: BLE001 - the next sweep must come
                log.error("A sweep of promises failed", exc=exc)
            await asyncio.sleep(self._sweep_s)

    async def sweep(self) -> None:
        """Renew the promises of this worker; tell what is due of the others', and what timed out."""
        for due in self._exchanges.sweep():
            self._tell_soon(due, None)
        session = self._find_session()
        if session is None:
            return
        now = time.monotonic()
        if session is not self._known_to:
            self._begin_with(session, now)
        self._flush()
        self._renew(now)
        self._fulfilled = [], self._fulfilled[0]
        room = self._taken_max - len(self._telling)
        await self._take(session, max(room, 0))

    def _begin_with(self, session: Session, now: float) -> None:
        """Write again what Redis can have missed."""
        self._known_to = session
        fulfilled = [*self._fulfilled[0], *self._fulfilled[1]]
        if fulfilled:
            session.write(self._key, (b"ZREM", self._key, *fulfilled))
        for member in list(self._kept):
            self._lease(member, now)

    def _renew(self, now: float) -> None:
        soon = now + self._lease_s / 2
        for member, until in list(self._kept.items()):
            if until < soon:
                self._lease(member, now)

    async def _take(self, session: Session, room: int) -> None:
        """Take what other workers left, and learn the time of Redis."""
        oldest = next(iter(self._kept), b"")
        lease_ms, gap_ms = int(1000 * self._lease_s), int(1000 * self._gap_s)
        arguments = (room, lease_ms, int(1000 * DUE_KEPT_S), oldest, gap_ms)
        try:
            now_ms, members, has_oldest = await session.run(TAKE, [self._key, self._swept], arguments)
        except Unreachable:
            return
        now = time.monotonic()
        self._ahead_s = now_ms / 1000 - now
        if not has_oldest:  # Redis was emptied, or had no room
            for member in list(self._kept):
                self._lease(member, now)
        for member in members:
            if member in self._kept:
                continue
            try:
                due = _decode(member)
            except msgspec.DecodeError:
                session.write(self._key, (b"ZREM", self._key, member))
            else:
                self._tell_soon(due, member)

    def _lease(self, member: bytes, now: float) -> None:
        """Note that nobody else takes it for a while.  It is written in the next turn of the loop."""
        if self._find_session() is None:
            self._kept[member] = 0.0
            return
        self._kept[member] = now + self._lease_s
        if not self._unwritten:
            self._loop.call_soon(self._write_leases)
        self._unwritten.append(member)

    def _write_leases(self) -> None:
        """Write the promises of a turn by one command, and with them what is fulfilled."""
        members, self._unwritten = self._unwritten, []
        session = self._find_session()
        if session is None:
            self._kept.update((member, 0.0) for member in members if member in self._kept)
            return
        now = time.monotonic()
        due = int(1000 * (now + self._lease_s + self._ahead_s))
        listed: list[bytes | int] = []
        for member in members:
            listed += (due, member)
        commands: list[tuple[bytes | str | int, ...]] = [(b"ZADD", self._key, *listed)]
        if self._done:  # behind the promises: one of them can be fulfilled already
            commands.append((b"ZREM", self._key, *self._done))
            self._done = []
        if now >= self._expire_at:
            self._expire_at = now + self._sweep_s
            commands.append((b"PEXPIRE", self._key, int(1000 * DUE_KEPT_S)))
        session.write(self._key, *commands)

    def _flush(self) -> None:
        """Write what is fulfilled.  Without Redis that waits in `_fulfilled` for the next session."""
        done, self._done = self._done, []
        session = self._find_session()
        if session is not None and done:
            session.write(self._key, (b"ZREM", self._key, *done))

    def _tell_soon(self, due: Due, member: bytes | None) -> None:
        if member is not None:
            self._kept[member] = time.monotonic() + self._lease_s
        task = asyncio.create_task(self._tell(due, member))
        self._telling[task] = member
        task.add_done_callback(self._telling.pop)

    async def _tell(self, due: Due, member: bytes | None) -> None:
        """Tell the source of a request that it gets no answer; not if it has one."""
        asked = due.ask_again()
        is_lookup = due.resource == "parties" and due.method == "GET"
        try:
            ended = await self._exchanges.end(asked) if is_lookup else "tell"
        except Unreachable:
            self._kept.pop(member or b"", None)  # it is due again when the lease has ended
            return
        if ended == "tell" or (ended == "unknown" and due.why == "promise"):
            fault = Fault("3303") if due.why == "timeout" else Fault("2003", "try again later")
            self._metrics.add("promises_told_total", why=due.why)
            await self._errors.put_error(asked, due.source, fault, party=asked.party, request_id=due.request_id)
            if is_lookup:
                self._exchanges.note_told(asked)
        if member is not None:
            self.fulfil(member)

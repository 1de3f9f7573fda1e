"""Open inquiries: questions about a party that other schemes have not answered yet.

Inquiry.  A GET /parties that went to all proxies.  It is open until a party comes (found), all proxies have answered
          with an error (told), or its time has ended (telling, then told).  After that it stays for kept_s, so that
          late answers of its proxies are known as such.
Place.    In Redis, where each worker finds it; in the memory of the process while there is no Redis.  A process that
          ends forgets what is in its memory: then an answer of a proxy is forwarded as one that nobody knows.
Change.   The rules are functions of a list: all inquiries of one FSP about one party, oldest first.  Redis keeps the
          list as one value.  A worker reads it, changes it, and writes it if nobody else has; if not, it begins again.
Due.      A sorted set has the time of each inquiry.  A worker claims what is due for lease_s, and removes it after
          the callback.  If the worker is killed in between, another one claims it later.
Keys.     The identifier is in no key: a digest has no colon, and a fixed length.  The list and the sorted set are in
          one slot of a cluster.  Every key expires.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from secrets import token_hex
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from oracle.api.dfsp.asked import Asked, Party
from oracle.store.base import Session
from oracle.store.cache.session import Unreachable

T = TypeVar("T")
State = Literal["open", "found", "telling", "told"]
# What an answer of a proxy is: the first party of an inquiry; a further one; one that comes after our error; or none
# that was asked for.
Answered = Literal["first", "further", "late", "unknown"]
# What an error of a proxy is: the last answer of an inquiry without a party; one of several; or none of ours.
Refused = Literal["last", "one_of_several", "unknown"]

KEPT_S: Final = 60.0  # a proxy that answers later than this is taken for one that was not asked
LEASE_S: Final = 30.0  # longer than a callback takes
OPEN_MAX: Final = 32  # inquiries of one FSP about one party
MEMORY_MAX: Final = 10_000  # lists in the memory of the process
SHARDS: Final = 16  # sorted sets, so that a cluster spreads them
CLAIM_MAX: Final = 100
TRIES: Final = 50  # another worker has changed the list meanwhile

_READ: Final = b"return redis.call('GET', KEYS[1])"
# Write a list if it is still as it was read.  ARGV: list as read, new list, TTL, time until an inquiry is due, the
# number of members that begin to wait, these, the members that wait no more.
_WRITE: Final = b"""
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
local added = 5 + tonumber(ARGV[5])
for i = 6, #ARGV do
    if i <= added then
        redis.call('ZADD', KEYS[2], due, ARGV[i])
    else
        redis.call('ZREM', KEYS[2], ARGV[i])
    end
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""
# Return members that are due; nobody else gets them before the lease is over.  ARGV: lease, how many, TTL.
_CLAIM: Final = b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[1], member) end
if #due > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return due
"""
_DROP: Final = b"return redis.call('ZREM', KEYS[1], ARGV[1])"


class Inquiry(msgspec.Struct, array_like=True):
    """`proxies`: those that have not answered yet; `ends_at`: when it is forgotten, in seconds since 1970."""

    number: str
    asked: Asked
    proxies: list[str]
    ends_at: float
    state: State = "open"

    @property
    def waits(self) -> bool:
        return self.state in {"open", "telling"}


# -- the rules ------------------------------------------------------------------------------------------------------


def _pick(inquiries: Sequence[Inquiry], proxy: str) -> Inquiry | None:
    """Pick the inquiry that an answer of a proxy is about: nothing in the answer names it.

    The oldest one without an error of ours; an older answer is likely to come first.
    """
    asked = [inquiry for inquiry in inquiries if proxy in inquiry.proxies]
    return next((inquiry for inquiry in asked if inquiry.state in {"open", "found"}), asked[0] if asked else None)


def take_answer(inquiries: Sequence[Inquiry], proxy: str) -> Answered:
    """Note a party.  It is an answer to all open inquiries: no error follows to any of them."""
    inquiry = _pick(inquiries, proxy)
    if inquiry is None:
        return "unknown"
    inquiry.proxies.remove(proxy)
    if inquiry.state in {"telling", "told"}:
        return "late"
    is_first = inquiry.state == "open"
    for other in inquiries:
        if other.state == "open":
            other.state = "found"
    return "first" if is_first else "further"


def take_error(inquiries: Sequence[Inquiry], proxy: str, number: str | None = None) -> Refused:
    """Note an error: that of the inquiry with this number, or of the one that `_pick` finds."""
    if number is None:
        inquiry = _pick(inquiries, proxy)
    else:
        inquiry = next((known for known in inquiries if known.number == number and proxy in known.proxies), None)
    if inquiry is None:
        return "unknown"
    inquiry.proxies.remove(proxy)
    if inquiry.state != "open" or inquiry.proxies:
        return "one_of_several"
    inquiry.state = "told"
    return "last"


def begin_telling(inquiries: Sequence[Inquiry], number: str) -> Asked | None:
    """Note that its time has ended; return what was asked, if its FSP must get an error."""
    for inquiry in inquiries:
        if inquiry.number == number and inquiry.waits:
            inquiry.state = "telling"
            return inquiry.asked
    return None


def finish_telling(inquiries: Sequence[Inquiry], number: str) -> None:
    for inquiry in inquiries:
        if inquiry.number == number:
            inquiry.state = "told"


# -- the places -----------------------------------------------------------------------------------------------------

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Inquiry]).decode


def make_key(source: str, party: Party) -> str:
    """Make the name of a list: who asks, about whom."""
    return blake2b(_encode((source, *party)), digest_size=16).hexdigest()


class Place(Protocol):
    """Where inquiries are."""

    async def change(self, key: str, step: Callable[[list[Inquiry]], T]) -> T:
        """Apply a rule to a list.  It can be called more than once.  Raises Unreachable."""

    async def claim(self) -> Sequence[tuple[str, str]]:
        """Return key and number of inquiries that are due."""

    async def drop(self, key: str, number: str) -> None:
        """Let an inquiry be due no more, which is in no list."""


class Memory:
    def __init__(self, timeout_s: float, *, kept_s: float = KEPT_S, now_s: Callable[[], float] = time.time) -> None:
        self._timeout_s, self._kept_s, self._now_s = timeout_s, kept_s, now_s
        self._lists: dict[str, list[Inquiry]] = {}
        self._due: list[tuple[float, str, str]] = []

    async def change(self, key: str, step: Callable[[list[Inquiry]], T]) -> T:
        now = self._now_s()
        inquiries = [inquiry for inquiry in self._lists.get(key, ()) if inquiry.ends_at > now]
        known = {inquiry.number for inquiry in inquiries}
        result = step(inquiries)
        for inquiry in inquiries:
            if inquiry.number not in known:
                heapq.heappush(self._due, (now + self._timeout_s, key, inquiry.number))
        self._lists.pop(key, None)  # the newest key is the last
        if inquiries:
            self._lists[key] = inquiries
            if len(self._lists) > MEMORY_MAX:
                del self._lists[next(iter(self._lists))]
        return result

    async def claim(self) -> Sequence[tuple[str, str]]:
        now = self._now_s()
        due: list[tuple[str, str]] = []
        while self._due and self._due[0][0] <= now and len(due) < CLAIM_MAX:
            due.append(heapq.heappop(self._due)[1:])
        if not self._due:
            for key in [key for key, listed in self._lists.items() if all(each.ends_at <= now for each in listed)]:
                del self._lists[key]
        return due

    async def drop(self, key: str, number: str) -> None:
        """Do nothing: what was claimed is due no more."""


class Redis:
    """All methods raise Unreachable.  `prefix`: of all our keys."""

    def __init__(
        self,
        find_session: Callable[[], Session | None],
        prefix: str,
        timeout_s: float,
        *,
        kept_s: float = KEPT_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self._find_session, self._prefix = find_session, f"{prefix}:inquiries"
        self._due_ms, self._lease_ms = int(timeout_s * 1000), int(lease_s * 1000)
        self._ttl_ms = int((timeout_s + kept_s + lease_s) * 1000)

    @property
    def is_there(self) -> bool:
        session = self._find_session()
        return session is not None and session.alive

    def _session(self) -> Session:
        session = self._find_session()
        if session is None:
            raise Unreachable("")
        return session

    def _name_set(self, shard: int) -> bytes:
        return f"{self._prefix}:{{{shard}}}:due".encode()

    def _name(self, key: str) -> tuple[bytes, bytes]:
        """Return the keys of a list and of the sorted set beside it."""
        shard = int(key[:2], 16) % SHARDS
        return f"{self._prefix}:{{{shard}}}:{key}".encode(), self._name_set(shard)

    async def change(self, key: str, step: Callable[[list[Inquiry]], T]) -> T:
        session = self._session()
        name, due = self._name(key)
        for _ in range(TRIES):
            read = await session.run(_READ, [name], [])
            now = time.time()
            inquiries = [inquiry for inquiry in _read(read) if inquiry.ends_at > now]
            waited = {inquiry.number for inquiry in inquiries if inquiry.waits}
            result = step(inquiries)
            written = _encode(inquiries)
            if written == (read or _EMPTY):
                return result
            waits = {inquiry.number for inquiry in inquiries if inquiry.waits}
            added, removed = sorted(waits - waited), sorted(waited - waits)
            members = [f"{key}:{number}".encode() for number in added + removed]
            values = [read or b"", written, self._ttl_ms, self._due_ms, len(added), *members]
            if await session.run(_WRITE, [name, due], values):
                return result
        raise Unreachable("others change the same value all the time")

    async def claim(self) -> Sequence[tuple[str, str]]:
        session = self._session()
        names = [self._name_set(shard) for shard in range(SHARDS)]
        values = [self._lease_ms, CLAIM_MAX, self._ttl_ms]
        found = await asyncio.gather(*(session.run(_CLAIM, [name], values) for name in names))
        members = [member.decode().partition(":") for part in found for member in part]
        return [(key, number) for key, _, number in members]

    async def drop(self, key: str, number: str) -> None:
        await self._session().run(_DROP, [self._name(key)[1]], [f"{key}:{number}".encode()])


_EMPTY: Final = _encode([])


def _read(value: bytes | None) -> list[Inquiry]:
    """Read a list; what no worker of this version has written is none."""
    if not value:
        return []
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return []


class Inquiries:
    """The inquiries of all workers.  No method raises: while Redis is away, the memory of this process is used."""

    def __init__(
        self,
        find_session: Callable[[], Session | None],
        prefix: str,
        timeout_s: float,
        *,
        kept_s: float = KEPT_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self._kept_s = timeout_s + kept_s
        self._redis = Redis(find_session, prefix, timeout_s, kept_s=kept_s, lease_s=lease_s)
        self._memory = Memory(timeout_s, kept_s=kept_s)

    async def open(self, asked: Asked, party: Party, proxies: Sequence[str]) -> str | None:
        """Open an inquiry of these proxies; return its number, or None if this FSP has too many about this party."""
        inquiry = Inquiry(token_hex(8), asked, list(proxies), time.time() + self._kept_s)

        def add(inquiries: list[Inquiry]) -> bool:
            if sum(known.waits for known in inquiries) >= OPEN_MAX:
                return False
            ended = [known for known in inquiries if not known.waits]
            for known in ended[: max(0, len(inquiries) - OPEN_MAX + 1)]:
                inquiries.remove(known)
            inquiries.append(msgspec.structs.replace(inquiry, proxies=list(proxies)))
            return True

        return inquiry.number if await self._change_one(make_key(asked.source, party), add) else None

    async def _change_one(self, key: str, step: Callable[[list[Inquiry]], T]) -> T:
        if self._redis.is_there:
            with suppress(Unreachable):
                return await self._redis.change(key, step)
        return await self._memory.change(key, step)

    async def _change_known(self, key: str, step: Callable[[list[Inquiry]], T], unknown: T) -> T:
        """Apply a rule in both places: an inquiry can be in both, if Redis went away while it was opened."""
        results = [await self._memory.change(key, step)]
        if self._redis.is_there:
            with suppress(Unreachable):
                results.append(await self._redis.change(key, step))
        return next((result for result in results if result != unknown), unknown)

    async def take_answer(self, payer: str, party: Party, proxy: str) -> Answered:
        step: Callable[[list[Inquiry]], Answered] = partial(take_answer, proxy=proxy)
        return await self._change_known(make_key(payer, party), step, "unknown")

    async def take_error(self, payer: str, party: Party, proxy: str, number: str | None = None) -> Refused:
        step: Callable[[list[Inquiry]], Refused] = partial(take_error, proxy=proxy, number=number)
        return await self._change_known(make_key(payer, party), step, "unknown")

    async def tell_due(self, tell: Callable[[Asked], Awaitable[object]]) -> int:
        """Call `tell` for each open inquiry whose time has ended; return how many there were.

        A slow call holds up no other one.  `tell` never raises.
        """
        told = 0
        for place in (self._memory, *((self._redis,) if self._redis.is_there else ())):
            with suppress(Unreachable):
                due = await place.claim()
                told += sum(await asyncio.gather(*(self._tell(place, key, number, tell) for key, number in due)))
        return told

    async def _tell(self, place: Place, key: str, number: str, tell: Callable[[Asked], Awaitable[object]]) -> bool:
        with suppress(Unreachable):  # then it is due again, for whichever worker has Redis first
            asked: Asked | None = await place.change(key, partial(begin_telling, number=number))
            if asked is None:
                await place.drop(key, number)
                return False
            await tell(asked)
            await place.change(key, partial(finish_telling, number=number))
            return True
        return False

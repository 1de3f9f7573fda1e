"""Once a second: what all processes took, through Redis.  Between two corrections each process spends its share.

State.     A hash in Redis has, for each FSP whose bucket is not full, the time from which it will be full again, in
           ms.  So a bucket fills by itself, and a question moves that time.  The hash also has a field for each
           process, ` <id>`, with the time of its last correction; the field of an FSP does not begin with a space.
Share.     Processes correct at different times, so what the others have taken since is not known.

           more than half is left   each process can spend (tokens - half) / processes.  Nothing is taken for that from
                                    the bucket in Redis before it is spent.
           less than half           each process takes its share, tokens / processes, from the bucket at once, and gives
                                    back at the next correction what it did not spend.

           So the shares are never more than what is left: if all processes spend all of the first kind, and get some
           again before they know of each other, they have taken at most three quarters.  Without the second kind, a
           scan over four processes could take 1.38 buckets.
Exactness. A share can be overdrawn by the last question in it.  So over N processes an FSP gets at most N questions for
           which it had no tokens, and they are owed: the bucket fills from below zero.  When a process starts, the
           others learn of it within a second, and until then it can have one share more.
Clock.     That of Redis counts.  If it goes back, all times of the hash go back with it: else all buckets would be
           empty for as long.  The last correction shows how far.  If it goes forward, buckets fill.
Lost.      A Redis that was emptied, or replaced by an empty one, has no hash, or one with another id.  The first
           process that notices writes what it knew at its last correction.  Only a process that starts at that moment
           can have one share too much.
No Redis.  Each process goes on alone, with the last number of processes: its share fills with its share of the refill.
           The process tells Redis what is missing when that answers again.  That can give an FSP one full bucket too
           much for each such time, and never too little.  A reply that is lost counts twice what that second took, and
           a process that is killed keeps its share: the bucket has less, until it fills.
Trust.     A program that can write to the Redis can empty or fill a bucket, and nothing else.
Observed.  An empty bucket takes no more in `observe`, so that a change to `enforce` begins with no debts.
Unread.    Until the FSPs of the directory have been read once, all FSPs would share the bucket of unknown ones: so
           nothing is refused until then.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from oracle.backoff import pause
from oracle.budgets.buckets import FSPS_MAX, Bucket, Buckets
from oracle.budgets.classes import Classes
from oracle.errors import DirectoryUnavailable
from oracle.store.cache.session import Unreachable
from oracle.telemetry import logs
from oracle.telemetry.metrics import FSP_CLASSES, Metrics

if TYPE_CHECKING:
    import asyncio

    from oracle.store.base import Session
    from oracle.store.lanes import Lane

EVERY_S: Final = 1.0
FOLLOW_S: Final = 10.0
# A process that has not corrected for so long does not count.
ALIVE_S: Final = 3.0
SWEEP_TIMES: Final = 60  # of so many corrections, one removes what is full, and processes that are gone
# A bucket that owes more than this many times its size owes it: a Redis that was away brings the debts of an hour.
DEBT_SIZES: Final = 1.0

log = logs.Log(__name__)

# How much of a bucket is not given to a process before it is taken.
HALF: Final = 0.5
# A process takes part in a bucket that it does not use from here on: so it has its share when only half is left.
NEAR: Final = 0.75

# KEYS: the hash.  ARGV: the field of this process, or '' if it has no share; the time in ms after which a process is
# gone; '1' to remove full buckets and ended processes; '1' if this process ends or has no share; the id of the
# hash that this process knows, or ''.  Then for each FSP: its field, by how many ms its bucket is full later, how many
# ms an empty bucket takes to be full, and how far in the future that can be at most.
# Returns the time in ms, the id of the hash, the number of processes, the hash as it was, and for each FSP its tokens,
# the share that was taken from them, or -1, and in how long it is full: each as ms of refill.  Nothing is done, and the
# id is '', if the hash is not the one that this process knows.
SCRIPT: Final = b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = redis.call('HGET', KEYS[1], '  id') or ''
if ARGV[5] ~= '' and id ~= ARGV[5] then return {now, '', 0, {}, {}} end
local all = redis.call('HGETALL', KEYS[1])
local known, last, processes = {}, now, 0
for i = 1, #all, 2 do
    local at = tonumber(all[i + 1]) or 0
    if at ~= at or at > now + 4 * 86400000 then at = 0 end
    known[all[i]] = at
    if string.find(all[i], '^ [^ ]') and at <= now + 86400000 then last = math.max(last, at) end
end
for i = 1, #all, 2 do
    local field = all[i]
    local at = known[field] - (last - now)
    known[field] = at
    all[i + 1] = string.format('%.3f', at)
    if string.find(field, '^  ') then
        known[field] = nil
    elseif last > now then
        redis.call('HSET', KEYS[1], field, all[i + 1])
    end
    if string.find(field, '^ [^ ]') and field ~= ARGV[1] and at >= now - ARGV[2] then processes = processes + 1 end
end
if ARGV[1] ~= '' then
    if id == '' then
        id = ARGV[1] .. ' ' .. now
        redis.call('HSET', KEYS[1], '  id', id)
    end
    redis.call('HSET', KEYS[1], ARGV[1], now)
    processes = processes + 1
end
local balances = {}
for i = 6, #ARGV, 4 do
    local full = math.min(math.max(known[ARGV[i]] or 0, now) + ARGV[i + 1], now + ARGV[i + 3])
    local size = tonumber(ARGV[i + 2])
    local left, share = size - math.max(full - now, 0), -1
    if left < size / 2 and ARGV[4] ~= '1' then
        share = math.max(left, 0) / math.max(processes, 1)
        full = full + share
    end
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%.3f', full))
    redis.call('PEXPIRE', KEYS[1], 86400000)
    known[ARGV[i]] = full
    balances[#balances + 1] = string.format('%.3f', left)
    balances[#balances + 1] = string.format('%.3f', share)
    balances[#balances + 1] = string.format('%.3f', full - now)
end
if ARGV[1] ~= '' then redis.call('PEXPIRE', KEYS[1], 86400000) end
if ARGV[4] == '1' then redis.call('HDEL', KEYS[1], ARGV[1]) end
if ARGV[3] == '1' then
    for field, at in pairs(known) do
        local gone = now
        if string.sub(field, 1, 1) == ' ' then gone = now - ARGV[2] end
        if at < gone then redis.call('HDEL', KEYS[1], field) end
    end
end
return {now, id, processes, all, balances}
"""

# Redis has lost the hash: write what one process knows of it.  The first one does; what another one knows can be older
# than what has happened since.
# KEYS: the hash.  ARGV: the id of a new hash; then for each FSP its field, and in how many ms its bucket is full.
# Returns the id of the hash, and 1 if this process has written it.
RESTORE: Final = b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSETNX', KEYS[1], '  id', ARGV[1])
local first = redis.call('HSETNX', KEYS[1], '  restored', now)
if first == 1 then
    for i = 2, #ARGV, 2 do
        local at = math.max(tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '') or 0, now + ARGV[i + 1])
        redis.call('HSET', KEYS[1], ARGV[i], string.format('%.3f', at))
    end
end
redis.call('PEXPIRE', KEYS[1], 86400000)
return {redis.call('HGET', KEYS[1], '  id'), first}
"""


class Balance(NamedTuple):
    """What Redis has of one FSP, as ms of its refill."""

    left: float
    share: float  # -1: nothing was taken for this process
    full_in: float


class State(NamedTuple):
    """What Redis has of all buckets."""

    tokens: Mapping[str, float]  # of the FSPs whose bucket is not full
    processes: int
    balances: Sequence[Balance] = ()  # for each FSP that was sent
    hash_id: bytes = b""
    full_in: Mapping[bytes, float] = MappingProxyType({})  # ms, of the FSPs whose bucket is not full


class Correction:
    """Corrects the buckets of one process."""

    def __init__(
        self,
        buckets: Buckets,
        classes: Classes,
        find_session: Callable[[], Session | None],
        metrics: Metrics,
        *,
        prefix: str,
        processes: int,
        enforces: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`processes`: how many share the budgets, as long as Redis has not answered.

        `enforces`: from the first reading of the FSPs on.
        """
        self._buckets = buckets
        self._classes = classes
        self._find_session = find_session
        self._metrics = metrics
        self._key = make_key(prefix)
        self._field = f" {token_hex(6)}".encode()
        self._enforces = enforces
        self._clock = clock
        self._corrected_at = clock()
        self._times = 0
        self._hash_id = b""
        self._full_in: dict[bytes, float] = {}  # ms, of FSPs, at the last correction that Redis took
        self._corrected_at = clock()
        self._uncounted = dict.fromkeys(FSP_CLASSES, 0.0)  # tokens
        self._near: set[Bucket] = set()  # to be corrected although this process may not use them
        self._failing = logs.Condition(log, "The correction of budgets through Redis", good="works")
        self.processes = processes

    def know(self, fsp_ids: Sequence[str]) -> None:
        """Give each of these FSPs a bucket of its own."""
        self._buckets.know(fsp_ids)
        self._buckets.enforces = self._enforces

    async def correct(self, *, ends: bool = False) -> bool:
        """Tell Redis what was taken, and take the new share; False without Redis.

        `ends`: the process ends, and gives its share back.
        """
        buckets = self._buckets.list_buckets()
        # Below zero: what was reserved for a change when the last correction was made has been given back since then.
        taken = {bucket: tokens for bucket in buckets if (tokens := bucket.granted - bucket.left)}
        self._count(buckets)
        sent = [bucket for bucket in buckets if bucket in taken or bucket.lent or bucket in self._near]
        state = await self._exchange(sent, taken, ends)
        now = self._clock()
        passed_s, self._corrected_at = now - self._corrected_at, now
        if state is None:
            for bucket in buckets:
                self._refill_alone(bucket, passed_s)
        else:
            self._count_tokens(taken)
            self._share(buckets, taken, dict(zip(sent, state.balances, strict=True)), state)
        self._buckets.refusing = self._buckets.enforces and any(bucket.left <= 0 for bucket in buckets)
        self._metrics.set("budget_corrected", float(state is not None))
        return state is not None

    async def _exchange(self, sent: Sequence[Bucket], taken: Mapping[Bucket, float], ends: bool) -> State | None:
        session = self._find_session()
        if session is None:
            return None
        self._times += 1
        sweeps = self._times % SWEEP_TIMES == 0
        arguments: list[bytes | int] = []
        for bucket in sent:
            size = self._classes.sizes[bucket.fsp_class]
            later_ms = (taken.get(bucket, 0.0) - bucket.lent) / size.refill_s * 1000
            full_ms = int(size.full_s * 1000)
            most_ms = int(full_ms * (1 + DEBT_SIZES)) if self._enforces else full_ms
            arguments += [bucket.fsp_id.encode(), b"%.3f" % later_ms, full_ms, most_ms]
        begin: list[bytes | int] = [self._field, int(ALIVE_S * 1000), int(sweeps), int(ends)]
        try:
            state = await self._run(session, [*begin, self._hash_id, *arguments])
            if self._hash_id and not state.hash_id:
                await self._restore(session)
                state = await self._run(session, [*begin, self._hash_id, *arguments])
        except Unreachable as exc:
            if session.alive:
                self._failing.now("fails; each process goes on with its share", reason=str(exc))
            return None
        self._failing.now("works")
        if len(state.balances) != len(sent):
            return None
        self._hash_id, self._corrected_at = state.hash_id, self._clock()
        self._full_in = dict(state.full_in)
        self._full_in.update(
            (bucket.fsp_id.encode(), balance.full_in) for bucket, balance in zip(sent, state.balances, strict=True)
        )
        return state

    async def _run(self, session: Session, arguments: Sequence[bytes | int]) -> State:
        return read_state(await session.run(SCRIPT, [self._key], arguments), self._classes)

    async def _restore(self, session: Session) -> None:
        """Write again what Redis has lost, unless another process has.  Raises Unreachable."""
        passed_ms = (self._clock() - self._corrected_at) * 1000
        arguments: list[bytes | int] = [self._field + b" restored"]
        for field, full_in in self._full_in.items():
            if full_in > passed_ms:
                arguments += [field, b"%.3f" % (full_in - passed_ms)]
        reply = await session.run(RESTORE, [self._key], arguments)
        if isinstance(reply, list) and len(reply) == len(("id", "first")) and isinstance(reply[0], bytes):
            self._hash_id = reply[0]
            if reply[1]:
                log.warning("Redis had lost the budgets; this process has written again what it knew of them")

    def _share(
        self,
        buckets: Sequence[Bucket],
        taken: Mapping[Bucket, float],
        balances: Mapping[Bucket, Balance],
        state: State,
    ) -> None:
        self.processes = max(1, state.processes)
        self._near.clear()
        for bucket in buckets:
            size = self._classes.sizes[bucket.fsp_class]
            left, share = state.tokens.get(bucket.fsp_id, float(size.tokens)), -1.0
            if bucket in balances:
                left, share = (ms / 1000 * size.refill_s for ms in balances[bucket][:2])
            if left < NEAR * size.tokens:
                self._near.add(bucket)
            since = bucket.granted - bucket.left - taken.get(bucket, 0.0)  # while Redis answered: charged the next time
            bucket.lent = max(share, 0.0)
            if share < 0:
                kept = HALF * size.tokens if self.processes > 1 else 0.0
                share = max(left - kept, 0.0) / self.processes
            bucket.granted = share
            bucket.left = bucket.granted - since

    def _refill_alone(self, bucket: Bucket, passed_s: float) -> None:
        size = self._classes.sizes[bucket.fsp_class]
        gain = min(size.refill_s * passed_s, size.tokens - bucket.left * self.processes) / self.processes
        bucket.left += max(gain, 0.0)

    def _count_tokens(self, taken: Mapping[Bucket, float]) -> None:
        """Count the tokens that Redis has heard of.  A counter only grows, so what is given back lowers the next."""
        for bucket, tokens in taken.items():
            self._uncounted[bucket.fsp_class] += tokens
        for fsp_class, tokens in self._uncounted.items():
            if tokens > 0:
                self._metrics.add("budget_tokens_total", tokens, fsp_class=fsp_class)
                self._uncounted[fsp_class] = 0.0

    def _count(self, buckets: Sequence[Bucket]) -> None:
        over, empty = Counter[str](), dict.fromkeys(FSP_CLASSES, 0)
        for bucket in buckets:
            if bucket.left <= 0:
                empty[bucket.fsp_class] += 1
            if bucket.over:
                over[bucket.fsp_class] += bucket.over
                bucket.over = 0
        for fsp_class, questions in over.items():
            self._metrics.add("budget_exceeded_total", questions, fsp_class=fsp_class)
        for fsp_class, fsps in empty.items():
            self._metrics.set("budget_empty", float(fsps), fsp_class=fsp_class)


def make_key(prefix: str) -> bytes:
    return f"{prefix}:{{budgets}}".encode()


async def read_tokens(session: Session, prefix: str, classes: Classes) -> State:
    """Read the tokens of all FSPs for a process that answers no lookups.  Raises Unreachable."""
    return read_state(await session.run(SCRIPT, [make_key(prefix)], [b"", int(ALIVE_S * 1000), 0, 0, b""]), classes)


async def charge(session: Session, prefix: str, classes: Classes, tokens: Mapping[str, float]) -> None:
    """Take these tokens of FSPs for a process that has no share, and no more than there are.  Raises Unreachable."""
    arguments: list[bytes | int] = [b"", int(ALIVE_S * 1000), 0, 1, b""]
    for fsp_id, taken in tokens.items():
        size = classes.size_of(fsp_id)
        full_ms = int(size.full_s * 1000)
        arguments += [fsp_id.encode(), b"%.3f" % (taken / size.refill_s * 1000), full_ms, full_ms]
    await session.run(SCRIPT, [make_key(prefix)], arguments)


def read_state(reply: object, classes: Classes) -> State:
    """Read the reply of the script.  A value that another program wrote counts as a full bucket."""
    if not isinstance(reply, list) or len(reply) != len(("now", "id", "processes", "all", "balances")):
        return State({}, 0)
    now, hash_id, processes, fields, balances = reply
    tokens: dict[str, float] = {}
    full_in: dict[bytes, float] = {}
    for field, value in zip(fields[::2], fields[1::2], strict=True):
        later_ms = float(value) - now
        if later_ms <= 0 or field.startswith(b" "):
            continue
        fsp_id = field.decode("latin-1")
        size = classes.size_of(fsp_id)
        tokens[fsp_id] = max(size.tokens - later_ms / 1000 * size.refill_s, -DEBT_SIZES * size.tokens)
        full_in[field] = later_ms
    return State(
        tokens,
        processes,
        [Balance(*map(float, balances[at : at + 3])) for at in range(0, len(balances), 3)],
        hash_id,
        full_in,
    )


async def follow_fsps(lane: Lane, correction: Correction, stop: asyncio.Event) -> None:
    """Learn new FSPs until `stop` is set.  While PostgreSQL is away, the known ones stay."""
    while not await pause(FOLLOW_S, stop):
        await learn_fsps(lane, correction)


async def learn_fsps(lane: Lane, correction: Correction) -> None:
    try:
        correction.know([row["fsp_id"] for row in await lane.rows("budget_fsps", FSPS_MAX)])
    except DirectoryUnavailable:
        return
    except Exception as exc:  # noqa: BLE001 - the next try can succeed
        log.error("The FSPs that have a budget could not be read; those known stay", exc=exc)

"""Compares the directory with the replay of its events: what `oracle audit verify --directory` does.

Proves.    Every entry, FSP, route, policy, credential, secret, registered oracle,
           endpoint and JWS key is there because of an event, and
           is as the last event about it left it; and nothing is gone that no event removed.  `verify` proves that the
           events are those that were sealed.
Replay.    Aliases by `store/history`, which also answers questions about the past.  Of everything else the event with
           the highest number holds the whole row.  Events of secrets do not hold the hash: a secret that was exchanged
           in its place, with the same times, is not found.
Baseline.  A policy without an event is `unique`, as the first migration made it.  A column that is younger than an
           event has the value that its migration gave it.  Secrets that are older than their events got one by
           migration 0014.
Order.     Both sides come from one snapshot, ordered by key, so they are merged like two sorted files.  The memory is
           that of one key.  PostgreSQL walks indexes or sorts on its disk, as it finds cheaper.
Cost.      docs/audit.md.  A long snapshot keeps vacuum from removing deleted rows, and takes no lock that a change
           waits for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf
from operator import itemgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar

import asyncpg
import msgspec

from oracle.store.history import EntryVersion, Situation, decode_json
from oracle.store.queries import QUERIES
from oracle.verifier.verdict import Finding

CHUNK: Final = 1_000
ENTITIES: Final = ("fsp", "route", "policy", "credential", "secret", "oracle", "endpoints", "jws-key")
KINDS: Final = ("table", *ENTITIES, "alias")

# The whole directory at once: PostgreSQL chooses, a walk or a sort.  Overrides those of log.CONNECTION_SETTINGS.
WHOLE: Final = {
    "enable_seqscan": "on",
    "enable_bitmapscan": "on",
    "enable_sort": "on",
    "work_mem": "64MB",
}

# What an event lacks because its column is younger.  A route without a kind answered its whole party id type.
_LATER: Final[dict[str, dict[str, Any]]] = {
    "fsp": {
        "locale_name": None, "dfsp_type": None, "additional_info": None, "kinds": None, "currencies": None,
        "use_cases": [], "contact": None, "two_persons": False, "logo_data_type": None, "logo_sha256": None,
        "version": 1, "default_country": None, "hub_changes": True,
    },
    "route": {"version": 1},
    "credential": {"person": None},
}  # fmt: skip
# Columns that got the time of their migration, in rows whose events are older.
_TIMED_LATER: Final = {"route": ("created_at", "changed_at")}
_TIMES: Final = ("_at", "_from", "_to")
# What a value causes that no trigger wrote: other members, other types, a number or a depth that no decoder takes.
_UNREADABLE: Final = (KeyError, TypeError, AttributeError, ValueError, msgspec.MsgspecError, RecursionError)

_K = TypeVar("_K")

_encode = msgspec.json.Encoder(order="sorted").encode


class Key(NamedTuple):
    """Where the aliases of one identifier are."""

    identifier: str
    party_id_type: str


class Difference(NamedTuple):
    """One thing of the directory that is not as its events left it.  `place` and `text` hold identifiers."""

    entity: str
    place: object
    text: str

    @property
    def finding(self) -> Finding:
        return Finding(self.entity, self.text)


@asynccontextmanager
async def open_snapshot(connection: asyncpg.Connection, settings: dict[str, str] | None = None) -> AsyncIterator[None]:
    """Begin one snapshot for every query inside, with settings that end with it."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, value in (settings or {}).items():
            await connection.execute(f"SET LOCAL {name} = '{value}'")
        yield


class Comparison:
    """Compares in the snapshot of the caller (`open_snapshot`).  `rows` counts what it has read."""

    def __init__(self, connection: asyncpg.Connection, *, chunk: int = CHUNK) -> None:
        """`chunk`: how many rows are fetched at once."""
        self._connection, self._chunk = connection, chunk
        self.rows: Counter[str] = Counter()  # "events" and "directory"
        self.next: Key | None = None

    async def find(self) -> AsyncGenerator[Difference]:
        """Find every difference of the whole directory."""
        async for difference in self.find_altered():
            yield difference
        for entity in ENTITIES:
            async for difference in self.find_of(entity):
                yield difference
        async for difference in self.find_aliases():
            yield difference

    async def find_altered(self) -> AsyncGenerator[Difference]:
        """Find tables that show others something else, or whose changes write no event."""
        for place, text in await self._connection.fetch(QUERIES["directory_altered_tables"]):
            yield Difference("table", place, f"{place} {text}")

    # -- aliases --------------------------------------------------------------------------------------------------

    async def find_aliases(self, begin: Key | None = None, rows_max: float = inf) -> AsyncGenerator[Difference]:
        """Compare the aliases from a key on, until rows_max rows are read.  `next` is then the key to go on with."""
        types = [row[0] for row in await self._connection.fetch(QUERIES["party_id_types"])]
        ranks = {party_id_type: rank for rank, party_id_type in enumerate(types)}

        def find_key(row: Any) -> tuple[str, int]:
            # Code points sort as the bytes of UTF-8 do, which is the order of collation "C".
            return row[0], ranks[row[1]]

        start = begin or Key("", types[0])
        events = await self._open(find_key, "directory_alias_events", *start)
        defaults = await self._open(find_key, "directory_default_entries", *start)
        further = await self._open(find_key, "directory_further_entries", *start)
        sides = events, defaults, further
        while True:
            key = min([side.key for side in sides if side.key is not None], default=None)
            if key is None or events.count + defaults.count + further.count >= rows_max:
                self.next = None if key is None else Key(key[0], types[key[1]])
                break
            identifier, party_id_type = key[0], types[key[1]]
            situation = Situation(party_id_type, identifier)
            unreadable = None
            while events.key == key:
                event = await events.take()
                try:
                    situation.apply(event)
                except _UNREADABLE:
                    unreadable = event
            held = []
            for side in (defaults, further):
                while side.key == key:
                    held.append(await side.take())
            if unreadable is not None:
                text = f"{party_id_type} {identifier}: event {unreadable['event_id']} does not describe an entry"
                yield Difference("alias", key, text)
                continue
            for text in _compare_entries(situation, held):
                yield Difference("alias", key, f"{party_id_type} {identifier}{text}")
        self._count(*sides)

    async def _open(self, find_key: Callable[[Any], _K], query: str, *arguments: str) -> _Side[_K]:
        side = _Side(await self._connection.cursor(QUERIES[query], *arguments), find_key, self._chunk)
        await side.fetch()
        return side

    def _count(self, events: _Side[Any], *directory: _Side[Any]) -> None:
        self.rows["events"] += events.count
        self.rows["directory"] += sum(side.count for side in directory)

    # -- everything else ------------------------------------------------------------------------------------------

    async def find_of(self, entity: str) -> AsyncGenerator[Difference]:
        """Compare the rows of one entity of ENTITIES."""
        events = await self._open(itemgetter(0), "directory_events_of", entity)
        rows = await self._open(itemgetter(0), "directory_rows", entity)
        while True:
            key = min([side.key for side in (events, rows) if side.key is not None], default=None)
            if key is None:
                break
            replay = _Replay(entity)
            while events.key == key:
                replay.apply(await events.take())
            held = []
            while rows.key == key:
                row = _read_row((await rows.take())["state"])
                held.append(row if isinstance(row, dict) else {"row": row})
            for text in replay.compare(held):
                yield Difference(entity, key, f"{key}{text}")
        self._count(events, rows)


class _Side(Generic[_K]):
    """Reads the rows of a query, which are in the order of their keys."""

    def __init__(self, cursor: Any, find_key: Callable[[Any], _K], chunk: int) -> None:
        self._cursor, self._find_key, self._chunk = cursor, find_key, chunk
        self._rows: list[Any] = []
        self._at = 0
        self.count = 0
        self.key: _K | None = None  # of the row that `take` returns next; None at the end

    async def fetch(self) -> None:
        self._rows, self._at = await self._cursor.fetch(self._chunk), 0
        self.key = self._find_key(self._rows[0]) if self._rows else None

    async def take(self) -> Any:
        row = self._rows[self._at]
        self._at += 1
        self.count += 1
        if self._at < len(self._rows):
            self.key = self._find_key(self._rows[self._at])
        else:
            await self.fetch()
        return row


def _compare_entries(situation: Situation, held: list[Any]) -> list[str]:
    """Compare the entries of one key with those of its replay; return one text for each difference."""
    try:
        versions = situation.list_entries()
    except _UNREADABLE:
        return [": its events do not describe entries"]
    expected = {(each.entry.sub_id, None if each.is_default else each.entry.currency): each for each in versions}
    texts = []
    for row in held:
        slot = row["sub_id"], None if row["is_default"] else row["currency"]
        version = expected.pop(slot, None)
        has = row["fsp_id"], row["currency"], row["is_hint"]
        if version is None:
            last = situation.find_last_event(row["sub_id"])
            reason = (
                "no event registered it" if last is None else f"its events have nothing (the last is {_number(last)})"
            )
            texts.append(f"{_name_slot(slot)}: the directory has {_describe(*has)}, but {reason}")
        elif has != _state_of(version):
            past = f"{_describe(*_state_of(version))} ({_number(version.event)})"
            texts.append(f"{_name_slot(slot)}: the directory has {_describe(*has)}, but its events have {past}")
    for slot, version in expected.items():
        past = f"{_describe(*_state_of(version))} ({_number(version.event)})"
        texts.append(f"{_name_slot(slot)}: the directory has nothing, but its events have {past}")
    return sorted(texts)


def _state_of(version: EntryVersion) -> tuple[str, str, bool]:
    return version.entry.fsp_id, version.entry.currency, version.is_hint


def _name_slot(slot: tuple[str, str | None]) -> str:
    sub_id, currency = slot
    return (f", SubId {sub_id}" if sub_id else "") + ("" if currency is None else f", further currency {currency}")


def _describe(fsp_id: str, currency: str, is_hint: bool) -> str:
    return fsp_id + (f" for {currency}" if currency else "") + (" as a hint" if is_hint else "")


def _number(event: Any) -> str:
    return f"event {event['event_id']}"


class _Replay:
    """The rows that the events about one place leave: one at most, or the secrets of a credential."""

    def __init__(self, entity: str) -> None:
        self._entity = entity
        self._rows: list[tuple[dict[str, Any], int | None]] = []  # and the event that wrote it
        if entity == "policy":
            self._rows.append(({"policy": "unique"}, None))
        self._unreadable: int | None = None

    def apply(self, event: Any) -> None:
        """Apply the next event, in the order of their numbers."""
        before, after = _read_row(event["before"]), _read_row(event["after"])
        if not isinstance(after or before, dict):
            self._unreadable = event["event_id"]
        elif self._entity != "secret":
            self._rows = [] if after is None else [(after, event["event_id"])]
        else:
            known = [row for row, _ in self._rows]
            if before in known:
                del self._rows[known.index(before)]
            if after is not None:
                self._rows.append((after, event["event_id"]))

    def compare(self, held: list[dict[str, Any]]) -> list[str]:
        if self._unreadable is not None:
            return [f": event {self._unreadable} does not describe a {self._entity}"]
        texts, rows = [], list(self._rows)
        for row in held:
            same = next((each for each in rows if not self._list_changed(row, each[0])), None)
            if same is not None:
                rows.remove(same)
            elif self._entity == "secret" or not rows:
                texts.append(f"{self._name(row)}: it is in the directory, but no event made it")
            else:
                texts += self._describe_changed(row, *rows.pop())
        for past, event_id in rows:
            texts.append(f"{self._name(past)}: it is not in the directory, but event {event_id} made it")
        return texts

    def _name(self, row: dict[str, Any]) -> str:
        if self._entity == "secret":
            ends = row.get("expires_at")
            return f", made at {row.get('created_at')}, ends {'never' if ends == 'infinity' else ends}"
        return f", prefix {row.get('prefix')}" if self._entity == "route" else ""

    def _describe_changed(self, row: dict[str, Any], past: dict[str, Any], event_id: int | None) -> list[str]:
        source = "no event changed it" if event_id is None else f"event {event_id}"
        complete = self._complete(past, row)
        return [
            f"{self._name(row)}, {name}: the directory has {_format(row.get(name))}, but its events have"
            f" {_format(complete.get(name))} ({source})"
            for name in self._list_changed(row, past)
        ]

    def _list_changed(self, row: dict[str, Any], past: dict[str, Any]) -> list[str]:
        """List the columns that differ."""
        complete = self._complete(past, row)
        names = sorted(row.keys() | complete.keys())
        return [name for name in names if row.get(name) != complete.get(name)]

    def _complete(self, past: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        later = {name: row.get(name) for name in _TIMED_LATER.get(self._entity, ())}
        if self._entity == "route":
            later["kind"] = past.get("party_id_type")
        return {**later, **_LATER.get(self._entity, {}), **past}


def _read_row(text: str | None) -> Any:
    """Read a row as jsonb wrote it, with its times in UTC: an event has the time zone of the session that wrote it."""
    try:
        row = decode_json(text)
    except _UNREADABLE:
        return "a value that no decoder takes"
    if not isinstance(row, dict):
        return row
    return {name: _read_time(value) if name.endswith(_TIMES) else value for name, value in row.items()}


def _read_time(value: Any) -> Any:
    try:
        return datetime.fromisoformat(value).astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (TypeError, ValueError, OverflowError):
        return value  # infinity, or a year that no calendar here has


def _format(value: Any) -> str:
    return value if isinstance(value, str) else "nothing" if value is None else _encode(value).decode()

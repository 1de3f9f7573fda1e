"""The interfaces between the parts of the store, and the values that pass between them.

The lookup path has `Reads` only, so it cannot write.  Changes of the directory go through `changes.Changes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from oracle.identifiers import PartyKey

CopyKey = tuple[str, str]  # (party_id_type, identifier): what one copy in the cache is about
Copy = tuple[bytes, bytes, bytes, int]  # the key in Redis, the token it must hold, the value to store, its TTL in ms
Lineage = tuple[str, int]  # (system identifier, timeline): which PostgreSQL it is

# Receives the answer (see `cache.values`) or the reason why there is none; and whether it came from the cache.
AnswerCallback = Callable[[bytes | Exception, bool], None]


# A request id of ours that begins so names the file that made a change.  No caller can give one.
BATCH_PREFIX: Final = "batch:"


class Reads(Protocol):
    """Reads the truth for lookups."""

    async def answers(self, keys: Sequence[CopyKey]) -> list[bytes]:
        """Return one answer (see `cache.values`) for each key.  Raises DirectoryUnavailable."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a change: who makes it, and why.  The history records it with every row that the change touched."""

    channel: str  # hub, account-lookup, admin, import, self-heal, seed
    actor: str
    role: str = ""
    fsp_id: str = ""  # the FSP that acts for itself and can touch its own entries only; '' for an operator
    reason: str = ""
    request_id: str = ""
    trace_id: str = ""


class Registration(msgspec.Struct, frozen=True, gc=False):  # of a bulk there are thousands
    key: PartyKey
    currency: str = ""


class OwnRegistration(msgspec.Struct, frozen=True):
    """A registration, and the FSP that asks for it (`context.fsp_id`): its own entry."""

    context: Context
    registration: Registration


class Generation(msgspec.Struct, frozen=True):
    """Names the copies that may be believed, as stored in PostgreSQL (rules 4 and 6 of `coherence`)."""

    directory_id: str
    generation: int
    run_ids: tuple[str, ...]
    run_ids_age_s: float
    routes_version: int
    # The server that answered (rule 11), and its time of answering in seconds since 1970 (rule 12).
    system_identifier: str = ""
    timeline: int = 0
    now_s: float = 0.0

    @property
    def lineage(self) -> Lineage:
        return self.system_identifier, self.timeline


class Confirmed(msgspec.Struct, frozen=True):
    """What a process last read of the generation.  A process that starts while PostgreSQL is away begins with it."""

    row: Generation
    at: float  # on the monotonic clock, which all processes of a machine share: when the question was asked


class Generations(Protocol):
    """Reads and moves the generation, which every process asks for several times a second.

    All methods raise DirectoryUnavailable.  `uses_cache`: set by a process while it has a session to Redis; others can
    see it soon after (`Changes._wait_for_turn`).
    """

    uses_cache: bool

    async def ask(self) -> Generation: ...
    async def bump(self) -> Generation: ...
    async def raise_above(self, generation: int, routes_version: int) -> Generation:
        """Move the generation and the version of the routes above these: the database has lost those."""

    async def open_for(self, run_ids: tuple[str, ...]) -> Generation:
        """Name the Redis servers whose copies count; the generation moves if they were not named already."""

    def learn(self, lineage: Lineage) -> None:
        """Refuse servers of a lower timeline from now on: another process has seen this one (rule 11)."""


class Session(Protocol):
    """One connection to Redis, which never reconnects (rule 7 of `coherence`)."""

    run_ids: tuple[str, ...]
    lost: Callable[[], None]

    @property
    def refusal(self) -> str:
        """Why the session ended, as far as this is known."""

    @property
    def alive(self) -> bool: ...

    def mget(self, keys: Sequence[bytes], done: Callable[[list[bytes | None] | None], None]) -> None:
        """Read the values; `done` gets None when the session broke."""

    def mget_marked(
        self,
        key: bytes,
        markers: Sequence[bytes],
        keys: Sequence[bytes],
        done: Callable[[list[bytes | None] | None], None],
    ) -> None:
        """Do as `mget`, if the marker under `key` is one of these where the values are; else `done` gets None."""

    def raise_marker(
        self, key: bytes, marker: bytes, replaced: Sequence[bytes], done: Callable[[list[bytes] | None], None]
    ) -> None:
        """Set the marker unless it is higher; `done` gets its values, or None when that is not certain.

        `replaced`: values that do not stay, however high they are.
        """

    def lease(self, keys: Sequence[bytes], token: bytes, done: Callable[[list[bool]], None]) -> None:
        """Set the token on each key that is absent; `done` gets on which of them it is."""

    def fill(self, copies: Sequence[Copy], lost: Callable[[int], None]) -> None:
        """Store each value whose key still holds its token; `lost` gets how many are not stored.  Nobody waits."""

    def unlink(self, keys: Sequence[bytes]) -> None:
        """Remove copies of an older generation.  Nobody waits for it."""

    def remove(self, key: bytes, value: bytes) -> None:
        """Remove a value that must not be believed, if it is still there.  Nobody waits for it."""

    def shorten(self, key: bytes, ttl_ms: int, done: Callable[[], None]) -> None:
        """End a fence or token within this time, and a value of another type at once; `done` if one stayed longer."""

    async def fence(self, keys: Sequence[bytes], ttl_ms: int) -> bool:
        """Set a fence on every key; return False when that is not certain for all of them."""

    async def find_unfenced(self, keys: Sequence[bytes]) -> list[bytes] | None:
        """Return the keys without a fence; None when the session broke."""

    async def run(self, script: bytes, keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> Any:
        """Run a Lua script on these keys, which are all of one slot; return its reply.

        Raises Unreachable, also if the server refuses the script.  The lookup path does not use it.
        """

    async def ask(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> list[Any]:
        """Send commands on this key; return their replies.

        Raises Unreachable, also if the server refuses one of them.  The lookup path does not use it.
        """

    def write(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> None:
        """Send commands on this key.  Nobody waits for them.  The lookup path does not use it."""

    def ping(self) -> None:
        """Ask for a reply; without one in time the session ends."""

    def close(self) -> None: ...

"""What the store promises, and the words both sides use.

The lookup path knows `Reads` alone, so it cannot write; what changes the directory goes through `Directory`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from oracle.identifiers import PartyKey

CopyKey = tuple[str, str]  # (party_id_type, identifier): what one copy in the cache is about

# The answer (see values) or why there is none; and whether it came from the cache.
Answered = Callable[[bytes | Exception, bool], None]


class Reads(Protocol):
    """The read side: what one batch of lookups asks of the truth."""

    async def answers(self, keys: Sequence[tuple[str, str]]) -> list[bytes]:
        """One answer (see values) for each `(party_id_type, identifier)`.  Raises DirectoryUnavailable."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a change says of itself; it stands in the history with every row it touched."""

    channel: str  # hub, admin, import, self-heal, seed
    actor: str
    role: str = ""
    fsp_id: str = ""  # the FSP that acts for itself and may touch its own entries only; '' an operator
    reason: str = ""
    request_id: str = ""
    trace_id: str = ""


class Registration(msgspec.Struct, frozen=True):
    key: PartyKey
    currency: str = ""


class Generation(msgspec.Struct, frozen=True):
    """What copies may be believed, as PostgreSQL says it (rules 4 and 6 of `coherence`)."""

    directory_id: str
    generation: int
    run_ids: tuple[str, ...]
    run_ids_age_s: float
    routes_version: int


class Generations(Protocol):
    """The one row that every process asks for several times a second.  All raise DirectoryUnavailable."""

    async def ask(self) -> Generation: ...
    async def bump(self) -> Generation: ...
    async def raise_above(self, generation: int) -> Generation: ...
    async def open_for(self, run_ids: tuple[str, ...]) -> Generation:
        """These servers count from now on; the generation moves if they are news."""


class Session(Protocol):
    """One connection to Redis, for as long as it lasts (rule 7 of `coherence`)."""

    run_ids: tuple[str, ...]
    lost: Callable[[], None]

    @property
    def alive(self) -> bool: ...

    def mget(self, keys: Sequence[bytes], done: Callable[[list[bytes | None] | None], None]) -> None:
        """The values; None when the session broke."""

    def lease(self, keys: Sequence[bytes], tokens: Sequence[bytes], done: Callable[[list[bool]], None]) -> None:
        """Take the right to fill each key that is absent; which of them are ours."""

    def fill(self, key: bytes, token: bytes, value: bytes, ttl_ms: int, lost: Callable[[], None]) -> None:
        """Store the value if the key still holds the token; `lost` is called if not.  Nobody waits for it."""

    async def fence(self, keys: Sequence[bytes], ttl_ms: int) -> bool:
        """Set a fence on every key; False when that is not certain for all of them."""

    async def unfenced(self, keys: Sequence[bytes]) -> list[bytes] | None:
        """The keys without a fence; None when the session broke."""

    def ping(self) -> None:
        """Ask for a sign of life; without one in time the session ends."""

    def close(self) -> None: ...

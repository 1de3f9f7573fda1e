"""The FSPs of the directory as the account lookup service needs them: their status, endpoints and JWS keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from oracle.store.lanes import Lane
    from oracle.store.rows import SchemeStateRow


class DirectoryFsp(msgspec.Struct, frozen=True, gc=False):
    fsp_id: str
    status: str
    base_url: str | None
    urls: str  # JSON: the URL of each endpoint type
    is_proxy: bool


class DirectoryKey(msgspec.Struct, frozen=True, gc=False):
    fsp_id: str
    pem: str


class DirectoryParticipants(msgspec.Struct, frozen=True):
    fsps: list[DirectoryFsp]
    keys: list[DirectoryKey]  # the newest of an FSP first


async def fetch_state(lane: Lane) -> SchemeStateRow:
    """Fetch what changes with each change of the participants.  Raises DirectoryUnavailable."""
    state: SchemeStateRow = await lane.row("scheme_state")
    return state


async def fetch_participants(lane: Lane) -> DirectoryParticipants:
    """Fetch all FSPs and keys.  Raises DirectoryUnavailable."""
    fsps = [DirectoryFsp(**row) for row in await lane.rows("scheme_fsps")]
    return DirectoryParticipants(fsps, [DirectoryKey(**row) for row in await lane.rows("scheme_jws_keys")])

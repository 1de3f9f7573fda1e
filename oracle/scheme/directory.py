"""The participants of a scheme as our own directory has them: its FSPs, their endpoints and their JWS keys.

Follow.    A worker asks PostgreSQL every second whether anything has changed, and reads all of it again if so.  What it
           has read answers without a turn of the event loop.  While PostgreSQL is away, the last answers count.
Status.    A suspended or closed FSP is not found, as no lookup is answered with it.  A suspended one keeps its
           endpoints, so that it still gets answers and errors for what it asked before.  A closed one has none.
Endpoints. The URL of an endpoint type comes before the base URL of the FSP.
Keys.      A central ledger has no keys: they come from here, whatever the source of the participants is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, NamedTuple

import msgspec

from oracle.backoff import pause
from oracle.calls import Caller
from oracle.errors import DirectoryUnavailable
from oracle.scheme.base import PATHS, LedgerUnavailable, Participant
from oracle.scheme.ledger import FORGET_EVERY_S, LedgerScheme
from oracle.scheme.throttle import Throttle
from oracle.settings import Settings
from oracle.store.participants import DirectoryFsp, DirectoryParticipants, fetch_participants, fetch_state
from oracle.store.postgres import Postgres
from oracle.store.rows import SchemeStateRow
from oracle.telemetry import logs

FOLLOW_S: Final = 1.0
UNAVAILABLE: Final = "The directory is not available; try again later"

log = logs.Log(__name__)


class _Fsp(NamedTuple):
    participant: Participant | None  # None: suspended or closed
    base_url: str | None
    urls: dict[str, str]


class DirectoryScheme:
    """Implements base.Scheme."""

    def __init__(
        self,
        postgres: Postgres,
        *,
        known: DirectoryParticipants | None = None,
        keep: Callable[[DirectoryParticipants], None] = lambda _participants: None,
        every_s: float = FOLLOW_S,
    ) -> None:
        """`known`: what an earlier process read, for a start while PostgreSQL is away.  `keep` gets what is new."""
        self._postgres = postgres
        self._keep = keep
        self._every_s = every_s
        self._state: SchemeStateRow | None = None
        self._fsps: dict[str, _Fsp] | None = None
        self._keys: dict[str, list[str]] = {}
        self._proxies: list[str] = []
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling = Throttle(lambda: self._begin(self._tell()), FORGET_EVERY_S)
        self._failing = logs.Condition(log, "The participants in the directory", good="are read")
        self.on_forgotten: Callable[[], None] = lambda: None  # called when any process forgets the endpoints
        if known is not None:
            self._use(known)

    async def open(self) -> None:
        """Read everything once, if PostgreSQL answers, and follow its changes from now on."""
        await self._read()
        self._begin(self._follow())

    async def close(self) -> None:
        self._stop.set()
        self._telling.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def recall_participant(self, fsp_id: str) -> Participant | None:
        fsp = self._fsps.get(fsp_id) if self._fsps else None
        return None if fsp is None else fsp.participant

    def recall_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        fsp = self._fsps.get(fsp_id) if self._fsps else None
        if fsp is None:
            return None
        url = fsp.urls.get(endpoint_type)
        if url is not None:
            return url
        path = PATHS.get(endpoint_type)
        return None if fsp.base_url is None or path is None else fsp.base_url + path

    async def find_participant(self, fsp_id: str) -> Participant | None:
        self._require()
        return self.recall_participant(fsp_id)

    async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        self._require()
        return self.recall_endpoint(fsp_id, endpoint_type)

    async def list_proxies(self) -> Sequence[str]:
        self._require()
        return self._proxies

    async def find_jws_keys(self, fsp_id: str) -> Sequence[str]:
        """Find the public keys of an FSP that is not closed, in PEM, the newest first.  Raises LedgerUnavailable."""
        self._require()
        return self._keys.get(fsp_id, ())

    def forget_endpoints(self) -> None:
        """Let all processes read the endpoints of a central ledger again within seconds.

        Those of the directory are followed anyway.  Many calls in a second count as two.
        """
        self._telling.ask()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        try:
            await self._postgres.note("endpoint_cache_forget")
        except DirectoryUnavailable:
            log.warning("Other processes do not forget the endpoints: PostgreSQL is away")

    def _require(self) -> None:
        if self._fsps is None:
            raise LedgerUnavailable(UNAVAILABLE)

    async def _follow(self) -> None:
        while not await pause(self._every_s, self._stop):
            await self._read()

    async def _read(self) -> None:
        """Read what has changed.  What cannot be read stays as it is."""
        reads = self._postgres.reads
        try:
            state = await fetch_state(reads)
            if self._state is None or state["participants"] != self._state["participants"]:
                participants = await fetch_participants(reads)  # after the state: a change in between is read again
                self._use(participants)
                self._keep(participants)
        except DirectoryUnavailable:
            return
        except Exception as exc:  # noqa: BLE001 - the next try can succeed
            self._failing.now("cannot be read; the last ones count", exc=exc)
            return
        self._failing.now("are read")
        told = self._state is not None and state["forgotten"] != self._state["forgotten"]
        self._state = state
        if told:
            self.on_forgotten()

    def _use(self, participants: DirectoryParticipants) -> None:
        self._fsps = {each.fsp_id: _read_fsp(each) for each in participants.fsps if each.status != "closed"}
        self._proxies = [fsp_id for fsp_id, fsp in self._fsps.items() if fsp.participant and fsp.participant.is_proxy]
        self._keys = {}
        for key in participants.keys:
            if key.fsp_id in self._fsps:
                self._keys.setdefault(key.fsp_id, []).append(key.pem)


def _read_fsp(fsp: DirectoryFsp) -> _Fsp:
    participant = None if fsp.status == "suspended" else Participant(fsp.fsp_id, fsp.is_proxy)
    return _Fsp(participant, fsp.base_url, msgspec.json.decode(fsp.urls, type=dict[str, str]))


class LedgerAndKeys(LedgerScheme):
    """The participants of a central ledger, and the JWS keys of our directory."""

    def __init__(self, url: str, caller: Caller, directory: DirectoryScheme, *, hub_name: str) -> None:
        super().__init__(url, caller, hub_name=hub_name)
        self._directory = directory
        directory.on_forgotten = self._endpoints.forget

    async def find_jws_keys(self, fsp_id: str) -> Sequence[str]:
        """Find the public keys of an FSP, in PEM, the newest first.  Raises LedgerUnavailable."""
        return await self._directory.find_jws_keys(fsp_id)

    def forget_endpoints(self) -> None:
        super().forget_endpoints()
        self._directory.forget_endpoints()

    async def close(self) -> None:
        await super().close()
        await self._directory.close()


async def open_scheme(
    settings: Settings,
    postgres: Postgres,
    caller: Caller,
    *,
    known: DirectoryParticipants | None = None,
    keep: Callable[[DirectoryParticipants], None] = lambda _participants: None,
) -> DirectoryScheme | LedgerAndKeys:
    """Open the source of participants: the central ledger if its URL is set, else our directory.

    `known`, `keep`: as of DirectoryScheme.
    """
    directory = DirectoryScheme(postgres, known=known, keep=keep)
    await directory.open()
    if settings.ledger_url is None:
        return directory
    return LedgerAndKeys(settings.ledger_url, caller, directory, hub_name=settings.hub_name)

"""Discovery: finds parties that are in other schemes, through the proxies to them (docs/account-lookup.md, section 7).

Question.  A GET /parties that nobody here can answer goes to every proxy, but not back to the one that it came from.
Answers.   The first party is forwarded, and its FSP becomes a hint in the directory: the next question goes straight to
           its proxy.  An error is forwarded only if it is the last answer and there was no party.
Silence.   After timeout_s the payer gets 3300, from whichever worker notices first.  No answer follows it.
Healing.   A proxy that does not find a party whose hint names an FSP behind it: the hint is removed.
State.     Who was asked is in `inquiries`, which FSP is behind which proxy in `mappings`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

import msgspec

from oracle import errors
from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.callbacks import Callbacks
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.inquiries import Inquiries
from oracle.api.dfsp.mappings import Mappings
from oracle.backoff import pause
from oracle.scheme.base import PARTIES_GET, PARTIES_SUB_ID_GET, Scheme
from oracle.store.base import Session
from oracle.telemetry import logs

log = logs.Log(__name__)

TIMEOUT_S: Final = 20.0
LOOK_EVERY_S: Final = 1.0
# Errors that say that the party is not there.  With all others the hint can still be right.
NOT_FOUND: Final = ("3200", "3201", "3204")


class _Information(msgspec.Struct, frozen=True, rename="camel"):
    error_code: str = ""


class _Reason(msgspec.Struct, frozen=True):
    Cd: str = ""


class _Report(msgspec.Struct, frozen=True):
    Rsn: _Reason = _Reason()


class _Error(msgspec.Struct, frozen=True):
    """An error as FSPIOP and as ISO 20022 write it."""

    errorInformation: _Information = _Information()  # noqa: N815 - as on the wire
    Rpt: _Report = _Report()


def read_code(body: bytes) -> str:
    """Read the code of an error callback; '' if it has none."""
    try:
        error = msgspec.json.decode(body, type=_Error)
    except msgspec.DecodeError:
        return ""
    return error.errorInformation.error_code or error.Rpt.Rsn.Cd


class Hints(Protocol):
    """What discovery needs of a directory (`directory.Directory`)."""

    async def find(self, asked: Asked, party: Party, currency: str | None) -> Sequence[Any]: ...
    async def put_hint(self, asked: Asked, party: Party, fsp_id: str) -> None: ...
    async def forget_hints(self, asked: Asked, party: Party) -> None: ...


class Discovery:
    """One per process."""

    def __init__(
        self,
        scheme: Scheme,
        callbacks: Callbacks,
        choose_directory: Callable[[str, str | None], Hints],
        find_session: Callable[[], Session | None],
        *,
        prefix: str,
        asks_proxies: bool = True,
        timeout_s: float = TIMEOUT_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`choose_directory`: see `Directories.choose`; `find_session`: the session to Redis, None while it is away.

        `asks_proxies`: False if other schemes are neither asked nor called.
        """
        self._asks_proxies = asks_proxies
        self._scheme, self._callbacks, self._choose_directory = scheme, callbacks, choose_directory
        self._inquiries = Inquiries(find_session, prefix, timeout_s)
        self._mappings = Mappings(find_session, prefix)
        self._look_every_s = look_every_s
        self._tasks: set[asyncio.Task[None]] = set()

    # -- questions --------------------------------------------------------------------------------------------------

    async def start(self, asked: Asked) -> bool:
        """Ask the proxies; return whether there is one.

        Raises Fault: 2003 if the scheme cannot say which proxies it has, 2005 if the FSP has asked too often, 3201 if
        the last answer was that of a proxy that cannot be called.
        """
        party = asked.party
        assert party is not None  # noqa: S101 - a GET /parties names one
        proxies = await self._list_proxies(asked)
        if not proxies:
            return False
        number = await self._inquiries.open(_shorten(asked), party, proxies)
        if number is None:
            raise Fault("2005", "the same party was asked for too often; wait for the answers", status=503)
        question = _make_question(asked)
        results = await asyncio.gather(*(self._ask(question, party, proxy, number) for proxy in proxies))
        if "last" in results:
            raise Fault("3201", "Proxy connection error - no successful requests sent to proxies")
        return True

    async def _list_proxies(self, asked: Asked) -> Sequence[str]:
        if not self._asks_proxies:
            return ()
        try:
            proxies = await self._scheme.list_proxies()
        except errors.Unavailable:
            raise Fault("2003", "the proxies cannot be read; try again later", status=503) from None
        return [proxy for proxy in proxies if proxy not in {asked.proxy, asked.source}]

    async def _ask(self, question: Asked, party: Party, proxy: str, number: str) -> str:
        """Send the question to a proxy.  A proxy that cannot be called has answered with an error."""
        endpoint_type = PARTIES_GET if party.sub_id is None else PARTIES_SUB_ID_GET
        try:
            await self._callbacks.forward(question, proxy, endpoint_type)
        except Fault:
            return await self._inquiries.take_error(question.source, party, proxy, number)
        return "asked"

    # -- answers ----------------------------------------------------------------------------------------------------

    async def take_answer(self, asked: Asked) -> bool:
        """Note a PUT /parties; return whether it must be forwarded: not if the payer has an error of ours already.

        Without a proxy, or without an inquiry that it answers, it must.
        """
        party, payer, proxy = asked.party, asked.destination, asked.proxy
        if party is None or payer is None or proxy is None or not self._asks_proxies:
            return True
        answered = await self._inquiries.take_answer(payer, party, proxy)
        if answered in {"first", "late"}:
            self._do(self._keep_hint(asked, party, payer))
        return answered != "late"

    async def _keep_hint(self, asked: Asked, party: Party, payer: str) -> None:
        """Note in the directory which FSP has the party, if the payer is an FSP of this scheme."""
        if await self._scheme.find_participant(payer) is not None:
            await self._choose_directory(party.party_id_type, None).put_hint(asked, party, asked.source)

    async def take_error(self, asked: Asked) -> bool:
        """Note a PUT /parties/…/error; return whether it must be forwarded."""
        party, payer, proxy = asked.party, asked.destination, asked.proxy
        if party is None or payer is None or proxy is None or not self._asks_proxies:
            return True
        refused = await self._inquiries.take_error(payer, party, proxy)
        if refused == "unknown" and read_code(asked.body) in NOT_FOUND:
            self._do(self._heal(asked, party, proxy))
        return refused != "one_of_several"

    async def _heal(self, asked: Asked, party: Party, proxy: str) -> None:
        """Remove a hint that names an FSP behind this proxy."""
        directory = self._choose_directory(party.party_id_type, None)
        for entry in (await directory.find(asked, party, None))[:1]:
            is_hint = await self._scheme.find_participant(entry.fsp_id) is None
            if is_hint and await self._mappings.find(entry.fsp_id) in {None, proxy}:
                await directory.forget_hints(asked, party)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Change the directory beside the message, which need not wait for it."""
        task = asyncio.create_task(_settle(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- mappings ---------------------------------------------------------------------------------------------------

    async def find_proxy(self, fsp_id: str) -> str | None:
        """Find the proxy behind which an FSP of another scheme is."""
        return await self._mappings.find(fsp_id) if self._asks_proxies else None

    async def remember(self, fsp_id: str, proxy: str) -> None:
        """Remember it.  What is no proxy of the scheme is not remembered: anybody can write such a header."""
        if not self._asks_proxies:
            return
        try:
            proxies = await self._scheme.list_proxies()
        except errors.Unavailable:
            return
        if proxy in proxies:
            await self._mappings.remember(fsp_id, proxy)

    # -- time -------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Tell payers whose time has ended, until `stop` is set.  Then end what is under way."""
        while not await pause(self._look_every_s, stop):
            try:
                await self.tell_due()
            except Exception as exc:  # noqa: BLE001 - the next look goes on
                log.error("Discovery could not look for what is due", exc=exc)
        await self.close()

    async def tell_due(self) -> int:
        return await self._inquiries.tell_due(self._tell)

    async def _tell(self, asked: Asked) -> None:
        await self._callbacks.put_error(asked, asked.source, Fault("3300"))

    async def close(self) -> None:
        """Wait for the changes of the directory under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)


async def _settle(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (Fault, errors.OracleError) as exc:
        log.info("A hint of discovery was not written", exc=exc)
    except Exception as exc:  # noqa: BLE001 - nobody else would report it
        log.error("A hint of discovery failed", exc=exc)


def _make_question(asked: Asked) -> Asked:
    """Make the GET that proxies get: it has no fspiop-destination, since nobody knows the FSP."""
    headers = [header for header in asked.headers if header[0].lower() != b"fspiop-destination"]
    return msgspec.structs.replace(asked, headers=headers, destination=None)


def _shorten(asked: Asked) -> Asked:
    """Keep of a request what its error callback needs."""
    headers = [(name, value) for name, value in asked.headers if name[:7].lower() == b"fspiop-"]
    return msgspec.structs.replace(asked, headers=headers, body=b"")

"""GET and PUT /parties: a payer's question goes to the payee's FSP, the answer goes back (section 6).

    GET with a destination   goes there, and the directory is not asked
    GET without one          goes to every FSP of the directory's answer that the scheme knows
    neither                  discovery asks other schemes
    PUT, PUT …/error         go to the payer, byte for byte

If a request fails, the FSP that asked gets an error callback.  A ledger that is away is no "unknown FSP".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.callbacks import Callbacks
from oracle.api.dfsp.directory import Directories, Entry
from oracle.api.dfsp.discovery import Discovery
from oracle.api.dfsp.exchanges import Exchanges
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.rules import check_party
from oracle.scheme.base import (
    PARTIES_GET,
    PARTIES_PUT,
    PARTIES_PUT_ERROR,
    PARTIES_SUB_ID_GET,
    PARTIES_SUB_ID_PUT,
    PARTIES_SUB_ID_PUT_ERROR,
    LedgerUnavailable,
    Scheme,
)
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

log = logs.Log(__name__)

_UNAVAILABLE: Final = "The participants cannot be read; try again later"


class Payee(NamedTuple):
    fsp_id: str
    through: str | None = None  # the proxy behind which it is


class PartyRequests:
    """One per process.  Each method is the work of a request after its 202; when it is awaited, it never raises."""

    def __init__(
        self,
        scheme: Scheme,
        directories: Directories,
        callbacks: Callbacks,
        discovery: Discovery,
        exchanges: Exchanges,
        metrics: Metrics,
    ) -> None:
        self._scheme = scheme
        self._directories = directories
        self._callbacks = callbacks
        self._discovery = discovery
        self._exchanges = exchanges
        self._metrics = metrics

    def get(self, asked: Asked) -> Awaitable[None]:
        """Ask the payee's FSP about a party, or the FSPs that the directory names."""
        return self._carry_out(asked, self._get(asked))

    def put(self, asked: Asked) -> Awaitable[None]:
        """Forward what a payee's FSP says about a party."""
        return self._carry_out(asked, self._put(asked))

    def put_error(self, asked: Asked) -> Awaitable[None]:
        """Forward an error of a payee's FSP."""
        return self._carry_out(asked, self._put(asked))

    async def _carry_out(self, asked: Asked, work: Awaitable[None]) -> None:
        try:
            await work
        except Fault as fault:
            await self._put_error(asked, fault)
        except Exception as exc:  # noqa: BLE001 - a defect; the FSP must hear of it
            log.error("A request for a party failed", exc=exc)
            await self._put_error(asked, Fault("2001"))

    async def _put_error(self, asked: Asked, fault: Fault) -> None:
        await self._callbacks.put_error(asked, asked.source, fault)

    # -- GET ------------------------------------------------------------------------------------------------------

    async def _get(self, asked: Asked) -> None:
        party = _read_party(asked)
        check_party(party)
        if asked.proxy is not None:
            await self._remember_source(asked, asked.proxy)
        if asked.destination is not None:
            payees = await self._find_destination(asked, party, asked.destination)
        else:
            payees = await self._find_payees(asked, party)
        if payees:
            await self._ask(asked, payees)
        elif not await self._discovery.start(asked):
            raise Fault("3204", "No proxy found to start inter-scheme discovery flow")

    async def _find_destination(self, asked: Asked, party: Party, destination: str) -> list[Payee]:
        if not await self._is_participant(destination):
            proxy = await self._discovery.find_proxy(destination)
            return [] if proxy is None else [Payee(destination, proxy)]
        if asked.proxy is not None:
            entries = await self._find(asked, party)
            if destination not in {entry.fsp_id for entry in entries}:
                raise Fault("3204", "External party resolution error")
        return [Payee(destination)]

    async def _find_payees(self, asked: Asked, party: Party) -> list[Payee]:
        """Find the FSPs of the directory's answer that can be asked."""
        entries = await self._find(asked, party)
        if not entries:
            return []
        fitting = dict.fromkeys(entry.fsp_id for entry in entries if entry.sub_id == party.sub_id)
        if not fitting:
            raise Fault("3200", "Empty oracle partyList, filtered based on callbackEndpointType")
        payees: list[Payee] = []
        uncertain = False
        for fsp_id in fitting:
            try:
                known = self._scheme.recall_participant(fsp_id) or await self._scheme.find_participant(fsp_id)
            except LedgerUnavailable:
                uncertain = True
                continue
            if known is not None:
                payees.append(Payee(fsp_id))
            elif asked.proxy is None:
                proxy = await self._discovery.find_proxy(fsp_id)
                if proxy is not None:
                    payees.append(Payee(fsp_id, proxy))
        if uncertain and not payees:
            raise Fault("2003", _UNAVAILABLE)
        return payees

    def _find(self, asked: Asked, party: Party) -> Awaitable[Sequence[Entry]]:
        directory = self._directories.choose(party.party_id_type, asked.currency)
        return directory.find(asked, party, asked.currency)

    async def _ask(self, asked: Asked, payees: Sequence[Payee]) -> None:
        """Send the GET to each payee.  The payer hears of a failure if no payee is left that can answer."""
        await self._exchanges.start(asked, [payee.fsp_id for payee in payees])
        if len(payees) == 1:
            fault = await self._ask_one(asked, payees[0])
        else:
            faults = await asyncio.gather(*(self._ask_one(asked, payee) for payee in payees))
            fault = None if None in faults else faults[0]
        if fault is not None and await self._exchanges.fail(asked):
            await self._put_error(asked, fault)

    async def _ask_one(self, asked: Asked, payee: Payee) -> Fault | None:
        """Send the GET to a payee; return why it did not get it."""
        endpoint_type = PARTIES_GET if _read_party(asked).sub_id is None else PARTIES_SUB_ID_GET
        try:
            await self._callbacks.forward(
                asked, payee.fsp_id, endpoint_type, destination=payee.fsp_id, through=payee.through
            )
        except Fault as fault:
            return fault
        except Exception as exc:  # noqa: BLE001 - a defect; the payer must hear of it
            log.error("A payee could not be asked", exc=exc)
            return Fault("2001")
        return None

    # -- PUT ------------------------------------------------------------------------------------------------------

    async def _put(self, asked: Asked) -> None:
        check_party(_read_party(asked))
        if asked.proxy is not None:
            await self._remember_source(asked, asked.proxy)
        if asked.destination is None:
            raise Fault("3102", "Missing required fspiop-destination header")
        payer = await self._find_payer(asked.destination)
        is_wanted = True
        if asked.proxy is not None:
            if asked.is_error and not await self._discovery.take_error(asked):
                return  # another proxy can still have the party
            is_wanted = asked.is_error or await self._discovery.take_answer(asked)
        if is_wanted and await self._exchanges.answer(asked):
            await self._callbacks.forward(asked, payer.fsp_id, _choose_put(asked), through=payer.through)
            return
        self._metrics.add("party_answers_withheld_total")
        if not asked.is_error:
            raise Fault("3300", "The payer already has an error for this request")

    async def _remember_source(self, asked: Asked, proxy: str) -> None:
        """Remember the proxy of a source that is in another scheme."""
        try:
            is_foreign = await self._scheme.find_participant(asked.source) is None
        except LedgerUnavailable:
            return
        if is_foreign:
            await self._discovery.remember(asked.source, proxy)

    async def _find_payer(self, destination: str) -> Payee:
        if self._scheme.recall_participant(destination) is not None:
            return Payee(destination)
        try:
            known = await self._scheme.find_participant(destination) is not None
        except LedgerUnavailable:
            known = True  # its endpoint can be known
        if known:
            return Payee(destination)
        proxy = await self._discovery.find_proxy(destination)
        if proxy is None:
            raise Fault("3201", "Destination FSP not found")
        return Payee(destination, proxy)

    async def _is_participant(self, fsp_id: str) -> bool:
        """Whether the scheme knows the FSP.  Raises Fault if it cannot say."""
        try:
            return await self._scheme.find_participant(fsp_id) is not None
        except LedgerUnavailable:
            raise Fault("2003", _UNAVAILABLE, status=503) from None


def _read_party(asked: Asked) -> Party:
    assert asked.party is not None  # noqa: S101 - a request of this resource has one
    return asked.party


def _choose_put(asked: Asked) -> str:
    has_sub_id = _read_party(asked).sub_id is not None
    if asked.is_error:
        return PARTIES_SUB_ID_PUT_ERROR if has_sub_id else PARTIES_PUT_ERROR
    return PARTIES_SUB_ID_PUT if has_sub_id else PARTIES_PUT

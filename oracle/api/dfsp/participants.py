"""Participants: what happens after the sync answer (docs/account-lookup.md, sections 3 to 5).

    GET       one party     who has it                    {"fspId"}
    POST      one party     registers it                  {"partyList": [one item], "currency"}
    PUT       one party     changes its currency          {"partyList": [one item], "currency"}
    DELETE    one party     removes it                    {}
    POST      many parties  registers them                {"partyList": [an item for each of them], "currency"}
    PUT error one party     goes to fspiop-destination

Promise.  Every request ends in a callback or in an error callback.  Where no FSP can be told, a metric counts it, and
          a log line says why (`callbacks`).
Order.    The endpoint of the callback is found before anything is written.
Once.     A callback that fails becomes one error callback, and that is all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from oracle import errors
from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.callbacks import CallbackFailed, Callbacks, choose_error_type
from oracle.api.dfsp.directory import BulkItem, Directories
from oracle.api.dfsp.faults import Extension, Fault, encode
from oracle.api.dfsp.rules import check_party
from oracle.api.hub.slices import Slices
from oracle.scheme import base
from oracle.scheme.base import Scheme
from oracle.telemetry import logs

log = logs.Log(__name__)

EMPTY: Final = b"{}"

# Items of all bulks that this process has accepted and not answered.  100,000 of them take some 100 MB.
ITEMS_MAX: Final = 100_000
ITEMS_OF_SOURCE_MAX: Final = 50_000


class _Party(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A party as callbacks name it."""

    party_id_type: str
    party_identifier: str
    fsp_id: str
    party_sub_id_or_type: str | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    party_list: list[_Party]
    currency: str | None = None


class _Found(msgspec.Struct, frozen=True, rename="camel"):
    fsp_id: str


class _Item(NamedTuple):
    """An item of a bulk, and why it is refused."""

    party: _Party
    fault: Fault | None = None


_encode = msgspec.json.Encoder().encode


class ParticipantRequests:
    """One per process."""

    def __init__(
        self,
        directories: Directories,
        callbacks: Callbacks,
        scheme: Scheme,
        *,
        slices: Slices | None = None,
        items_max: int = ITEMS_MAX,
        items_of_source_max: int = ITEMS_OF_SOURCE_MAX,
    ) -> None:
        """`slices`: those that bulks share with others in this process."""
        self._items_max, self._items_of_source_max = items_max, items_of_source_max
        self._directories = directories
        self._callbacks = callbacks
        self._scheme = scheme
        self._slices = slices or Slices()
        self._items: Counter[str] = Counter()  # of the bulks at work, by source

    async def check_endpoints(self, asked: Asked) -> None:
        """Check before the sync answer that somebody can be told how the request ends.  Raises Fault."""
        if asked.is_error:
            return
        try:
            source = await self._scheme.find_participant(asked.source)
        except errors.Unavailable:
            raise Fault("2003", "the FSPs of the scheme cannot be read; try again later", status=503) from None
        if source is None:
            raise Fault("3200", "Requester FSP not found")
        error_type = choose_error_type(asked, asked.party)
        if await self._callbacks.has_endpoint(asked.source, error_type):
            return
        # A lookup that succeeds can be answered.  A change that is refused could not: nobody would learn of it.
        if asked.method != "GET" or not await self._callbacks.has_endpoint(asked.source, _choose_answer_type(asked)):
            raise Fault("1001", f"no {error_type} endpoint for the FSP")

    def get(self, asked: Asked) -> Awaitable[None]:
        return self._carry_out(asked, self._get(asked))

    async def post(self, asked: Asked) -> None:
        await self._carry_out(asked, self._register(asked, creates=True))

    async def put(self, asked: Asked) -> None:
        await self._carry_out(asked, self._register(asked, creates=False))

    async def delete(self, asked: Asked) -> None:
        await self._carry_out(asked, self._delete(asked))

    async def bulk(self, asked: Asked) -> None:
        content = asked.content or {}
        request_id = str(content.get("requestId", ""))
        with self._count_items(asked.source, len(content.get("partyList", ()))) as has_room:
            work = self._register_all(asked, content, request_id) if has_room else self._turn_away()
            await self._carry_out(asked, work, request_id)

    async def put_error(self, asked: Asked) -> None:
        await self._carry_out(asked, self._forward_error(asked))

    # -- the work -------------------------------------------------------------------------------------------------

    async def _get(self, asked: Asked) -> None:
        party = _read_party(asked)
        await self._require_endpoint(asked, asked.source)
        check_party(party)
        found = await self._directories.choose(party.party_id_type, asked.currency).find(asked, party, asked.currency)
        if not found:
            raise Fault("3204")
        entry = next((entry for entry in found if entry.sub_id == party.sub_id), found[0])
        await self._answer(asked, asked.source, _encode(_Found(entry.fsp_id)))

    async def _register(self, asked: Asked, *, creates: bool) -> None:
        """Register the party, or change its entry."""
        content = asked.content or {}
        party = _read_party(asked)
        if party.sub_id is None:
            party = party._replace(sub_id=content.get("partySubIdOrType"))
        fsp_id = content.get("fspId", asked.source)
        receiver = self._find_receiver(asked)
        await self._require_endpoint(asked, receiver)
        check_party(party)
        if fsp_id != asked.source:
            raise Fault("3003", "fspId must be the FSP of fspiop-source")
        currency = _read_currency(asked, content)
        directory = self._directories.choose(party.party_id_type, currency)
        if creates:
            await directory.register(asked, party, fsp_id, currency)
        else:
            await directory.update(asked, party, fsp_id, currency)
        named = _Party(party.party_id_type, party.identifier, fsp_id, party.sub_id)
        await self._answer(asked, receiver, _encode(_Answer([named], currency)))

    async def _delete(self, asked: Asked) -> None:
        party = _read_party(asked)
        await self._require_endpoint(asked, asked.source)
        check_party(party)
        directory = self._directories.choose(party.party_id_type, asked.currency)
        await directory.remove(asked, party, asked.currency)
        try:
            await self._answer(asked, asked.source, EMPTY)
        except CallbackFailed as failed:
            # Many FSPs have no PUT /participants/{Type}/{ID} and answer 501.  The removal is done, and an error would
            # deny it.
            if failed.answered is None:
                raise

    async def _forward_error(self, asked: Asked) -> None:
        destination = asked.destination
        if destination is None or await self._find_participant(destination) is None:
            raise Fault("3201", "Destination FSP not found")
        await self._callbacks.forward(asked, destination, choose_error_type(asked, asked.party))

    # -- bulks ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _count_items(self, source: str, count: int) -> Iterator[bool]:
        """Count the items of a bulk while it is at work; False if there are too many."""
        of_all, of_source = self._items.total() + count, self._items[source] + count
        if of_all > self._items_max or of_source > self._items_of_source_max:
            yield False
            return
        self._items[source] = of_source
        try:
            yield True
        finally:
            self._items[source] -= count
            if not self._items[source]:
                del self._items[source]

    async def _turn_away(self) -> None:
        raise Fault("2005", "Too many bulks are at work; try again later")

    async def _register_all(self, asked: Asked, content: Mapping[str, Any], request_id: str) -> None:
        receiver = self._find_receiver(asked)
        await self._require_endpoint(asked, receiver)
        currency = content.get("currency")
        await self._slices.rest()
        refused, by_type = await self._sort(content["partyList"], asked.source)
        items = refused + await self._register_types(asked, request_id, by_type, currency)
        body = await self._encode_items(items, currency)
        await self._answer(asked, receiver, body, request_id)

    async def _sort(
        self, items: Sequence[Mapping[str, Any]], source: str
    ) -> tuple[list[_Item], dict[str, list[_Party]]]:
        """Find the items of other FSPs, which are refused; sort the rest by type, in the order of appearance."""
        refused: list[_Item] = []
        by_type: dict[str, list[_Party]] = {}
        for item in items:
            party = _Party(
                item["partyIdType"], item["partyIdentifier"], item.get("fspId", source), item.get("partySubIdOrType")
            )
            if party.fsp_id == source:
                by_type.setdefault(party.party_id_type, []).append(party)
            else:
                named = Extension(party.party_id_type, party.party_identifier)
                refused.append(_Item(party, Fault("3204", extensions=(named,))))
            if self._slices.over:
                await self._slices.rest()
        return refused, by_type

    async def _register_types(
        self, asked: Asked, request_id: str, by_type: Mapping[str, Sequence[_Party]], currency: str | None
    ) -> list[_Item]:
        """Register the items type by type.  Raises the first Fault if no type could be registered."""
        items: list[_Item] = []
        failed: list[Fault] = []
        for party_id_type, parties in by_type.items():
            wanted = [
                BulkItem(Party(party_id_type, party.party_identifier, party.party_sub_id_or_type), party.fsp_id)
                for party in parties
            ]
            try:
                directory = self._directories.choose(party_id_type, currency)
                faults = await directory.register_many(asked, request_id, wanted, currency)
            except Fault as fault:
                failed.append(fault)
                faults = [fault] * len(parties)
            items += map(_Item, parties, faults)
        if failed and len(failed) == len(by_type):
            raise failed[0]
        return items

    async def _encode_items(self, items: Sequence[_Item], currency: str | None) -> bytes:
        encoded: list[bytes] = []
        for party, fault in items:
            information = b"" if fault is None else b",%b" % encode(fault)[1:-1]
            encoded.append(b'{"partyId":%b%b}' % (_encode(party), information))
            if self._slices.over:
                await self._slices.rest()
        named = b"" if currency is None else b',"currency":%b' % _encode(currency)
        return b'{"partyList":[%b]%b}' % (b",".join(encoded), named)

    # -- parts ----------------------------------------------------------------------------------------------------

    async def _carry_out(self, asked: Asked, work: Coroutine[Any, Any, None], request_id: str = "") -> None:
        """Do the work, and tell the source why it could not be done."""
        try:
            await work
        except CallbackFailed as failed:
            fault = Fault("1001", failed.detail, extensions=failed.extensions)
        except Fault as refused:
            fault = refused
        except Exception as exc:  # noqa: BLE001 - whatever it is, the DFSP gets an error and the log a line
            log.error("A request of an FSP failed", exc=exc)
            fault = Fault("2001")
        else:
            return
        await self._callbacks.put_error(asked, asked.source, fault, request_id=request_id)

    async def _answer(self, asked: Asked, receiver: str, body: bytes, request_id: str = "") -> None:
        await self._callbacks.put(asked, receiver, _choose_answer_type(asked), body, request_id=request_id)

    async def _require_endpoint(self, asked: Asked, fsp_id: str) -> None:
        """Raises CallbackFailed if the answer could not be sent."""
        endpoint_type = _choose_answer_type(asked)
        if not await self._callbacks.has_endpoint(fsp_id, endpoint_type):
            raise CallbackFailed("1001", f"no {endpoint_type} endpoint for the FSP")

    def _find_receiver(self, asked: Asked) -> str:
        """Find who gets the answer to a registration: the FSP that the request names, else its source."""
        destination = asked.destination
        if asked.method in ("GET", "DELETE") or destination in (None, self._callbacks.hub_name):
            return asked.source
        return destination

    async def _find_participant(self, fsp_id: str) -> base.Participant | None:
        try:
            return await self._scheme.find_participant(fsp_id)
        except errors.Unavailable:
            raise Fault("2003", "the FSPs of the scheme cannot be read; try again later") from None


def _choose_answer_type(asked: Asked) -> str:
    if asked.party is None:
        return base.PARTICIPANT_BATCH_PUT
    return base.PARTICIPANT_PUT if asked.party.sub_id is None else base.PARTICIPANT_SUB_ID_PUT


def _read_party(asked: Asked) -> Party:
    assert asked.party is not None  # noqa: S101 - a request of that path has one
    return asked.party


def _read_currency(asked: Asked, content: Mapping[str, Any]) -> str | None:
    """Read the currency of a change from the query or the body; both may name it, but only the same one."""
    named = {text for text in (asked.currency, content.get("currency")) if text}
    if len(named) > 1:
        raise Fault("3101", "the URI and the body have different currencies")
    return named.pop() if named else None

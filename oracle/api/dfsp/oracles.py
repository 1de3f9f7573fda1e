"""Oracles elsewhere, asked by HTTP as ALS asks them (docs/als-contract.md), and the choice between them and our own.

Calls.    `/participants/{type}/{identifier}` below the base URL of the oracle.  SubId and currency are members of the
          query, also of a DELETE, which ALS sends without them.  Identifiers are percent-encoded.
Headers.  As ALS sends them: the content-type and accept of the DFSP, so that the oracle can see whether a party or a
          participant is meant; `traceparent` and `tracestate`.  No other header of the DFSP.  `via` names this service,
          so that it notices when an oracle's URL leads back to it (RFC 9110, section 7.6.3).
Answers.  An `errorInformation` is passed on: its code, its description, and extensions that are texts.  Everything
          else that is no answer becomes a Fault with a text of ours: never the address of the oracle, the status or the
          body of its answer.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta

from oracle import errors
from oracle.api.dfsp.als_metrics import Outcome
from oracle.api.dfsp.asked import Party
from oracle.api.dfsp.directory import BulkItem, Directory, Entry, make_fault
from oracle.api.dfsp.faults import DESCRIPTION_MAX, TEXTS, Extension, Fault
from oracle.api.hub.slices import Slices
from oracle.calls import Answer, Call, Caller, CallFailed
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.api.dfsp.asked import Asked
    from oracle.scheme.oracles import Registry
    from oracle.telemetry.metrics import Metrics

ENTRIES_MAX: Final = 1_000  # of one party: each of them can be a call to an FSP
RESULTS_MAX: Final = 20_000  # of a bulk, which has 10,000 items at most
FIND_BYTES_MAX: Final = 1024 * 1024
EXTENSIONS_MAX: Final = 16
REMOTES_MAX: Final = 1_000

_UNREACHABLE: Final = "The oracle of this party type does not answer"
_UNREADABLE: Final = "The answer of the oracle cannot be read"
_REFUSED: Final = "The oracle refused the request"
_NO_RESULT: Final = "The oracle did not answer for this party"
_CODE: Final = re.compile(r"[1-5]\d{3}")
_TRACE: Final = (b"traceparent", b"tracestate")
_DOTS: Final = (".", "..")  # as a segment of a path they mean another path

log = logs.Log(__name__)

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    fsp_id: Annotated[str, Meta(pattern=r"\A[!-~]{1,32}\Z")]  # it becomes a header
    party_sub_id_or_type: Annotated[str, Meta(max_length=128)] | None = None
    currency: str | Annotated[list[str], Meta(max_length=32)] | None = None


class _Found(msgspec.Struct, frozen=True, rename="camel"):
    party_list: Annotated[list[_Entry], Meta(max_length=ENTRIES_MAX)] | None = None


class _PartyId(msgspec.Struct, frozen=True, rename="camel"):
    party_id_type: str
    party_identifier: str
    party_sub_id_or_type: str | None = None

    @property
    def party(self) -> Party:
        return Party(self.party_id_type, self.party_identifier, self.party_sub_id_or_type or None)


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    party_id: _PartyId
    error_information: Any = None


class _Results(msgspec.Struct, frozen=True, rename="camel"):
    party_list: Annotated[list[msgspec.Raw], Meta(max_length=RESULTS_MAX)] | None = None  # of _Result


class OracleFault(Fault):
    """An error in the words of another oracle.  They can hold an identifier, so `detail` does not have them."""

    def __init__(self, code: str, description: str, extensions: tuple[Extension, ...]) -> None:
        super().__init__(code, extensions=extensions)
        self._description = description

    @property
    def description(self) -> str:
        return self._description


class RemoteOracle(Directory):
    """One oracle elsewhere."""

    def __init__(
        self,
        url: str,
        caller: Caller,
        metrics: Metrics,
        *,
        hub_name: str,
        iso20022: bool = False,
        slices: Slices | None = None,
    ) -> None:
        """`url`: its base URL, without a slash at the end.  `slices`: those that bulks share in this process."""
        self._slices = slices or Slices()
        self._outcome = Outcome(metrics, "egress_oracleRequest")
        self._base = f"{url}/participants"
        self._caller = caller
        self._hub = hub_name
        self._via = f"1.1 {hub_name}-account-lookup".encode("latin-1", "replace")
        self._loops = False
        standard = ".iso20022" if iso20022 else ""
        self._content_types = {
            resource: f"application/vnd.interoperability{standard}.{resource}+json;version=2.0".encode()
            for resource in ("participants", "parties")
        }

    async def find(self, asked: Asked, party: Party, currency: str | None) -> Sequence[Entry]:
        answer = await self._call(asked, "GET", self._locate(party, currency))
        if len(answer.body) > FIND_BYTES_MAX:
            raise Fault("1001", _UNREADABLE)
        return list(_list_entries(_decode(answer.body, _Found))) if answer.body.strip() else []

    async def register(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None:
        await self._call(asked, "POST", self._locate(party), _write(asked, party, fsp_id, currency))

    async def update(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None:
        await self._call(asked, "PUT", self._locate(party), _write(asked, party, fsp_id, currency))

    async def remove(self, asked: Asked, party: Party, currency: str | None) -> None:
        await self._call(asked, "DELETE", self._locate(party, currency))

    async def register_many(
        self, asked: Asked, request_id: str, items: Sequence[BulkItem], currency: str | None
    ) -> Sequence[Fault | None]:
        """One call for each type, in the order in which the types come.  A call that fails fails its items alone."""
        found: list[Fault | None] = [None] * len(items)
        by_type: dict[str, list[int]] = {}
        async for at, item in self._take_slices(enumerate(items)):
            if item.fsp_id == asked.source:
                by_type.setdefault(item.party.party_id_type, []).append(at)
            else:
                found[at] = make_fault(errors.NotOwner())
        for places in by_type.values():
            some = [items[at] for at in places]
            try:
                faults: Sequence[Fault | None] = await self._register_type(asked, request_id, some, currency)
            except Fault as fault:
                faults = [fault] * len(some)
            for at, each in zip(places, faults, strict=True):
                found[at] = each
        return found

    async def put_hint(self, asked: Asked, party: Party, fsp_id: str) -> None:
        body = _encode(_describe(party, {"fspId": fsp_id}))
        await self._call(asked, "POST", self._locate(party), body, accepts=False)

    async def forget_hints(self, asked: Asked, party: Party) -> None:
        await self._call(asked, "DELETE", self._locate(party, None))

    async def _register_type(
        self, asked: Asked, request_id: str, items: Sequence[BulkItem], currency: str | None
    ) -> Sequence[Fault | None]:
        named = [_encode(_name_item(item, currency)) async for item in self._take_slices(items)]
        body = b'{"requestId":%b,"partyList":[%b]}' % (_encode(request_id), b",".join(named))
        answer = await self._call(asked, "POST", self._base, body)
        listed = _decode(answer.body, _Results).party_list if answer.body.strip() else None
        if not listed:
            raise Fault("3003", _NO_RESULT)
        matched = await self._match(items, listed)
        return [_read_result(result) async for result in self._take_slices(matched)]

    async def _match(self, items: Sequence[BulkItem], listed: Sequence[msgspec.Raw]) -> list[_Result | None]:
        """Find the result of each item: that of its party.  Raises Fault.

        An oracle can write an identifier in another form.  If as many results as items are left, they are taken in
        order.
        """
        waiting: dict[Party, deque[int]] = defaultdict(deque)
        async for at, item in self._take_slices(enumerate(items)):
            waiting[item.party].append(at)
        places: list[_Result | None] = [None] * len(items)
        others = []
        async for each in self._take_slices(listed):
            result = _decode(each, _Result)
            queue = waiting.get(result.party_id.party)
            if queue:
                places[queue.popleft()] = result
            else:
                others.append(result)
        left = [at for at, result in enumerate(places) if result is None]
        if len(left) == len(others):
            for at, result in zip(left, others, strict=True):
                places[at] = result
        return places

    async def _take_slices(self, values: Iterable[_T]) -> AsyncIterator[_T]:
        """Yield the values; between them others have their turn."""
        for value in values:
            yield value
            if self._slices.over:
                await self._slices.rest()

    def _locate(self, party: Party, *query: str | None) -> str:
        """Make the URL of a party; with a `query` (the currency or None), the SubId is in it as well."""
        if party.identifier in _DOTS:
            raise Fault("3101", "The oracle of this party type cannot be asked for this identifier")
        url = f"{self._base}/{quote(party.party_id_type, safe='')}/{quote(party.identifier, safe='')}"
        if not query:
            return url
        members = [("currency", query[0]), ("partySubIdOrType", party.sub_id)]
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in members if value is not None)
        return f"{url}?{text}" if text else url

    async def _call(self, asked: Asked, method: str, url: str, body: bytes = b"", *, accepts: bool = True) -> Answer:
        """Return the answer if it is a success.  Raises Fault."""
        headers = self._make_headers(asked, accepts=accepts and method != "PUT")
        started, success = time.monotonic(), False
        try:
            answer = await self._caller.call(Call(method, url, headers, body))
            success = 200 <= answer.status <= 299  # noqa: PLR2004 - HTTP
        except CallFailed:
            raise Fault("1001", _UNREACHABLE) from None
        finally:
            self._outcome.count(started, success=success)
        if not success or (b'"errorInformation"' in answer.body and b'"partyList"' not in answer.body):
            fault = _read_fault(answer.body)
            if fault is not None:
                raise fault
        if not success:
            raise _make_refusal(answer.status)
        return answer

    def _make_headers(self, asked: Asked, *, accepts: bool) -> list[tuple[bytes, bytes]]:
        sent = {name.lower(): value.strip() for name, value in asked.headers}
        if self._via in sent.get(b"via", b""):
            self._refuse_loop()
        content_type = sent.get(b"content-type") or self._content_types[asked.resource]
        headers = [
            (b"content-type", content_type),
            (b"date", formatdate(usegmt=True).encode()),
            (b"fspiop-source", asked.source.encode("latin-1", "replace")),
            (b"fspiop-destination", (asked.destination or self._hub).encode("latin-1", "replace")),
            (b"via", self._via),
        ]
        if accepts:
            headers.append((b"accept", sent.get(b"accept") or content_type))
        headers += [(name, sent[name]) for name in _TRACE if name in sent]
        return headers

    def _refuse_loop(self) -> NoReturn:
        """Refuse to ask for a request that is one of ours: else a lookup would ask forever.  Raises Fault."""
        if not self._loops:
            self._loops = True
            log.error("The URL of a registered oracle leads back to this service: correct it at /oracles")
        raise Fault("1001", _UNREACHABLE)


class OracleDirectories:
    """Chooses the directory of each party: our own one, or an oracle elsewhere."""

    def __init__(
        self,
        registry: Registry,
        own: Directory,
        caller: Caller,
        metrics: Metrics,
        *,
        hub_name: str,
        iso20022: bool = False,
        slices: Slices | None = None,
    ) -> None:
        self._slices = slices or Slices()
        self._registry = registry
        self._own = own
        self._caller = caller
        self._metrics = metrics
        self._hub_name = hub_name
        self._iso20022 = iso20022
        self._remotes: dict[str, RemoteOracle] = {}

    def choose(self, party_id_type: str, currency: str | None) -> Directory:
        """Choose the oracle that answers for the type.  Raises Fault."""
        try:
            url = self._registry.choose(party_id_type, currency)
        except errors.DirectoryUnavailable as exc:
            raise make_fault(exc) from None
        return self._own if url is None else self._remotes.get(url) or self._open(url)

    def _open(self, url: str) -> RemoteOracle:
        if len(self._remotes) >= REMOTES_MAX:
            self._remotes.clear()  # those of rows that are gone
        remote = self._remotes[url] = RemoteOracle(
            url,
            self._caller,
            self._metrics,
            hub_name=self._hub_name,
            iso20022=self._iso20022,
            slices=self._slices,
        )
        return remote


# What is sent ---------------------------------------------------------------------------------------------------


def _write(asked: Asked, party: Party, fsp_id: str, currency: str | None) -> bytes:
    """Write the body of a POST or PUT: members that the DFSP has added are passed on, as ALS does."""
    content = dict(asked.content or {})
    content["fspId"] = fsp_id
    if currency is not None:
        content["currency"] = currency
    return _encode(_describe(party, content))


def _describe(party: Party, content: dict[str, Any]) -> dict[str, Any]:
    return content if party.sub_id is None else {**content, "partySubIdOrType": party.sub_id}


def _name_item(item: BulkItem, currency: str | None) -> dict[str, str]:
    """Name an item of a bulk.  The currency of the bulk is in each item, as ALS writes it."""
    content = {
        "partyIdType": item.party.party_id_type, "partyIdentifier": item.party.identifier, "fspId": item.fsp_id,
    }  # fmt: skip
    if item.party.sub_id is not None:
        content["partySubIdOrType"] = item.party.sub_id
    return content if currency is None else {**content, "currency": currency}


# What is answered -----------------------------------------------------------------------------------------------


def _decode(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        raise Fault("1001", _UNREADABLE) from None


def _list_entries(found: _Found) -> Iterator[Entry]:
    for entry in found.party_list or ():
        currencies = [entry.currency] if isinstance(entry.currency, str) else entry.currency or [""]
        for currency in currencies:
            yield Entry(entry.fsp_id, entry.party_sub_id_or_type or None, currency)


def _read_result(result: _Result | None) -> Fault | None:
    if result is None:
        return Fault("3003", _NO_RESULT)
    if result.error_information is None:
        return None
    return _read_information(result.error_information) or Fault("3003", _REFUSED)


def _read_fault(body: bytes) -> Fault | None:
    """Read an error of the oracle; None if the body holds none that a DFSP can get."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return _read_information(content.get("errorInformation")) if isinstance(content, dict) else None


def _read_information(information: Any) -> Fault | None:
    if not isinstance(information, dict):
        return None
    code, description = information.get("errorCode"), information.get("errorDescription")
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        return None
    text = description[:DESCRIPTION_MAX] if isinstance(description, str) and description else TEXTS.get(code, _REFUSED)
    return OracleFault(code, text, _read_extensions(information.get("extensionList")))


def _read_extensions(listed: Any) -> tuple[Extension, ...]:
    """Read extensions if they are texts of the lengths that the API allows; else none."""
    try:
        return tuple(Extension(each.key, each.value) for each in msgspec.convert(listed, _ExtensionList).extension)
    except msgspec.ValidationError:
        return ()


class _Extension(msgspec.Struct, frozen=True):
    key: Annotated[str, Meta(min_length=1, max_length=32)]
    value: Annotated[str, Meta(min_length=1, max_length=128)]


class _ExtensionList(msgspec.Struct, frozen=True):
    extension: Annotated[list[_Extension], Meta(min_length=1, max_length=EXTENSIONS_MAX)]


def _make_refusal(status: int) -> Fault:
    """Make the error for an answer without one that a DFSP can get.  The codes are those of ALS."""
    if status == 404:  # noqa: PLR2004 - HTTP
        return Fault("3200", _REFUSED)
    if 400 <= status <= 499:  # noqa: PLR2004 - HTTP
        return Fault("3000", _REFUSED)
    return Fault("1001", _UNREACHABLE if status >= 500 else _UNREADABLE)  # noqa: PLR2004 - HTTP

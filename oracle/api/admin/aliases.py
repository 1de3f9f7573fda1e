"""Administration of aliases: one FSP's own, and for operators whose an identifier is.

Spellings.  An identifier is written in any spelling its kind has (oracle.identifiers), in paths too; what is answered
            is the canonical one, with the forms that people read.  The directory keeps a CLABE as an ACCOUNT_ID and an
            NRC as a PERSONAL_ID, so `kind` of an answer is what the key reads as.
Foreign.    What another FSP holds is absent: every query names the FSP, and an answer is the same, byte for byte.
Versions.   The ETag of an alias is made of its entries and the times of their changes.  A change locks the alias
            before it compares, so of two writers who have read the same version one gets 412.
Pages.      Type after type, and within a type by the time of the last change.  Such a time only grows, so an alias that
            stands all the while is never moved to where a reader has been: nobody misses one, though one that changes
            may be met twice.  A page looks at SCAN_MAX entries at most; one that a filter has left short still has a
            `next`.
Cursor.     Where the next page begins, an identifier among it, and cursors stand in URLs: so it is encrypted under the
            secret of the caller, and good for the same filters only.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated, Any, Final, Literal, NamedTuple, cast
from urllib.parse import quote

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from oracle import errors
from oracle.api.admin.access import OPERATOR, Role, allow
from oracle.api.admin.calls import PAGE, PAGE_MAX, Answer, Body, Call, Once, Resource, answer, answer_of
from oracle.api.admin.fsps import no_such_fsp, path_of
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Problem, Refusal, refusal_of
from oracle.identifiers import PARTY_ID_TYPES, BadIdentifier, Kind, PartyIdType, PartyKey, Reading, display, find_scheme
from oracle.store import aliases
from oracle.store.base import Registration
from oracle.store.postgres import Transaction

Rows = Callable[..., Awaitable[list[Any]]]  # of Postgres or of a Transaction

ITEMS_MAX: Final = 1_000
SCAN_MAX: Final = 2_000
SCAN_CHUNK: Final = 1_000
LOCK_ATTEMPTS: Final = 4
_ANSWERED: Final = ("active", "provisional")
_TYPES: Final = tuple(member.value for member in PartyIdType)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)

WRITERS: Final = allow(Role.OPERATOR, Role.MAKER)
READERS: Final = allow(Role.OPERATOR, Role.MAKER, Role.CHECKER, Role.READER)

State = Literal["answered", "unanswered"]
RemovalReason = Literal["user_requested", "account_closed", "moved", "fraud", "correction", "other"]
# A line of text: history is exported as lines, and PostgreSQL keeps no NUL.
_LINE: Final = r"^[^\u0000-\u001f\u007f]+$"
_Reason = Annotated[str, Meta(min_length=1, max_length=256, pattern=_LINE, description="Why; it stands in the history")]
# max_length beside the pattern: `$` lets a line break pass.
_Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3, description="ISO 4217")]
_Named = Annotated[str, Meta(description="A kind, in any case: MSISDN, CLABE, NRC, ACCOUNT_ID, …")]
_Country = Annotated[
    str, Meta(min_length=2, max_length=2, description="ISO 3166 alpha-2, for an MSISDN in its national form")
]
_SubId = Annotated[str | None, QueryParameter(name="subId")]
_CountryQuery = Annotated[str | None, QueryParameter(name="country", min_length=2, max_length=2)]


# What comes in ------------------------------------------------------------------------------------------------


class NewAlias(Body):
    kind: _Named
    identifier: Annotated[str, Meta(description="In any spelling of its kind")]
    sub_id: str | None = None
    currency: _Currency | None = None
    country: _Country | None = None
    reason: _Reason | None = None


class AliasChange(Body):
    currency: Annotated[_Currency | None, Meta(description="The only one from now on; null: answers for all")]
    reason: _Reason


class AliasName(Body):
    kind: _Named
    identifier: Annotated[str, Meta(description="In any spelling of its kind")]
    sub_id: str | None = None
    country: str | None = None


class AliasNames(Body):
    items: Annotated[list[AliasName], Meta(min_length=1, max_length=ITEMS_MAX)]


# What goes out ------------------------------------------------------------------------------------------------


class AliasEntry(Resource):
    currency: Annotated[str | None, Meta(description="null: every currency")]
    default: Annotated[bool, Meta(description="Answers lookups that name no currency")]
    changed_at: datetime


class AliasForms(Resource):
    """As people write it; never to be sent back."""

    text: str
    latin: str | None
    burmese: str | None
    institution: str | None


class Alias(Resource):
    kind: Annotated[Kind, Meta(description="What the identifier reads as")]
    party_id_type: PartyIdType
    identifier: Annotated[str, Meta(description="Canonical")]
    sub_id: str | None
    entries: list[AliasEntry]
    display: AliasForms
    state: Annotated[State, Meta(description="Whether lookups are answered: the FSP's status decides")]
    changed_at: datetime


class AliasPage(Resource):
    items: list[Alias]
    next: Annotated[str | None, Meta(description="The cursor of the next page, which may be there after a short one")]


class CheckedAlias(Resource):
    kind: Kind | None
    party_id_type: PartyIdType | None
    identifier: Annotated[str | None, Meta(description="Canonical")]
    sub_id: str | None
    exists: bool | None
    error: Problem | None


class CheckedAliases(Resource):
    items: Annotated[list[CheckedAlias], Meta(description="One for each item, in their order")]


class AliasHolder(Resource):
    fsp_id: str
    sub_id: str | None
    currency: str | None
    default: bool
    state: State


class DecidingRoute(Resource):
    route_id: int
    prefix: str
    fsp_id: str
    state: State


class FoundAlias(Resource):
    kind: Kind | None
    party_id_type: PartyIdType | None
    identifier: Annotated[str | None, Meta(description="Canonical")]
    sub_id: str | None
    holders: Annotated[list[AliasHolder], Meta(description="Without subId under every one; with it under that one")]
    route: Annotated[DecidingRoute | None, Meta(description="The rule that decides where nobody holds the key")]
    error: Problem | None


class FoundAliases(Resource):
    items: Annotated[list[FoundAlias], Meta(description="One for each item, in their order")]


class _Standing(NamedTuple):
    """One FSP's entries under a key, as they stand."""

    key: PartyKey
    entries: list[AliasEntry]
    status: str

    @property
    def version(self) -> str:
        """Of all that is answered, the status too: who has it need not be sent it again."""
        said = [(e.currency, e.default, e.changed_at) for e in self.entries]
        return hashlib.sha256(msgspec.msgpack.encode((said, self.status))).hexdigest()[:32]

    def resource(self, reading: Reading) -> Alias:
        kind = reading.read_kind(self.key)
        shown = display(kind, self.key.identifier)
        return Alias(
            kind=kind,
            party_id_type=PartyIdType(self.key.party_id_type),
            identifier=self.key.identifier,
            sub_id=self.key.sub_id or None,
            entries=self.entries,
            display=AliasForms(
                text=shown.text, latin=shown.lossless_latin, burmese=shown.burmese, institution=shown.institution
            ),
            state=_state(self.status),
            changed_at=max(entry.changed_at for entry in self.entries),
        )


def handlers() -> list[HTTPRouteHandler]:
    return [list_aliases, register_alias, check_aliases, read_alias, change_alias, remove_alias, look_up]


# One alias ----------------------------------------------------------------------------------------------------


@operation(
    "POST", "/fsps/{fsp_id:str}/aliases", WRITERS, "Register an alias; 200 when it stood already", answers=Alias,
    status=201, also=(200,),
)  # fmt: skip
async def register_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: JSONBody[NewAlias]
) -> Response[bytes]:
    key = reading.read_key(data.kind, data.identifier, sub_id=data.sub_id, country=data.country)

    async def work(transaction: Transaction) -> Answer:
        await _require_permitted(transaction.rows, fsp_id, data.kind, reading)
        allowance = await call.changes.admit(transaction, fsp_id)
        registration = Registration(key, data.currency or "")
        (result,) = await aliases.register(transaction, fsp_id, [registration], allowance)
        if result.refused is not None:
            return answer_of(refusal_of(result.refused))
        standing = await _standing(transaction.rows, fsp_id, key)
        location = _location(fsp_id, reading.read_kind(key), key)
        status = 201 if result.changed else 200
        return answer(standing.resource(reading), status=status, version=standing.version, location=location)

    return await call.change_alias(fsp_id, key, work, reason=data.reason or "")


@operation(
    "GET", "/fsps/{fsp_id:str}/aliases/{kind:str}/{identifier:str}", READERS, "Read an alias", answers=Alias
)  # fmt: skip
async def read_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], kind: FromPath[str],
    identifier: FromPath[str], sub_id: _SubId = None, country: _CountryQuery = None,
) -> Response[bytes]:  # fmt: skip
    key = reading.read_key(kind, identifier, sub_id=sub_id, country=country)
    standing = await _standing(call.postgres.rows, fsp_id, key)
    return call.read(standing.resource(reading), standing.version)


@operation(
    "PATCH", "/fsps/{fsp_id:str}/aliases/{kind:str}/{identifier:str}", WRITERS,
    "Give an alias one currency, in place of those it has", answers=Alias,
)  # fmt: skip
async def change_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], kind: FromPath[str],
    identifier: FromPath[str], data: JSONBody[AliasChange], sub_id: _SubId = None, country: _CountryQuery = None,
) -> Response[bytes]:  # fmt: skip
    key = reading.read_key(kind, identifier, sub_id=sub_id, country=country)

    async def work(transaction: Transaction) -> Answer:
        call.match((await _locked(transaction, fsp_id, key)).version)
        await _require_permitted(transaction.rows, fsp_id, kind, reading)
        await aliases.update(transaction, fsp_id, key, data.currency or "")
        standing = await _standing(transaction.rows, fsp_id, key)
        return answer(standing.resource(reading), version=standing.version)

    return await call.change_alias(fsp_id, key, work, reason=data.reason)


@operation(
    "DELETE", "/fsps/{fsp_id:str}/aliases/{kind:str}/{identifier:str}", WRITERS,
    "Remove an alias, or with `currency` its entry in that one", status=204,
)  # fmt: skip
async def remove_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], kind: FromPath[str],
    identifier: FromPath[str], reason: FromQuery[RemovalReason],
    note: Annotated[str | None, QueryParameter(name="note", min_length=1, max_length=200, pattern=_LINE)] = None,
    currency: Annotated[str | None, QueryParameter(name="currency", pattern="^[A-Z]{3}$", max_length=3)] = None,
    sub_id: _SubId = None, country: _CountryQuery = None,
) -> Response[None]:  # fmt: skip
    key = reading.read_key(kind, identifier, sub_id=sub_id, country=country)

    async def work(transaction: Transaction) -> Answer:
        call.match((await _locked(transaction, fsp_id, key)).version)
        await aliases.remove(transaction, fsp_id, *key, currency)
        return Answer(204, b"")

    given = await call.change_alias(fsp_id, key, work, reason=f"{reason}: {note}" if note else reason)
    return cast("Response[None]", given)  # the type of nothing, as Litestar wants it beside 204; a refusal has a body


async def _require_permitted(rows: Rows, fsp_id: str, kind: str, reading: Reading) -> None:
    """Raises Refusal 404, NotAllowed.  The currency and the PartyIdType are looked at by the change itself."""
    found = await rows("fsp_status", fsp_id)
    if not found:
        raise no_such_fsp()
    kinds = found[0]["kinds"]
    if kinds is not None and not reading.is_permitted(kind.upper(), kinds):
        raise errors.NotAllowed


async def _standing(rows: Rows, fsp_id: str, key: PartyKey) -> _Standing:
    """Raises Refusal 404, the same whether it is nobody's or another's."""
    found = await rows("alias_entries", fsp_id, [key.party_id_type], [key.identifier], [key.sub_id])
    if not found:
        raise Refusal(404, "not_found", "Not found", "No such alias of this FSP")
    entries = [_entry(row["currency"], row["is_default"], row["changed_at"]) for row in found]
    return _Standing(key, entries, found[0]["status"])


async def _locked(transaction: Transaction, fsp_id: str, key: PartyKey) -> _Standing:
    """What stands, held until the transaction ends.  Raises Refusal 404, DirectoryUnavailable.

    A default entry that was removed while we waited for it may have an heir, which nobody holds yet: then once more.
    """
    for _ in range(LOCK_ATTEMPTS):
        held = {row["sub_id"] for row in await transaction.rows("alias_lock", fsp_id, *key)}
        standing = await _standing(transaction.rows, fsp_id, key)
        if key.sub_id in held:
            return standing
    raise errors.DirectoryUnavailable


def _entry(currency: str, default: bool, changed_at: datetime) -> AliasEntry:
    return AliasEntry(currency=currency or None, default=default, changed_at=changed_at)


def _state(status: str) -> State:
    return "answered" if status in _ANSWERED else "unanswered"


def _location(fsp_id: str, kind: str, key: PartyKey) -> str:
    query = f"?subId={quote(key.sub_id, safe='')}" if key.sub_id else ""
    return f"{path_of(fsp_id)}/aliases/{kind}/{quote(key.identifier, safe='')}{query}"


# Many of them -------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Behind which entry a page begins."""

    type_index: int
    changed_at: datetime
    identifier: str = ""
    sub_id: str = ""
    currency: str = ""


class _Filter(NamedTuple):
    fsp_id: str
    kind: str | None
    state: str | None
    since: datetime
    until: datetime

    @property
    def party_id_types(self) -> Sequence[str]:
        return _TYPES if self.kind is None else (PARTY_ID_TYPES[self.kind],)

    def digest(self) -> bytes:
        return hashlib.sha256(msgspec.msgpack.encode(self)).digest()

    def takes(self, key: PartyKey) -> bool:
        """Whether the key is of the kind.  A kind that the directory keeps as a wider one is seen by its form."""
        scheme = None if self.kind is None else find_scheme(self.kind)
        return scheme is None or scheme.is_plain or scheme.is_canonical(key.identifier)


@operation(
    "GET", "/fsps/{fsp_id:str}/aliases", READERS, "List the aliases of an FSP, by type and time of change",
    answers=AliasPage,
)  # fmt: skip
async def list_aliases(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str],
    kind: FromQuery[Kind | None] = None, wanted_state: Annotated[State | None, QueryParameter(name="state")] = None,
    changed_from: Annotated[datetime | None, QueryParameter(name="changedFrom", description="From then on")] = None,
    changed_to: Annotated[datetime | None, QueryParameter(name="changedTo", description="Before then")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE, cursor: FromQuery[str | None] = None,
) -> Response[bytes]:  # fmt: skip
    wanted = _Filter(fsp_id, kind, wanted_state, _instant(changed_from, _BEGINNING), _instant(changed_to, _END))
    place = _opened(call, wanted, cursor)
    found = await call.postgres.rows("fsp_status", fsp_id)
    if not found:
        raise no_such_fsp()
    status = found[0]["status"]
    if wanted_state is not None and wanted_state != _state(status):
        return call.read(AliasPage(items=[], next=None))
    standing, next_place = await page(call.postgres.rows, wanted, status, place, limit)
    # In a thread, which leaves the loop its turns: to format a thousand telephone numbers takes a tenth of a second.
    items = await asyncio.to_thread(lambda: [each.resource(reading) for each in standing])
    return call.read(AliasPage(items=items, next=None if next_place is None else _sealed(call, wanted, next_place)))


async def page(
    rows: Rows, wanted: _Filter, status: str, place: _Place | None, limit: int
) -> tuple[list[_Standing], _Place | None]:
    """The aliases of one page, and where the next one begins."""
    picked: dict[PartyKey, _Standing] = {}
    place = place or _Place(0, wanted.since)
    scanned, chunk = 0, limit * 5 // 4 + 1  # some are further entries of aliases that are listed already
    while place.type_index < len(wanted.party_id_types):
        party_id_type = wanted.party_id_types[place.type_index]
        found = await rows("aliases_page", wanted.fsp_id, party_id_type, wanted.until, *place[1:], chunk)
        for row in found:
            key = PartyKey(party_id_type, row["identifier"], row["sub_id"])
            entries = _entries(row)
            if _is_first(row, entries, wanted.since) and wanted.takes(key):
                if len(picked) == limit:
                    return list(picked.values()), place
                picked[key] = _Standing(key, entries, status)
            place = _Place(place.type_index, row["changed_at"], row["identifier"], row["sub_id"], row["currency"])
        scanned += len(found)
        if len(found) < chunk:
            place = _Place(place.type_index + 1, wanted.since)
        elif scanned >= SCAN_MAX:
            return list(picked.values()), place
        chunk = max(chunk, min(2 * chunk, SCAN_CHUNK))
    return list(picked.values()), None


def _entries(row: Any) -> list[AliasEntry]:
    """All that the FSP has under the key of a row."""
    found = []
    if row["is_default"]:
        found.append(_entry(row["currency"], True, row["changed_at"]))
    elif row["default_currency"] is not None:
        found.append(_entry(row["default_currency"], True, row["default_changed_at"]))
    further = zip(row["further_currencies"] or (), row["further_changed_at"] or (), strict=True)
    return found + [_entry(currency, False, changed_at) for currency, changed_at in further]


def _is_first(row: Any, entries: Sequence[AliasEntry], since: datetime) -> bool:
    """An alias stands in the list once: where the first of its entries does that changed in the time asked for."""
    here = (row["changed_at"], row["currency"])
    return all((e.changed_at, e.currency or "") >= here for e in entries if e.changed_at >= since)


def _instant(asked: datetime | None, otherwise: datetime) -> datetime:
    if asked is None:
        return otherwise
    try:
        if asked.tzinfo is not None:
            return min(max(asked.astimezone(UTC), _BEGINNING), _END)
    except OverflowError:
        pass
    raise Refusal(400, "invalid", "The time cannot be read", "RFC 3339 with an offset: 2026-03-01T10:00:00Z")


def _cipher(call: Call) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hashlib.sha256(f"{call.caller.secret}\0cursor".encode()).digest())


def _sealed(call: Call, wanted: _Filter, place: _Place) -> str:
    packed = msgspec.msgpack.encode((place.type_index, (place.changed_at - _EPOCH) // _MICROSECOND, *place[2:]))
    nonce = os.urandom(12)
    return base64.urlsafe_b64encode(nonce + _cipher(call).encrypt(nonce, packed, wanted.digest())).rstrip(b"=").decode()


def _opened(call: Call, wanted: _Filter, cursor: str | None) -> _Place | None:
    if cursor is None:
        return None
    try:
        sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        packed = _cipher(call).decrypt(sealed[:12], sealed[12:], wanted.digest())
    except (ValueError, InvalidTag):
        raise Refusal(
            400, "invalid", "The cursor cannot be read", "Use `next` of the page before, with the same filters and key"
        ) from None
    type_index, microseconds, *rest = msgspec.msgpack.decode(packed, type=tuple[int, int, str, str, str])
    return _Place(type_index, _EPOCH + microseconds * _MICROSECOND, *rest)


# Which of these are there -------------------------------------------------------------------------------------


@operation(
    "POST", "/fsps/{fsp_id:str}/aliases/check", READERS, "Which of up to 1,000 aliases the FSP has",
    answers=CheckedAliases, reads=True,
)  # fmt: skip
async def check_aliases(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: JSONBody[AliasNames]
) -> Response[bytes]:
    async def work(rows: Rows) -> Answer:
        if not await rows("fsp_status", fsp_id):
            raise no_such_fsp()
        keys, read = _read(reading, data.items)
        found = await rows("alias_entries", fsp_id, *zip(*keys, strict=True)) if keys else []
        there = {keys[row["ord"] - 1] for row in found}
        return answer(CheckedAliases(items=[_checked(reading, item, there) for item in read]))

    return await asked(call, work)


@operation("POST", "/aliases/lookup", OPERATOR, "Who has up to 1,000 identifiers, or which route", answers=FoundAliases)
async def look_up(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[AliasNames]
) -> Response[bytes]:
    async def work(rows: Rows) -> Answer:
        keys, read = _read(reading, data.items)
        columns = [key.party_id_type for key in keys], [key.identifier for key in keys]
        held = _by_key(keys, await rows("aliases_held", *columns))
        routed = _by_key(keys, await rows("aliases_routed", *columns))
        named = [item.sub_id is not None for item in data.items]
        return answer(
            FoundAliases(
                items=[_found(reading, item, every, held, routed) for item, every in zip(read, named, strict=True)]
            )
        )

    return await asked(call, work)


async def asked(call: Call, work: Callable[[Rows], Awaitable[Answer]]) -> Response[bytes]:
    """A POST that changes nothing; with an Idempotency-Key its answer is kept like that of any."""

    async def change(once: Once) -> Answer:
        if once.key is None:
            return await work(call.postgres.rows)
        return await call.changes.administer(call.context(), lambda transaction: work(transaction.rows), once)

    return await call.once(change)


def _read(reading: Reading, items: Iterable[AliasName]) -> tuple[list[PartyKey], list[PartyKey | BadIdentifier]]:
    """All keys, each once, and in their order what each item names or what is wrong with it."""
    read: list[PartyKey | BadIdentifier] = []
    for item in items:
        try:
            read.append(reading.read_key(item.kind, item.identifier, sub_id=item.sub_id, country=item.country))
        except BadIdentifier as wrong:
            read.append(wrong)
    return list(dict.fromkeys(key for key in read if isinstance(key, PartyKey))), read


def _by_key(keys: Sequence[PartyKey], rows: Sequence[Any]) -> dict[PartyKey, list[Any]]:
    return {keys[ord_ - 1]: list(group) for ord_, group in groupby(rows, lambda row: int(row["ord"]))}


def _checked(reading: Reading, item: PartyKey | BadIdentifier, there: set[PartyKey]) -> CheckedAlias:
    if isinstance(item, BadIdentifier):
        return CheckedAlias(**_NOTHING_READ, exists=None, error=refusal_of(item).problem)
    return CheckedAlias(**_named(reading, item), exists=item in there, error=None)


def _found(
    reading: Reading,
    item: PartyKey | BadIdentifier,
    sub_id_named: bool,
    held: dict[PartyKey, list[Any]],
    routed: dict[PartyKey, list[Any]],
) -> FoundAlias:
    if isinstance(item, BadIdentifier):
        return FoundAlias(**_NOTHING_READ, holders=[], route=None, error=refusal_of(item).problem)
    entries = held.get(item, [])
    here = [entry for entry in entries if entry["sub_id"] == item.sub_id]
    routes = [] if here else routed.get(item, [])
    return FoundAlias(
        **_named(reading, item),
        holders=[_holder(entry) for entry in (here if sub_id_named else entries)],
        route=_route(routes[0]) if routes else None,
        error=None,
    )


_NOTHING_READ: Final[dict[str, Any]] = dict.fromkeys(("kind", "party_id_type", "identifier", "sub_id"))


def _named(reading: Reading, key: PartyKey) -> dict[str, Any]:
    return {
        "kind": reading.read_kind(key),
        "party_id_type": PartyIdType(key.party_id_type),
        "identifier": key.identifier,
        "sub_id": key.sub_id or None,
    }


def _holder(row: Any) -> AliasHolder:
    return AliasHolder(
        fsp_id=row["fsp_id"],
        sub_id=row["sub_id"] or None,
        currency=row["currency"] or None,
        default=row["is_default"],
        state=_state(row["status"]),
    )


def _route(row: Any) -> DecidingRoute:
    return DecidingRoute(
        route_id=row["route_id"], prefix=row["prefix"], fsp_id=row["fsp_id"], state=_state(row["status"])
    )

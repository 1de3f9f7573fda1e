"""Administration of aliases: one FSP's own, and for operators the FSP of any identifier.

Spellings.  Callers write an identifier in any spelling of its kind (oracle.identifiers), in paths too.  Answers have
            the canonical spelling, with the forms that people read.  The directory stores a CLABE as an ACCOUNT_ID and
            an NRC as a PERSONAL_ID, so `kind` of an answer is the kind that the key reads as.
Foreign.    Aliases of another FSP are absent: every query names the FSP, and the answer is the same, byte for byte.
Versions.   The ETag of an alias is made of its entries and the times of their changes.  A change locks the alias
            before it compares, so of two writers who have read the same version one gets 412.
Pages.      Type after type, and within a type by the time of the last change.  Such a time only grows, so an alias that
            exists throughout never moves to a page that was read already: a reader misses none, but may meet a changed
            one twice.  A page reads SCAN_MAX entries at most; a page that a filter made short still has a `next`.
            With a prefix they are in the order of their identifiers, so that a page reads one range of an index.
            With a currency an alias is listed at its entry in that currency.  With both, too, a page reads one range of
            the identifiers, and can be short.
Persons.    Where the FSP has two persons, a change of anybody waits for the second one: 202 with its batch
            (`oracle.imports.one_alias`).  What a change at once would refuse is refused at once, and what is so already
            needs nobody: 200.
Stored.     An alias that older rules let in is reached by the text that is stored (`stored`), and listed by `doubtful`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, cast
from urllib.parse import quote, urlencode

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from oracle import errors
from oracle.api.admin import forms
from oracle.api.admin.access import OPERATOR, allow
from oracle.api.admin.batches import Batch, describe_batches, refuse_excess
from oracle.api.admin.budgets import Budgets
from oracle.api.admin.calls import Body, Call, Resource, answer, answer_of
from oracle.api.admin.fsps import fetch_default_country, no_such_fsp, path_of
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.problems import ItemProblem, Refusal, refusal_of
from oracle.api.admin.routes import make_bad_prefix
from oracle.api.admin.stored import AsStored, AsStoredQuery, Rows, find_key, read_stored_key
from oracle.api.admin.times import read_time
from oracle.api.admin.values import (
    ANSWERED_STATUSES,
    LINE_PATTERN,
    AliasState,
    Country,
    CountryQuery,
    Currency,
    CurrencyQuery,
    Identifier,
    KindName,
    Reason,
    RemovalReason,
    SubIdQuery,
    capitalise,
    refuse_damage,
    require_current,
)
from oracle.identifiers import (
    KINDS,
    PARTY_ID_TYPES,
    BadIdentifier,
    Kind,
    PartyIdType,
    PartyKey,
    Reading,
    display,
    find_scheme,
)
from oracle.identifiers.prefix import bound_above
from oracle.identity.identity import Role
from oracle.imports import one_alias
from oracle.imports.one_alias import OneChange
from oracle.store import aliases
from oracle.store.aliases import Allowance
from oracle.store.base import Registration
from oracle.store.postgres import Transaction
from oracle.store.routes import fits, rank
from oracle.store.rows import HolderRow, ListedAliasRow, OwnEntryRow, RouteDecisionRow

ITEMS_MAX: Final = 1_000
SCAN_MAX: Final = 2_000
SCAN_CHUNK: Final = 1_000
_TYPES: Final = tuple(member.value for member in PartyIdType)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)

WRITERS: Final = allow(Role.OPERATOR, Role.MAKER)
READERS: Final = allow(Role.OPERATOR, Role.MAKER, Role.CHECKER, Role.READER)


# What comes in ------------------------------------------------------------------------------------------------


class NewAlias(Body):
    kind: KindName
    identifier: Identifier
    sub_id: str | None = None
    currency: Currency | None = None
    country: Country | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        self.currency = capitalise(self.currency)


class AliasChange(Body):
    currency: Annotated[Currency | None, Meta(description="The only currency from now on; null: every currency")]
    reason: Reason

    def __post_init__(self) -> None:
        self.currency = capitalise(self.currency)


class AliasName(Body):
    kind: KindName
    identifier: Identifier
    sub_id: str | None = None
    country: str | None = None
    as_stored: AsStored = False


class AliasNames(Body):
    items: Annotated[list[AliasName], Meta(min_length=1, max_length=ITEMS_MAX)]


# What goes out ------------------------------------------------------------------------------------------------


class AliasEntry(Resource):
    currency: Annotated[str | None, Meta(description="null: every currency")]
    default: Annotated[bool, Meta(description="It answers lookups without a currency")]
    changed_at: datetime


class AliasForms(Resource):
    """As people write it.  Do not send it back."""

    text: str
    country: Annotated[str | None, Meta(description="Of a phone number: its country, ISO 3166 alpha-2")]
    latin: str | None
    burmese: str | None
    institution: str | None


class Alias(Resource):
    kind: Annotated[Kind, Meta(description="The kind that was recognised, for example CLABE for an ACCOUNT_ID")]
    party_id_type: PartyIdType
    identifier: Annotated[str, Meta(description="Canonical")]
    sub_id: str | None
    entries: list[AliasEntry]
    display: AliasForms
    state: Annotated[AliasState, Meta(description="Whether lookups are answered; the FSP's status decides")]
    hint: Annotated[
        bool, Meta(description="Found by the hub in another scheme; the registration of any FSP replaces it")
    ]
    changed_at: datetime


class AliasPage(Resource):
    items: list[Alias]
    next: Annotated[str | None, Meta(description="The cursor of the next page; a short page can have one, too")]


class CheckedAlias(Resource):
    kind: Kind | None
    party_id_type: PartyIdType | None
    identifier: Annotated[str | None, Meta(description="Canonical")]
    display: Annotated[str | None, Meta(description="As people write it")]
    sub_id: str | None
    exists: bool | None
    error: ItemProblem | None


class CheckedAliases(Resource):
    items: Annotated[
        list[CheckedAlias], Meta(description="One result for each item of the question, in the same order")
    ]


class AliasHolder(Resource):
    fsp_id: str
    sub_id: str | None
    currency: str | None
    default: bool
    hint: Annotated[
        bool, Meta(description="Found by the hub in another scheme; the registration of any FSP replaces it")
    ]
    state: AliasState


class DecidingRoute(Resource):
    route_id: int
    kind: Kind
    prefix: str
    fsp_id: str
    state: AliasState


class FoundAlias(Resource):
    kind: Kind | None
    party_id_type: PartyIdType | None
    identifier: Annotated[str | None, Meta(description="Canonical")]
    display: Annotated[str | None, Meta(description="As people write it")]
    sub_id: str | None
    holders: Annotated[list[AliasHolder], Meta(description="With subId: under that one; without: under every subId")]
    route: Annotated[
        DecidingRoute | None, Meta(description="The route that decides where no FSP has registered the key")
    ]
    error: ItemProblem | None


class FoundAliases(Resource):
    items: Annotated[list[FoundAlias], Meta(description="One result for each item of the question, in the same order")]


class _PartyEntries(NamedTuple):
    """One FSP's entries under a key, now."""

    key: PartyKey
    entries: list[AliasEntry]
    status: str
    is_hint: bool

    @property
    def version(self) -> str:
        return aliases.compute_version([(e.currency, e.default, e.changed_at) for e in self.entries], self.status)

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
                text=shown.text,
                country=shown.country,
                latin=shown.lossless_latin,
                burmese=shown.burmese,
                institution=shown.institution,
            ),
            state=state_of(self.status),
            hint=self.is_hint,
            changed_at=max(entry.changed_at for entry in self.entries),
        )


def handlers() -> list[HTTPRouteHandler]:
    return [list_aliases, register_alias, check_aliases, read_alias, change_alias, remove_alias, look_up]


# One alias ----------------------------------------------------------------------------------------------------


@operation(
    "registerAlias",
    "POST",
    "/fsps/{fsp_id:str}/aliases",
    WRITERS,
    "Register an alias; 200 if the FSP has it already",
    answers=Alias,
    status=201,
    also=(200,),
    waits=Batch,
)
async def register_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], budgets: NamedDependency[Budgets],
    fsp_id: FromPath[str], data: JSONBody[NewAlias],
) -> Response[bytes]:  # fmt: skip
    refuse_damage(data.identifier, data.sub_id)
    require_current(data.currency)
    default_country = await fetch_default_country(call.postgres.rows, fsp_id)
    key = reading.read_key(
        data.kind, data.identifier, sub_id=data.sub_id, country=data.country, default_country=default_country
    )

    async def work(transaction: Transaction) -> Answer:
        await _require_permitted(transaction.rows, fsp_id, data.kind, data.currency, reading)
        allowance = await call.changes.admit(transaction, fsp_id)
        is_new = False
        if await _needs_approval(transaction, fsp_id):
            try:
                is_unchanged = await _is_unchanged(transaction, fsp_id, "add", key, data.currency or "", allowance)
            except errors.AlreadyRegistered as exc:
                payment.note(exc)
                raise
            if not is_unchanged:
                kind = reading.read_kind(key)
                change = OneChange("add", kind, key, data.currency or "", data.reason or "")
                return await _leave_waiting(transaction, call, fsp_id, change)
        else:
            registration = Registration(key, data.currency or "")
            (result,) = await aliases.register(transaction, fsp_id, [registration], allowance)
            if result.refused is not None:
                payment.note(result.refused)
                return answer_of(refusal_of(result.refused))
            is_new = result.changed
        now = await _fetch_entries(transaction.rows, fsp_id, key)
        location = _location(fsp_id, reading, key, default_country)
        status = 201 if is_new else 200
        return answer(now.resource(reading), status=status, version=now.version, location=location)

    async with budgets.pay(call, fsp_id) as payment:
        return await call.change_alias(fsp_id, key, work, reason=data.reason or "")


@operation(
    "getAlias", "GET", "/fsps/{fsp_id:str}/aliases/{kind:str}/{identifier:str}", READERS, "Read an alias", answers=Alias
)
async def read_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], kind: FromPath[str],
    identifier: FromPath[str], sub_id: SubIdQuery = None, country: CountryQuery = None,
    as_stored: AsStoredQuery = False,
) -> Response[bytes]:  # fmt: skip
    key = await find_key(
        call.postgres.rows, reading, fsp_id, kind, identifier, sub_id=sub_id, country=country, as_stored=as_stored
    )
    now = await _fetch_entries(call.postgres.rows, fsp_id, key)
    return call.read(now.resource(reading), now.version)


@operation(
    "changeAlias",
    "PATCH",
    "/fsps/{fsp_id:str}/aliases/{kind:str}/{identifier:str}",
    WRITERS,
    "Change the currency of an alias",
    answers=Alias,
    waits=Batch,
)
async def change_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], kind: FromPath[str],
    identifier: FromPath[str], data: JSONBody[AliasChange], sub_id: SubIdQuery = None, country: CountryQuery = None,
    as_stored: AsStoredQuery = False,
) -> Response[bytes]:  # fmt: skip
    require_current(data.currency)
    key = await find_key(
        call.postgres.rows, reading, fsp_id, kind, identifier, sub_id=sub_id, country=country, as_stored=as_stored
    )

    async def work(transaction: Transaction) -> Answer:
        now = await _lock_entries(transaction, fsp_id, key)
        call.match(now.version)
        await _require_permitted(transaction.rows, fsp_id, kind, data.currency, reading)
        if await _needs_approval(transaction, fsp_id):
            allowance = await _fetch_allowance(transaction, fsp_id)
            if not await _is_unchanged(transaction, fsp_id, "update", key, data.currency or "", allowance):
                change = OneChange(
                    "update", reading.read_kind(key), key, data.currency or "", data.reason, call.expected(now.version)
                )
                return await _leave_waiting(transaction, call, fsp_id, change)
        await aliases.update(transaction, fsp_id, key, data.currency or "")
        now = await _fetch_entries(transaction.rows, fsp_id, key)
        return answer(now.resource(reading), version=now.version)

    return await call.change_alias(fsp_id, key, work, reason=data.reason)


@operation(
    "removeAlias",
    "DELETE",
    "/fsps/{fsp_id:str}/aliases/{kind:str}/{identifier:str}",
    WRITERS,
    "Remove an alias, or its entry in one currency",
    status=204,
    waits=Batch,
)
async def remove_alias(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], kind: FromPath[str],
    identifier: FromPath[str], reason: FromQuery[RemovalReason],
    note: Annotated[str | None, QueryParameter(name="note", min_length=1, max_length=200, pattern=LINE_PATTERN)] = None,
    currency: CurrencyQuery = None,
    sub_id: SubIdQuery = None, country: CountryQuery = None, as_stored: AsStoredQuery = False,
) -> Response[None]:  # fmt: skip
    key = await find_key(
        call.postgres.rows, reading, fsp_id, kind, identifier, sub_id=sub_id, country=country, as_stored=as_stored
    )

    why = f"{reason}: {note}" if note else reason

    async def work(transaction: Transaction) -> Answer:
        now = await _lock_entries(transaction, fsp_id, key)
        call.match(now.version)
        if await _needs_approval(transaction, fsp_id):
            await _require_entry(transaction, fsp_id, key, capitalise(currency))
            change = OneChange(
                "remove", reading.read_kind(key), key, capitalise(currency) or "", why, call.expected(now.version)
            )
            return await _leave_waiting(transaction, call, fsp_id, change)
        await aliases.remove(transaction, fsp_id, *key, capitalise(currency))
        return Answer(204, b"")

    given = await call.change_alias(fsp_id, key, work, reason=why)
    return cast("Response[None]", given)  # the type of nothing, as Litestar wants it beside 204; a refusal has a body


async def _require_permitted(rows: Rows, fsp_id: str, kind: str, currency: str | None, reading: Reading) -> None:
    """Raises Refusal 404, 409.  The change itself looks again at the currency and the PartyIdType."""
    found = await rows("fsp_status", fsp_id)
    if not found:
        raise no_such_fsp()
    kinds, currencies = found[0]["kinds"], found[0]["currencies"]
    if kinds is not None and not reading.is_permitted(kind.upper(), kinds):
        raise _make_not_allowed(fsp_id, kind.upper(), "kinds", kinds)
    if currency and currencies is not None and currency not in currencies:
        raise _make_not_allowed(fsp_id, currency, "currencies", currencies)


def _make_not_allowed(fsp_id: str, name: str, member: str, allowed: Collection[str]) -> Refusal:
    """Name what is allowed in place of `name`: a kind, or a currency of today."""
    detail = f"{fsp_id} cannot register {name}; it has no {member}"
    if allowed:
        detail = f"{fsp_id} cannot register {name}; its {member} are {', '.join(sorted(allowed))}"
    return Refusal(409, "not_allowed", detail, f"An operator can add it to the {member} of the FSP")


async def _fetch_entries(rows: Rows, fsp_id: str, key: PartyKey) -> _PartyEntries:
    """Read the FSP's entries.  Raises Refusal 404, the same whether nobody or another FSP has registered the key."""
    return _read_entries(key, await rows("alias_entries", fsp_id, [key.party_id_type], [key.identifier], [key.sub_id]))


def _read_entries(key: PartyKey, found: Sequence[OwnEntryRow]) -> _PartyEntries:
    """Raises Refusal 404 where there are none."""
    if not found:
        raise Refusal(404, "not_found", "Not found", "This FSP has no such alias")
    entries = [_entry(row["currency"], row["is_default"], row["changed_at"]) for row in found]
    return _PartyEntries(key, entries, found[0]["status"], found[0]["is_hint"])


async def _lock_entries(transaction: Transaction, fsp_id: str, key: PartyKey) -> _PartyEntries:
    """Lock the entries until the transaction ends, and read them.  Raises Refusal 404, DirectoryUnavailable."""
    return _read_entries(key, await aliases.lock_entries(transaction, fsp_id, key))


# A second person ----------------------------------------------------------------------------------------------


async def _needs_approval(transaction: Transaction, fsp_id: str) -> bool:
    """Whether a second person must approve a change of this FSP's aliases.  Raises Refusal 429."""
    with refuse_excess(open_max=one_alias.WAITING_MAX):
        return await one_alias.needs_approval(transaction, fsp_id)


async def _fetch_allowance(transaction: Transaction, fsp_id: str) -> Allowance:
    return Allowance.of((await transaction.rows("fsp_status", fsp_id))[0])


async def _is_unchanged(
    transaction: Transaction, fsp_id: str, action: Literal["add", "update"], key: PartyKey, currency: str,
    allowance: Allowance,
) -> bool:  # fmt: skip
    """Whether the alias is as the change would make it.  Raises what the change would raise at once."""
    if not allowance.includes(key.party_id_type, currency):
        raise errors.NotAllowed
    effect = await aliases.foresee(transaction, fsp_id, action, key, currency)
    if effect == "held_elsewhere":
        raise errors.AlreadyRegistered
    return effect == "unchanged"


async def _require_entry(transaction: Transaction, fsp_id: str, key: PartyKey, currency: str | None) -> None:
    """Raises PartyNotFound where there is nothing to remove."""
    if await aliases.foresee(transaction, fsp_id, "remove", key, currency) == "not_registered":
        raise errors.PartyNotFound


async def _leave_waiting(transaction: Transaction, call: Call, fsp_id: str, change: OneChange) -> Answer:
    batches = f"{path_of(fsp_id)}/batches"
    try:
        row = await one_alias.add_batch(
            transaction, call.context(fsp_id=fsp_id), fsp_id, change, person=call.caller.person
        )
    except one_alias.AlreadyWaiting as exc:
        raise Refusal(
            409, "already_waiting", str(exc), "A second person must approve it. To withdraw it, cancel the batch",
            {"Location": f"{batches}/{exc.batch_id}"},
        ) from exc  # fmt: skip
    (batch,) = await describe_batches(transaction.rows, [row])
    return answer(batch, status=202, location=f"{batches}/{row['batch_id']}")


def _entry(currency: str, default: bool, changed_at: datetime) -> AliasEntry:
    return AliasEntry(currency=currency or None, default=default, changed_at=changed_at)


def state_of(status: str) -> AliasState:
    return "answered" if status in ANSWERED_STATUSES else "unanswered"


def _location(fsp_id: str, reading: Reading, key: PartyKey, default_country: str | None) -> str:
    """Return the URL of an alias.  A text that could mean another alias as well is marked as the stored one."""
    kind = reading.read_kind(key)
    query = {"subId": key.sub_id} if key.sub_id else {}
    if not _reads_as(reading, kind, key, default_country):
        query["asStored"] = "true"
    asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"{path_of(fsp_id)}/aliases/{kind}/{quote(key.identifier, safe='')}{asked}"


def _reads_as(reading: Reading, kind: str, key: PartyKey, default_country: str | None) -> bool:
    try:
        read = reading.read_key(kind, key.identifier, sub_id=key.sub_id or None, default_country=default_country)
    except BadIdentifier:
        return False
    return read == key


# Many of them -------------------------------------------------------------------------------------------------


class _ListPosition(NamedTuple):
    """The entry behind which a page begins."""

    type_index: int
    changed_at: datetime
    identifier: str = ""
    sub_id: str = ""
    currency: str = ""


class _KeyPosition(NamedTuple):
    """The key behind which a page of a list with a prefix begins."""

    type_index: int = 0
    identifier: str = ""
    sub_id: str = ""

    @property
    def after(self) -> tuple[str, str]:
        """Identifier and SubId from which the next keys are: no SubId holds a control character."""
        return self.identifier, self.sub_id + "\x01"


OfCurrency = Annotated[
    str | None,
    QueryParameter(
        name="currency", pattern=forms.CURRENCY, max_length=3,
        description="Only aliases with an entry in this currency; the times are those of that entry",
    ),
]  # fmt: skip
Prefix = Annotated[
    str | None,
    QueryParameter(
        name="prefix", min_length=1, max_length=128,
        description="Only identifiers that begin so, read as a prefix of `kind`; without `kind`, as one of each kind",
    ),
]  # fmt: skip


class Filter(NamedTuple):
    """Which aliases of one FSP are wanted."""

    fsp_id: str
    kind: str | None
    state: str | None
    since: datetime
    until: datetime
    currency: str | None
    beginnings: Sequence[tuple[str, str]]  # PartyIdTypes, each with the beginning of its identifiers; '' for all

    @classmethod
    def of(
        cls, fsp_id: str, kind: str | None, state: str | None, since: datetime | None, until: datetime | None,
        currency: str | None, beginnings: Sequence[tuple[str, str]],
    ) -> Self:  # fmt: skip
        return cls(fsp_id, kind, state, since or _BEGINNING, until or _END, capitalise(currency), beginnings)

    @property
    def is_of_all_times(self) -> bool:
        return (self.since, self.until) == (_BEGINNING, _END)

    def is_first(self, row: ListedAliasRow, entries: Sequence[AliasEntry]) -> bool:
        """Whether the alias is listed here: at its entry in the currency, else at the first that changed in the period.

        So it is listed once.
        """
        if self.currency is not None:
            return row["currency"] == self.currency
        here = (row["changed_at"], row["currency"])
        return all((e.changed_at, e.currency or "") >= here for e in entries if e.changed_at >= self.since)

    @property
    def takes_all(self) -> bool:
        """Whether `takes` takes every key of the types."""
        return self.kind is None or find_scheme(self.kind).is_plain

    def takes(self, key: PartyKey) -> bool:
        """Whether the key is of the kind; a kind that the directory stores as a wider one is recognised by its form."""
        scheme = None if self.kind is None else find_scheme(self.kind)
        return scheme is None or scheme.is_plain or scheme.is_canonical(key.identifier)


def read_beginnings(reading: Reading, kind: str | None, prefix: str | None) -> list[tuple[str, str]]:
    """Return the PartyIdTypes to search, each with the beginning of its stored identifiers.

    Raises Refusal for a prefix that the kind does not have, or no kind.
    """
    if prefix is None:
        return [(name, "") for name in (_TYPES if kind is None else (PARTY_ID_TYPES[kind],))]
    if kind is not None:
        try:
            found = reading.read_prefix(kind, prefix)
        except BadIdentifier as exc:
            raise make_bad_prefix(kind, exc) from None
        return [(found.party_id_type, found.prefix)]
    read: dict[str, set[str]] = {party_id_type: set() for party_id_type in _TYPES}
    for each in KINDS:
        with suppress(BadIdentifier):
            read[PARTY_ID_TYPES[each]].add(reading.read_prefix(each, prefix).prefix)
    beginnings = [
        (party_id_type, beginning)
        for party_id_type, found in read.items()
        for beginning in sorted(found)
        if not any(beginning != other and beginning.startswith(other) for other in found)  # it is read once
    ]
    if not beginnings:
        raise Refusal(
            400, "invalid", "No identifier of any kind begins like this", "Correct the prefix, or name its kind",
            field="prefix",
        )  # fmt: skip
    return beginnings


def is_wanted_state(wanted: str | None, status: str) -> bool:
    return wanted is None or wanted == state_of(status)


@operation(
    "listAliases",
    "GET",
    "/fsps/{fsp_id:str}/aliases",
    READERS,
    "List the aliases of an FSP",
    answers=AliasPage,
)
async def list_aliases(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str],
    kind: FromQuery[Kind | None] = None,
    prefix: Prefix = None,
    currency: OfCurrency = None,
    wanted_state: Annotated[AliasState | None, QueryParameter(name="state")] = None,
    changed_from: Annotated[datetime | None, QueryParameter(name="changedFrom", description="From then on")] = None,
    changed_to: Annotated[datetime | None, QueryParameter(name="changedTo", description="Before then")] = None,
    limit: Limit = PAGE, cursor: Cursor = None,
) -> Response[bytes]:  # fmt: skip
    """With `prefix` they are sorted by type and identifier, else by type and time of change."""
    since, until = read_time("changedFrom", changed_from), read_time("changedTo", changed_to)
    wanted = Filter.of(fsp_id, kind, wanted_state, since, until, currency, read_beginnings(reading, kind, prefix))
    cursors = Cursors(call.caller, "aliases", *wanted)
    position: Any = cursors.open(cursor, _ListPosition if prefix is None else _KeyPosition)
    known = await call.postgres.rows("fsp_status", fsp_id)
    if not known:
        raise no_such_fsp()
    status = known[0]["status"]
    if not is_wanted_state(wanted_state, status):
        return call.read(AliasPage(items=[], next=None))
    fetch: Any = fetch_page if prefix is None else _fetch_beginning
    found, following = await fetch(call.postgres.rows, wanted, status, position, limit)
    # In a thread, so that the event loop goes on: formatting a thousand telephone numbers takes a tenth of a second.
    items = await asyncio.to_thread(lambda: [each.resource(reading) for each in found])
    return call.read_page(AliasPage(items=items, next=None if following is None else cursors.close(following)))


async def fetch_page(
    rows: Rows, wanted: Filter, status: str, position: _ListPosition | None, limit: int
) -> tuple[list[_PartyEntries], _ListPosition | None]:
    """Read the aliases of one page, and where the next one begins."""
    picked: dict[PartyKey, _PartyEntries] = {}
    position = position or _ListPosition(0, wanted.since)
    scanned, chunk = 0, limit * 5 // 4 + 1  # some are further entries of aliases that are listed already
    while position.type_index < len(wanted.beginnings):
        party_id_type, _ = wanted.beginnings[position.type_index]
        place = (wanted.fsp_id, party_id_type, wanted.until, position.changed_at, position.identifier, position.sub_id)
        if wanted.currency is None:
            found = await rows("aliases_page", *place, position.currency, chunk)
        else:
            found = await rows("aliases_page_in_currency", *place, chunk, wanted.currency)
        for row in found:
            key = PartyKey(party_id_type, row["identifier"], row["sub_id"])
            entries = _entries(row)
            if wanted.is_first(row, entries) and wanted.takes(key):
                if len(picked) == limit:
                    return list(picked.values()), position
                picked[key] = _PartyEntries(key, entries, status, row["is_hint"])
            position = _ListPosition(
                position.type_index, row["changed_at"], row["identifier"], row["sub_id"], row["currency"]
            )
        scanned += len(found)
        if len(found) < chunk:
            position = _ListPosition(position.type_index + 1, wanted.since)
        elif scanned >= SCAN_MAX:
            return list(picked.values()), position
        chunk = max(chunk, min(2 * chunk, SCAN_CHUNK))
    return list(picked.values()), None


async def _fetch_beginning(
    rows: Rows, wanted: Filter, status: str, position: _KeyPosition | None, limit: int
) -> tuple[list[_PartyEntries], _KeyPosition | None]:
    """Do the same for a list with a prefix, in the order of the identifiers."""
    picked: list[PartyKey] = []
    position = position or _KeyPosition()
    following: _KeyPosition | None = None
    scanned, chunk = 0, limit + 1
    while following is None and position.type_index < len(wanted.beginnings):
        party_id_type, beginning = wanted.beginnings[position.type_index]
        start = position.after if position.identifier else (beginning, "")
        found = await rows(
            "aliases_beginning", wanted.fsp_id, party_id_type, *start, bound_above(beginning), wanted.since,
            wanted.until, chunk, wanted.currency,
        )  # fmt: skip
        for row in found:
            key = PartyKey(party_id_type, row["identifier"], row["sub_id"])
            if row["fits"] and wanted.takes(key):
                if len(picked) == limit:
                    following = position
                    break
                picked.append(key)
            position = _KeyPosition(position.type_index, key.identifier, key.sub_id)
        scanned += len(found)
        if following is None:
            if len(found) < chunk:
                position = _KeyPosition(position.type_index + 1)
            elif scanned >= SCAN_MAX:
                following = position
        chunk = max(chunk, min(2 * chunk, SCAN_CHUNK))
    return await _fetch_all_entries(rows, wanted.fsp_id, status, picked), following


async def _fetch_all_entries(rows: Rows, fsp_id: str, status: str, keys: Sequence[PartyKey]) -> list[_PartyEntries]:
    """Read the entries of the FSP under these keys.  One that is gone meanwhile is left out."""
    found = _by_key(keys, await rows("alias_entries", fsp_id, *zip(*keys, strict=True))) if keys else {}
    return [
        _PartyEntries(key, [_entry(row["currency"], row["is_default"], row["changed_at"]) for row in entries], status,
                      entries[0]["is_hint"])
        for key, entries in found.items()
    ]  # fmt: skip


def _entries(row: Any) -> list[AliasEntry]:
    """Return all entries of the FSP under the key of a row."""
    found = []
    if row["is_default"]:
        found.append(_entry(row["currency"], True, row["changed_at"]))
    elif row["default_currency"] is not None:
        found.append(_entry(row["default_currency"], True, row["default_changed_at"]))
    further = zip(row["further_currencies"] or (), row["further_changed_at"] or (), strict=True)
    return found + [_entry(currency, False, changed_at) for currency, changed_at in further]


# Which of these are there -------------------------------------------------------------------------------------


@operation(
    "checkAliases",
    "POST",
    "/fsps/{fsp_id:str}/aliases/check",
    READERS,
    "Check which of up to 1,000 aliases the FSP has",
    answers=CheckedAliases,
    reads=True,
)
async def check_aliases(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: JSONBody[AliasNames]
) -> Response[bytes]:
    async def work(rows: Rows) -> Answer:
        if not await rows("fsp_status", fsp_id):
            raise no_such_fsp()
        keys, read = _read_items(reading, data.items, await fetch_default_country(rows, fsp_id))
        found = await rows("alias_entries", fsp_id, *zip(*keys, strict=True)) if keys else []
        there = {keys[row["ord"] - 1] for row in found}
        return answer(CheckedAliases(items=[_check_item(reading, item, there) for item in read]))

    return await answer_question(call, work)


@operation(
    "lookUpAliases",
    "POST",
    "/aliases/lookup",
    OPERATOR,
    "Find the FSPs of up to 1,000 identifiers",
    answers=FoundAliases,
)
async def look_up(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[AliasNames]
) -> Response[bytes]:
    async def work(rows: Rows) -> Answer:
        keys, read = _read_items(reading, data.items)
        columns = [key.party_id_type for key in keys], [key.identifier for key in keys]
        held = _by_key(keys, await rows("aliases_of_identifiers", *columns))
        routed = _by_key(keys, await rows("aliases_routed", *columns))
        named = [item.sub_id is not None for item in data.items]
        return answer(
            FoundAliases(
                items=[_find_item(reading, item, every, held, routed) for item, every in zip(read, named, strict=True)]
            )
        )

    return await answer_question(call, work)


async def answer_question(call: Call, work: Callable[[Rows], Awaitable[Answer]]) -> Response[bytes]:
    """Answer a POST that changes nothing.  Nothing of it is kept, also with an Idempotency-Key: ask again."""
    return (await work(call.postgres.rows)).response()


def _read_items(
    reading: Reading, items: Iterable[AliasName], default_country: str | None = None
) -> tuple[list[PartyKey], list[PartyKey | BadIdentifier]]:
    """Read all keys, each once; and in their order the key of each item, or what is wrong with it."""
    read: list[PartyKey | BadIdentifier] = []
    for item in items:
        try:
            read.append(_read_item(reading, item, default_country))
        except BadIdentifier as wrong:
            read.append(wrong)
    return list(dict.fromkeys(key for key in read if isinstance(key, PartyKey))), read


def _read_item(reading: Reading, item: AliasName, default_country: str | None) -> PartyKey:
    if item.as_stored:
        return read_stored_key(item.kind, item.identifier, item.sub_id)
    return reading.read_key(
        item.kind, item.identifier, sub_id=item.sub_id, country=item.country, default_country=default_country
    )


def _by_key(keys: Sequence[PartyKey], rows: Sequence[Any]) -> dict[PartyKey, list[Any]]:
    return {keys[ord_ - 1]: list(group) for ord_, group in groupby(rows, lambda row: int(row["ord"]))}


def _check_item(reading: Reading, item: PartyKey | BadIdentifier, there: set[PartyKey]) -> CheckedAlias:
    if isinstance(item, BadIdentifier):
        return CheckedAlias(**_NOTHING_READ, exists=None, error=refusal_of(item).item())
    return CheckedAlias(**_describe_key(reading, item), exists=item in there, error=None)


def _find_item(
    reading: Reading,
    item: PartyKey | BadIdentifier,
    sub_id_named: bool,
    held: dict[PartyKey, list[Any]],
    routed: dict[PartyKey, list[Any]],
) -> FoundAlias:
    if isinstance(item, BadIdentifier):
        return FoundAlias(**_NOTHING_READ, holders=[], route=None, error=refusal_of(item).item())
    entries = held.get(item, [])
    here = [entry for entry in entries if entry["sub_id"] == item.sub_id]
    matching = [] if here else [row for row in routed.get(item, []) if fits(row["kind"], item.identifier)]
    route = min(matching, key=lambda row: rank(row["prefix"], row["kind"]), default=None)
    return FoundAlias(
        **_describe_key(reading, item),
        holders=[_holder(entry) for entry in (here if sub_id_named else entries)],
        route=None if route is None else _route(route),
        error=None,
    )


_NOTHING_READ: Final[dict[str, Any]] = dict.fromkeys(("kind", "party_id_type", "identifier", "display", "sub_id"))


def _describe_key(reading: Reading, key: PartyKey) -> dict[str, Any]:
    kind = reading.read_kind(key)
    return {
        "kind": kind,
        "party_id_type": PartyIdType(key.party_id_type),
        "identifier": key.identifier,
        "display": display(kind, key.identifier).text,
        "sub_id": key.sub_id or None,
    }


def _holder(row: HolderRow) -> AliasHolder:
    return AliasHolder(
        fsp_id=row["fsp_id"],
        sub_id=row["sub_id"] or None,
        currency=row["currency"] or None,
        default=row["is_default"],
        hint=row["is_hint"],
        state=state_of(row["status"]),
    )


def _route(row: RouteDecisionRow) -> DecidingRoute:
    return DecidingRoute(
        route_id=row["route_id"], kind=row["kind"], prefix=row["prefix"], fsp_id=row["fsp_id"],
        state=state_of(row["status"]),
    )  # fmt: skip

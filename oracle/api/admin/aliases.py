"""One alias of an FSP: register, read, change and remove it.

    alias_list       all aliases of an FSP, by pages
    alias_questions  which of many identifiers an FSP has; for operators, the FSP of any identifier
    alias_export     all aliases of an FSP as a file
    doubtful         aliases that today's rules would refuse

Spellings.  Callers write an identifier in any spelling of its kind (oracle.identifiers), in paths too.  Answers have
            the canonical spelling, with the forms that people read.  The directory stores a CLABE as an ACCOUNT_ID and
            an NRC as a PERSONAL_ID, so `kind` of an answer is the kind that the key reads as.
Foreign.    Aliases of another FSP are absent: every query names the FSP, and the answer is the same, byte for byte.
Versions.   The ETag of an alias is made of its entries and the times of their changes.  A change locks the alias
            before it compares, so of two writers who have read the same version one gets 412.
Persons.    Where the FSP has two persons, a change of anybody waits for the second one: 202 with its batch
            (`oracle.imports.one_alias`).  What a change at once would refuse is refused at once, and what is so already
            needs nobody: 200.
Stored.     An alias that older rules let in is reached by the text that is stored (`stored`), and listed by `doubtful`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, Final, Literal, NamedTuple, cast
from urllib.parse import quote, urlencode

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from oracle import errors
from oracle.api.admin.access import allow
from oracle.api.admin.batches import Batch, describe_batches, refuse_excess
from oracle.api.admin.budgets import Budgets
from oracle.api.admin.calls import Body, Call, Resource, answer, answer_of
from oracle.api.admin.fsps import fetch_default_country, fetch_rules, path_of
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal, refusal_of
from oracle.api.admin.stored import AsStoredQuery, find_key
from oracle.api.admin.values import (
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
    BadIdentifier,
    Kind,
    PartyIdType,
    PartyKey,
    Reading,
    display,
)
from oracle.identity.identity import Role
from oracle.imports import one_alias
from oracle.imports.one_alias import OneChange
from oracle.store import aliases
from oracle.store.aliases import ANSWERED_STATUSES, Allowance
from oracle.store.base import Registration
from oracle.store.postgres import Rows, Transaction
from oracle.store.rows import OwnEntryRow

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


class PartyEntries(NamedTuple):
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
    return [register_alias, read_alias, change_alias, remove_alias]


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
    rules = await fetch_rules(rows, fsp_id)
    kinds, currencies = rules["kinds"], rules["currencies"]
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


async def _fetch_entries(rows: Rows, fsp_id: str, key: PartyKey) -> PartyEntries:
    """Read the FSP's entries.  Raises Refusal 404, the same whether nobody or another FSP has registered the key."""
    return _read_entries(key, await rows("alias_entries", fsp_id, [key.party_id_type], [key.identifier], [key.sub_id]))


def _read_entries(key: PartyKey, found: Sequence[OwnEntryRow]) -> PartyEntries:
    """Raises Refusal 404 where there are none."""
    if not found:
        raise Refusal(404, "not_found", "Not found", "This FSP has no such alias")
    entries = [make_entry(row["currency"], row["is_default"], row["changed_at"]) for row in found]
    return PartyEntries(key, entries, found[0]["status"], found[0]["is_hint"])


async def _lock_entries(transaction: Transaction, fsp_id: str, key: PartyKey) -> PartyEntries:
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


def make_entry(currency: str, default: bool, changed_at: datetime) -> AliasEntry:
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


def group_by_key(keys: Sequence[PartyKey], rows: Sequence[Any]) -> dict[PartyKey, list[Any]]:
    return {keys[ord_ - 1]: list(group) for ord_, group in groupby(rows, lambda row: int(row["ord"]))}

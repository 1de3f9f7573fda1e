"""Questions about many identifiers at once: which of them an FSP has, and for operators, which FSP has each.

A question changes nothing.  So its answer is not kept, also with an Idempotency-Key: a repeated call asks again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from oracle.api.admin.access import OPERATOR
from oracle.api.admin.aliases import (
    READERS,
    group_by_key,
    state_of,
)
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.fsps import fetch_default_country, fetch_rules
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import ItemProblem, refusal_of
from oracle.api.admin.stored import AsStored, read_stored_key
from oracle.api.admin.values import (
    AliasState,
    Identifier,
    KindName,
)
from oracle.identifiers import (
    BadIdentifier,
    Kind,
    PartyIdType,
    PartyKey,
    Reading,
    display,
)
from oracle.store.routes import fits, rank
from oracle.store.rows import HolderRow, RouteDecisionRow

ITEMS_MAX: Final = 1_000


class AliasName(Body):
    kind: KindName
    identifier: Identifier
    sub_id: str | None = None
    country: str | None = None
    as_stored: AsStored = False


class AliasNames(Body):
    items: Annotated[list[AliasName], Meta(min_length=1, max_length=ITEMS_MAX)]


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


def handlers() -> list[HTTPRouteHandler]:
    return [check_aliases, look_up]


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
    rows = call.postgres.rows
    await fetch_rules(rows, fsp_id)  # refuses an unknown FSP
    keys, read = _read_items(reading, data.items, await fetch_default_country(rows, fsp_id))
    found = await rows("alias_entries", fsp_id, *zip(*keys, strict=True)) if keys else []
    there = {keys[row["ord"] - 1] for row in found}
    return answer(CheckedAliases(items=[_check_item(reading, item, there) for item in read])).response()


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
    keys, read = _read_items(reading, data.items)
    columns = [key.party_id_type for key in keys], [key.identifier for key in keys]
    held = group_by_key(keys, await call.postgres.rows("aliases_of_identifiers", *columns))
    routed = group_by_key(keys, await call.postgres.rows("aliases_routed", *columns))
    items = [
        _find_item(reading, item, asked.sub_id is not None, held, routed)
        for item, asked in zip(read, data.items, strict=True)
    ]
    return answer(FoundAliases(items=items)).response()


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

"""Explain the answer of a lookup, now or at another time, with the reasons.

The same decision as a lookup's (hub/participants, store/routes):

alias    The FSP that has registered the key answers, by the entry of the requested currency, else by one for every
         currency; without a requested currency by the default entry.  If that FSP is suspended or closed, or has only
         other currencies, the answer is nobody: no route answers in its place.
route    Else the longest valid route that fits: a route for CLABE answers valid CLABEs only.  If its FSP is suspended
         or closed, the answer is nobody: no shorter route answers in its place.

Now, and a future instant: from the tables; aliases and FSPs as they are now, routes by their times.

A past instant: from the events, as /audit/v1/resolve answers it (store/history); a route that was written or ended
later is as it was then.  That is a question to history: only roles that may read history get an answer, and the
question is recorded.

The call is a POST though it changes nothing: an identifier does not belong in a URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from msgspec import Meta

from oracle.api.admin.access import make_forbidden
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.operations import operation
from oracle.api.admin.routes import HUB_READERS
from oracle.api.admin.times import Time, read_time
from oracle.api.admin.values import (
    Country,
    Currency,
    FspStatus,
    Identifier,
    capitalise,
    require_known,
)
from oracle.api.history.questions import AUDIT, record
from oracle.identifiers import Kind, PartyIdType, PartyKey, Reading
from oracle.identifiers.prefix import list_prefixes
from oracle.sentences import Sentence
from oracle.store import history
from oracle.store.aliases import ANSWERED_STATUSES
from oracle.store.cache.values import Entry
from oracle.store.history import Situation
from oracle.store.postgres import Postgres
from oracle.store.resolution import BY_ENTRY, decide
from oracle.store.routes import fits, rank
from oracle.store.rows import CoveringRouteRow, EntryNowRow

ROUTES_MAX: Final = 200
_UNKNOWN: Final = "unknown"  # an FSP that history does not know at that time


class LookupQuestion(Body):
    kind: Kind
    identifier: Identifier
    sub_id: str | None = None
    country: Country | None = None
    currency: Currency | None = None
    at: Annotated[
        Time | None, Meta(description="null: now.  A past time needs a role that may read history, and is recorded")
    ] = None

    def __post_init__(self) -> None:
        self.country, self.currency = capitalise(self.country), capitalise(self.currency)


class AnsweredEntry(Resource):
    fsp_id: str
    currency: Annotated[str | None, Meta(description="null: it answers for every currency")]
    sub_id: Annotated[str | None, Meta(description="The SubId of the question")]


class ConsideredAlias(Resource):
    fsp_id: str
    fsp_status: FspStatus | None
    sub_id: str | None
    currency: str | None
    default: bool
    hint: Annotated[
        bool, Meta(description="Found by the hub in another scheme; the registration of any FSP replaces it")
    ]
    since: datetime
    verdict: Annotated[
        Literal["answers", "unanswered", "other_sub_id", "other_currency", "not_asked_for"],
        Meta(description="unanswered: it decides, but its FSP is suspended or closed"),
    ]


class ConsideredRoute(Resource):
    route_id: int
    kind: Kind
    prefix: str
    fsp_id: str
    fsp_status: FspStatus | None
    valid_from: datetime | None
    valid_to: datetime | None
    verdict: Annotated[
        Literal["answers", "unanswered", "alias_first", "longer_first", "other_kind", "not_begun", "ended"],
        Meta(
            description="unanswered: it decides, but its FSP is suspended or closed; other_kind: the identifier is not"
            " of the route's kind"
        ),
    ]


class LookupExplanation(Resource):
    kind: PartyIdType
    identifier: Annotated[str, Meta(description="Canonical, as it is looked up")]
    at: Annotated[datetime | None, Meta(description="null: now")]
    answer: Annotated[list[AnsweredEntry], Meta(description="The answer that the hub gets: one entry, or none")]
    by: Annotated[Literal["alias", "route", "nobody"], Meta(description="What decides, even if the answer is empty")]
    alias: ConsideredAlias | None
    rule: ConsideredRoute | None
    fsp_status: Annotated[FspStatus | None, Meta(description="The status of the FSP that decides")]
    aliases: Annotated[list[ConsideredAlias], Meta(description="All entries of the identifier")]
    considered: Annotated[
        list[ConsideredRoute], Meta(description="The routes whose prefix it begins with, the longest first")
    ]
    explanation: Sentence


class _Facts:
    """What the directory holds about a key."""

    def __init__(self, entries: list[Any], rules: list[Any], statuses: Mapping[str, Any]) -> None:
        self.entries = entries
        # Stable: valid ones come first.
        self.rules = sorted(rules, key=lambda rule: rank(rule["prefix"], rule["kind"]))
        self.statuses = statuses

    def is_answered(self, fsp_id: str) -> bool:
        return self.statuses.get(fsp_id) in ANSWERED_STATUSES

    def answering(self, fsp_id: str) -> str:
        """Return the FSP as the decision takes it: '' when it is not answered."""
        return fsp_id if self.is_answered(fsp_id) else ""


def handlers() -> list[HTTPRouteHandler]:
    return [ask]


@operation(
    "explainLookup",
    "POST",
    "/routes/what-if",
    HUB_READERS,
    "Explain which FSP a lookup would answer with, and why",
    answers=LookupExplanation,
)
async def ask(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[LookupQuestion]
) -> Response[bytes]:
    key = reading.read_key(data.kind, data.identifier, sub_id=data.sub_id, country=data.country)
    currency = data.currency
    at = read_time("at", data.at)

    if at is None or at >= datetime.now(UTC):
        require_known([] if currency is None else [currency], "currency")  # the hub would refuse the lookup
        facts = await _fetch_present(call.postgres, key, at)
    else:
        facts = await _fetch_past(call, key, currency, at)
    return answer(_explain(key, data.sub_id, currency, at, facts)).response()


async def _fetch_present(postgres: Postgres, key: PartyKey, at: datetime | None) -> _Facts:
    entries: list[EntryNowRow] = await postgres.rows("alias_entries_now", key.party_id_type, key.identifier)
    rules: list[CoveringRouteRow] = await postgres.rows(
        "routes_covering", key.party_id_type, list_prefixes(key.identifier), at, ROUTES_MAX
    )
    fsps = await postgres.rows("fsp_status_now", list({row["fsp_id"] for row in (*entries, *rules)}))
    return _Facts(entries, rules, {row["fsp_id"]: row["status"] for row in fsps})


async def _fetch_past(call: Call, key: PartyKey, currency: str | None, at: datetime) -> _Facts:
    """Raises Refusal."""
    role = call.caller.role
    if role not in AUDIT.roles:
        raise make_forbidden(role, f"Your role is {role}, which cannot read history: leave `at` out")
    await record(call, "what-if", key, None, {"at": at, "currency": currency})
    return _collect_facts(await history.fetch_situation(call.postgres, key.party_id_type, key.identifier, at), at)


def _collect_facts(situation: Situation, at: datetime) -> _Facts:
    entries = [
        {**held.entry._asdict(), "is_default": held.is_default, "is_hint": held.is_hint, "since": held.event["at"]}
        for held in situation.list_entries()
    ]
    rules = [
        {
            "route_id": rule.route_id, "kind": rule.kind, "prefix": rule.prefix, "fsp_id": rule.fsp_id,
            "valid_from": None if rule.valid_from <= history.BEGINNING else rule.valid_from,
            "valid_to": None if rule.valid_to >= history.END else rule.valid_to,
            "has_begun": rule.valid_from <= at, "is_over": rule.valid_to <= at,
        }
        # As routes_covering: valid ones before others, if there are too many.
        for rule in sorted(
            situation.list_routes(),
            key=lambda rule: (rule.valid_from <= at < rule.valid_to, len(rule.prefix), rule.valid_from), reverse=True,
        )
    ]  # fmt: skip
    return _Facts(entries, rules[:ROUTES_MAX], {fsp_id: known.status for fsp_id, known in situation.statuses.items()})


def _explain(
    key: PartyKey, sub_id: str | None, currency: str | None, at: datetime | None, facts: _Facts
) -> LookupExplanation:
    entries = [Entry(facts.answering(row["fsp_id"]), row["currency"], row["sub_id"]) for row in facts.entries]
    fitting = [row for row in facts.rules if fits(row["kind"], key.identifier)]
    longest = next((row for row in fitting if row["has_begun"] and not row["is_over"]), None)
    decision = decide(entries, key.sub_id, currency, None if longest is None else facts.answering(longest["fsp_id"]))
    is_held = decision.reason in BY_ENTRY
    decides = None if is_held else longest
    aliases = [
        _make_considered_alias(row, facts, _alias_verdict(row, each is decision.entry, key.sub_id, currency, facts))
        for row, each in zip(facts.entries, entries, strict=True)
    ]
    rules = [
        _make_considered_route(row, facts, _route_verdict(row, row in fitting, row is decides, is_held, facts))
        for row in facts.rules
    ]
    alias = next((a for a, each in zip(aliases, entries, strict=True) if each is decision.entry), None)
    rule = next((r for r, row in zip(rules, facts.rules, strict=True) if row is decides), None)
    deciding = alias or rule
    others = sorted({each.kind for each in rules if each.verdict == "other_kind"})
    answer = []
    if decision.fsp_id:
        answer = [AnsweredEntry(fsp_id=decision.fsp_id, currency=decision.currency or None, sub_id=sub_id)]
    return LookupExplanation(
        kind=PartyIdType(key.party_id_type), identifier=key.identifier, at=at, answer=answer,
        by="alias" if is_held else "route" if rule is not None else "nobody", alias=alias, rule=rule,
        fsp_status=deciding.fsp_status if deciding is not None else None, aliases=aliases, considered=rules,
        explanation=_explanation(alias, rule, others, is_held=is_held, is_answered=bool(answer)),
    )  # fmt: skip


def _alias_verdict(row: EntryNowRow, is_chosen: bool, sub_id: str, currency: str | None, facts: _Facts) -> Any:
    if is_chosen:
        return "answers" if facts.is_answered(row["fsp_id"]) else "unanswered"
    if row["sub_id"] != sub_id:
        return "other_sub_id"
    return "not_asked_for" if currency is None or not row["currency"] else "other_currency"


def _route_verdict(row: CoveringRouteRow, does_fit: bool, decides: bool, is_held: bool, facts: _Facts) -> Any:
    if not does_fit:
        return "other_kind"
    if not row["has_begun"]:
        return "not_begun"
    if row["is_over"]:
        return "ended"
    if is_held:
        return "alias_first"
    if not decides:
        return "longer_first"
    return "answers" if facts.is_answered(row["fsp_id"]) else "unanswered"


def _make_considered_alias(row: EntryNowRow, facts: _Facts, verdict: Any) -> ConsideredAlias:
    return ConsideredAlias(
        fsp_id=row["fsp_id"], fsp_status=facts.statuses.get(row["fsp_id"]), sub_id=row["sub_id"] or None,
        currency=row["currency"] or None, default=row["is_default"], hint=row["is_hint"], since=row["since"],
        verdict=verdict,
    )  # fmt: skip


def _make_considered_route(row: CoveringRouteRow, facts: _Facts, verdict: Any) -> ConsideredRoute:
    return ConsideredRoute(
        route_id=row["route_id"], kind=row["kind"], prefix=row["prefix"], fsp_id=row["fsp_id"], verdict=verdict,
        fsp_status=facts.statuses.get(row["fsp_id"]), valid_from=row["valid_from"], valid_to=row["valid_to"],
    )  # fmt: skip


def _explanation(
    alias: ConsideredAlias | None, rule: ConsideredRoute | None, others: list[str], *, is_held: bool, is_answered: bool
) -> str:
    """`others` are the kinds of the routes that match by their prefix only."""
    if alias is not None:
        return _explain_alias(alias, is_answered=is_answered)
    if is_held:
        return "It is registered in other currencies only: the answer is empty, and no route answers in its place"
    if rule is not None:
        if is_answered:
            return f"Nobody has registered it; of the valid routes, route {rule.route_id} has the longest prefix"
        status = rule.fsp_status or _UNKNOWN
        return (
            f"Nobody has registered it; route {rule.route_id} has the longest prefix, but {rule.fsp_id} is {status}:"
            " the answer is empty, and no shorter route answers in its place"
        )
    if others:
        return (
            "Nobody has registered it, and no route matches it: a route with such a prefix is for valid"
            f" {' or '.join(others)} identifiers only"
        )
    return "Nobody has registered it, and no route matches it"


def _explain_alias(alias: ConsideredAlias, *, is_answered: bool) -> str:
    fsp, status = alias.fsp_id, alias.fsp_status or _UNKNOWN
    if alias.hint:
        if is_answered:
            return f"The hub found it in another scheme, at {fsp} (a hint), so no route is needed"
        return (
            f"The hub found it in another scheme, at {fsp} (a hint), but that FSP is {status}: the answer is empty, and"
            " no route answers in its place"
        )
    if is_answered:
        return f"{fsp} has registered it, so no route is needed"
    return f"{fsp} has registered it, but is {status}: the answer is empty, and no route answers in its place"

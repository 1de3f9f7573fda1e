"""The registered oracles of the account lookup service: which oracle answers for a party id type and a currency.

The same rows as those of ALS's admin API /oracles (`oracle/api/oracles`), which has no credentials: here a key is
needed, and history knows who made a change.  The workers follow a change within two seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from oracle.api.admin.access import OPERATOR, allow
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.api.admin.values import Currency, capitalise, require_known
from oracle.identity.identity import Role
from oracle.scheme.oracles import URL_MAX, check_url
from oracle.store.oracles import ORACLES_MAX, OracleExists, RegisteredOracle, TooManyOracles, add_oracle
from oracle.store.postgres import Transaction

READERS = allow(Role.OPERATOR, Role.AUDITOR, Role.READER)

OracleType = Literal[
    "MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS", "CONSENT",
    "THIRD_PARTY_LINK",
]  # fmt: skip


class NewOracle(Body):
    party_id_type: OracleType
    url: Annotated[
        str,
        Meta(min_length=1, max_length=URL_MAX, description="Base URL of the oracle: /participants is added to it"),
    ]
    currency: Annotated[Currency | None, Meta(description="null: for requests without one of its own")] = None
    is_default: Annotated[
        bool, Meta(description="true: it answers where a request names no currency, or one that no oracle has")
    ] = False

    def __post_init__(self) -> None:
        self.currency = capitalise(self.currency)


class Oracle(Resource):
    oracle_id: int
    party_id_type: str
    currency: str | None
    url: str
    is_default: bool
    version: Annotated[int, Meta(description="For If-Match")]
    created_at: datetime
    changed_at: datetime


class Oracles(Resource):
    items: Annotated[
        list[Oracle],
        Meta(description="The oldest first. The directory of this service answers for a type without an oracle"),
    ]


def handlers() -> list[HTTPRouteHandler]:
    return [list_oracles, add, remove]


@operation(
    "listOracles", "GET", "/oracles", READERS, "List the oracles that the account lookup service asks", answers=Oracles
)
async def list_oracles(call: NamedDependency[Call]) -> Response[bytes]:
    return call.read(Oracles(items=[_make_oracle(row) for row in await call.postgres.rows("oracles_listed")]))


@operation(
    "addOracle", "POST", "/oracles", OPERATOR, "Register an oracle for a type and a currency", answers=Oracle,
    status=201,
)  # fmt: skip
async def add(call: NamedDependency[Call], data: JSONBody[NewOracle]) -> Response[bytes]:
    if data.currency is not None:
        require_known({data.currency}, "currency")
    try:
        check_url(data.url)
    except ValueError as exc:
        raise Refusal(400, "bad_url", "The URL cannot be called", f"It {exc}", field="url") from None

    async def work(transaction: Transaction) -> Answer:
        wanted = RegisteredOracle(0, data.party_id_type, data.currency or "", data.url, data.is_default)
        try:
            await add_oracle(transaction, wanted)
        except OracleExists:
            hint = "Remove that oracle first, or name another currency"
            raise Refusal(409, "oracle_exists", "An oracle has this type and currency already", hint) from None
        except TooManyOracles:
            detail = f"There are {ORACLES_MAX} oracles already"
            raise Refusal(409, "too_many_oracles", detail, "Remove some first") from None
        rows = await transaction.rows("oracles_listed")
        added = _make_oracle(next(row for row in reversed(rows) if _has_key(row, wanted)))
        location = f"/admin/v1/oracles/{added.oracle_id}"
        return answer(added, status=201, version=added.version, location=location)

    return await call.administer(work)


@operation(
    "removeOracle",
    "DELETE",
    "/oracles/{oracle_id:int}",
    OPERATOR,
    "Remove an oracle; the next one of its type answers, or this directory",
    answers=Oracle,
)
async def remove(call: NamedDependency[Call], oracle_id: FromPath[int]) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        rows = await transaction.rows("oracles_listed")
        row = next((each for each in rows if each["oracle_id"] == oracle_id), None)
        if row is None:
            raise Refusal(404, "not_found", "No such oracle", "List the oracles to see their numbers")
        call.match(row["version"])
        await transaction.run("oracle_remove", oracle_id)
        return answer(_make_oracle(row))

    return await call.administer(work)


def _has_key(row: Any, oracle: RegisteredOracle) -> bool:
    return bool((row["party_id_type"], row["currency"]) == (oracle.party_id_type, oracle.currency))


def _make_oracle(row: Any) -> Oracle:
    values = {name: row[name] for name in Oracle.__struct_fields__}
    return Oracle(**{**values, "currency": row["currency"] or None})

"""Administration of the FSPs: their data, what they may register, and whether lookups are answered with them.

No lookup is answered with a suspended or closed FSP; the call that sets the status is acknowledged when every process
follows it.  A provisional FSP came from the hub and nobody has confirmed it: lookups are answered with it, and an
operator confirms it by setting it to active.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from oracle.api.admin import forms
from oracle.api.admin.access import OPERATOR, allow
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.problems import Refusal
from oracle.api.admin.values import (
    Country,
    Currency,
    FspId,
    FspStatus,
    Name,
    Reason,
    UseCase,
    capitalise,
    require_country,
    require_known,
)
from oracle.identifiers import Kind
from oracle.identity.identity import Role
from oracle.store.postgres import Rows, Transaction
from oracle.store.rows import AllowanceRow

LOGO_BYTES_MAX: Final = 16_384  # the public list of prefixes repeats it, in Base64
COUNTED_MAX: Final = 10_000  # aliases; to count these takes some 3 ms, and 10 million a second or more
# Recognised by their first bytes, not by the sender's word: other systems show them.
_IMAGES: Final = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}

READERS: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER, Role.MAKER, Role.CHECKER)


HubChanges = Literal["on", "off"]
_TWO_PERSONS: Final = (
    "A second person must approve each file, and each change of one alias that comes through this API. Changes through"
    " the hub need no approval: see hubChanges"
)
_HUB_CHANGES: Final = "off: calls of the hub cannot register, change or remove aliases of this FSP"
_DEFAULT_COUNTRY: Final = "ISO 3166 alpha-2: of phone numbers without a country code in its files and calls; null: none"


class Contact(Body):
    name: Name | None = None
    email: Annotated[str, Meta(pattern=forms.EMAIL)] | None = None
    phone: Annotated[str, Meta(max_length=32)] | None = None


class NewFsp(Body):
    fsp_id: FspId
    name: Name | None = None
    locale_name: Name | None = None
    dfsp_type: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    additional_info: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    kinds: (
        Annotated[list[Kind], Meta(max_length=50, description="The kinds that it may register; null: every kind")]
        | None
    ) = None
    currencies: (
        Annotated[
            list[Currency],
            Meta(max_length=200, description="The currencies that it may register; null: every currency"),
        ]
        | None
    ) = None
    use_cases: Annotated[list[UseCase], Meta(max_length=50)] = msgspec.field(default_factory=list)
    contact: Contact | None = None
    two_persons: Annotated[bool, Meta(description=_TWO_PERSONS)] = False
    hub_changes: Annotated[HubChanges, Meta(description=_HUB_CHANGES)] = "on"
    default_country: Annotated[Country | None, Meta(description=_DEFAULT_COUNTRY)] = None

    def __post_init__(self) -> None:
        self.currencies, self.default_country = capitalise(self.currencies), capitalise(self.default_country)


class FspChange(Body):
    """A member that you leave out stays as it is; null removes it."""

    name: Name | UnsetType | None = UNSET
    locale_name: Name | UnsetType | None = UNSET
    dfsp_type: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType | None = UNSET
    additional_info: Annotated[str, Meta(min_length=1, max_length=1024)] | UnsetType | None = UNSET
    kinds: Annotated[list[Kind], Meta(max_length=50)] | UnsetType | None = UNSET
    currencies: Annotated[list[Currency], Meta(max_length=200)] | UnsetType | None = UNSET
    use_cases: Annotated[list[UseCase], Meta(max_length=50)] | UnsetType = UNSET
    contact: Contact | UnsetType | None = UNSET
    two_persons: Annotated[bool, Meta(description=_TWO_PERSONS)] | UnsetType = UNSET
    hub_changes: Annotated[HubChanges, Meta(description=_HUB_CHANGES)] | UnsetType = UNSET
    default_country: Annotated[Country | UnsetType | None, Meta(description=_DEFAULT_COUNTRY)] = UNSET

    def __post_init__(self) -> None:
        self.currencies, self.default_country = capitalise(self.currencies), capitalise(self.default_country)


class StatusChange(Body):
    status: Literal["active", "suspended", "closed"]
    reason: Reason


class Logo(Resource):
    data_type: str
    sha256: str


class Fsp(Resource):
    fsp_id: str
    status: FspStatus
    name: str | None
    locale_name: str | None
    dfsp_type: str | None
    additional_info: str | None
    kinds: list[Kind] | None
    currencies: list[str] | None
    use_cases: list[str]
    contact: Contact | None
    two_persons: Annotated[bool, Meta(description=_TWO_PERSONS)]
    hub_changes: Annotated[HubChanges, Meta(description=_HUB_CHANGES)]
    default_country: str | None
    logo: Logo | None
    created_at: datetime
    changed_at: datetime


class FspPage(Resource):
    items: list[Fsp]
    next: str | None


class FspImpact(Resource):
    aliases: Annotated[int, Meta(description="Identifiers whose default entry belongs to the FSP")]
    aliases_exact: Annotated[
        bool, Meta(description=f"false: there are more than {COUNTED_MAX:,}, and `aliases` is an estimate")
    ]
    routes: Annotated[int, Meta(description="Routes that are valid now or later")]
    open_files: Annotated[
        int, Meta(description="Files and changes that are being validated, wait for approval, or are being applied")
    ]
    keys: Annotated[int, Meta(description="Keys that are neither revoked nor expired")]


_FIELDS: Final = tuple(name for name in NewFsp.__struct_fields__ if name != "fsp_id")
# In the order of the parameters of fsp_add and fsp_change.
_COLUMNS: Final = (*(name for name in _FIELDS if name != "hub_changes"), "hub_changes")


def fsp_of(row: Any) -> Fsp:
    data_type = row["logo_data_type"]
    contact = row["contact"]
    return Fsp(
        **{name: row[name] for name in Fsp.__struct_fields__ if name not in ("contact", "logo", "hub_changes")},
        hub_changes="on" if row["hub_changes"] else "off",
        contact=None if contact is None else msgspec.json.decode(contact, type=Contact),
        logo=None if data_type is None else Logo(data_type=data_type, sha256=row["logo_sha256"]),
    )


async def lock_fsp(transaction: Transaction, fsp_id: str) -> Any:
    """Read the row and lock it until the end of the transaction.  Raises Refusal 404."""
    rows = await transaction.rows("fsp_locked", fsp_id)
    if not rows:
        raise no_such_fsp()
    return rows[0]


async def fetch_rules(rows: Rows, fsp_id: str) -> AllowanceRow:
    """Fetch the status of an FSP, and what it can register.  Raises Refusal 404."""
    found = await rows("fsp_status", fsp_id)
    if not found:
        raise no_such_fsp()
    rules: AllowanceRow = found[0]
    return rules


async def fetch_default_country(rows: Rows, fsp_id: str) -> str | None:
    """Read the country of the phone numbers that the FSP writes without one; None also for an unknown FSP."""
    found = await rows("fsp_country", fsp_id)
    return found[0]["default_country"] if found else None


def path_of(fsp_id: str) -> str:
    return f"/admin/v1/fsps/{quote(fsp_id, safe='')}"


def no_such_fsp() -> Refusal:
    return Refusal(404, "not_found", "No such FSP", "List the FSPs to see their ids")


def handlers() -> list[HTTPRouteHandler]:
    return [list_fsps, create_fsp, read_fsp, change_fsp, read_impact, set_status, read_logo, put_logo, drop_logo]


@operation(
    "listFsps",
    "GET",
    "/fsps",
    allow(Role.OPERATOR, Role.AUDITOR, Role.READER, narrows=True),
    "List the FSPs",
    answers=FspPage,
)
async def list_fsps(
    call: NamedDependency[Call],
    status: FromQuery[FspStatus | None] = None,
    use_case: Annotated[str | None, QueryParameter(name="useCase")] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    cursors = Cursors(call.caller, "fsps", status, use_case)
    rows = await call.postgres.rows(
        "fsps_page", status, use_case, cursors.open(cursor, str), limit + 1, call.list_fsps()
    )
    items = [fsp_of(row) for row in rows[:limit]]
    return call.read_page(FspPage(items=items, next=cursors.close(items[-1].fsp_id) if len(rows) > limit else None))


@operation("createFsp", "POST", "/fsps", OPERATOR, "Create an FSP", answers=Fsp, status=201)
async def create_fsp(call: NamedDependency[Call], data: JSONBody[NewFsp]) -> Response[bytes]:
    _require_values(data)

    async def work(transaction: Transaction) -> Answer:
        if not await transaction.run("fsp_add", data.fsp_id, *_columns(data)):
            hint = "Change that FSP, or choose another id"
            raise Refusal(409, "exists", "An FSP with this id already exists", hint, field="fspId")
        row = await lock_fsp(transaction, data.fsp_id)
        return answer(fsp_of(row), status=201, version=row["version"], location=path_of(data.fsp_id))

    return await call.administer(work)


@operation("getFsp", "GET", "/fsps/{fsp_id:str}", READERS, "Read an FSP", answers=Fsp)
async def read_fsp(call: NamedDependency[Call], fsp_id: FromPath[str]) -> Response[bytes]:
    row = await call.postgres.row("fsp", fsp_id)
    if row is None:
        raise no_such_fsp()
    return call.read(fsp_of(row), row["version"])


@operation("changeFsp", "PATCH", "/fsps/{fsp_id:str}", OPERATOR, "Change an FSP", answers=Fsp)
async def change_fsp(call: NamedDependency[Call], fsp_id: FromPath[str], data: JSONBody[FspChange]) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        row = await lock_fsp(transaction, fsp_id)
        call.match(row["version"])
        now = fsp_of(row)
        _require_values(data, now.currencies)
        changed = {name: value for name in _FIELDS if (value := getattr(data, name)) is not UNSET}
        wanted = NewFsp(fsp_id=fsp_id, **{**{name: getattr(now, name) for name in _FIELDS}, **changed})
        if any(getattr(wanted, name) != getattr(now, name) for name in _FIELDS):
            await transaction.run("fsp_change", fsp_id, *_columns(wanted))
        row = await lock_fsp(transaction, fsp_id)
        return answer(fsp_of(row), version=row["version"])

    return await call.administer(work)


@operation(
    "getFspImpact",
    "GET",
    "/fsps/{fsp_id:str}/impact",
    OPERATOR,
    "Show what a change of the status of an FSP would affect",
    answers=FspImpact,
)
async def read_impact(call: NamedDependency[Call], fsp_id: FromPath[str]) -> Response[bytes]:
    row = await call.postgres.row("fsp_impact", fsp_id, COUNTED_MAX)
    if row is None:
        raise no_such_fsp()
    is_exact = row["aliases"] <= COUNTED_MAX
    aliases = row["aliases"] if is_exact else max(row["aliases"], row["aliases_estimated"] or 0)
    impact = FspImpact(
        aliases=aliases, aliases_exact=is_exact, routes=row["routes"], open_files=row["open_files"], keys=row["keys"]
    )
    return call.read(impact)


@operation(
    "setFspStatus",
    "POST",
    "/fsps/{fsp_id:str}/status",
    OPERATOR,
    "Confirm, suspend, close or reopen an FSP",
    answers=Fsp,
)
async def set_status(
    call: NamedDependency[Call], fsp_id: FromPath[str], data: JSONBody[StatusChange]
) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        call.match((await lock_fsp(transaction, fsp_id))["version"])
        await transaction.run("fsp_set_status", fsp_id, data.status)
        row = await lock_fsp(transaction, fsp_id)
        return answer(fsp_of(row), version=row["version"])

    return await call.administer(work, reason=data.reason, settles=True)


@operation("getLogo", "GET", "/fsps/{fsp_id:str}/logo", READERS, "Read the logo of an FSP", media_type="image/*")
async def read_logo(call: NamedDependency[Call], fsp_id: FromPath[str]) -> Response[bytes]:
    row = await call.postgres.row("logo", fsp_id)
    if row is None:
        raise Refusal(404, "not_found", "The FSP has no logo", "Set a logo first")
    headers = {"ETag": f'"{row["logo_sha256"]}"'}
    if call.has(row["logo_sha256"]):
        return Answer(304, b"", headers).response()
    return Response(row["data"], media_type=row["logo_data_type"], headers=headers)


@operation(
    "setLogo",
    "PUT",
    "/fsps/{fsp_id:str}/logo",
    OPERATOR,
    "Set the logo of an FSP: a PNG, JPEG or GIF of at most 16 KiB",
    answers=Fsp,
    takes="image/*",
)
async def put_logo(call: NamedDependency[Call], fsp_id: FromPath[str]) -> Response[bytes]:
    image = call.body
    data_type = next((name for magic, name in _IMAGES.items() if image.startswith(magic)), None)
    if data_type is None:
        raise Refusal(400, "bad_image", "The logo must be a PNG, JPEG or GIF", "Convert the image")
    if len(image) > LOGO_BYTES_MAX:
        detail = f"The logo has {len(image):,} bytes; at most {LOGO_BYTES_MAX:,} (16 KiB) are allowed"
        raise Refusal(400, "bad_image", detail, "Make the picture smaller, for example 128 × 128 pixels")

    async def work(transaction: Transaction) -> Answer:
        row = await lock_fsp(transaction, fsp_id)
        call.match(row["version"], row["logo_sha256"])
        await transaction.run("logo_put", fsp_id, image)
        await transaction.run("logo_describe", fsp_id, data_type, hashlib.sha256(image).digest())
        row = await lock_fsp(transaction, fsp_id)
        return answer(fsp_of(row), version=row["version"])

    return await call.administer(work)


@operation("removeLogo", "DELETE", "/fsps/{fsp_id:str}/logo", OPERATOR, "Remove the logo of an FSP", answers=Fsp)
async def drop_logo(call: NamedDependency[Call], fsp_id: FromPath[str]) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        row = await lock_fsp(transaction, fsp_id)
        call.match(row["version"], row["logo_sha256"])
        await transaction.run("logo_drop", fsp_id)
        await transaction.run("logo_describe", fsp_id, None, None)
        row = await lock_fsp(transaction, fsp_id)
        return answer(fsp_of(row), version=row["version"])

    return await call.administer(work)


def _require_values(data: NewFsp | FspChange, stored: Iterable[str] | None = ()) -> None:
    """Refuse countries and currencies that do not exist; a stored currency can stay.  Raises Refusal."""
    if data.currencies:
        require_known(set(data.currencies) - set(stored or ()), "currencies")
    if data.default_country:
        require_country(data.default_country, "defaultCountry")


def _columns(data: NewFsp) -> tuple[Any, ...]:
    contact = None if data.contact is None else msgspec.json.encode(data.contact).decode()
    values = {name: getattr(data, name) for name in _FIELDS}
    values |= {"contact": contact, "hub_changes": data.hub_changes == "on"}

    return tuple(values[name] for name in _COLUMNS)

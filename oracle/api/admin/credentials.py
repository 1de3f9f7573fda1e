"""Administration of credentials: who is let in, in which role, until when.

A secret is answered once, by the call that makes it, and stands nowhere: only its hash does.  Rotation gives a second
one while the first stays valid for a while, so that its holder can change over without a pause.

An operator lets auditors in and ends their credentials, but gets no second secret of one: the auditor takes it
(`POST /me/rotate`, as everybody may), with no grace for the first, and is alone with it from then on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from oracle.api.admin.access import ANYBODY, OPERATOR, Role, hash_of, new_credential_id, new_secret, token_of
from oracle.api.admin.calls import PAGE, PAGE_MAX, Answer, Body, Call, Resource, answer, cursor_of, position_of
from oracle.api.admin.fsps import FspId, Reason, fsp_locked
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.store.postgres import Transaction

GRACE_S: Final = 86_400
_Label = Annotated[str, Meta(min_length=1, max_length=128, description="Whose it is, or what for")]
_Time = Annotated[datetime, Meta(tz=True)]
_BOUND: Final = (Role.MAKER, Role.CHECKER)


class NewCredential(Body):
    role: Role
    label: _Label
    fsp_id: Annotated[FspId, Meta(description="The FSP it is bound to: for makers and checkers")] | None = None
    expires_at: _Time | None = None


class CredentialChange(Body):
    label: _Label | UnsetType = UNSET
    expires_at: _Time | UnsetType | None = UNSET


class Rotation(Body):
    grace_s: Annotated[int, Meta(ge=0, le=2_592_000, description="How long the present secret stays valid")] = GRACE_S


class Revocation(Body):
    reason: Reason


class Credential(Resource):
    credential_id: str
    role: Role
    fsp_id: str | None
    label: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    secrets: Annotated[int, Meta(description="How many secrets are valid now")]


class IssuedCredential(Resource):
    credential: Credential
    key: Annotated[str, Meta(description="Shown this once: `Authorization: Bearer …`")]


class CredentialPage(Resource):
    items: list[Credential]
    next: str | None


class Me(Resource):
    credential_id: str
    role: Role
    fsp_id: str | None


class RefusedCall(Resource):
    at: datetime
    credential_id: str | None
    address: str | None
    method: str
    route: str
    status: int
    reason: str


class RefusedCallPage(Resource):
    items: list[RefusedCall]
    next: str | None


def handlers() -> list[HTTPRouteHandler]:
    return [
        who_am_i, rotate_own, list_credentials, create_credential, read_credential, change_credential, rotate, revoke,
        list_refused,
    ]  # fmt: skip


def _credential_of(row: Any) -> Credential:
    return Credential(**{name: row[name] for name in Credential.__struct_fields__})


async def _read(transaction: Transaction, credential_id: str) -> tuple[Credential, int]:
    (row,) = await transaction.rows("credential", credential_id)
    return _credential_of(row), row["version"]


async def _locked(transaction: Transaction, call: Call, credential_id: str) -> Any:
    rows = await transaction.rows("credential_locked", credential_id)
    if not rows:
        raise _no_such_credential()
    call.match(rows[0]["version"])
    return rows[0]


def _no_such_credential() -> Refusal:
    return Refusal(404, "not_found", "No such credential", "GET /admin/v1/credentials lists them")


@operation("GET", "/me", ANYBODY, "Whose credential this is", answers=Me)
async def who_am_i(call: NamedDependency[Call]) -> Response[bytes]:
    caller = call.caller
    return call.read(Me(credential_id=caller.credential_id, role=caller.role, fsp_id=caller.fsp_id))


@operation("POST", "/me/rotate", ANYBODY, "Give this credential another secret", answers=IssuedCredential)
async def rotate_own(call: NamedDependency[Call], data: JSONBody[Rotation]) -> Response[bytes]:
    return await _rotated(call, call.caller.credential_id, data.grace_s)


@operation("GET", "/credentials", OPERATOR, "List the credentials", answers=CredentialPage)
async def list_credentials(
    call: NamedDependency[Call],
    fsp_id: Annotated[str | None, QueryParameter(name="fspId")] = None,
    role: FromQuery[Role | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    position = position_of(cursor, str)
    rows = await call.postgres.rows("credentials_page", fsp_id, role, position and position[0], limit + 1)
    items = [_credential_of(row) for row in rows[:limit]]
    following = cursor_of(items[-1].credential_id) if len(rows) > limit else None
    return call.read(CredentialPage(items=items, next=following))


@operation("POST", "/credentials", OPERATOR, "Issue a credential", answers=IssuedCredential, status=201)
async def create_credential(call: NamedDependency[Call], data: JSONBody[NewCredential]) -> Response[bytes]:
    if data.role in _BOUND and data.fsp_id is None:
        raise Refusal(400, "invalid", "This role is of one FSP", "Name it by fspId")
    if data.role in (Role.OPERATOR, Role.AUDITOR) and data.fsp_id is not None:
        raise Refusal(400, "invalid", "This role is not of one FSP", "Leave fspId out")
    credential_id, secret = new_credential_id(), new_secret()

    async def work(transaction: Transaction) -> Answer:
        _in_future(data.expires_at)  # not before: a call that is repeated later gets the answer of then
        if data.fsp_id is not None:
            await fsp_locked(transaction, data.fsp_id)
        await transaction.run(
            "credential_add",
            credential_id,
            data.role,
            data.fsp_id,
            data.label,
            data.expires_at,
            call.caller.credential_id,
        )
        await transaction.run("secret_add", credential_id, hash_of(secret))
        credential, version = await _read(transaction, credential_id)
        issued = IssuedCredential(credential=credential, key=token_of(credential_id, secret))
        return answer(issued, status=201, version=version, location=f"/admin/v1/credentials/{credential_id}",
                      confidential=True)  # fmt: skip

    return await call.administer(work)


@operation("GET", "/credentials/{credential_id:str}", OPERATOR, "Read a credential", answers=Credential)
async def read_credential(call: NamedDependency[Call], credential_id: FromPath[str]) -> Response[bytes]:
    row = await call.postgres.row("credential", credential_id)
    if row is None:
        raise _no_such_credential()
    # No 304: its last use and the number of its secrets change without it.
    return answer(_credential_of(row), version=row["version"]).response()


@operation("PATCH", "/credentials/{credential_id:str}", OPERATOR, "Change label or expiry", answers=Credential)
async def change_credential(
    call: NamedDependency[Call], credential_id: FromPath[str], data: JSONBody[CredentialChange]
) -> Response[bytes]:
    _in_future(data.expires_at)

    async def work(transaction: Transaction) -> Answer:
        await _locked(transaction, call, credential_id)
        now, _ = await _read(transaction, credential_id)
        label = now.label if data.label is UNSET else data.label
        expires_at = now.expires_at if data.expires_at is UNSET else data.expires_at
        await transaction.run("credential_change", credential_id, label, expires_at)
        credential, version = await _read(transaction, credential_id)
        return answer(credential, version=version)

    return await call.administer(work)


@operation(
    "POST", "/credentials/{credential_id:str}/rotate", OPERATOR, "Give a second secret, and end the first later",
    answers=IssuedCredential,
)  # fmt: skip
async def rotate(
    call: NamedDependency[Call], credential_id: FromPath[str], data: JSONBody[Rotation]
) -> Response[bytes]:
    return await _rotated(call, credential_id, data.grace_s)


async def _rotated(call: Call, credential_id: str, grace_s: float) -> Response[bytes]:
    secret = new_secret()

    async def work(transaction: Transaction) -> Answer:
        now = await _locked(transaction, call, credential_id)
        if now["role"] == Role.AUDITOR and credential_id != call.caller.credential_id:
            raise Refusal(403, "not_yours", "An auditor's secret is the auditor's alone", "POST /admin/v1/me/rotate")
        if now["revoked"]:
            raise Refusal(409, "revoked", "The credential is revoked", "Issue another one")
        await transaction.run("secrets_expire", credential_id, float(grace_s))
        await transaction.run("secret_add", credential_id, hash_of(secret))
        await transaction.run("credential_touch", credential_id)
        credential, version = await _read(transaction, credential_id)
        issued = IssuedCredential(credential=credential, key=token_of(credential_id, secret))
        return answer(issued, version=version, confidential=True)

    return await call.administer(work)


@operation("POST", "/credentials/{credential_id:str}/revoke", OPERATOR, "End a credential now", answers=Credential)
async def revoke(
    call: NamedDependency[Call], credential_id: FromPath[str], data: JSONBody[Revocation]
) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        await _locked(transaction, call, credential_id)
        await transaction.run("credential_revoke", credential_id)
        credential, version = await _read(transaction, credential_id)
        return answer(credential, version=version)

    return await call.administer(work, reason=data.reason)


@operation("GET", "/refusals", OPERATOR, "Calls that were refused, the newest first", answers=RefusedCallPage)
async def list_refused(
    call: NamedDependency[Call],
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    position = position_of(cursor, float)
    before = None if position is None else _time(position[0])
    rows = await call.postgres.rows("refusals", before, limit + 1)
    items = [RefusedCall(**dict(row)) for row in rows[:limit]]
    following = cursor_of(items[-1].at.timestamp()) if len(rows) > limit else None
    return call.read(RefusedCallPage(items=items, next=following))


def _time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise Refusal(400, "invalid", "The cursor cannot be read", "Use `next` of the page before") from None


def _instant(at: datetime) -> datetime:
    """Raises Refusal for one whose time in UTC is in the year 0 or 10000."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise Refusal(400, "invalid", "expiresAt is out of range", "Name a time in this century") from None


def _in_future(expires_at: datetime | UnsetType | None) -> None:
    if isinstance(expires_at, datetime) and _instant(expires_at) <= datetime.now(UTC):
        raise Refusal(400, "invalid", "expiresAt is over", "Name a time to come; POST .../revoke ends one now")

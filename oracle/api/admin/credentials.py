"""Administration of credentials: who may call, in which role, until when.

The call that makes a secret answers with it once; only its hash is stored.  Rotation gives a second secret while the
first stays valid for a while, so that its holder can change over without a pause.

An operator issues and revokes the credentials of auditors, but gets no second secret of one.  The auditor rotates it
(`POST /me/rotate`, as everybody may) without grace for the first secret, and from then on only the auditor has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, UnsetType

from oracle.api.admin.access import ANYBODY, OPERATOR, allow, hash_of, new_credential_id, new_secret, token_of
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.forms import PERSON
from oracle.api.admin.fsps import lock_fsp
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.people import NOBODY, fetch_people
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.api.admin.times import Time, read_time
from oracle.api.admin.values import FspId, FspIdQuery, Label, Reason
from oracle.identity.identity import Role, Way
from oracle.store.postgres import Rows, Transaction

GRACE_S: Final = 86_400
_BOUND: Final = (Role.MAKER, Role.CHECKER)


_PERSON: Final = (
    "Whose key it is: oidc:{alias of the issuer}:{sub}, as history names the person when they sign in. Then the key and"
    " the person who signs in cannot approve what the other one sent"
)
PersonText = Annotated[str, Meta(pattern=PERSON, description=_PERSON)]


class NewCredential(Body):
    role: Role
    label: Label
    fsp_id: (
        Annotated[FspId, Meta(description="The only FSP that it can act for: makers and checkers need it")] | None
    ) = None
    expires_at: Time | None = None
    person: PersonText | None = None


class CredentialChange(Body):
    label: Label | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET
    person: PersonText | UnsetType | None = UNSET


class Rotation(Body):
    grace_s: Annotated[int, Meta(ge=0, le=2_592_000, description="Seconds that the present secret stays valid")] = (
        GRACE_S
    )


class Revocation(Body):
    reason: Reason


class Credential(Resource):
    credential_id: str
    role: Role
    fsp_id: str | None
    label: str
    person: Annotated[str | None, Meta(description="Whose key it is, if that is known: oidc:{alias}:{sub}")]
    created_at: datetime
    created_by: str
    created_by_name: Annotated[str | None, Meta(description="For people, for example Hub desk (operator)")]
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    secrets: Annotated[int, Meta(description="How many secrets are valid now")]


_SAME_NAMES: Final = tuple(name for name in Credential.__struct_fields__ if name != "created_by_name")


class IssuedCredential(Resource):
    credential: Credential
    key: Annotated[str, Meta(description="Shown only once; send it as `Authorization: Bearer …`")]


class CredentialPage(Resource):
    items: list[Credential]
    next: str | None


class Me(Resource):
    actor: Annotated[
        str, Meta(description="How history names you: the id of your key, oidc:{alias}:{sub}, gateway:{user}")
    ]
    way: Annotated[Way, Meta(description="How you came in")]
    credential_id: Annotated[str | None, Meta(description="Of your key; null if you came in without one")]
    label: str | None
    role: Role
    fsp_id: Annotated[str | None, Meta(description="The FSP that you can act for, if it is one")]
    fsp_ids: Annotated[list[str] | None, Meta(description="The FSPs that you can act for; null: all")]
    person: Annotated[str | None, Meta(description="Who you are, whichever way you came in; null: nobody knows")]


class RefusedCall(Resource):
    at: datetime
    credential_id: Annotated[str | None, Meta(description="Of the key, or the actor who came in without one")]
    credential_name: Annotated[str | None, Meta(description="For people, for example Ana (maker of bluebank)")]
    address: str | None
    method: str
    route: Annotated[str, Meta(description="The path as the contract has it")]
    status: int
    reason: Annotated[str, Meta(description="The error code")]


class RefusedCallPage(Resource):
    items: list[RefusedCall]
    next: str | None


def handlers() -> list[HTTPRouteHandler]:
    return [
        who_am_i, rotate_own, list_credentials, create_credential, read_credential, change_credential, rotate, revoke,
        list_refused,
    ]  # fmt: skip


async def _make_credentials(fetch: Rows, rows: Sequence[Any]) -> list[Credential]:
    people = await fetch_people(fetch, {row["created_by"] for row in rows})
    return [
        Credential(
            created_by_name=people.get(row["created_by"], NOBODY).name, **{name: row[name] for name in _SAME_NAMES}
        )
        for row in rows
    ]


async def _read(transaction: Transaction, credential_id: str) -> tuple[Credential, int]:
    (row,) = await transaction.rows("credential", credential_id)
    (credential,) = await _make_credentials(transaction.rows, [row])
    return credential, row["version"]


async def _lock(transaction: Transaction, call: Call, credential_id: str) -> Any:
    rows = await transaction.rows("credential_locked", credential_id)
    if not rows:
        raise _no_such_credential()
    call.match(rows[0]["version"])
    return rows[0]


def _no_such_credential() -> Refusal:
    return Refusal(404, "not_found", "No such credential", "List the credentials to see their ids")


@operation("getOwnCredential", "GET", "/me", ANYBODY, "Read your own credential: its role and its FSP", answers=Me)
async def who_am_i(call: NamedDependency[Call]) -> Response[bytes]:
    caller = call.caller
    people = await fetch_people(call.postgres.rows, [caller.actor])
    fsp_ids = None if caller.fsp_ids is None else sorted(caller.fsp_ids)
    return call.read(
        Me(
            actor=caller.actor, way=caller.way, credential_id=caller.actor if caller.way == "key" else None,
            label=people.get(caller.actor, NOBODY).label, role=caller.role,
            fsp_id=fsp_ids[0] if fsp_ids is not None and len(fsp_ids) == 1 else None, fsp_ids=fsp_ids,
            person=caller.person,
        )
    )  # fmt: skip


@operation(
    "rotateOwnCredential",
    "POST",
    "/me/rotate",
    ANYBODY,
    "Get a new secret for your own credential",
    answers=IssuedCredential,
)
async def rotate_own(call: NamedDependency[Call], data: JSONBody[Rotation]) -> Response[bytes]:
    if call.caller.way != "key":
        raise Refusal(403, "no_key", "You came in without a key", "An operator can issue a key: oracle key issue")
    return await _rotate(call, call.caller.actor, data.grace_s)


@operation(
    "listCredentials", "GET", "/credentials", allow(Role.OPERATOR, narrows=True), "List the credentials",
    answers=CredentialPage,
)  # fmt: skip
async def list_credentials(
    call: NamedDependency[Call],
    fsp_id: FspIdQuery = None,
    role: FromQuery[Role | None] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    cursors = Cursors(call.caller, "credentials", fsp_id, role)
    rows = await call.postgres.rows(
        "credentials_page", fsp_id, role, cursors.open(cursor, str), limit + 1, call.list_fsps()
    )
    items = await _make_credentials(call.postgres.rows, rows[:limit])
    following = cursors.close(items[-1].credential_id) if len(rows) > limit else None
    return call.read_page(CredentialPage(items=items, next=following))


@operation(
    "createCredential", "POST", "/credentials", OPERATOR, "Issue a credential", answers=IssuedCredential, status=201
)
async def create_credential(call: NamedDependency[Call], data: JSONBody[NewCredential]) -> Response[bytes]:
    if data.role in _BOUND and data.fsp_id is None:
        raise Refusal(400, "invalid", "This role needs an FSP", "Name the FSP that the key acts for", field="fspId")
    if data.role in (Role.OPERATOR, Role.AUDITOR) and data.fsp_id is not None:
        hint = "Leave the FSP out: this role is for all FSPs"
        raise Refusal(400, "invalid", "This role cannot be limited to one FSP", hint, field="fspId")
    credential_id, secret = new_credential_id(), new_secret()

    async def work(transaction: Transaction) -> Answer:
        _require_future(data.expires_at)  # here: a repeated call must get its first answer
        if data.fsp_id is not None:
            await lock_fsp(transaction, data.fsp_id)
        await transaction.run(
            "credential_add",
            credential_id,
            data.role,
            data.fsp_id,
            data.label,
            data.expires_at,
            data.person,
            call.caller.actor,
        )
        await transaction.run("secret_add", credential_id, hash_of(secret))
        credential, version = await _read(transaction, credential_id)
        issued = IssuedCredential(credential=credential, key=token_of(credential_id, secret))
        location = f"/admin/v1/credentials/{credential_id}"
        return answer(issued, status=201, version=version, location=location, holds_key=True)

    return await call.administer(work)


@operation(
    "getCredential", "GET", "/credentials/{credential_id:str}", OPERATOR, "Read a credential", answers=Credential
)
async def read_credential(call: NamedDependency[Call], credential_id: FromPath[str]) -> Response[bytes]:
    row = await call.postgres.row("credential", credential_id)
    if row is None:
        raise _no_such_credential()
    # No 304: last use and the number of secrets change without a new version.
    (credential,) = await _make_credentials(call.postgres.rows, [row])
    return answer(credential, version=row["version"]).response()


@operation(
    "changeCredential",
    "PATCH",
    "/credentials/{credential_id:str}",
    OPERATOR,
    "Change the label, the expiry or the person of a credential",
    answers=Credential,
)
async def change_credential(
    call: NamedDependency[Call], credential_id: FromPath[str], data: JSONBody[CredentialChange]
) -> Response[bytes]:
    _require_future(data.expires_at)

    async def work(transaction: Transaction) -> Answer:
        await _lock(transaction, call, credential_id)
        now, _ = await _read(transaction, credential_id)
        label = now.label if data.label is UNSET else data.label
        expires_at = now.expires_at if data.expires_at is UNSET else data.expires_at
        person = now.person if data.person is UNSET else data.person
        await transaction.run("credential_change", credential_id, label, expires_at, person)
        credential, version = await _read(transaction, credential_id)
        return answer(credential, version=version)

    return await call.administer(work)


@operation(
    "rotateCredential",
    "POST",
    "/credentials/{credential_id:str}/rotate",
    OPERATOR,
    "Get a second secret; the first one ends later",
    answers=IssuedCredential,
)
async def rotate(
    call: NamedDependency[Call], credential_id: FromPath[str], data: JSONBody[Rotation]
) -> Response[bytes]:
    return await _rotate(call, credential_id, data.grace_s)


# Each secret and its events stay in history for good, and any key can rotate itself.
ROTATIONS_MAX: Final = 50
ROTATIONS_WITHIN_S: Final = 86_400.0


async def _rotate(call: Call, credential_id: str, grace_s: float) -> Response[bytes]:
    secret = new_secret()

    async def work(transaction: Transaction) -> Answer:
        now = await _lock(transaction, call, credential_id)
        if now["role"] == Role.AUDITOR and credential_id != call.caller.actor:
            raise Refusal(
                403,
                "not_yours",
                "Only the auditor can rotate this key",
                "The auditor must rotate it with the key itself",
            )
        if now["revoked"]:
            raise Refusal(409, "revoked", "The credential is revoked", "Issue a new credential")
        (made,) = await transaction.rows("secrets_made", credential_id, ROTATIONS_WITHIN_S)
        if made["secrets"] >= ROTATIONS_MAX:
            raise Refusal(
                429, "too_many_rotations", "This credential got too many new secrets within 24 hours",
                f"At most {ROTATIONS_MAX} are possible: keep the secret that you have, and try again tomorrow",
                describe_limit("new secrets", ROTATIONS_MAX, window_s=86_400),
            )  # fmt: skip
        await transaction.run("secrets_expire", credential_id, float(grace_s))
        await transaction.run("secret_add", credential_id, hash_of(secret))
        await transaction.run("credential_touch", credential_id)
        credential, version = await _read(transaction, credential_id)
        issued = IssuedCredential(credential=credential, key=token_of(credential_id, secret))
        return answer(issued, version=version, holds_key=True)

    return await call.administer(work)


@operation(
    "revokeCredential",
    "POST",
    "/credentials/{credential_id:str}/revoke",
    OPERATOR,
    "Revoke a credential now",
    answers=Credential,
)
async def revoke(
    call: NamedDependency[Call], credential_id: FromPath[str], data: JSONBody[Revocation]
) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        await _lock(transaction, call, credential_id)
        await transaction.run("credential_revoke", credential_id)
        credential, version = await _read(transaction, credential_id)
        return answer(credential, version=version)

    return await call.administer(work, reason=data.reason)


@operation(
    "listRefusedCalls", "GET", "/refusals", OPERATOR, "List refused calls, the newest first", answers=RefusedCallPage
)
async def list_refused(
    call: NamedDependency[Call],
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    cursors = Cursors(call.caller, "refusals")
    rows = await call.postgres.rows("refusals", cursors.open(cursor, datetime), limit + 1)
    people = await fetch_people(call.postgres.rows, {row["credential_id"] for row in rows})
    items = [
        RefusedCall(credential_name=people.get(row["credential_id"], NOBODY).name, **dict(row)) for row in rows[:limit]
    ]
    following = cursors.close(items[-1].at) if len(rows) > limit else None
    return call.read_page(RefusedCallPage(items=items, next=following))


def _require_future(expires_at: datetime | UnsetType | None) -> None:
    """Raises Refusal."""
    if isinstance(expires_at, datetime) and read_time("expiresAt", expires_at) <= datetime.now(UTC):
        hint = "Use a later time. To end the credential now, revoke it"
        raise Refusal(400, "invalid", "expiresAt is in the past", hint, field="expiresAt")

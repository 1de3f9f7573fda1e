"""Where the account lookup service calls an FSP, and the keys that verify the JWS signatures of an FSP.

Only an operator changes them, as all data of an FSP.  A person who changes an endpoint receives the names of payees,
and one who adds a key can sign for the FSP.  A second person approves files and aliases, and nothing else.

The workers of the account lookup service follow a change within two seconds.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from oracle.api.admin.access import OPERATOR
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.fsps import READERS, lock_fsp, no_such_fsp, path_of
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.api.admin.values import Name
from oracle.api.dfsp.signatures import KEY_BITS_MIN, KEYS_MAX, BadKey, read_public_keys
from oracle.scheme.base import PATHS
from oracle.scheme.urls import URL_MAX, BadUrl, check_base_url, check_url, list_placeholders
from oracle.store.postgres import Transaction

KEY_BITS_MAX: Final = 8_192  # a larger one takes too long to verify with
PEM_MAX: Final = 16_384

Url = Annotated[str, Meta(min_length=1, max_length=URL_MAX)]
_BASE_URL: Final = (
    "http or https, without a slash at the end. The paths of the FSPIOP API are below it, for example"
    " /parties/{Type}/{ID}. null: only the URLs in `urls` are called"
)
_URLS: Final = (
    "The URL of a single endpoint type, with placeholders such as {{partyIdType}} and {{partyIdentifier}}. It comes"
    " before baseUrl. The types are those of a central ledger, for example FSPIOP_CALLBACK_URL_PARTIES_GET"
)
_IS_PROXY: Final = "true: a proxy, which forwards messages to FSPs of another scheme"


class FspEndpointsChange(Body):
    """All endpoints of an FSP: a member that you leave out is removed."""

    base_url: Annotated[Url | None, Meta(description=_BASE_URL)] = None
    urls: Annotated[dict[str, Url], Meta(max_length=len(PATHS), description=_URLS)] = msgspec.field(
        default_factory=dict
    )
    is_proxy: Annotated[bool, Meta(description=_IS_PROXY)] = False


class FspEndpoints(Resource):
    fsp_id: str
    base_url: Annotated[str | None, Meta(description=_BASE_URL)]
    urls: Annotated[dict[str, str], Meta(description=_URLS)]
    is_proxy: Annotated[bool, Meta(description=_IS_PROXY)]
    changed_at: Annotated[datetime | None, Meta(description="null: they were never set")]


class NewJwsKey(Body):
    label: Annotated[Name, Meta(description="Tells the keys of an FSP apart, for example 2026")]
    pem: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=PEM_MAX,
            description=f"An RSA public key of {KEY_BITS_MIN} to {KEY_BITS_MAX} bits, or its certificate, in PEM",
        ),
    ]


class JwsKey(Resource):
    key_id: int
    label: str
    pem: Annotated[str, Meta(description="The public key")]
    sha256: Annotated[str, Meta(description="Of the key in DER (SubjectPublicKeyInfo), in hexadecimal")]
    created_at: datetime


class JwsKeys(Resource):
    items: Annotated[list[JwsKey], Meta(description="The newest first. A signature is valid by each of them")]


def handlers() -> list[HTTPRouteHandler]:
    return [read_endpoints, set_endpoints, list_keys, add_key, remove_key]


@operation(
    "getFspEndpoints",
    "GET",
    "/fsps/{fsp_id:str}/endpoints",
    READERS,
    "Read where the account lookup service calls an FSP",
    answers=FspEndpoints,
)
async def read_endpoints(call: NamedDependency[Call], fsp_id: FromPath[str]) -> Response[bytes]:
    row = await call.postgres.row("fsp_endpoints", fsp_id)
    if row is None:
        raise no_such_fsp()
    return call.read(_make_endpoints(fsp_id, row), row["version"])


@operation(
    "setFspEndpoints",
    "PUT",
    "/fsps/{fsp_id:str}/endpoints",
    OPERATOR,
    "Set where the account lookup service calls an FSP",
    answers=FspEndpoints,
)
async def set_endpoints(
    call: NamedDependency[Call], fsp_id: FromPath[str], data: JSONBody[FspEndpointsChange]
) -> Response[bytes]:
    _require_urls(data)
    urls = msgspec.json.encode(data.urls, order="sorted").decode()

    async def work(transaction: Transaction) -> Answer:
        await lock_fsp(transaction, fsp_id)
        (row,) = await transaction.rows("fsp_endpoints", fsp_id)
        call.match(row["version"])
        await transaction.run("fsp_endpoints_put", fsp_id, data.base_url, urls, data.is_proxy)
        (row,) = await transaction.rows("fsp_endpoints", fsp_id)
        return answer(_make_endpoints(fsp_id, row), version=row["version"])

    return await call.administer(work)


@operation(
    "listJwsKeys",
    "GET",
    "/fsps/{fsp_id:str}/jws-keys",
    READERS,
    "List the keys that verify the signatures of an FSP",
    answers=JwsKeys,
)
async def list_keys(call: NamedDependency[Call], fsp_id: FromPath[str]) -> Response[bytes]:
    if await call.postgres.row("fsp", fsp_id) is None:
        raise no_such_fsp()
    rows = await call.postgres.rows("fsp_jws_keys", fsp_id)
    return call.read(JwsKeys(items=[_make_key(row) for row in rows]))


@operation(
    "addJwsKey",
    "POST",
    "/fsps/{fsp_id:str}/jws-keys",
    OPERATOR,
    "Add a key that verifies the signatures of an FSP",
    answers=JwsKey,
    status=201,
)
async def add_key(call: NamedDependency[Call], fsp_id: FromPath[str], data: JSONBody[NewJwsKey]) -> Response[bytes]:
    pem, sha256 = _read_key(data.pem)

    async def work(transaction: Transaction) -> Answer:
        await lock_fsp(transaction, fsp_id)
        if len(await transaction.rows("fsp_jws_keys", fsp_id)) >= KEYS_MAX:
            raise Refusal(409, "too_many_keys", f"The FSP has {KEYS_MAX} keys already", "Remove one first")
        if not await transaction.run("fsp_jws_key_add", fsp_id, data.label, pem, sha256):
            raise Refusal(409, "key_exists", "The FSP has this key already", "List its keys to see it", field="pem")
        key = _make_key((await transaction.rows("fsp_jws_keys", fsp_id))[0])
        return answer(key, status=201, version=sha256, location=f"{path_of(fsp_id)}/jws-keys/{key.key_id}")

    return await call.administer(work)


@operation(
    "removeJwsKey",
    "DELETE",
    "/fsps/{fsp_id:str}/jws-keys/{key_id:int}",
    OPERATOR,
    "Remove a key; signatures by it are refused from then on",
    answers=JwsKey,
)
async def remove_key(call: NamedDependency[Call], fsp_id: FromPath[str], key_id: FromPath[int]) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        await lock_fsp(transaction, fsp_id)
        rows = await transaction.rows("fsp_jws_keys", fsp_id)
        row = next((each for each in rows if each["key_id"] == key_id), None)
        if row is None:
            raise Refusal(404, "not_found", "No such key", "List the keys of the FSP to see their numbers")
        call.match(row["sha256"])
        await transaction.run("fsp_jws_key_remove", fsp_id, key_id)
        return answer(_make_key(row))

    return await call.administer(work)


def _make_endpoints(fsp_id: str, row: Any) -> FspEndpoints:
    return FspEndpoints(
        fsp_id=fsp_id, base_url=row["base_url"], urls=msgspec.json.decode(row["urls"], type=dict[str, str]),
        is_proxy=row["is_proxy"], changed_at=row["changed_at"],
    )  # fmt: skip


def _make_key(row: Any) -> JwsKey:
    return JwsKey(**{name: row[name] for name in JwsKey.__struct_fields__})


def _require_urls(data: FspEndpointsChange) -> None:
    """Raise Refusal for a type or a URL that cannot be called.  No text repeats a URL: it can have a password."""
    if data.base_url is not None:
        try:
            check_base_url(data.base_url)
        except BadUrl as exc:
            raise _make_bad_url(exc, "baseUrl") from None
    for endpoint_type, url in data.urls.items():
        if endpoint_type not in PATHS:
            hint = f"The types are {', '.join(PATHS)}"
            raise Refusal(400, "invalid", "There is no such type of endpoint", hint, field="urls")
        try:
            check_url(url, list_placeholders(endpoint_type))
        except BadUrl as exc:
            raise _make_bad_url(exc, "urls", endpoint_type) from None


def _make_bad_url(error: BadUrl, field: str, endpoint_type: str = "") -> Refusal:
    detail = f"The URL for {endpoint_type} cannot be called" if endpoint_type else "The URL cannot be called"
    text = str(error)
    return Refusal(400, "bad_url", detail, f"{text[0].upper()}{text[1:]}", field=field)


def _read_key(text: str) -> tuple[str, str]:
    """Return the public key in its one form, and its digest.  Raises Refusal."""
    try:
        keys = read_public_keys(text.encode())
    except BadKey as exc:
        fault = str(exc)
        fault = fault if fault.startswith("the key") else f"it {fault}"
        raise _make_bad_key(f"{fault[0].upper()}{fault[1:]}") from None
    if len(keys) > 1:
        raise _make_bad_key("It holds several keys: add each of them alone")
    (key,) = keys
    if key.key_size > KEY_BITS_MAX:
        raise _make_bad_key(f"The key has {key.key_size} bits: use one of at most {KEY_BITS_MAX}")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = key.public_bytes(serialization.Encoding.PEM, form).decode()
    return pem, hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _make_bad_key(hint: str) -> Refusal:
    return Refusal(400, "bad_key", "The public key cannot be used", hint, field="pem")

"""Errors of the admin listener, as problem details (RFC 9457): `application/problem+json`, for people and programs.

    {"type": "/docs/errors#not_found", "title": "Not found", "status": 404, "detail": "No such FSP",
     "code": "not_found", "hint": "List the FSPs to see their ids"}

`code` is a short name that stays the same between versions (see `codes`), `detail` says what is wrong, `hint` what to
do, `field` which member, parameter or header is meant.  None of them holds an identifier, for any caller.  The tables
here are the only bridge from errors to this API; to FSPIOP it is `faults`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import asyncpg
import msgspec
from litestar.exceptions import HTTPException
from msgspec import Meta

from oracle import errors
from oracle.api.admin import expected
from oracle.api.admin.codes import MEANINGS, Code, anchor
from oracle.identifiers import BadIdentifier
from oracle.sentences import Sentence

MEDIA_TYPE: Final = "application/problem+json"
NOT_A_TIME: Final = "Not a valid time; use RFC 3339, for example 2026-11-28T10:00:00Z"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every answer with a status of 400 or more (RFC 9457)."""

    type: Annotated[str, Meta(description="A page that explains the code")]
    title: Annotated[str, Meta(description="The same for each problem with this code")]
    status: int
    detail: Annotated[str, Meta(description="What is wrong with this request")]
    code: Annotated[Code, Meta(description="Stays the same between versions")]
    hint: Annotated[str, Meta(description="What to do")] = ""
    field: Annotated[str, Meta(description="The member, parameter or header that is wrong")] = ""


class ItemProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one of many items, in an answer of 200."""

    code: Code
    message: Sentence
    hint: Sentence = ""


class Refusal(Exception):
    """An answer with a status of 400 or more.  Raise it where the reason is found."""

    def __init__(
        self,
        status: int,
        code: Code,
        detail: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        field: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code: Code = code
        self.detail = detail
        self.hint = hint
        self.field = field
        self.headers: Mapping[str, str] = headers or {}

    def problem(self) -> Problem:
        return Problem(
            type=anchor(self.code), title=MEANINGS[self.code].title, status=self.status, detail=self.detail,
            code=self.code, hint=self.hint, field=self.field,
        )  # fmt: skip

    def item(self) -> ItemProblem:
        return ItemProblem(code=self.code, message=self.detail, hint=self.hint)


DEFECT: Final = Refusal(
    500,
    "internal_error",
    "The service has a defect",
    "Ask the operator of the service to look for the cause in its log",
)

OF_ERROR: Final[dict[type[Exception], tuple[int, Code, str]]] = {
    errors.PartyNotFound: (404, "not_found", "This FSP has no such alias"),
    errors.NotOwner: (404, "not_found", "This FSP has no such alias"),  # as if it were absent: see `access`
    errors.AlreadyRegistered: (409, "held_elsewhere", "The customer must first ask the other FSP to remove it"),
    errors.AmbiguousRemoval: (409, "ambiguous", "Add the SubId of the entry that you mean"),
    errors.UnknownFsp: (409, "fsp_not_active", "An operator can set the FSP to active"),
    errors.NotAllowed: (409, "not_allowed", "An operator can add it to the kinds or currencies of the FSP"),
    errors.RouteOverlap: (409, "route_overlap", "End the other route first, or choose another time"),
    errors.Refused: (409, "refused", ""),
    errors.TooLarge: (413, "too_large", ""),
    errors.BadRequest: (400, "bad_request", ""),
    errors.NoSuchResource: (404, "not_found", ""),
    errors.MethodNotAllowed: (405, "method_not_allowed", ""),
    errors.Unavailable: (503, "unavailable", "Try again in a moment"),
}
# The database's word for a NUL in a text or a JSON value, wherever it came from: path, query, body, cursor.
_NO_TEXT: Final = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
# What the JSON decoder lets through as it is: nested too deeply, not UTF-8.
_NO_JSON: Final = (RecursionError, UnicodeDecodeError)

OF_STATUS: Final[dict[int, tuple[Code, str, str]]] = {
    404: ("not_found", "No such resource", "The page /docs lists every path"),
    405: (
        "method_not_allowed",
        "This resource does not support that method",
        "The page /docs lists the methods of each path",
    ),
    413: ("too_large", "The body is too large", "Send less, or divide it into parts"),
    415: ("unsupported_media_type", "This media type is not supported", "Send application/json"),
}
_BROKEN_OFF: Final = "client disconnected prematurely"  # Litestar's words for a body without an end, or none in HTTP
_NOT_JSON: Final = ("JSON is malformed", "Input data was truncated")  # msgspec's words
_TIME: Final = re.compile(r"datetime|RFC3339")  # in what the validator says of a time


def refusal_of(error: BaseException) -> Refusal:
    """Make the refusal for an error; DEFECT for an error that nobody expected."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, BadIdentifier):
        return Refusal(400, "bad_identifier", str(error), f"Reason: {error.reason}", field=_member(error))
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, _NO_JSON):
        return _refuse_json()
    if isinstance(error, asyncpg.DataError) and isinstance(error.__cause__, OverflowError):
        return Refusal(400, "invalid", "A number or a time is out of range", "The page /docs shows the limits")
    if isinstance(error, _NO_TEXT):
        return Refusal(400, "invalid", "A text holds a character that cannot be stored", "Remove U+0000")
    for kind in type(error).__mro__:
        found = OF_ERROR.get(kind)
        if found is not None:
            status, code, hint = found
            detail = "Not found" if status == 404 else str(error)  # noqa: PLR2004 - the same for absent and foreign
            return Refusal(status, code, detail, hint, {"Retry-After": "1"} if status == 503 else None)  # noqa: PLR2004
    return DEFECT


def _member(error: BadIdentifier) -> str:
    """Name the wrong member among those that make a key."""
    named = {"unknown_kind": "kind", "unknown_country": "country", "country_contradicts_kind": "country"}
    return "subId" if error.reason.startswith("sub_id_") else named.get(error.reason, "identifier")


def _of_http(error: HTTPException) -> Refusal:
    status = error.status_code
    if error.detail == _BROKEN_OFF:
        return Refusal(400, "broken_off", "The request ended before the body was complete", "Send it again")
    if status >= 500:  # noqa: PLR2004 - the server's side of the statuses
        return DEFECT
    if status in OF_STATUS:
        code, detail, hint = OF_STATUS[status]
        return Refusal(status, code, detail, hint, _allow_header(error))
    if error.detail.startswith(_NOT_JSON):
        return _refuse_json()
    return _of_validation(status, error.extra)


def _refuse_json() -> Refusal:
    return Refusal(400, "invalid", "The body is not valid JSON", "Send JSON in UTF-8; the page /docs shows an example")


def _allow_header(error: HTTPException) -> Mapping[str, str] | None:
    allow = [value for name, value in (error.headers or {}).items() if name.lower() == "allow"]
    return {"Allow": allow[0]} if allow else None


def _of_validation(status: int, extra: Any) -> Refusal:
    """Report what the validator found wrong with each member, without the values."""
    if not isinstance(extra, list):
        return Refusal(status, "invalid", "The request is not valid", "The page /docs describes the request")
    found = [_explain_item(item) for item in extra]
    field = found[0][0] if len(found) == 1 else ""
    if field and found[0][1] == NOT_A_TIME:
        return Refusal(status, "invalid", NOT_A_TIME, "In a URL write + as %2B", field=field)
    hint = "; ".join(f"{name}: {reason}" for name, reason in found)[:512]
    return Refusal(status, "invalid", "The request is not valid", hint, field=field)


def _explain_item(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return the member that is wrong, and the reason.  `allowed` comes from `app`, which knows the operation."""
    key, message = str(item.get("key", "data")), str(item.get("message", ""))
    is_time = _TIME.search(message) and not message.startswith("Object")
    reason = NOT_A_TIME if is_time else expected.explain(message, item.get("allowed", []))
    return expected.name_member(key, message), reason

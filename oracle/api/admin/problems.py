"""Errors of the admin listener: `{"error": {"code", "message", "hint"}}`, for people and scripts.

`code` is a short name that stays the same between versions; `message` says what is wrong, `hint` what to do.  Neither
holds an identifier, whoever asks.  The tables here are the only bridge from errors to this API; to FSPIOP
it is `faults`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import msgspec
from litestar.exceptions import HTTPException

from oracle import errors
from oracle.identifiers import BadIdentifier


class Problem(msgspec.Struct, frozen=True):
    code: str
    message: str
    hint: str = ""


class ProblemBody(msgspec.Struct, frozen=True):
    """Every answer with a status of 400 or more."""

    error: Problem


class Refusal(Exception):
    """An answer with a status of 400 or more, raised where it is found out."""

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code, message, hint)
        self.headers: Mapping[str, str] = headers or {}


DEFECT: Final = Refusal(500, "internal_error", "Something went wrong inside", "See the log of the admin process")

_OF_ERROR: Final[dict[type[Exception], tuple[int, str, str]]] = {
    errors.PartyNotFound: (404, "not_found", "No such alias of this FSP"),
    errors.NotOwner: (404, "not_found", "No such alias of this FSP"),  # as if it were not there: see api/access
    errors.AlreadyRegistered: (409, "held_elsewhere", "The identifier can be registered once its holder gives it up"),
    errors.AmbiguousRemoval: (409, "ambiguous", "Name the entry by subId"),
    errors.UnknownFsp: (409, "fsp_not_active", "An operator can activate the FSP"),
    errors.NotAllowed: (409, "not_allowed", "See kinds and currencies of the FSP"),
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

_OF_STATUS: Final[dict[int, tuple[str, str]]] = {
    404: ("not_found", "See /openapi.json for what is served here"),
    405: ("method_not_allowed", "See /openapi.json for what is served here"),
    413: ("too_large", "See /openapi.json for the limits"),
    415: ("unsupported_media_type", "Send application/json"),
}
_BROKEN_OFF: Final = "client disconnected prematurely"  # Litestar's words for a body without an end, or none in HTTP
# What a validator quotes of the request may be an identifier; it can have been cut, with no quote at its end.  What it
# expected is of the description alone.
_EXPECTED: Final = ("Expected ", "Object missing required field ")
_QUOTED: Final = re.compile(r"""['"].*|(?<=field )`.*""", re.DOTALL)


def refusal_of(error: BaseException) -> Refusal:
    """What to answer; DEFECT for what nobody expected."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, BadIdentifier):
        return Refusal(400, "bad_identifier", str(error), f"Reason: {error.reason}")
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, _NO_JSON):
        return Refusal(400, "invalid", "The body cannot be read", "Send JSON in UTF-8, as /openapi.json describes it")
    if isinstance(error, asyncpg.DataError) and isinstance(error.__cause__, OverflowError):
        return Refusal(400, "invalid", "A number or a time is out of range", "See /openapi.json for the limits")
    if isinstance(error, _NO_TEXT):
        return Refusal(400, "invalid", "A text holds a character that cannot be stored", "Leave out U+0000")
    for kind in type(error).__mro__:
        found = _OF_ERROR.get(kind)
        if found is not None:
            status, code, hint = found
            message = "Not found" if status == 404 else str(error)  # noqa: PLR2004 - the same for absent and foreign
            return Refusal(status, code, message, hint, {"Retry-After": "1"} if status == 503 else None)  # noqa: PLR2004
    return DEFECT


def _of_http(error: HTTPException) -> Refusal:
    status = error.status_code
    if error.detail == _BROKEN_OFF:
        return Refusal(400, "broken_off", "The body broke off", "Send it again")
    if status >= 500:  # noqa: PLR2004 - the server's side of the statuses
        return DEFECT
    code, hint = _OF_STATUS.get(status, ("invalid", _where(error.extra)))
    message = {404: "No such resource", 405: "This resource does not take that method", 413: "The body is too large"}
    return Refusal(status, code, message.get(status, "The request is not valid"), hint, _allowed(error))


def _allowed(error: HTTPException) -> Mapping[str, str] | None:
    allow = [value for name, value in (error.headers or {}).items() if name.lower() == "allow"]
    return {"Allow": allow[0]} if allow else None


def _where(extra: Any) -> str:
    """What the validator said of each member, without the values."""
    if not isinstance(extra, list):
        return "Send what /openapi.json describes"
    said = [f"{item.get('key', 'body')}: {_unquoted(str(item.get('message', '')))}" for item in extra]
    return "; ".join(said)[:512]


def _unquoted(message: str) -> str:
    return message if message.startswith(_EXPECTED) else _QUOTED.sub("…", message)

"""The answers that the server gives by itself, to a request that the application never sees."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from oracle import errors
from oracle.api import faults
from oracle.api.http.request import JSON

Refusal = tuple[int, bytes]  # a status and its errorInformation


def _refuse_with(error: errors.OracleError, status: int | None = None) -> Refusal:
    """Build a refusal.  FSPIOP's code comes from `faults`; HTTP has the finer statuses."""
    usual, body = faults.encode_error(error)
    return status or usual, body


UNREADABLE: Final = _refuse_with(errors.Malformed("The request is not valid HTTP/1.1"))
CUT_SHORT: Final = _refuse_with(errors.Malformed("The request ended before it was complete"))
CODING: Final = _refuse_with(errors.Malformed("The only transfer coding allowed is chunked"))
TARGET_TOO_LONG: Final = _refuse_with(errors.Malformed("The request URI is too long"), 414)
HEADERS_TOO_LARGE: Final = _refuse_with(errors.BadRequest("The request has too many or too large headers"), 431)
TOO_SLOW: Final = _refuse_with(errors.BadRequest("The request took too long to arrive"), 408)
BODY_TOO_LARGE: Final = _refuse_with(errors.TooLarge("The request body is too large"))
BODIES_TOO_LARGE: Final = _refuse_with(errors.Overloaded("Too many large requests; try again later"))
CONNECT: Final = _refuse_with(errors.MethodNotAllowed("The method CONNECT is not allowed"))
NO_METHOD: Final = b"allow: "  # the target of CONNECT is another server
CROWDED: Final = _refuse_with(errors.Overloaded("Too many connections; try again later"))
OVERLOADED: Final = _refuse_with(errors.Overloaded())
DEFECT: Final = _refuse_with(errors.OracleError())
NO_TLS: Final = _refuse_with(errors.Malformed("This port needs TLS: use https"))


def write_whole(refusal: Refusal) -> bytes:
    """Write the whole answer, for a connection that the server does not serve."""
    status, body = refusal
    head = b"HTTP/1.1 %d %b\r\n%b" % (status, HTTPStatus(status).phrase.encode(), JSON)
    return b"%b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (head, len(body), body)

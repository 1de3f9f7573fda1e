"""Errors to FSPIOP: the only bridge between `errors` and the hub's `errorInformation`.

ALS passes `errorInformation` to the DFSP word for word (docs/als-contract.md sections 4 and 7).  So it has a four-digit
code of a known category, as a string; a description of 1 to 128 characters; no extensionList, because ALS fails on one;
and nothing of the inside.  An exception outside the table is a defect of ours: the answer is 500 with 2001 and a fixed
text.
"""

from __future__ import annotations

from typing import Final

import msgspec

from oracle import errors
from oracle.identifiers import BadIdentifier

DESCRIPTION_MAX: Final = 128

# The most specific class decides; a test walks every subclass of OracleError.
FAULTS: Final[dict[type[Exception], tuple[int, str]]] = {
    BadIdentifier: (400, "3101"),
    errors.Malformed: (400, "3101"),
    errors.BadElement: (400, "3100"),
    errors.MissingElement: (400, "3102"),
    errors.TooManyElements: (400, "3103"),
    errors.TooLarge: (413, "3104"),
    errors.BadRequest: (400, "3100"),
    errors.NoSuchResource: (404, "3002"),
    errors.MethodNotAllowed: (405, "3000"),
    errors.PartyNotFound: (404, "3204"),
    errors.AlreadyRegistered: (409, "3003"),
    errors.NotOwner: (403, "3003"),
    errors.ForeignRemoval: (403, "3040"),
    errors.AmbiguousRemoval: (409, "3040"),
    errors.UnknownFsp: (400, "3201"),
    errors.NotAllowed: (403, "3003"),
    errors.HubRemovalsOff: (403, "3040"),
    errors.Refused: (409, "3000"),
    errors.DirectoryUnavailable: (503, "2003"),
    errors.Overloaded: (503, "2005"),
    errors.OverBudget: (429, "2005"),
    errors.Unavailable: (503, "2003"),
    errors.OracleError: (500, "2001"),
}


class ErrorInformation(msgspec.Struct, frozen=True, rename="camel"):
    error_code: str
    error_description: str


class ErrorBody(msgspec.Struct, frozen=True, rename="camel"):
    error_information: ErrorInformation


def describe(error: BaseException) -> tuple[int, ErrorInformation]:
    """Find an error's status and errorInformation.  An unknown exception is 500 + 2001 and never shows its text."""
    for kind in type(error).__mro__:
        found = FAULTS.get(kind)
        if found is not None:
            status, code = found
            return status, ErrorInformation(code, (str(error) or errors.OracleError.default)[:DESCRIPTION_MAX])
    return 500, ErrorInformation("2001", errors.OracleError.default)


_encode = msgspec.json.Encoder().encode


def encode_error(error: BaseException) -> tuple[int, bytes]:
    """Find the status of an error and encode its JSON body."""
    status, information = describe(error)
    return status, _encode(ErrorBody(information))

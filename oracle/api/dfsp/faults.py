"""Errors that DFSPs see: an FSPIOP code, its general text, and a detail (docs/account-lookup.md)."""

from __future__ import annotations

from typing import Final

import msgspec

from oracle.budgets.changes import News

DESCRIPTION_MAX: Final = 128

# The general text of each code that we send.
TEXTS: Final[dict[str, str]] = {
    "1000": "Communication error",
    "1001": "Destination communication error",
    "2000": "Generic server error",
    "2001": "Internal server error",
    "2002": "Not implemented",
    "2003": "Service currently unavailable",
    "2004": "Server timed out",
    "2005": "Server busy",
    "3000": "Generic client error",
    "3001": "Unacceptable version requested",
    "3002": "Unknown URI",
    "3003": "Add Party information error",
    "3040": "Delete Party information error",
    "3100": "Generic validation error",
    "3101": "Malformed syntax",
    "3102": "Missing mandatory element",
    "3103": "Too many elements",
    "3104": "Too large payload",
    "3105": "Invalid signature",
    "3200": "Generic ID not found",
    "3201": "Destination FSP Error",
    "3204": "Party not found",
    "3300": "Generic expired error",
    "3303": "Transfer expired",
}


class Extension(msgspec.Struct, frozen=True, gc=False):
    key: str
    value: str


class Fault(Exception):
    """Why a DFSP gets an error, in its sync answer or in its error callback.

    The detail never holds an identifier, an address or anything of the inside.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        status: int = 400,
        extensions: tuple[Extension, ...] = (),
        allowed: str = "",
        news: News | None = None,
    ) -> None:
        """`news`: what it tells about other FSPs; None if only the code shows that."""
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.status = status  # of the sync answer
        self.extensions = extensions
        self.allowed = allowed  # the methods that the URI has
        self.news = news

    @property
    def description(self) -> str:
        text = TEXTS[self.code]
        return f"{text} - {self.detail}"[:DESCRIPTION_MAX] if self.detail else text


class _ExtensionList(msgspec.Struct, frozen=True):
    extension: tuple[Extension, ...]


class _Information(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    error_code: str
    error_description: str
    extension_list: _ExtensionList | None = None


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    error_information: _Information


_encode = msgspec.json.Encoder().encode


def encode(fault: Fault) -> bytes:
    """Encode the body of an error: `{"errorInformation": …}`."""
    listed = _ExtensionList(fault.extensions) if fault.extensions else None
    return _encode(_Body(_Information(fault.code, fault.description, listed)))

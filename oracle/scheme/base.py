"""The participants (FSPs) of the scheme, and where each of them is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from oracle import errors

# Types of endpoints, as a central ledger names them.  A value is a URL with the placeholders {{partyIdType}},
# {{partyIdentifier}}, {{partySubIdOrType}}, {{requestId}} and {{fsp}}.
PARTICIPANT_PUT: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_PUT"
PARTICIPANT_PUT_ERROR: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_PUT_ERROR"
PARTICIPANT_SUB_ID_PUT: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_SUB_ID_PUT"
PARTICIPANT_SUB_ID_PUT_ERROR: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_SUB_ID_PUT_ERROR"
PARTICIPANT_DELETE: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_DELETE"
PARTICIPANT_SUB_ID_DELETE: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_SUB_ID_DELETE"
PARTICIPANT_BATCH_PUT: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_BATCH_PUT"
PARTICIPANT_BATCH_PUT_ERROR: Final = "FSPIOP_CALLBACK_URL_PARTICIPANT_BATCH_PUT_ERROR"
PARTIES_GET: Final = "FSPIOP_CALLBACK_URL_PARTIES_GET"
PARTIES_PUT: Final = "FSPIOP_CALLBACK_URL_PARTIES_PUT"
PARTIES_PUT_ERROR: Final = "FSPIOP_CALLBACK_URL_PARTIES_PUT_ERROR"
PARTIES_SUB_ID_GET: Final = "FSPIOP_CALLBACK_URL_PARTIES_SUB_ID_GET"
PARTIES_SUB_ID_PUT: Final = "FSPIOP_CALLBACK_URL_PARTIES_SUB_ID_PUT"
PARTIES_SUB_ID_PUT_ERROR: Final = "FSPIOP_CALLBACK_URL_PARTIES_SUB_ID_PUT_ERROR"

# The path that each of them has below the base URL of an FSP, if only that is known.
PATHS: Final[dict[str, str]] = {
    PARTICIPANT_PUT: "/participants/{{partyIdType}}/{{partyIdentifier}}",
    PARTICIPANT_PUT_ERROR: "/participants/{{partyIdType}}/{{partyIdentifier}}/error",
    PARTICIPANT_SUB_ID_PUT: "/participants/{{partyIdType}}/{{partyIdentifier}}/{{partySubIdOrType}}",
    PARTICIPANT_SUB_ID_PUT_ERROR: "/participants/{{partyIdType}}/{{partyIdentifier}}/{{partySubIdOrType}}/error",
    PARTICIPANT_DELETE: "/participants/{{partyIdType}}/{{partyIdentifier}}",
    PARTICIPANT_SUB_ID_DELETE: "/participants/{{partyIdType}}/{{partyIdentifier}}/{{partySubIdOrType}}",
    PARTICIPANT_BATCH_PUT: "/participants/{{requestId}}",
    PARTICIPANT_BATCH_PUT_ERROR: "/participants/{{requestId}}/error",
    PARTIES_GET: "/parties/{{partyIdType}}/{{partyIdentifier}}",
    PARTIES_PUT: "/parties/{{partyIdType}}/{{partyIdentifier}}",
    PARTIES_PUT_ERROR: "/parties/{{partyIdType}}/{{partyIdentifier}}/error",
    PARTIES_SUB_ID_GET: "/parties/{{partyIdType}}/{{partyIdentifier}}/{{partySubIdOrType}}",
    PARTIES_SUB_ID_PUT: "/parties/{{partyIdType}}/{{partyIdentifier}}/{{partySubIdOrType}}",
    PARTIES_SUB_ID_PUT_ERROR: "/parties/{{partyIdType}}/{{partyIdentifier}}/{{partySubIdOrType}}/error",
}


class LedgerUnavailable(errors.Unavailable):
    default = "The central ledger is not available; try again later"


class Participant(msgspec.Struct, frozen=True, gc=False):
    fsp_id: str
    is_proxy: bool = False


class Scheme(Protocol):
    """Where participants come from: a central ledger, or the directory.

    What it knows already is returned without a turn of the event loop, and refreshed in the background.  A source that
    fails is not "no such FSP": the last answer stays, and without one the methods raise LedgerUnavailable.
    """

    def recall_participant(self, fsp_id: str) -> Participant | None:
        """Return an FSP that is known without a question; None if only `find_participant` can tell."""

    def recall_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        """Return a URL that is known without a question; None if only `find_endpoint` can tell."""

    async def find_participant(self, fsp_id: str) -> Participant | None:
        """Find an FSP; None if the source says that there is none.  Raises LedgerUnavailable."""

    async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        """Find the URL of an FSP's endpoint, with its placeholders; None if it has none.  Raises LedgerUnavailable."""

    async def list_proxies(self) -> Sequence[str]:
        """List the active proxies to other schemes.  Raises LedgerUnavailable."""

    def forget_endpoints(self) -> None:
        """Read all endpoints again when they are needed next."""

    async def close(self) -> None: ...

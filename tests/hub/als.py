"""Reads an oracle's answer as an Account Lookup Service does: its acceptance rules as a small model.

Each function takes an `Answer` and returns what the DFSP receives from ALS v17.16.1, as observed on the wire with the
libraries of its lock file.  The oracle's own rules are not here: a test asserts both that the answer is the right one
and that ALS understands it.

    read_lookup     GET /participants: the FSP of the first entry, with any other members
    read_parties    GET /parties: the FSPs that ALS forwards the request to
    read_post, read_put, read_delete, read_bulk
    check_removal   the GET before a DELETE, if DELETE_PARTICIPANT_VALIDATION_ENABLED is set

A refusal raises `Callback`, the error that the DFSP receives.  `Callback.ours` is true if the oracle chose that error.
Every other error is a guess of ALS, often with the oracle's address and body inside: the answer was not acceptable.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hub.wire import Answer

DESCRIPTION_MAX: Final = 128
BOM: Final = b"\xef\xbb\xbf"

# The categories of FSPIOP error codes that ALS's error factory knows: communication, server, client (generic,
# validation, identifier, expired), payer, payee.
KNOWN_CATEGORIES: Final = (
    *("10", "20", "30", "31", "32", "33"),
    *("40", "41", "42", "43", "44"),
    *("50", "51", "52", "53", "54"),
)


class Callback(Exception):  # named for what the DFSP receives
    """The error callback to the DFSP."""

    def __init__(self, code: str, description: str, *, ours: bool = False) -> None:
        super().__init__(code, description)
        self.code = code
        self.description = description
        self.ours = ours


def _parse_body(answer: Answer) -> Any:
    """Parse the body as axios does: a body that is not JSON stays text."""
    try:
        return json.loads(answer.body.removeprefix(BOM))
    except ValueError:
        return answer.body.decode(errors="replace")


def _is_2xx(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _raise_callback(answer: Answer) -> NoReturn:
    """Raise the error for a 4xx or 5xx: errorInformation word for word, else a guess."""
    body = _parse_body(answer)
    if isinstance(body, dict) and isinstance(information := body.get("errorInformation"), dict):
        code, description = information.get("errorCode"), information.get("errorDescription")
        if "extensionList" in information:
            raise Callback("3003", "extensions.find is not a function")
        if not description or not isinstance(code, str) or len(code) != 4 or code[:2] not in KNOWN_CATEGORIES:
            raise Callback("2001", "Factory function createFSPIOPError failed")
        raise Callback(code, description[:DESCRIPTION_MAX], ours=True)
    if answer.status >= 500:
        raise Callback("1001", "Destination communication error")
    raise Callback("3200" if answer.status == 404 else "3000", "with the oracle's address, status and body in it")


def _read_entries(answer: Answer) -> list[dict[str, Any]]:
    if not _is_2xx(answer):
        _raise_callback(answer)
    body = _parse_body(answer)
    entries = body.get("partyList") if isinstance(body, dict) else None
    if not isinstance(entries, list) or not entries:
        raise Callback("3204", "Party not found", ours=True)
    return entries


def read_lookup(answer: Answer) -> str | None:
    """GET /participants."""
    fsp_id = _read_entries(answer)[0].get("fspId")
    return fsp_id if isinstance(fsp_id, str) else None


def read_parties(answer: Answer, sub_id: str | None = None) -> list[str]:
    """GET /parties: the entries with exactly this SubId, or those without one."""
    kept = [entry["fspId"] for entry in _read_entries(answer) if entry.get("partySubIdOrType") == sub_id]
    if not kept:
        raise Callback("3200", "Empty oracle partyList, filtered")
    return kept


def read_post(answer: Answer) -> None:
    """POST /participants/{Type}/{ID}: 201 and nothing else."""
    if answer.status == 201:
        return
    if _is_2xx(answer):
        raise Callback("3003", "Add Party information error")
    _raise_callback(answer)


def read_put(answer: Answer) -> None:
    """PUT: any 2xx with a body."""
    if not _is_2xx(answer):
        _raise_callback(answer)
    if not answer.body:
        raise Callback("3003", "Add Party information error")


def read_delete(answer: Answer) -> None:
    """DELETE: any 2xx."""
    if not _is_2xx(answer):
        _raise_callback(answer)


def read_proxy_post(answer: Answer) -> None:
    """POST for a proxy, with an FSP of another scheme: any 2xx.  An error reaches nobody."""
    read_delete(answer)


def check_removal(answer: Answer, source: str) -> None:
    """The GET before a DELETE under DELETE_PARTICIPANT_VALIDATION_ENABLED."""
    if answer.status != 200:
        if not _is_2xx(answer):
            _raise_callback(answer)
        raise Callback("3204", "Party not found")
    body = _parse_body(answer)
    entries = body.get("partyList") if isinstance(body, dict) else None
    if not entries or entries[0].get("fspId") != source:
        raise Callback("3040", "Delete Party information error")


def read_bulk(answer: Answer, items: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], str | None]]:
    """POST /participants: for each item what the DFSP receives, and the code of its error or None.

    An item that the answer leaves out is missing from the callback, so this model calls that an error.
    """
    if not _is_2xx(answer):
        _raise_callback(answer)
    body = _parse_body(answer)
    entries = body.get("partyList") if isinstance(body, dict) else None
    if not entries:
        return [(item, "3003") for item in items]
    if not all(isinstance(entry.get("partyId"), dict) for entry in entries):
        raise Callback("2001", "Cannot set properties of undefined (setting 'currency')")
    assert len(entries) == len(items), "items vanish from the callback"
    return [
        (
            {name: value for name, value in entry["partyId"].items() if name != "currency"},
            entry["errorInformation"]["errorCode"] if "errorInformation" in entry else None,
        )
        for entry in entries
    ]

"""What an Account Lookup Service makes of an oracle's answer: its acceptance rules as a small model.

ALS v17.16.1 with the libraries of its lock file, observed on the wire, turned into functions from an `Answer`
to what the DFSP is told.  The oracle's own rules are not in here: a test asserts both that an answer is the
promised one and that ALS would take it for what it means.

    lookup      GET /participants: the FSP of the first entry, whatever that entry says
    forward     GET /parties: the FSPs that the request is forwarded to
    registered, replaced, removed, bulk, may_remove
                POST, PUT, DELETE, bulk POST, and the GET before a DELETE when validation is switched on

A refusal raises `Callback`, the error that the DFSP receives.  `Callback.ours` tells whether the oracle chose
that error itself; everything else is ALS's guess, often with the oracle's address and body inside, and means
that an answer was not acceptable.
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


def _read(answer: Answer) -> Any:
    """The body as axios reads it: what is not JSON stays text."""
    try:
        return json.loads(answer.body.removeprefix(BOM))
    except ValueError:
        return answer.body.decode(errors="replace")


def _is_2xx(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _refused(answer: Answer) -> NoReturn:
    """4xx and 5xx alike: errorInformation is passed on word for word, anything else is guessed at."""
    body = _read(answer)
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


def _entries(answer: Answer) -> list[dict[str, Any]]:
    if not _is_2xx(answer):
        _refused(answer)
    body = _read(answer)
    entries = body.get("partyList") if isinstance(body, dict) else None
    if not isinstance(entries, list) or not entries:
        raise Callback("3204", "Party not found", ours=True)
    return entries


def lookup(answer: Answer) -> str | None:
    """GET /participants."""
    fsp_id = _entries(answer)[0].get("fspId")
    return fsp_id if isinstance(fsp_id, str) else None


def forward(answer: Answer, sub_id: str | None = None) -> list[str]:
    """GET /parties: with a SubId the entries with exactly that one, without one those that have none."""
    kept = [entry["fspId"] for entry in _entries(answer) if entry.get("partySubIdOrType") == sub_id]
    if not kept:
        raise Callback("3200", "Empty oracle partyList, filtered")
    return kept


def registered(answer: Answer) -> None:
    """POST /participants/{Type}/{ID}: 201 and nothing else."""
    if answer.status == 201:
        return
    if _is_2xx(answer):
        raise Callback("3003", "Add Party information error")
    _refused(answer)


def replaced(answer: Answer) -> None:
    """PUT: any 2xx, but there has to be a body."""
    if not _is_2xx(answer):
        _refused(answer)
    if not answer.body:
        raise Callback("3003", "Add Party information error")


def removed(answer: Answer) -> None:
    """DELETE: any 2xx."""
    if not _is_2xx(answer):
        _refused(answer)


def cached(answer: Answer) -> None:
    """POST on behalf of a proxy, for an FSP of another scheme: any 2xx; nobody hears of an error."""
    removed(answer)


def may_remove(answer: Answer, source: str) -> None:
    """The GET before a DELETE under DELETE_PARTICIPANT_VALIDATION_ENABLED."""
    if answer.status != 200:
        if not _is_2xx(answer):
            _refused(answer)
        raise Callback("3204", "Party not found")
    body = _read(answer)
    entries = body.get("partyList") if isinstance(body, dict) else None
    if not entries or entries[0].get("fspId") != source:
        raise Callback("3040", "Delete Party information error")


def bulk(answer: Answer, items: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], str | None]]:
    """POST /participants: for each item what the DFSP is told of it, and the code of its error.

    An item that is left out of the answer vanishes from the callback, so this model calls that an error.
    """
    if not _is_2xx(answer):
        _refused(answer)
    body = _read(answer)
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

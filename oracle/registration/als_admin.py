"""The admin API of ALS (/oracles) as a client.  docs/als-contract.md, section 6, has its rules and its traps.

Never PUT.   ALS refuses every PUT that keeps type and currency, so a row is removed and created again.
Answers.     What ALS says is not trusted: an answer that is no list of rows is a failure, and after each change the
             caller reads the rows again.  A redirection is not followed.
             A URL that is too long or has characters that no URL has is changed, so that history, a log and a terminal
             can take it; it is none that this oracle wants.
Texts.       An error names neither the URL nor what ALS wrote, but for the number of the error.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import Any, Final

import msgspec

from oracle.calls import Answer, Call, Caller, CallFailed
from oracle.registration.rows import Row

TIMEOUT_S: Final = 5.0  # ALS has some ten rows; and a person can wait for the answer
ROWS_MAX: Final = 10_000
URL_MAX: Final = 1_024
_JSON: Final = b"application/json"
_CODE: Final = re.compile(r"[0-9]{4}")
_EXISTS: Final = "already exists"

_REASONS: Final = {
    "bad_url": "its URL cannot be called",
    "busy": "too many calls to it failed a moment ago",
    "unreachable": "no connection can be made",
    "timed_out": "it did not answer in time",
    "broken": "the connection ended, or the answer is not HTTP",
}


class AlsFailed(Exception):
    """ALS did not do what was asked; the text is for the operator.  `unknown`: it can have done it all the same."""

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


class RowExists(AlsFailed):
    """ALS has an active row of this type and currency already."""


class _Endpoint(msgspec.Struct):
    value: str


class _Listed(msgspec.Struct, rename="camel"):
    oracle_id: int
    oracle_id_type: str
    endpoint: _Endpoint
    currency: str | None = None
    is_default: bool | int | None = False


_read_list: Final = msgspec.json.Decoder(list[_Listed]).decode


class AlsAdmin:
    """One ALS.  All methods raise AlsFailed."""

    def __init__(self, caller: Caller, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """`url`: the admin API without /oracles."""
        self.url = url.rstrip("/")
        self._caller = caller
        self._timeout_s = timeout_s

    async def list_rows(self) -> list[Row]:
        """List all rows, in the order of ALS."""
        answer = await self._call("GET", "/oracles")
        try:
            listed = _read_list(answer.body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise AlsFailed("ALS answered with something else than a list of oracles: check the URL") from None
        if len(listed) > ROWS_MAX:
            raise AlsFailed(f"ALS answered with more than {ROWS_MAX} oracles: check the URL")
        return [
            Row(
                each.oracle_id,
                each.oracle_id_type,
                each.currency or "",
                _clean(each.endpoint.value),
                bool(each.is_default),
            )
            for each in listed
        ]

    async def add(self, row: Row) -> None:
        """Raises RowExists as well."""
        body: dict[str, Any] = {
            "oracleIdType": row.party_id_type,
            "endpoint": {"value": row.url, "endpointType": "URL"},
            "isDefault": row.is_default,
        }
        if row.currency:
            body["currency"] = row.currency
        await self._call("POST", "/oracles", msgspec.json.encode(body))

    async def remove(self, row: Row) -> None:
        await self._call("DELETE", f"/oracles/{row.oracle_id}")

    async def _call(self, method: str, path: str, body: bytes = b"") -> Answer:
        headers = [
            (b"accept", _JSON),
            (b"content-type", _JSON),
            (b"date", formatdate(usegmt=True).encode()),
        ]
        try:
            answer = await self._caller.call(Call(method, self.url + path, headers, body), timeout_s=self._timeout_s)
        except CallFailed as exc:
            raise AlsFailed(f"ALS cannot be reached: {_REASONS[exc.reason]}", unknown=exc.sent) from None
        if answer.status // 100 == 2:  # noqa: PLR2004 - a success
            return answer
        raise _make_failure(answer)


def _clean(url: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in url[:URL_MAX])


def _make_failure(answer: Answer) -> AlsFailed:
    if answer.status // 100 == 3:  # noqa: PLR2004 - a redirection
        return AlsFailed(f"ALS answered with a redirection (status {answer.status}): use the URL that it leads to")
    code, description = _read_error(answer.body)
    if _EXISTS in description:
        return RowExists("ALS has a row of this type and currency already")
    text = f"ALS answered with status {answer.status}{f' and error {code}' if code else ''}"
    return AlsFailed(text, unknown=answer.status >= 500)  # noqa: PLR2004 - it failed, perhaps after the change


def _read_error(body: bytes) -> tuple[str, str]:
    """Read code and description of an error; empty texts if it is none."""
    try:
        information = msgspec.json.decode(body)["errorInformation"]
        code, description = information["errorCode"], information["errorDescription"]
    except (msgspec.MsgspecError, ValueError, RecursionError, KeyError, TypeError, IndexError):
        return "", ""
    return (
        code if isinstance(code, str) and _CODE.fullmatch(code) else "",
        description if isinstance(description, str) else "",
    )

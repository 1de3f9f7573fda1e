"""Checks the shape that all answers of the oracle share."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from hub import als

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from hub.wire import Answer

four_digits = re.compile(r"[1-5][0-9]{3}").fullmatch


def read_error_code(answer: Answer) -> str:
    """Read the code of an error body; it must be exactly what ALS can pass on."""
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    body = answer.json()
    assert set(body) == {"errorInformation"}
    return read_code(body["errorInformation"])


def read_code(information: dict[str, Any]) -> str:
    assert set(information) == {"errorCode", "errorDescription"}
    code, description = information["errorCode"], information["errorDescription"]
    assert four_digits(code), code
    assert 1 <= len(description) <= als.DESCRIPTION_MAX
    assert description.isprintable()
    # No name of an inner part, no traceback.
    assert not re.search(r"Traceback|Exception|Error:|asyncpg|redis|postgres|/site-packages|0x[0-9a-f]{6}", description)
    return str(code)


def expect_refusal(answer: Answer, status: int, codes: Collection[str], read: Callable[[Answer], object]) -> None:
    """Check that the oracle refuses with one of these codes, and that the code reaches the DFSP."""
    assert (answer.status, read_error_code(answer) in codes) == (status, True), (answer, codes)
    with pytest.raises(als.Callback) as callback:
        read(answer)
    assert callback.value.ours
    assert callback.value.code == read_error_code(answer)


def expect_party_list(answer: Answer, sub_id: str | None = None) -> list[dict[str, str]]:
    """Read the answer to a lookup; ALS must understand it in both of its calls."""
    assert answer.status == 200, answer
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    body = answer.json()
    assert set(body) == {"partyList"}
    entries: list[dict[str, str]] = body["partyList"]
    if not entries:
        for read in (als.read_lookup, als.read_parties):
            with pytest.raises(als.Callback) as callback:
                read(answer)
            assert callback.value.code == "3204"
        return entries
    assert len(entries) == 1, "ALS forwards to every FSP in the list"
    (entry,) = entries
    assert entry.get("partySubIdOrType", sub_id) == sub_id, "the SubId of the lookup, or none"
    assert als.read_lookup(answer) == entry["fspId"]
    assert als.read_parties(answer, sub_id) == [entry["fspId"]]
    return entries


def dump_json(value: object) -> bytes:
    """Write JSON as ALS does: compact, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

"""What every answer of the oracle looks like, whatever it says."""

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


def error_code(answer: Answer) -> str:
    """The code of an error body that is exactly what ALS can pass on."""
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    body = answer.json()
    assert set(body) == {"errorInformation"}
    return information_code(body["errorInformation"])


def information_code(information: dict[str, Any]) -> str:
    assert set(information) == {"errorCode", "errorDescription"}
    code, description = information["errorCode"], information["errorDescription"]
    assert four_digits(code), code
    assert 1 <= len(description) <= als.DESCRIPTION_MAX
    assert description.isprintable()
    # Nothing of the inside, nothing of a trace.
    assert not re.search(r"Traceback|Exception|Error:|asyncpg|redis|postgres|/site-packages|0x[0-9a-f]{6}", description)
    return str(code)


def refused(answer: Answer, status: int, codes: Collection[str], read: Callable[[Answer], object]) -> None:
    """The oracle refuses in one of these words, and they reach the DFSP."""
    assert (answer.status, error_code(answer) in codes) == (status, True), (answer, codes)
    with pytest.raises(als.Callback) as callback:
        read(answer)
    assert callback.value.ours
    assert callback.value.code == error_code(answer)


def party_list(answer: Answer, sub_id: str | None = None) -> list[dict[str, str]]:
    """The answer to a lookup, in a form that ALS takes for what it means in both of its calls."""
    assert answer.status == 200, answer
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    body = answer.json()
    assert set(body) == {"partyList"}
    entries: list[dict[str, str]] = body["partyList"]
    if not entries:
        for read in (als.lookup, als.forward):
            with pytest.raises(als.Callback) as callback:
                read(answer)
            assert callback.value.code == "3204"
        return entries
    assert len(entries) == 1, "ALS forwards to every FSP it is given"
    (entry,) = entries
    assert entry.get("partySubIdOrType", sub_id) == sub_id, "echoed as asked or left out"
    assert als.lookup(answer) == entry["fspId"]
    assert als.forward(answer, sub_id) == [entry["fspId"]]
    return entries


def dumped(value: object) -> bytes:
    """JSON as ALS writes it: compact, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

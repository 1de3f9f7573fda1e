"""Messages about parties in ISO 20022 (acmt.024, "identification verification report"): errors of ours, and the check
of what DFSPs send.  Forwarded messages stay as they are.

Identification.  `OrgnlId` of an error is that of the message it is about: Rpt.OrgnlId, else Assgnmt.MsgId; for a GET,
                 which has no message, the trace id of its traceparent.  A request without any of these gets a new one.
Reason.          `Cd` is the FSPIOP code, which Mojaloop's library reads.  `Prtry` is its text.  The XML message has one
                 or the other; Mojaloop's schema in JSON allows both, and its example of this error has both.
                 No other member of an error can hold a text.
Order.           Members are sorted, so that a signature can be verified: signatures.arrange.
Participants.    They have no ISO 20022 message: their bodies and errors are FSPIOP JSON in both modes.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from oracle.api.dfsp.asked import Asked
from oracle.api.dfsp.faults import TEXTS, Fault

TEXT_MAX: Final = 35  # Max35Text of the schema: identifications, names, reasons

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CREATED: Final = re.compile(
    r"[1-9]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}"
    r"(?:Z|[+-][01]\d:[0-5]\d)",
    re.ASCII,
)
_encode: Final = msgspec.json.Encoder(order="sorted").encode


def encode_error(asked: Asked, fsp_id: str, fault: Fault, hub_name: str) -> bytes:
    """Encode the body of PUT /parties/{Type}/{ID}/error that the hub sends to an FSP."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return _encode(
        {
            "Assgnmt": {
                "Assgne": _name_agent(fsp_id),
                "Assgnr": _name_agent(hub_name),
                "CreDtTm": f"{now}Z",
                "MsgId": make_ulid(),
            },
            "Rpt": {
                "OrgnlId": find_identification(asked) or make_ulid(),
                "Rsn": {"Cd": fault.code, "Prtry": _choose_text(fault)},
                "Vrfctn": False,
            },
        }
    )


def _name_agent(fsp_id: str) -> dict[str, Any]:
    return {"Agt": {"FinInstnId": {"Othr": {"Id": fsp_id}}}}


def _choose_text(fault: Fault) -> str:
    """Choose the detail if it fits, because the code says the rest already; else the text of the code."""
    return fault.detail if 0 < len(fault.detail) <= TEXT_MAX else TEXTS[fault.code][:TEXT_MAX]


def find_identification(asked: Asked) -> str | None:
    """Find how the request is identified, in 1 to 35 characters."""
    content = asked.content or {}
    for place, name in (("Rpt", "OrgnlId"), ("Assgnmt", "MsgId")):
        part = content.get(place)
        value = part.get(name) if isinstance(part, dict) else None
        if isinstance(value, str) and 0 < len(value) <= TEXT_MAX:
            return value
    return asked.traceparent.split("-")[1] if asked.traceparent else None


def make_ulid() -> str:
    """Make an identification of 26 characters: the time in ms, then 80 random bits (https://github.com/ulid/spec)."""
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def check_report(content: Mapping[str, Any]) -> None:
    """Check what every report must have (PUT /parties and its error); the rest is for the FSP that receives it.

    The first error alone, as in bodies.  Raises Fault.
    """
    place = "/requestBody"
    _require(content, place, "Assgnmt", "Rpt")
    assignment, report = _read_object(content, "Assgnmt", place), _read_object(content, "Rpt", place)
    place = "/requestBody/Assgnmt"
    _require(assignment, place, "MsgId", "CreDtTm", "Assgnr", "Assgne")
    _check_text(assignment, "MsgId", place)
    created = assignment["CreDtTm"]
    if not isinstance(created, str) or _CREATED.fullmatch(created) is None:
        raise Fault("3100", f"{place}/CreDtTm must match pattern YYYY-MM-DDThh:mm:ss.sssZ")
    for name in ("Assgnr", "Assgne"):
        party = _read_object(assignment, name, place)
        if "Pty" not in party and "Agt" not in party:
            raise Fault("3102", f"{place}/{name} must have required property 'Pty'")
    place = "/requestBody/Rpt"
    _require(report, place, "OrgnlId", "Vrfctn")
    _check_text(report, "OrgnlId", place)
    if report["Vrfctn"] not in (True, False, "true", "false"):
        raise Fault("3101", f"{place}/Vrfctn must be boolean")


def _require(content: Mapping[str, Any], place: str, *names: str) -> None:
    for name in names:
        if name not in content:
            raise Fault("3102", f"{place} must have required property '{name}'")


def _read_object(content: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any]:
    value = content[name]
    if not isinstance(value, dict):
        raise Fault("3101", f"{place}/{name} must be object")
    return value


def _check_text(content: Mapping[str, Any], name: str, place: str) -> None:
    """Check a text of 1 to 35 characters; a number counts as one, as with ALS."""
    value = content[name]
    if isinstance(value, (dict, list)):
        raise Fault("3101", f"{place}/{name} must be string")
    length = len("" if value is None else str(value))
    if not length:
        raise Fault("3100", f"{place}/{name} must NOT have fewer than 1 characters")
    if length > TEXT_MAX:
        raise Fault("3100", f"{place}/{name} must NOT have more than {TEXT_MAX} characters")

"""Requests as ALS writes them, byte for byte.

The blocks of headers are in data/headers.json, captured on the wire.  ALS forwards all headers of the DFSP, so most
of the variety of requests is there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"

PartyList = list[dict[str, str]]


def join_headers(lines: list[str]) -> bytes:
    return "".join(line + "\r\n" for line in lines).encode()


HEADERS: Final = {
    name: join_headers(lines) for name, lines in json.loads((DATA / "headers.json").read_text(encoding="utf-8")).items()
}

PARTICIPANTS: Final = HEADERS["participants"]  # GET, POST and DELETE of a participant
PARTIES: Final = HEADERS["parties"]  # a lookup that began as GET /parties: the type is parties, the path participants
PUT: Final = HEADERS["put"]  # without accept
INTER_SCHEME: Final = HEADERS["inter-scheme"]  # from a proxy's PUT /parties: no accept, the source is the other FSP
STRANGER: Final = HEADERS["stranger"]
# A removal that any DFSP can cause: GET /parties with an FSPIOP-Destination that does not exist.
NO_SUCH_DESTINATION: Final = HEADERS["no-such-destination"]
ISO: Final = HEADERS["iso"]  # from a hub that uses ISO 20022 towards its DFSPs
ISO_PARTIES: Final = HEADERS["iso-parties"]

PAYER: Final = b'{"fspId":"payerfsp"}'
SUB: Final = b'{"fspId":"payerfsp","partySubIdOrType":"%s"}'
MINE: Final[PartyList] = [{"fspId": "payerfsp"}]
NOBODY: Final[PartyList] = []


def request(line: bytes, headers: bytes, body: bytes | None = None) -> bytes:
    """Assemble a message; Content-Length where axios puts it, before its other headers."""
    if body is not None:
        headers = headers.replace(b"User-Agent:", b"Content-Length: %d\r\nUser-Agent:" % len(body), 1)
    return line + b" HTTP/1.1\r\n" + headers + b"\r\n" + (body or b"")


def with_headers(headers: bytes, *more: bytes) -> bytes:
    """Add headers of a DFSP: ALS writes them before those that axios adds."""
    return headers.replace(b"User-Agent:", b"".join(line + b"\r\n" for line in more) + b"User-Agent:", 1)


def get(target: bytes, headers: bytes = PARTICIPANTS) -> bytes:
    return request(b"GET " + target, headers)


def post(target: bytes, body: bytes, headers: bytes = PARTICIPANTS) -> bytes:
    return request(b"POST " + target, headers, body)


def put(target: bytes, body: bytes, headers: bytes = PUT) -> bytes:
    return request(b"PUT " + target, headers, body)


def delete(target: bytes, headers: bytes = PARTICIPANTS) -> bytes:
    return request(b"DELETE " + target, headers)


def percent_encode(text: bytes) -> bytes:
    """Percent-encode all bytes beyond ASCII, as a WHATWG URL does with a path."""
    return b"".join(b"%%%02X" % byte if byte > 127 else bytes([byte]) for byte in text)

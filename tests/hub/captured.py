"""Every form of request that an ALS was seen to send to an oracle, byte for byte, and the answer it needs.

A case is one request on the wire.  `given` is sent first (it registers what the case is about) and must succeed;
`then` is looked up afterwards.  Each case has identifiers of its own, so the cases can share one directory.

    data/lookups.json, registrations.json, removals.json
              the calls, among them the removals that the owner did not ask for; the bulk has a test file of its own
    data/paths.json
              identifiers on the wire: decoded once, HTML-escaped, never percent-encoded again.  A `#` in an identifier
              cuts the path without a trace, and `%41` in an identifier looks like an escape.  Such identifiers cannot
              be saved; the cases hold what happens to them
    data/forwarded_headers.json
              headers of DFSPs that ALS forwards unchanged, hop-by-hop ones included: each is tried with every method
    data/framing.json
              bodies with unusual framing, and where they do not belong

A request in the data has a `line`; `headers` by their name in data/headers.json or as lines, by default those of its
method; and a `body`, whose Content-Length is added, or `chunks`, which are sent as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from hub.messages import DATA, HEADERS, MINE, NOBODY, PAYER, PartyList, delete, get, join_headers, post, put, request


class Case(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    raw: bytes
    status: int
    given: tuple[bytes, ...] = ()
    codes: tuple[str, ...] = ()  # a refusal has one of these
    party_list: PartyList | None = None  # a lookup answers exactly this
    sub_id: str | None = None  # the SubId of the DFSP's lookup
    then: tuple[tuple[bytes, PartyList], ...] = ()
    closes: bool = False  # the oracle may end the connection after its answer


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    line: str
    headers: str | list[str] | None = None
    body: str | None = None
    chunks: str = ""

    def encode(self) -> bytes:
        if isinstance(self.headers, list):
            headers = join_headers(self.headers)
        else:
            headers = HEADERS[self.headers or ("put" if self.line.startswith("PUT ") else "participants")]
        body = None if self.body is None else self.body.encode()
        return request(self.line.encode(), headers, body) + self.chunks.encode()


class _Lookup(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    request: _Request
    party_list: PartyList


class _Case(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    name: str
    request: _Request
    status: int
    given: list[_Request] = []
    codes: tuple[str, ...] = ()
    party_list: PartyList | None = None
    sub_id: str | None = None
    then: list[_Lookup] = []
    closes: bool = False


def load(name: str) -> tuple[Case, ...]:
    """Read a file of cases.  Raises msgspec.ValidationError for a member that no case has."""
    return tuple(
        Case(
            name=case.name,
            raw=case.request.encode(),
            status=case.status,
            given=tuple(each.encode() for each in case.given),
            codes=case.codes,
            party_list=case.party_list,
            sub_id=case.sub_id,
            then=tuple((each.request.encode(), each.party_list) for each in case.then),
            closes=case.closes,
        )
        for case in msgspec.json.decode((DATA / name).read_bytes(), type=list[_Case])
    )


def forward_headers() -> Iterator[Case]:
    """Make a case of each method with each block of forwarded headers, on an alias of its own."""
    blocks = msgspec.json.decode((DATA / "forwarded_headers.json").read_bytes(), type=dict[str, list[str]])
    for number, (name, lines) in enumerate(blocks.items()):
        headers = join_headers(lines)
        targets = [b"/participants/MSISDN/5255123%05d" % (46000 + 10 * number + at) for at in range(4)]
        registered = [(post(target, PAYER),) for target in targets]
        for method, target, raw, status, given in (
            ("GET", targets[0], get(targets[0], headers), 200, registered[0]),
            ("POST", targets[1], post(targets[1], PAYER, headers), 201, ()),
            ("PUT", targets[2], put(targets[2], PAYER, headers), 200, registered[2]),
            ("DELETE", targets[3], delete(targets[3], headers), 204, registered[3]),
        ):
            yield Case(
                name=f"{method} with {name}",
                given=given,
                raw=raw,
                status=status,
                party_list=MINE if method == "GET" else None,
                then=((get(target), NOBODY if method == "DELETE" else MINE),),
                closes=b"Connection: close" in headers,
            )


LOOKUPS: Final = load("lookups.json")
REGISTRATIONS: Final = load("registrations.json")
REMOVALS: Final = load("removals.json")
PATHS: Final = load("paths.json")
FORWARDED: Final = (*forward_headers(), *load("framing.json"))

CASES: Final = (*LOOKUPS, *REGISTRATIONS, *REMOVALS, *PATHS, *FORWARDED)

"""What a DFSP asks for: a request after all checks that come before its 202."""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits
from typing import Any, Literal, NamedTuple

import msgspec

Resource = Literal["participants", "parties"]


class Party(NamedTuple):
    """Names a party as the DFSP wrote it, decoded exactly once.  It is no canonical key."""

    party_id_type: str
    identifier: str
    sub_id: str | None = None


class Asked(msgspec.Struct, frozen=True, gc=False):
    """An accepted request.  All texts of headers are as they were sent, without the spaces around them."""

    method: str
    resource: Resource
    source: str  # fspiop-source
    headers: Sequence[tuple[bytes, bytes]]  # all of them, as they arrived
    body: bytes = b""
    party: Party | None = None  # None: a bulk
    is_error: bool = False  # PUT …/error
    destination: str | None = None  # fspiop-destination
    proxy: str | None = None  # fspiop-proxy: the request comes from another scheme, through this FSP
    currency: str | None = None  # of the query
    content: dict[str, Any] | None = None  # the body, decoded and checked; numbers in places of texts are texts
    traceparent: str | None = None
    tracestate: str | None = None
    version: str = "2.0"  # of the API, in its content-type: a DFSP of 1.x refuses messages of 2.0
    # The name of this request among those of all workers.
    name: bytes = msgspec.field(default_factory=lambda: getrandbits(72).to_bytes(9, "big"))  # os.urandom: a system call

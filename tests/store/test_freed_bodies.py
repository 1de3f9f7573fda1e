"""A body is free again as soon as its request is answered or refused, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from typing import Final

import pytest
from caller import Caller
from test_bulk_slices import open_participants

PARTY: Final = b"/participants/ALIAS/x"
BULK: Final = b"/participants"
TOO_MANY: Final = b'{"partyList":[' + b"1," * 10_000 + b"1]}"
HINT: Final = (b"content-type", b"application/vnd.interoperability.parties+json;version=1.1")

CALLS: Final = {
    "registered": ("POST", PARTY, b'{"fspId":"a"}', 201),
    "not JSON": ("POST", PARTY, b"{", 400),
    "an update that is not JSON": ("PUT", PARTY, b"{", 400),
    "another FSP": ("POST", PARTY, b'{"fspId":"b"}', 400),
    "an update of an unregistered alias": ("PUT", PARTY + b"2", b'{"fspId":"a"}', 404),
    "a removal of an unregistered alias": ("DELETE", PARTY + b"2", b"{}", 404),
    "a bulk": ("POST", BULK, b'{"partyList":[1]}', 201),
    "a bulk that is not JSON": ("POST", BULK, b'{"partyList":[1}', 400),
    "a bulk without a list": ("POST", BULK, b"{}", 400),
    "a bulk of something else": ("POST", BULK, b'{"partyList":{}}', 400),
    "a bulk with too many items": ("POST", BULK, TOO_MANY, 400),
    "a lookup": ("GET", PARTY, b"{}", 200),
    "a lookup that is refused": ("GET", b"/participants/MSISDN/12", b"{}", 400),
    "an unknown URI": ("POST", b"/nowhere", b"{}", 404),
}


@pytest.mark.parametrize("more", [[], [HINT]], ids=["call", "hint"])
async def test_a_body_is_free_when_its_request_is_answered(
    database_url: str, redis_url: str, more: list[tuple[bytes, bytes]]
) -> None:
    held = {}
    async with open_participants(database_url, redis_url) as participants:
        gc.disable()
        try:
            for name, (method, target, body, status) in CALLS.items():
                caller = Caller()
                headers = [(b"fspiop-source", b"a"), *more]
                participants.serve(caller.make_request(method, target, headers, body))
                assert (await caller.answered)[0] == status or more, name
                for _ in range(20):  # what is left of the task and of the transaction
                    await asyncio.sleep(0)
                if caller.server.body_bytes:
                    held[name] = caller.server.body_bytes
        finally:
            gc.enable()
    assert held == {}

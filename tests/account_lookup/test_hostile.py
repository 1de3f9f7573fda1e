"""Hostile requests: each is answered or its connection ends, and none is a defect of the listener.

`make test TESTS=--complete` sends 100,000 of them, else a sample.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import pytest
from harness import HOST, WAIT_S, Bench, make_headers, open_bench

SAMPLE: Final = 1_000
COMPLETE: Final = 100_000
AT_ONCE: Final = 20
SECRET: Final = b"s3cret"

IDENTIFIERS: Final = (
    "525512345678", "+525512345678", "%2B52%2055", "a@b.mx", "%00", "%0d%0aset-cookie:%20a", "..", "%2e%2e%2f",
    "{{fsp}}", "%7B%7BpartyIdType%7D%7D", "%C3%A9", "%ff", "%zz", "", "error", "x" * 200, "x" * 9000, "1;drop%20table",
    "&amp;", "%F0%9F%98%80", "%EF%BB%BF", "%E2%80%AE", "a%2Fb", "a?b", "a#b", "*", "''", "\x7f", "%25", "MX5512",
)  # fmt: skip
TYPES: Final = ("MSISDN", "MSISDN", "EMAIL", "ALIAS", "IBAN", "ACCOUNT_ID", "msisdn", "FAX", "", "%4DSISDN", "error")
METHODS: Final = ("GET", "GET", "PUT", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW", "get", "")
VALUES: Final = (
    "", " ", "payerfsp", "payeefsp", "nobody", "Hub", "x" * 33, "x" * 5000, "\x01", "\xff\xfe", "a, b", "null", "-1",
    "application/vnd.interoperability.parties+json;version=1.0", "*/*", "Sat, 28 Nov 2026 04:54:43 GMT", "{}", "%s%n",
    "application/vnd.interoperability.parties+json;version=3",
    "chunked", "1e9", "99999999999999999999", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "keep-alive, te", "\t",
)  # fmt: skip
NAMES: Final = (
    "accept", "content-type", "date", "fspiop-source", "fspiop-destination", "fspiop-proxy", "x-client-id",
    "fspiop-signature", "fspiop-uri", "fspiop-http-method", "traceparent", "tracestate", "connection", "te", "upgrade",
    "expect", "transfer-encoding", "content-length", "content-encoding", "x-custom", "host", "FSPIOP-Source", "a b", "",
)  # fmt: skip
RESOURCES: Final = ("participants", "parties", "parties", "participants", "oracles", "health", "endpointcache")
QUERIES: Final = ("", "", "", "?", "?currency=MXN", "?currency=", "?currency=%zz", "?a=b&c", "?currency=MXN&x")
NO_JSON: Final = (b"[" * 20_000, b"{" * 5000, b'{"a":' * 3000, b"\xff\xfe", b"nul", b'"\\ud800"', b"1" * 6000)
GOOD_TARGETS: Final = (
    "/parties/MSISDN/525512345678", "/parties/MSISDN/525512345678/error", "/participants/MSISDN/525512345678/S1",
    "/participants/MSISDN/525512345678", "/participants", "/participants/b51ec534-ee48-4575-b6a9-ead2955b8069",
    "/participants/b51ec534-ee48-4575-b6a9-ead2955b8069/error",
)  # fmt: skip
GOOD_BODIES: Final = (
    b'{"fspId":"payerfsp","currency":"MXN"}',
    b'{"party":{"partyIdInfo":{"partyIdType":"MSISDN","partyIdentifier":"525512345678"}}}',
    b'{"errorInformation":{"errorCode":"3204","errorDescription":"Party not found"}}',
    b'{"requestId":"b51ec534-ee48-4575-b6a9-ead2955b8069","partyList":[{"partyIdType":"IBAN","partyIdentifier":"1"}]}',
)
SCALARS: Final = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    10**40,
    "",
    "x",
    "payerfsp",
    "MXN",
    "\u0000",
    "\U0001f600",
    "x" * 300,
    "3204",
)
MEMBERS: Final = (
    "fspId", "currency", "partyList", "requestId", "extensionList", "extension", "party", "partyIdInfo", "partyIdType",
    "partyIdentifier", "partySubIdOrType", "errorInformation", "errorCode", "errorDescription", "key", "value",
    "__proto__",
)  # fmt: skip


class Fuzz:
    """Makes requests, always the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.choose = self._random.choice

    def likely(self, share: float) -> bool:
        return self._random.random() < share

    def make_request(self) -> bytes:
        return self.make_likely() if self.likely(0.4) else self.make_strange()

    def make_likely(self) -> bytes:
        """Make a request whose parts are all good, although they may not fit together."""
        method, target = self.choose(("GET", "PUT", "POST", "DELETE")), self.choose(GOOD_TARGETS)
        headers = make_headers(target) | {"authorization": "Bearer s3cret", "cookie": "a=s3cret"}
        if self.likely(0.1):
            headers["accept"] = headers["accept"].replace("=2", "=3")
        body = b"" if method == "GET" else self.choose(GOOD_BODIES)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body

    def make_strange(self) -> bytes:
        method, target = self.choose(METHODS), self.make_target()
        headers: list[tuple[str, str]] = []
        if self.likely(0.9):
            headers = list(make_headers(target if target.startswith("/p") else "/parties").items())
        headers += [("authorization", "Bearer s3cret"), ("cookie", "a=s3cret")]
        for _ in range(self._random.randrange(3)):
            headers.append((self.choose(NAMES), self.choose(VALUES)))
            if self.likely(0.3):
                headers.pop(self._random.randrange(len(headers)))
        body = self.make_body()
        if body and self.likely(0.9):
            headers.append(("content-length", str(len(body) + self._random.choice((0, 0, 0, 0, 1, -1)))))
        lines = [f"{method} {target} {self.choose(('HTTP/1.1',) * 20 + ('HTTP/1.0', 'HTTP/2', 'X'))}"]
        lines += [f"{name}: {value}" for name, value in headers]
        data = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body
        return self.damage(data) if self.likely(0.2) else data

    def make_target(self) -> str:
        if self.likely(0.2):
            return self.choose(GOOD_TARGETS)
        resource = self.choose(
            ("participants", "parties", "parties", "participants", "oracles", "health", "endpointcache")
        )
        segments = [resource, self.choose(TYPES), self.choose(IDENTIFIERS)]
        segments += [self.choose(IDENTIFIERS)] * self.likely(0.3) + ["error"] * self.likely(0.2)
        query = self.choose(QUERIES)
        return "/" + "/".join(segments[: self._random.randrange(1, len(segments) + 1)]) + query

    def make_body(self) -> bytes:
        if self.likely(0.3):
            return b""
        if self.likely(0.3):
            return self.choose(GOOD_BODIES)
        if self.likely(0.1):
            return self.choose(NO_JSON)
        return json.dumps(self.make_value(3)).encode()

    def make_value(self, depth: int) -> Any:
        if depth == 0 or self.likely(0.3):
            return self.choose(SCALARS)
        if self.likely(0.3):
            return [self.make_value(depth - 1) for _ in range(self._random.randrange(4))]
        return {self.choose(MEMBERS): self.make_value(depth - 1) for _ in range(self._random.randrange(5))}

    def damage(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(self._random.randrange(1, 6)):
            at = self._random.randrange(len(damaged)) if damaged else 0
            kind = self._random.randrange(4)
            if kind == 0 and damaged:
                damaged[at] = self._random.randrange(256)
            elif kind == 1:
                del damaged[at : at + self._random.randrange(1, 30)]
            elif kind == 2:
                damaged[at:at] = self._random.randbytes(self._random.randrange(1, 10))
            else:
                damaged[at:at] = damaged[max(0, at - 20) : at]
        return bytes(damaged)


async def send(bench: Bench, data: bytes) -> bytes:
    """Send the bytes and end; return all that comes back until the listener closes."""
    reader, writer = await asyncio.open_connection(HOST, bench.port)
    try:
        async with asyncio.timeout(WAIT_S):
            writer.write(data)
            with suppress(OSError):
                writer.write_eof()
            with suppress(ConnectionError):
                return await reader.read()
            return b""
    finally:
        writer.close()


def check_answers(data: bytes, answers: bytes) -> Iterator[int]:
    """Check that each answer is complete, and that each error has its errorInformation; yield their statuses."""
    rest = answers
    while rest:
        head, separator, rest = rest.partition(b"\r\n\r\n")
        assert separator, (data, answers)
        assert head.startswith(b"HTTP/1.1 "), (data, answers)
        status = int(head[9:12])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if status == 100:
            continue
        yield status
        length = int(fields[b"content-length"])
        body, rest = rest[:length], rest[length:]
        if data.startswith(b"HEAD"):
            return
        assert len(body) == length, (data, answers)
        assert SECRET not in head + body, (data, answers)
        if status >= 400 and not body.startswith(b'{"status":"DOWN"'):  # /health on a machine that is too busy
            information = json.loads(body)["errorInformation"]
            assert information["errorCode"].isdigit(), (data, answers)
            assert 0 < len(information["errorDescription"]) <= 128, (data, answers)
            assert information["errorCode"] != "2001", (data, answers)


@pytest.mark.timeout(1_800)  # 100,000 on a busy machine
async def test_hostile_requests_are_answered_or_closed(database_url: str, redis_url: str, complete: bool) -> None:
    count = COMPLETE if complete else SAMPLE
    async with open_bench(database_url, redis_url) as bench:
        await bench.register("MSISDN", "525512345678")
        fuzz = Fuzz(16)
        requests: Sequence[bytes] = [fuzz.make_request() for _ in range(count)]
        sent = iter(requests)

        statuses: Counter[int] = Counter()

        async def send_all() -> None:
            for data in sent:
                statuses.update(check_answers(data, await send(bench, data)))

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(send_all())
        await bench.settle()
        assert statuses.keys() >= {200, 202, 400, 404, 405, 406, 501}, statuses
        for dfsp in bench.dfsps.values():
            for message in dfsp.messages:
                assert SECRET not in b"".join([*message.lines, message.body]).lower(), message
        assert (await bench.ask("GET", "/parties/MSISDN/525512345678")).status == 202

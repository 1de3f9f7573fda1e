"""Hostile requests to the admin listener: each malformed request is refused with its reason, and changes nothing.

Never a 500; an answer of 400 or more is a problem document, unless the HTTP server answers by itself (the request is
not HTTP, or too large): then it is a bare 400 or 431, or the end of the connection.  No identifier and no secret is in
an error or in the log; no refused call changes a row.  A usual run sends each endpoint a third of the odd values.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec
import pytest
from listener import DESCRIPTION, list_endpoints

from oracle.api.admin.envelope import choose_request_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from admin_service import Service

T = TypeVar("T")
WITHOUT_HUB = True  # see admin_service

NUMBER: Final = "525598765432"  # somebody's, in everything that is sent
TIMEOUT_S: Final = 60.0
FOREVER: Final = "access_refusals", "credential_uses"  # the tables in which refused calls and uses are noted

# Percent-encoded: texts for a path or a query.
ODD: Final = (
    "%00", f"{NUMBER}%00", "%ff", "%ED%A0%80", "%", "%zz", "%0d%0aSet-Cookie:%20a=b", "..%2f..%2fetc", "%2F", "%252F",
    "a" * 3000, "%F0%9F%92%A9", "-1", "9" * 40, "1e400", "NaN", "'%20OR%201=1", "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59%2B00:00", "0001-01-01T00:00:00%2B23:59",
)  # fmt: skip

BODIES: Final = (
    b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"\x00", b"{}garbage", b'{"a":1e999}', b"[" * 100_000,
    b'{"a":' * 50_000, b'{"fspId":"\\ud800"}', b'{"fspId":"\\u0000"}', b'{"fspId":"\xed\xa0\x80"}', b'{"\\u0000":1}',
    b'{"%s":1}' % NUMBER.encode(), b'{"role":"%s","label":"%s"}' % (NUMBER.encode(), NUMBER.encode()),
    b'{"fspId":%s}' % (b"9" * 5000), b'{"reason":"' + b"x" * 70_000 + b'"}',
)  # fmt: skip

CONTENT_TYPES: Final = (
    "", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded",
    "application/xml", "application/msgpack", "application/json; charset=utf-16", "application/json; charset=nonsense",
    "/", ";;;", "application/json, text/html", "image/png",
)  # fmt: skip

HEADERS: Final = (
    (f"X-Request-ID: {NUMBER}\x01",), ("X-Request-ID: " + "x" * 5000,), (f"traceparent: 00-{NUMBER}",),
    (f'If-Match: "{NUMBER}',), ("If-Match: W/",), ("If-Match:",), ('If-None-Match: "a" "b"',), ('If-Match: "\xe9"',),
    ("Idempotency-Key: \xe9",), ("Idempotency-Key: a", "Idempotency-Key: b"), ("Expect: 100-continue",),
    ("Content-Type: application/json", "Content-Type: text/plain"), ("Accept: nonsense",), ("Accept-Encoding: \xff",),
    ("Range: bytes=0-",), ("Cookie: a=b; a=c; =;",), ("X-Forwarded-For: 10.0.0.1",),
    ("X-HTTP-Method-Override: DELETE",),
    ("Origin: https://elsewhere.example", "Access-Control-Request-Method: POST"), ("Upgrade: websocket",),
    tuple(f"X-{n}: {n}" for n in range(80)),
)  # fmt: skip

CREDENTIALS: Final = (
    "Bearer", "Bearer ", "Bearer  ", "bearer x", f"Basic {NUMBER}", "Bearer \xff", "Bearer aok__", f"Bearer {NUMBER}",
    "Bearer aok_aaaaaaaaaaaa_" + "0" * 64 + "\t.", "Bearer aok_AAAAAAAAAAAA_" + "0" * 64, "Bearer " + "a" * 5000,
    "Bearer aok_aaaaaaaaaaaa_" + "0" * 63 + "\xb2",
)  # fmt: skip

# Lone ones: each the last on its connection, whose sending side is closed behind it.
BROKEN: Final = (
    b"", b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /admin/v1/me\r\n\r\n",
    b"GET /admin/v1/me HTTP/1.1\r\n\r\n", b"GET /admin/v1/me HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /admin/v1/me HTTP/1.1\r\nHost: a b\r\n\r\n", b"GET /admin/v1/me HTTP/1.1\r\nHost: \xff\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://elsewhere.example/admin/v1/me HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 5000 + b"\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\n folded: a\r\n\r\n", b"GET /live HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nX\x00Y: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip
BROKEN_BODIES: Final = (
    b"Content-Length: 10\r\n\r\n{}", b"Content-Length: -1\r\n\r\n{}", b"Content-Length: 1e3\r\n\r\n{}",
    b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"Content-Length: 99999999999999999999\r\n\r\n{}",
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: nonsense\r\n\r\n{}",
    b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
)  # fmt: skip


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """One connection at a time to the listener, and what came back."""

    def __init__(self, service: Service, key: str) -> None:
        self._service = service
        self.key = key

    def ask(self, method: str, target: str, *headers: str, body: bytes | None = None, key: str | None = None) -> Answer:
        """A sound request with odd contents; it is always answered."""
        sent = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers]
        if not any(header.lower().startswith("authorization") for header in headers):
            sent.append(f"Authorization: Bearer {key or self.key}")
        if body is not None:
            sent.append(f"Content-Length: {len(body)}")
        answers = self.exchange("\r\n".join([*sent, "", ""]).encode("latin-1") + (body or b""), method)
        assert answers, (method, target[:80], headers)
        return answers[-1]

    def exchange(self, raw: bytes, method: str = "GET", *, ends: bool = False) -> list[Answer]:
        """All answers until the connection is closed; `ends`: we have closed our side of it, which not all survive."""
        with socket.create_connection(("127.0.0.1", self._service.oracle.admin_port), TIMEOUT_S) as connection:
            received = b""
            try:
                connection.sendall(raw)
                if ends:
                    connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(65536):
                    received += data
            except OSError as exc:
                assert not isinstance(exc, TimeoutError)  # noqa: PT017 - the end of a connection is an answer
        return list(_answers(received, method))


def _answers(received: bytes, method: str) -> Iterator[Answer]:
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if status == 100:
            continue
        length = int(headers.get("content-length", len(received)))
        if method == "HEAD" or status in (204, 304):
            length = 0
        yield Answer(status, headers, received[:length])
        received = received[length:]


def _check(answer: Answer, *sent: object) -> None:
    said = (answer, *(str(each)[:200] for each in sent))
    assert answer.status < 500, said
    assert NUMBER.encode() not in answer.body or answer.status < 400, said
    if answer.status >= 400:
        problem = json.loads(answer.body)
        assert answer.headers["content-type"] == "application/problem+json", said
        assert {"type", "title", "status", "detail", "code"} <= set(problem), said
        assert set(problem) <= {"type", "title", "status", "detail", "code", "hint", "field", "rows", "badRows"}, said
        assert re.fullmatch("[a-z_]{3,32}", problem["code"]), said
        assert problem["type"] == f"/docs/errors#{problem['code']}", said
        assert problem["status"] == answer.status, said
        assert problem["detail"], said
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in answer.headers if name.startswith("access-control")], said
    assert "set-cookie" not in answer.headers


class Endpoint(NamedTuple):
    method: str
    path: str
    query: tuple[str, ...]

    def target(self, **parameters: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: parameters.get(found[1], "nothing"), self.path)


def _endpoints() -> list[Endpoint]:
    found = []
    for method, path in list_endpoints():
        parameters = DESCRIPTION["paths"].get(path, {}).get(method.lower(), {}).get("parameters", [])
        query = tuple(each["name"] for each in parameters if each["in"] == "query")
        found.append(Endpoint(method, path, query))
    return found


ENDPOINTS: Final = _endpoints()
WRITING: Final = [endpoint for endpoint in ENDPOINTS if endpoint.method != "GET"]
SAMPLE: Final = 3


def choose(values: Sequence[T], endpoint: Endpoint, complete: bool, shift: int = 0) -> Sequence[T]:
    """Choose a third of the values in a usual run: others for the next endpoint, so that each value has its turn."""
    return values if complete else values[(ENDPOINTS.index(endpoint) + shift) % SAMPLE :: SAMPLE]


def test_a_sample_leaves_out_no_value_and_no_endpoint() -> None:
    for values, endpoints in ((ODD, ENDPOINTS), (BODIES, WRITING)):
        chosen = [choose(values, endpoint, complete=False) for endpoint in endpoints]
        assert all(len(each) >= len(values) // SAMPLE for each in chosen)
        assert {value for each in chosen for value in each} == set(values)


@pytest.fixture(scope="module")
def line(service: Service) -> Line:
    return Line(service, service.issue("operator"))


def _tables(service: Service) -> dict[str, tuple[int, Any]]:
    """A digest of each table.  Partitions count as one: another may be made for a month that begins."""
    names = service.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    return {
        name: tuple(service.fetch(f"SELECT count(*), sum(hashtext(r::text)::bigint) FROM {name} r")[0])  # noqa: S608
        for (name,) in names
        if name not in FOREVER and not name.startswith(("cache_", "audit_"))
    }


@pytest.fixture(scope="module", autouse=True)
def nothing_has_happened(service: Service, line: Line) -> Iterator[None]:
    """All these requests are refused, so the directory is the same before and after them."""
    before = _tables(service)
    yield
    assert _tables(service) == before
    assert line.ask("GET", "/admin/v1/me").status == 200
    output = service.oracle.output
    assert not service.oracle.find_log_lines("admin request failed")
    for secret in (NUMBER, line.key.split("_")[2], "aaaaaaaaaaaa_"):
        assert secret not in output
    assert "Traceback" not in output


# Sound HTTP, odd contents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.path}")
def test_odd_paths(endpoint: Endpoint, line: Line, complete: bool) -> None:
    body = None if endpoint.method in ("GET", "DELETE") else b'{"a":1}'
    names = re.findall(r"\{(\w+)\}", endpoint.path)
    for odd in choose(ODD, endpoint, complete) if names else ():
        _check(line.ask(endpoint.method, endpoint.target(**{names[-1]: odd}), body=body), odd)
        if len(names) > 1:
            _check(line.ask(endpoint.method, endpoint.target(**dict.fromkeys(names, odd)), body=body), odd)


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.query], ids=lambda e: f"{e.method} {e.path}")
def test_odd_queries(endpoint: Endpoint, line: Line, complete: bool) -> None:
    reads = endpoint.method == "GET"
    target = endpoint.target(fsp_id="greenbank" if reads else "nobank")  # any bytes are a file, and refused later
    body = None if reads else b'{"a":1}'
    for number, name in enumerate(endpoint.query):
        for odd in choose(ODD, endpoint, complete, number):
            _check(line.ask(endpoint.method, f"{target}?{name}={odd}", body=body), name, odd)
        _check(line.ask(endpoint.method, f"{target}?{name}=1&{name}=2", body=body), name)


@pytest.mark.parametrize(
    "endpoint",
    [e for e in ENDPOINTS if e.path.startswith(("/admin/v1", "/audit/v1")) and "templates" not in e.path],
    ids=lambda e: f"{e.method} {e.path}",
)
def test_unknown_parameters(endpoint: Endpoint, line: Line) -> None:
    """One that is misspelled would have nothing tried, or everything removed, or listed."""
    target = endpoint.target(fsp_id="nobank", credential_id="aaaaaaaaaaaa", route_id="1", batch_id="1", event_id="1",
                             key_id="1", oracle_id="1", verification_id="1", kind="MSISDN")  # fmt: skip
    for name in ("dryrun", "Reason", "fsp_id", "", f"{NUMBER}", "%00"):
        query = "&".join([*(f"{known}=other" for known in endpoint.query if known == "reason"), f"{name}=1"])
        answer = line.ask(endpoint.method, f"{target}?{query}", body=None if endpoint.method == "GET" else b"{}")
        _check(answer, name)
        assert answer.status == (403 if endpoint.path == "/audit/v1/reads" else 400), name
    ends = line.ask("DELETE", "/admin/v1/fsps/nobank/aliases/MSISDN/525511112222?reason=other&curency=MXN")
    error = json.loads(ends.body)
    assert (error["code"], error["hint"]) == (
        "unknown_parameter",
        "Known here: asStored, country, currency, note, reason, subId",
    )


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if "cursor" in e.query], ids=lambda e: e.path)
def test_odd_cursors(endpoint: Endpoint, line: Line) -> None:
    cursors = [
        base64.urlsafe_b64encode(msgspec.msgpack.encode(position)).decode().rstrip("=")
        for position in [(), ("a\0b",), (1,), (-1,), (2**64 - 1,), (float("nan"),), (float("inf"),), (1e300,),
                         (-1e300,), (None,), ("a", "b", "c"), (NUMBER,), ([[[]]],), ("\uf82f",), (b"\xff",)]
    ]  # fmt: skip
    packed = [b"\x91\xa2\xff\xff", b"\x91" * 3000, b"\xc1", b"", msgspec.msgpack.encode(["x" * 5000])]
    cursors += [base64.urlsafe_b64encode(each).decode().rstrip("=") for each in packed]
    for cursor in [*cursors, "=", "a", "A" * 3000, "!!!!"]:
        _check(line.ask("GET", f"{endpoint.target(fsp_id='greenbank')}?cursor={cursor}"), cursor)


@pytest.mark.parametrize("endpoint", WRITING, ids=lambda e: f"{e.method} {e.path}")
def test_odd_bodies(endpoint: Endpoint, line: Line, complete: bool) -> None:
    target = endpoint.target(fsp_id="nobank", credential_id="aaaaaaaaaaaa")
    if target == "/admin/v1/me/rotate":  # `{}` is sound
        target += "?x"
    for body in choose(BODIES, endpoint, complete):
        answer = line.ask(endpoint.method, target, "Content-Type: application/json", body=body)
        _check(answer, body)
        assert answer.status >= 400, body[:80]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_odd_content_types(line: Line, content_type: str) -> None:
    for body in (
        b"fspId=x",
        b'--x\r\nContent-Disposition: form-data; name="fspId"\r\n\r\nx\r\n--x--',
        b"\x81\xa5fspId",
    ):
        for path in ("/admin/v1/fsps", "/admin/v1/credentials"):
            _check(line.ask("POST", path, f"Content-Type: {content_type}", body=body), content_type, body)


@pytest.mark.parametrize("headers", HEADERS)
def test_odd_headers(line: Line, headers: tuple[str, ...]) -> None:
    for method, path, body in (
        ("GET", "/admin/v1/fsps/greenbank", None),
        ("POST", "/admin/v1/fsps/nobank/status", b'{"status":"active","reason":"x"}'),
        ("PATCH", "/admin/v1/fsps/nobank", b"{}"),
    ):
        answer = line.ask(method, path, *headers, body=body)
        if "content-type" in answer.headers or answer.status < 400:  # else it was the HTTP server
            _check(answer, headers)


@pytest.mark.parametrize("authorization", CREDENTIALS)
def test_odd_credentials(line: Line, authorization: str) -> None:
    answer = line.ask("GET", "/admin/v1/me", f"Authorization: {authorization}")
    if "content-type" in answer.headers:
        _check(answer, authorization)
        assert answer.status in (401, 429)


def test_two_authorization_headers_are_refused(line: Line) -> None:
    own = f"Authorization: Bearer {line.key}"
    assert line.ask("GET", "/admin/v1/me", own).status == 200
    for headers in ([own, own], [own, "Authorization: Bearer x"], ["Authorization: Bearer x", own]):
        assert line.ask("GET", "/admin/v1/me", *headers).status in (401, 429)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "FOO", "get", "PUT", "PATCH", "DELETE", "POST"])
@pytest.mark.parametrize("path", ["/live", "/admin/v1/me", "/admin/v1/fsps/greenbank", "/nothing", "/", "/admin/v1/"])
def test_other_methods(line: Line, method: str, path: str) -> None:
    if (method, path) == ("PATCH", "/admin/v1/fsps/greenbank"):
        return  # which is one of its own
    answer = line.ask(method, path, body=b"{}")
    if method == "HEAD":
        assert answer.status in ({200} if path == "/live" else {404, 405})
    else:
        _check(answer, method, path)
        assert answer.status in (204, 404, 405)
        assert answer.status != 405 or "allow" in answer.headers


@pytest.mark.parametrize("path", ["/health", "/live", "/ready", "/metrics", "/admin/v1/fsps", "/admin/v1/me"])
def test_a_path_names_all_its_methods(line: Line, path: str) -> None:
    is_state = not path.startswith("/admin")
    methods = {"OPTIONS", "GET", *(["HEAD"] if is_state else []), *(["POST"] if path == "/admin/v1/fsps" else [])}
    for method, status in (("OPTIONS", 204), ("DELETE", 405), ("TRACE", 405)):
        answer = line.ask(method, path)
        assert answer.status == status
        assert set(answer.headers["allow"].split(", ")) == methods
    answer = line.ask("HEAD", path)
    assert (answer.status, answer.body) == (200 if is_state else 405, b"")


def test_too_large_requests(line: Line) -> None:
    """With a length and without one."""
    key = line.key.encode()
    head = b"POST /admin/v1/fsps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + key + b"\r\n"
    body = b'{"fspId":"' + b"x" * 1_048_577 + b'"}'
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for raw in (head + b"Content-Length: %d\r\n\r\n" % len(body) + body, head + chunked):
        for answer in line.exchange(raw):
            _check(answer)
            assert answer.status == 413


# What is no HTTP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", BROKEN)
def test_requests_that_are_not_http(line: Line, raw: bytes) -> None:
    for answer in line.exchange(raw, ends=True):
        assert answer.status < 500, raw[:100]
        if answer.headers.get("content-type") == "application/json" and answer.status >= 400:
            _check(answer)


@pytest.mark.parametrize("rest", BROKEN_BODIES)
def test_broken_bodies(line: Line, rest: bytes) -> None:
    key = line.key.encode()
    for target in (b"/admin/v1/credentials", b"/admin/v1/fsps/nobank/status"):
        head = b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + b"\r\n"
        for answer in line.exchange(head + rest, ends=True):
            assert 400 <= answer.status < 500, rest[:100]
            if "content-type" in answer.headers:
                _check(answer)


@pytest.mark.parametrize(
    "lines",
    [
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        b"Transfer-Encoding: gzip",
    ],
)
def test_another_transfer_coding_is_a_400_and_the_connection_closes(service: Service, lines: bytes) -> None:
    """A proxy in front could see another request begin within the body."""
    with socket.create_connection(("127.0.0.1", service.oracle.admin_port), timeout=60) as client:
        head = b"POST /admin/v1/fsps HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % lines
        client.sendall(head + b"3\r\nabc\r\n0\r\n\r\nGET /live HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65_536), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1


# Request ids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        (["walk-1"], True),
        (["urn:uuid:6a1f"], True),
        (["x" * 64], True),
        (["batch:7"], False),
        (["Batch:7"], False),
        (["batch:"], False),
        (["x" * 65], False),
        (["a b"], False),
        (["caf\xe9"], False),
        (["walk-1\x85"], False),
        ([""], False),
        ([], False),
        (["walk-1", "walk-2"], False),  # a proxy could have read the other one
    ],
)
def test_a_request_id_of_a_caller_cannot_look_like_ours(sent: list[str], is_kept: bool) -> None:
    chosen = choose_request_id([each.encode("latin-1") for each in sent])
    assert (chosen == "".join(sent)) is is_kept
    assert is_kept or re.fullmatch("[0-9a-f]{32}", chosen)

"""Calls that succeed, and those that fail, over real sockets: what is sent, read, used again and closed."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

import pytest
from peer import (
    OK,
    Client,
    Script,
    answer_with,
    begin,
    calling,
    fail,
    get,
    never_answer,
    on_each_loop,
    put,
    serve_ok,
    serving,
)

from oracle.calls import Answer, Call, CallFailed, CallLimits
from oracle.calls.origin import read_origin, split_url
from oracle.calls.request import write_head
from oracle.telemetry.metrics import Metrics

SECRET = "525512345678"


@on_each_loop
async def test_a_request_is_sent_exactly_as_it_was_given() -> None:
    headers = [(b"FSPIOP-Source", b"payerfsp"), (b"date", b"Sat, 21 Nov 2026 19:14:11 GMT"), (b"x-odd", b"  \xc3\xb1 ")]
    async with serving() as peer, calling() as calls:
        await calls.call(put(f"{peer.url}/parties/ALIAS/a%2Fb%20c?x=%C3%B1&y=//", b"\x00\r\n\r\n", headers))
        assert peer.requests == [
            b"PUT /parties/ALIAS/a%%2Fb%%20c?x=%%C3%%B1&y=// HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
            b"FSPIOP-Source: payerfsp\r\ndate: Sat, 21 Nov 2026 19:14:11 GMT\r\nx-odd:   \xc3\xb1 \r\n"
            b"content-length: 5\r\nconnection: keep-alive\r\n\r\n\x00\r\n\r\n" % peer.port
        ]


@on_each_loop
async def test_calls_one_after_the_other_use_one_connection() -> None:
    async with serving() as peer, calling() as calls:
        for _ in range(5):
            assert await calls.call(get(peer.url)) == Answer(200, [(b"content-length", b"2")], b"ok")
        assert (peer.connections, len(peer.requests)) == (1, 5)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;a=b\r\nk\r\n0\r\nX-Trailer: leaked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body", "connections"),
    [
        (OK, 200, b"ok", 1),
        (CHUNKED, 200, b"ok", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", 1),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", 202, b"", 1),
        (b"HTTP/1.1 102 \r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK, 200, b"ok", 1),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 1),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 2),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 2),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 302, b"", 1),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b", 200, b"\x1f\x8b", 1),
        (b"HTTP/1.1 799 Odd\r\ncontent-length: 0\r\n\r\n", 799, b"", 1),
        # The host announces that it closes sooner than an answer takes to come back.
        (b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 2),
        (b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 1),
    ],
)
@on_each_loop
async def test_answers_are_read_in_each_form(answer: bytes, status: int, body: bytes, connections: int) -> None:
    async with serving(answer_with(answer)) as peer, calling() as calls:
        for _ in range(2):
            found = await calls.call(get(peer.url))
            assert (found.status, found.body) == (status, body)
            assert not any(name in (b"x-trailer", b"link") for name, _ in found.headers)
        assert peer.connections == connections


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@on_each_loop
async def test_an_answer_without_a_length_ends_with_its_connection(version: bytes) -> None:
    answer = b"HTTP/%b 200 OK\r\n\r\n" % version
    async with serving(answer_with(answer + b"until the end", close=True)) as peer, calling() as calls:
        assert (await calls.call(get(peer.url))).body == b"until the end"


@on_each_loop
async def test_an_answer_that_arrives_byte_by_byte_is_read() -> None:
    async def serve(client: Client) -> None:
        while await client.read():
            for at in range(len(CHUNKED)):
                await client.write(CHUNKED[at : at + 1])
                await asyncio.sleep(0)

    async with serving(serve) as peer, calling() as calls:
        for _ in range(3):
            assert (await calls.call(get(peer.url))).body == b"ok"
        assert peer.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x00\x00",
        b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n x: folded\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        # Too long.
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 257 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"a" * 2000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 2000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 2000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"a" * 20_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + b"a" * 20_000,
    ],
)  # fmt: skip
@on_each_loop
async def test_an_answer_that_is_no_answer_fails_the_call_and_ends_the_connection(answer: bytes) -> None:
    async def serve(client: Client) -> None:
        await client.read()
        await client.write(answer)
        await client.wait_closed()

    async with serving(serve) as peer, calling(CallLimits(answer_body_bytes_max=1000)) as calls:
        assert await fail(calls, put(peer.url)) == ("broken", True)
        await peer.wait_open(0)
        assert (peer.connections, len(peer.requests)) == (1, 1)


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", CHUNKED[:60]],
)
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", ["GET", "PUT"])
@on_each_loop
async def test_a_request_that_was_sent_is_never_sent_again(start: bytes, reset: bool, method: str) -> None:
    async def serve(client: Client) -> None:
        await client.read()
        if client.peer.connections == 1:
            await client.write(OK)
            await client.read()
        await client.write(start)
        if reset:
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    async with serving(serve) as peer, calling() as calls:
        await calls.call(get(peer.url))  # the next one uses a connection again
        assert await fail(calls, Call(method, peer.url)) == ("broken", True)
        assert (peer.connections, len(peer.requests)) == (1, 2)


@on_each_loop
async def test_a_reset_does_not_end_an_answer_without_a_length() -> None:
    async def serve(client: Client) -> None:
        await client.read()
        await client.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    async with serving(serve) as peer, calling() as calls:
        assert await fail(calls, get(peer.url)) == ("broken", True)


class RawListener:
    """Accepts and closes at once or at the test's word, without the loop's help: the loop cannot know of it yet."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(100)
        self.sock.setblocking(False)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.accepted = 0
        self.all_closed = asyncio.Event()

    async def accept(self) -> socket.socket:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        self.accepted += 1
        sock.setblocking(False)
        return sock

    def close_each(self, times: int) -> None:
        """Accept and close that often, then leave connections in the backlog."""
        loop = asyncio.get_running_loop()

        def accept() -> None:
            sock, _ = self.sock.accept()
            sock.close()
            self.accepted += 1
            if self.accepted == times:
                loop.remove_reader(self.sock)
                self.all_closed.set()

        loop.add_reader(self.sock, accept)


@on_each_loop
async def test_an_idle_connection_that_the_peer_has_closed_is_not_used_even_before_the_loop_knows() -> None:
    loop = asyncio.get_running_loop()
    listener = RawListener()
    with listener.sock:
        async with calling() as calls:
            first = asyncio.ensure_future(calls.call(get(listener.url)))
            with await listener.accept() as sock:
                await loop.sock_recv(sock, 1000)
                await loop.sock_sendall(sock, OK)
                await first
            # It is closed now, and the next call begins in the same turn of the loop.
            second = asyncio.ensure_future(calls.call(put(listener.url)))
            with await listener.accept() as sock:
                assert (await loop.sock_recv(sock, 1000)).startswith(b"PUT")
                await loop.sock_sendall(sock, OK)
                assert (await second).status == 200


@on_each_loop
async def test_bytes_that_nobody_asked_for_are_no_answer_to_the_next_call_even_before_the_loop_knows() -> None:
    loop = asyncio.get_running_loop()
    listener = RawListener()
    with listener.sock:
        async with calling() as calls:
            first = asyncio.ensure_future(calls.call(get(listener.url)))
            with await listener.accept() as sock:
                await loop.sock_recv(sock, 1000)
                await loop.sock_sendall(sock, OK)
                await first
                sock.send(OK.replace(b"ok", b"no"))
                second = asyncio.ensure_future(calls.call(put(listener.url)))
                with await listener.accept() as other:
                    await loop.sock_recv(other, 1000)
                    await loop.sock_sendall(other, OK)
                    assert (await second).body == b"ok"


@on_each_loop
async def test_a_new_connection_that_is_closed_at_once_is_tried_again_once() -> None:
    loop = asyncio.get_running_loop()
    listener = RawListener()
    with listener.sock:
        async with calling() as calls:
            listener.close_each(1)
            call = asyncio.ensure_future(calls.call(put(listener.url)))
            await listener.all_closed.wait()
            with await listener.accept() as sock:
                await loop.sock_recv(sock, 1000)
                await loop.sock_sendall(sock, OK)
                assert (await call).status == 200


@on_each_loop
async def test_a_host_that_closes_every_new_connection_is_unreachable_after_two() -> None:
    listener = RawListener()
    with listener.sock:
        async with calling() as calls:
            listener.close_each(2)
            assert await fail(calls, put(listener.url)) == ("unreachable", False)
            assert listener.accepted == 2


@on_each_loop
async def test_a_second_answer_in_one_piece_with_the_first_belongs_to_nobody() -> None:
    async def serve(client: Client) -> None:
        request = await client.read()
        await client.write(OK.replace(b"ok", request[5:7]) + OK.replace(b"ok", b"no"))
        await client.wait_closed()

    async with serving(serve) as peer, calling() as calls:
        for name in (b"aa", b"bb", b"cc"):
            assert (await calls.call(get(f"{peer.url}/{name.decode()}"))).body == name
        assert peer.connections == 3


@on_each_loop
async def test_bytes_on_an_idle_connection_close_it() -> None:
    more = asyncio.Event()

    async def serve(client: Client) -> None:
        await client.read()
        await client.write(OK)
        await more.wait()
        await client.write(b"x")
        await client.wait_closed()

    async with serving(serve) as peer, calling() as calls:
        await calls.call(get(peer.url))
        more.set()
        await peer.wait_open(0)
        await calls.call(get(peer.url))
        assert peer.connections == 2


@on_each_loop
async def test_an_answer_before_the_body_was_read_is_the_answer_and_the_rest_is_not_sent() -> None:
    rest: list[int] = []

    async def serve(client: Client) -> None:
        await client.read_head()
        await client.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await answered.wait()
        count = 0
        try:
            while data := await client.reader.read(65_536):
                count += len(data)
        except ConnectionError:
            pass
        rest.append(count)

    answered = asyncio.Event()
    body = b"a" * 12_000_000  # more than the buffers of two sockets
    async with serving(serve, receive_bytes=4096) as peer, calling() as calls:
        answer = await calls.call(put(peer.url, body))
        assert (answer.status, answer.body) == (413, b"no")
        answered.set()
        await peer.wait_open(0)
        assert rest[0] < len(body)
        assert calls.totals.connections == 0


@on_each_loop
async def test_a_large_body_arrives_whole_at_a_slow_reader() -> None:
    body = bytes(range(256)) * 4096  # 1 MiB

    async def serve(client: Client) -> None:
        while await client.read():
            await client.write(OK)

    async with serving(serve, receive_bytes=4096) as peer, calling() as calls:
        for _ in range(2):
            assert (await calls.call(put(peer.url, body))).status == 200
        assert [request.partition(b"\r\n\r\n")[2] for request in peer.requests] == [body, body]
        assert peer.connections == 1


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nfspiop-source: other"),
        (b"x", b"a\n b"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        (b"x: a\r\ny", b"b"),
        (b"", b"a"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"\xc3\xb1", b"a"),
    ],
)
@on_each_loop
async def test_a_header_that_is_not_one_line_is_never_sent(header: tuple[bytes, bytes]) -> None:
    async with serving() as peer, calling() as calls:
        for position in range(3):
            headers = [(b"a", b"1"), (b"b", b"2")]
            headers.insert(position, header)
            assert await fail(calls, put(peer.url, b"{}", headers)) == ("bad_url", False)
        assert peer.connections == 0


def test_headers_that_frame_a_message_are_ours() -> None:
    ours = [b"Host", b"content-length", b"Transfer-Encoding", b"CONNECTION", b"Keep-Alive", b"Upgrade", b"TE"]
    ours += [b"trailer", b"expect", b"accept-encoding", b"proxy-connection", b"http2-settings"]
    headers = [(b"a", b"1"), *((name, b"chunked") for name in ours), (b"b", b"2")]
    for _ in range(2):
        head = write_head("PUT", "/", b"host: a", headers, 0, authorizes=False)
        assert head == (
            b"PUT / HTTP/1.1\r\nhost: a\r\na: 1\r\nb: 2\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
        )
    assert write_head("GET", "/", b"host: a", [], 0, authorizes=False) == (
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n"
    )


def test_the_user_in_a_url_wins_over_a_header() -> None:
    origin = read_origin("https://some%40one:p%3Aw@Host.Example")
    head = write_head("GET", "/", origin.lines, [(b"Authorization", b"Bearer x")], 0, authorizes=origin.authorizes)
    assert head == (
        b"GET / HTTP/1.1\r\nhost: host.example\r\nauthorization: Basic c29tZUBvbmU6cDp3\r\n"
        b"connection: keep-alive\r\n\r\n"
    )


@pytest.mark.parametrize(
    "url",
    [
        "", "/path", "http://", "http:///path", "http:a", "ftp://a/", "file:///etc/passwd", "unix://a", "http//a/",
        "http://a:0/", "http://a:65536/", "http://a:b/", "http://a:1:2/", "http://[::1/", "http://[zz]/", "http://[::1]a/",
        "http://a b/", "http://a/ b", "http://a/\r\nx: y", "http://a/\0", "http://a/\u00f1", "http://\u00f1/", "http://a/#b",
        "http://a\r\nx: y/", "http://u\r\nx:p@a/", "http://-a/", "http://a/" + "x" * 20_000, "http://a@b@/", " http://a/",
        "http://a/\x7f", "http://a\\b/", "http://\u0661.\u0661.1.1/", "http://a:\u0661/",
    ],
)  # fmt: skip
@on_each_loop
async def test_a_url_that_cannot_be_called_is_refused_without_a_trace_of_it(url: str) -> None:
    async with calling() as calls:
        with pytest.raises(CallFailed) as caught:
            await calls.call(Call("GET", url))
        assert (caught.value.reason, caught.value.sent, str(caught.value)) == ("bad_url", False, "bad_url")


@pytest.mark.parametrize(
    ("url", "place", "target"),
    [
        ("http://a", ("http", "a", 80), "/"),
        ("HTTPS://A.b-c_d/x?y", ("https", "a.b-c_d", 443), "/x?y"),
        ("http://a:8080?y", ("http", "a", 8080), "/?y"),
        ("http://[2001:DB8::0:1]:81/x", ("http", "2001:db8::1", 81), "/x"),
        ("http://10.0.0.1/a//b/../c", ("http", "10.0.0.1", 80), "/a//b/../c"),
    ],
)
def test_a_url_is_split_into_a_place_and_a_target(url: str, place: tuple[str, str, int], target: str) -> None:
    origin, found = split_url(url)
    assert (read_origin(origin).place, found) == (place, target)


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "get", "GET / HTTP/1.1\r\nx: y\r\n\r\nGET", ""])
@on_each_loop
async def test_a_method_with_another_kind_of_answer_is_refused(method: str) -> None:
    async with calling() as calls:
        assert await fail(calls, Call(method, "http://127.0.0.1:1/")) == ("bad_url", False)


@on_each_loop
async def test_a_host_that_refuses_connections_is_unreachable() -> None:
    async with serving() as peer:
        pass
    async with calling() as calls:
        assert await fail(calls, put(peer.url)) == ("unreachable", False)


@on_each_loop
async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    async with calling() as calls:
        assert await fail(calls, put("http://nobody.invalid/")) == ("unreachable", False)
        assert await fail(calls, put(f"http://{'a' * 70}.invalid/")) == ("unreachable", False)


@on_each_loop
async def test_the_addresses_of_a_name_are_tried_one_after_the_other() -> None:
    async with serving() as peer, calling() as calls:  # localhost is ::1 as well on most machines
        for _ in range(2):
            assert (await calls.call(get(f"http://localhost:{peer.port}/"))).status == 200


@on_each_loop
async def test_a_host_that_does_not_take_connections_is_unreachable_in_time() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    others = [socket.socket() for _ in range(4)]
    for other in others:
        other.setblocking(False)
        other.connect_ex(sock.getsockname())
    try:
        async with calling(CallLimits(connect_timeout_s=0.1)) as calls:
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
            assert await fail(calls, put(url)) == ("unreachable", False)
            assert await fail(calls, put(url), timeout_s=0.01) == ("timed_out", False)
    finally:
        for one in (sock, *others):
            one.close()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"])
@on_each_loop
async def test_a_call_without_a_whole_answer_in_time_ends_with_its_connection(start: bytes) -> None:
    async def serve(client: Client) -> None:
        await client.read()
        await client.write(OK)
        await client.read()
        await client.write(start)
        await client.wait_closed()

    async with serving(serve) as peer, calling() as calls:
        await calls.call(get(peer.url))  # the next one is sent at once
        assert await fail(calls, put(peer.url), timeout_s=0.05) == ("timed_out", True)
        await peer.wait_open(0)


@on_each_loop
async def test_a_call_that_nobody_waits_for_any_more_ends_with_its_connection() -> None:
    metrics = Metrics.open(None, "test", 0)
    async with serving(never_answer) as peer, calling(metrics=metrics) as calls:
        call = asyncio.ensure_future(calls.call(put(peer.url)))
        await peer.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await peer.wait_open(0)
        assert metrics.cells[metrics.slot("calls_total", result="abandoned")] == 1


@on_each_loop
async def test_closing_ends_calls_under_way_and_refuses_later_ones() -> None:
    async with serving(never_answer) as peer, calling(CallLimits(connections_max=1)) as calls:
        tasks = await begin(calls, peer.url, 2)
        await peer.arrived.wait()
        await calls.close()
        assert await asyncio.gather(*tasks) == [("broken", True), ("busy", False)]
        await peer.wait_open(0)
        assert await fail(calls, put(peer.url)) == ("busy", False)


@on_each_loop
async def test_metrics_count_calls_by_result() -> None:
    metrics = Metrics.open(None, "test", 0)
    answers = [b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status for status in (202, 302, 404, 503, 799)]
    async with serving(answer_with(*answers, b"junk")) as peer, calling(metrics=metrics) as calls:
        for _ in answers:
            await calls.call(put(f"{peer.url}/parties/MSISDN/{SECRET}"))
        await fail(calls, put(peer.url))
        await fail(calls, put("x"))
    counts = {
        result: metrics.cells[metrics.slot("calls_total", result=result)]
        for result in ("2xx", "3xx", "4xx", "5xx", "other", "broken", "bad_url", "timed_out")
    }
    assert counts == {
        "2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1, "other": 1, "broken": 1, "bad_url": 1, "timed_out": 0,
    }  # fmt: skip
    assert SECRET.encode() not in metrics.render()


def list_loopbacks() -> list[str]:
    """List the addresses of this machine: one without IPv6 has no ::1."""
    found = ["127.0.0.1"]
    with suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        found.append("::1")
    return found


@on_each_loop
async def test_a_host_is_called_by_each_address_of_this_machine() -> None:
    for address in list_loopbacks():
        async with serving(host=address) as peer, calling() as calls:
            assert (await calls.call(get(f"{peer.url}/x"))).status == 200
            shown = b"[::1]" if ":" in address else b"127.0.0.1"
            assert b"\r\nhost: %b:%d\r\n" % (shown, peer.port) in peer.requests[0]


def make_scripts() -> list[Any]:
    return [serve_ok, answer_with(CHUNKED)]


@pytest.mark.parametrize("script", make_scripts())
@on_each_loop
async def test_each_of_many_calls_at_once_gets_an_answer(script: Script) -> None:
    async with serving(script) as peer, calling(CallLimits(connections_max=7)) as calls:
        answers = await asyncio.gather(*(calls.call(put(f"{peer.url}/{number}")) for number in range(60)))
        assert {answer.body for answer in answers} == {b"ok"}
        assert len(peer.requests) == 60
        assert peer.open_max <= 7

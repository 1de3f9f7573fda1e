"""What a command says if another program answers in place of the admin API: a proxy, a login page, a web server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from oracle.commands.client import Client, ClientError, Upload

HTML = "<html><title>Oops</title></html>"


class Stranger(BaseHTTPRequestHandler):
    answer: ClassVar[tuple[int, dict[str, str], str]] = (200, {}, "")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in {"Content-Type": "text/html", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST  # noqa: N815 - as http.server calls it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "headers", "body", "said", "remedy"),
    [
        (413, {}, HTML, "The proxy in front of {url} refuses a body of 2.5 MB", "nginx: client_max_body_size"),
        (429, {}, HTML, "The proxy in front of {url} limits the number of requests", "nginx: limit_req"),
        (502, {}, HTML, "The proxy in front of {url} cannot reach the oracle", "`oracle serve` runs"),
        (503, {}, HTML, "The proxy in front of {url} does not pass requests on now", "`oracle serve` runs"),
        (504, {}, HTML, "The proxy in front of {url} did not wait for the answer", "nginx: proxy_read_timeout"),
        (411, {}, HTML, "The proxy in front of {url} takes no body of unknown size", "Give a file"),
        (403, {}, HTML, "The proxy in front of {url} refuses the request before", "Authorization header"),
        (200, {}, HTML, "{url} answers with a web page, perhaps a login page", "Authorization header"),
        (302, {"Location": "https://me:hush@sso.example/login?token=hush"}, "",
         "{url} redirects to a login page at https://sso.example ", "Authorization header"),
        (301, {"Location": "https://oracle.example/admin/v1/x"}, "", "{url} redirects to https://oracle.example ",
         "Set ORACLE_ADMIN_URL to https://oracle.example"),
        (404, {}, '{"errorInformation":{"errorCode":"3002"}}', "{url} is the hub listener", "ORACLE_ADMIN_URL"),
        (404, {}, '["x"]', "The answer did not come from an admin API", "ORACLE_ADMIN_URL"),
        (200, {"Content-Type": "application/json"}, "{", "The answer is damaged", "what is between"),
    ],
)  # fmt: skip
def test_an_answer_of_another_program_is_named_with_what_to_do(
    url: str, status: int, headers: dict[str, str], body: str, said: str, remedy: str
) -> None:
    Stranger.answer = status, headers, body
    upload = Upload(lambda: iter([b"x" * 2_500_000]), "text/csv", 2_500_000)
    with Client(url, "aok_hush", retry_pauses_s=[]) as client, pytest.raises(ClientError) as raised:
        client.call("POST", "/files", upload=upload)
    assert str(raised.value).startswith(said.format(url=url))
    assert remedy in raised.value.hint
    assert "hush" not in str(raised.value)
    assert raised.value.exit_code == 6  # unreachable: the service itself has refused nothing


def test_a_wrong_scheme_or_port_is_named(url: str) -> None:
    assert "it does not use TLS (unreachable). Write http in place of https" in fail(url.replace("http:", "https:"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            other, _ = listener.accept()
            with other:
                other.recv(65_536)
                other.sendall(b"E\0\0\0\x4dSFATAL\0no\r\n\r\n")  # as PostgreSQL does

        thread = threading.Thread(target=answer)
        thread.start()
        said = fail(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert "it does not speak HTTP (unreachable). Check the port" in said


def fail(url: str) -> str:
    with Client(url, "aok_hush", retry_pauses_s=[]) as client, pytest.raises(ClientError) as raised:
        client.call("GET", "/me")
    return str(raised.value)

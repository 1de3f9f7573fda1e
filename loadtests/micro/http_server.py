"""Measures the cost of a request in the HTTP server alone: `oracle.api.http` beside granian (RSGI and ASGI).

    python loadtests/micro/http_server.py [--rounds 5] [--seconds 3] [--connections 64]

All three give the same constant answer to the GET of ALS, headers included; wrk sends it.  The servers take turns
within each round, so that other load on the machine reaches all of them.  The figure to compare is CPU per request:
user and kernel time of the server and its children from /proc.  Requests per second would measure other load, too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from granian import Granian
from granian.constants import Interfaces, Loops

from loadtests.arguments import parse_count
from oracle.api.http import HttpServer

BODY = b'{"partyList":[{"fspId":"payeefsp"}]}'
PATH = "/participants/MSISDN/525512345678"
HEADERS = (
    "content-type: application/vnd.interoperability.participants+json;version=2.0",
    "date: Sat, 21 Nov 2026 19:14:11 GMT",
    "fspiop-source: payerfsp",
    "accept: application/vnd.interoperability.participants+json;version=2",
    "fspiop-destination: Hub",
    "User-Agent: axios/1.18.1",
    "Accept-Encoding: gzip, compress, deflate, br",
    "Connection: keep-alive",
)
SERVERS = ("ours", "granian-rsgi", "granian-asgi")


async def rsgi(scope: Any, proto: Any) -> None:  # noqa: ARG001
    proto.response_bytes(200, [("content-type", "application/json")], BODY)


async def asgi(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def serve(name: str, port: int) -> None:
    if name == "ours":
        serve_ours(port)
        return
    interface = Interfaces.RSGI if name == "granian-rsgi" else Interfaces.ASGINL
    # One worker and one thread: one core each, like ours.
    Granian(
        f"http_server:{interface.value[:4]}",
        port=port,
        interface=interface,
        loop=Loops.uvloop,
        runtime_threads=1,
        log_enabled=False,
    ).serve()


def serve_ours(port: int) -> None:
    async def run() -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        server = HttpServer(lambda request: request.respond(200, BODY), on_error=print)
        await server.start(sock)
        await asyncio.Event().wait()

    uvloop.run(run())


def find_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until_open(port: int) -> None:
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def read_cpu_s(pid: int) -> float:
    """User and kernel seconds of a process and its children (granian serves from a worker process)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(read_cpu_s(int(child)) for child in children)


def load(port: int, seconds: int, connections: int) -> int:
    """Return the number of answered requests; an answer other than 200 ends the comparison."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}"]
    for header in HEADERS:
        command += ["-H", header]
    text = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{PATH}"], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    found = re.search(r"(\d+) requests in", text)
    assert found
    return int(found[1])


def compare(rounds: int, seconds: int, connections: int) -> None:
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVERS}
    running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
    try:
        for name in SERVERS:
            port = find_free_port()
            command = [sys.executable, str(Path(__file__).resolve()), "--serve", name, "--port", str(port)]
            process = subprocess.Popen(command, cwd=Path(__file__).parent, start_new_session=True)
            running[name] = process, port
            wait_until_open(port)
            load(port, 1, connections)
        for number in range(rounds):
            for name in SERVERS[number % len(SERVERS) :] + SERVERS[: number % len(SERVERS)]:
                process, port = running[name]
                before = read_cpu_s(process.pid)
                requests = load(port, seconds, connections)
                figures[name].append((1e6 * (read_cpu_s(process.pid) - before) / requests, requests / seconds))
    finally:
        for process, _ in running.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    report(figures)


def report(figures: dict[str, list[tuple[float, float]]]) -> None:
    ours = statistics.median(cpu for cpu, _ in figures["ours"])
    print(f"{'server':14} {'µs of CPU a request, median':>27} {'min':>6} {'max':>6} {'× ours':>7} {'requests/s':>11}")
    for name, rounds in figures.items():
        cpus = [cpu for cpu, _ in rounds]
        median = statistics.median(cpus)
        rate = statistics.median(rate for _, rate in rounds)
        print(f"{name:14} {median:27.1f} {min(cpus):6.1f} {max(cpus):6.1f} {median / ours:7.2f} {rate:11,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=parse_count, default=5)
    parser.add_argument("--seconds", type=parse_count, default=3)
    parser.add_argument("--connections", type=parse_count, default=64)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.port)
    elif shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk)")
    else:
        compare(arguments.rounds, arguments.seconds, arguments.connections)


if __name__ == "__main__":
    main()

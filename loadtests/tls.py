"""Measures what TLS costs: `python -m loadtests.tls [--rounds 3] [--seconds 3]`.

Services on one directory and one cache, one hub worker each: plain HTTP, and TLS.  wrk asks both in turn for the same
numbers, whose copies say "nobody".  Then one client opens connections, one after the other, and asks once on each: the
CPU of the worker for a handshake, with an ECDSA key (P-256) and an RSA key (2048 bits).  At the end connections stay
open without a request: the memory of each.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from loadtests import machine, warm, wrk
from loadtests.stack import (
    LONG_TTL,
    Service,
    StackError,
    make_room,
    read_exact_cpu,
    read_resident_bytes,
    run_oracle,
    run_postgres,
    run_valkey,
    wait_for_cache,
)

CONNECTIONS_EACH: Final = 60  # to PostgreSQL, of one service
KEYS: Final = 20_000
HANDSHAKES: Final = 300
IDLE: Final = 500
WARM_UP_S: Final = 1
APART_S: Final = 1.0  # at both ends of a run of wrk
_TARGETS: Final = wrk.Targets("/participants/MSISDN/5256", 8, KEYS)
_REQUEST: Final = b"GET /participants/MSISDN/525600000000 HTTP/1.1\r\nHost: a\r\nfspiop-source: payerfsp\r\n\r\n"
_KEYS: Final = {"ECDSA": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "RSA": ("rsa:2048",)}


def make_certificate(folder: Path, name: str) -> Mapping[str, str]:
    """Make a certificate that signs itself, and return the settings that use it."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=oracle", "-addext"]
    words += ["subjectAltName=IP:127.0.0.1", "-newkey", *_KEYS[name], "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    key.chmod(0o600)
    return {"ORACLE_HUB_TLS_CERTIFICATE": str(certificate), "ORACLE_HUB_TLS_KEY": str(key)}


# Requests -------------------------------------------------------------------------------------------------------


def measure_requests(service: Service, seconds: float, connections: int) -> dict[str, float]:
    """Measure while wrk asks, without its first second: there it opens its connections."""
    pids = service.hub_pids
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(
            wrk.run, service.hub_url, _TARGETS, seconds=seconds + 2 * APART_S, connections=connections
        )
        time.sleep(APART_S)
        first, before, began = read_lookups(service), read_exact_cpu(pids), time.monotonic()
        time.sleep(seconds)
        last, after, ended = read_lookups(service), read_exact_cpu(pids), time.monotonic()
        result = running.result()
    count = last - first
    return {
        "rate": count / (ended - began),
        "p99_ms": result.p99_ms,
        "cpu_us": after.since(before).total / count * 1e6,
    }


def read_lookups(service: Service) -> float:
    return sum(service.read_counters("lookups_total", "").values())


# Connections ----------------------------------------------------------------------------------------------------


def open_socket(service: Service) -> socket.socket:
    place = urlsplit(service.hub_url)
    plain = socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=30)
    if place.scheme == "http":
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def measure_connections(service: Service, count: int) -> float:
    """Return the CPU time of the worker for a connection with one request, in µs."""
    pids = service.hub_pids
    before = read_exact_cpu(pids)
    for _ in range(count):
        with closing(open_socket(service)) as client:
            client.sendall(_REQUEST)
            if not client.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise StackError("a request on a new connection failed")
    return read_exact_cpu(pids).since(before).total / count * 1e6


def measure_memory(service: Service, count: int) -> float:
    """Return the memory of the worker for an open connection, in KiB."""
    (pid,) = service.hub_pids
    before = read_resident_bytes(pid)
    clients = []
    try:
        for _ in range(count):
            clients.append(open_socket(service))
            clients[-1].sendall(_REQUEST)
            clients[-1].recv(65_536)
        return (read_resident_bytes(pid) - before) / count / 1024
    finally:
        for client in clients:
            client.close()


# The run --------------------------------------------------------------------------------------------------------


def run(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    sides = {"plain": {}, **{name: make_certificate(home, name) for name in _KEYS}}
    services: dict[str, Service] = {}
    with ExitStack() as stack:
        cache = stack.enter_context(run_valkey(home))
        database_url = stack.enter_context(run_postgres(home, CONNECTIONS_EACH * len(sides)))
        for name, settings in sides.items():
            place = home / f"service-{name}"
            place.mkdir()
            given = {**LONG_TTL, "ORACLE_REDIS_URL": cache.url, "ORACLE_DATABASE_OWNER_URL": database_url, **settings}
            services[name] = stack.enter_context(run_oracle(place, given, database_url))
        wait_for_cache(services["plain"])
        asyncio.run(warm.warm(services["plain"].hub_url, map(_TARGETS.make_target, range(KEYS))))
        compared = {"plain": services["plain"], "TLS": services["ECDSA"]}
        rounds: list[dict[str, dict[str, float]]] = []
        for service in compared.values():
            measure_requests(service, WARM_UP_S, arguments.connections)
        for number in range(arguments.rounds):
            order = list(compared) if number % 2 == 0 else list(compared)[::-1]
            rounds.append(
                {name: measure_requests(compared[name], arguments.seconds, arguments.connections) for name in order}
            )
        handshakes = {name: measure_connections(service, HANDSHAKES) for name, service in services.items()}
        memory = {name: measure_memory(compared[name], IDLE) for name in compared}
    return {"rounds": rounds, "connection_cpu_us": handshakes, "connection_kib": memory}


def format_figures(figures: dict[str, Any]) -> Iterator[str]:
    for each in figures["rounds"]:
        for name, one in sorted(each.items()):
            yield f"{name:6} {one['rate']:8,.0f}/s, p99 {one['p99_ms']:.2f} ms, CPU of a request {one['cpu_us']:.1f} µs"
    for key, text in (("cpu_us", "CPU of a request"), ("rate", "requests/s"), ("p99_ms", "p99")):
        ratios = sorted(each["TLS"][key] / each["plain"][key] for each in figures["rounds"])
        yield f"{text}, TLS to plain: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    connections = figures["connection_cpu_us"]
    yield "CPU of a new connection with one request: " + ", ".join(f"{n} {v:.0f} µs" for n, v in connections.items())
    yield "memory of an open connection: " + ", ".join(f"{n} {v:.1f} KiB" for n, v in figures["connection_kib"].items())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=64, help="of wrk (default 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each measurement")
    arguments = parser.parse_args()
    watch = machine.Watch()
    try:
        with make_room() as home:
            figures = run(home, arguments)
    except (StackError, wrk.WrkError) as exc:
        print(f"tls: {exc}", file=sys.stderr)
        return 1
    surroundings = watch.end()
    print(*format_figures(figures), sep="\n")
    machine.show(surroundings)
    print(f"saved: {machine.save('tls', vars(arguments), figures, surroundings=surroundings)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

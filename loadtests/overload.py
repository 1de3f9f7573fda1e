"""Offers more lookups than the service can answer, and shows what it answers: `python -m loadtests.overload`.

Clients.   Keep-alive connections with the headers of a hub, driven by epoll in processes of their own.
Closed.    `--connections`: each connection asks again as soon as it has its answer.  The load is what they can do.
Open.      `--times`: requests come at a fixed rate, a multiple of the best goodput, over `--open-connections`.  Their
           latency counts from the time at which they were due, also if no connection was free then.
Cases.     cached    every key was asked before
           cold      the cache is emptied before each point, and no key is asked twice
Figures.   offered (sent per second), goodput (answers of 200 per second) and its share of the case's best, p50 and p99
           of the served, p99 of the refused (503), CPU time of the hub workers, and all that was neither.
Machine.   The clients share the cores with the service.  With two cores, the clients of 5,000 connections in a closed
           loop need a core of their own, and their own queue is part of every latency.
Exit.      0; 1 if a server did not start, or an answer was neither 200 nor 503.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import uvloop
from rich.console import Console
from rich.table import Table

from loadtests import dataset, machine
from loadtests.arguments import parse_count, parse_numbers
from loadtests.keys import Keys
from loadtests.stack import (
    LONG_TTL,
    Cache,
    Service,
    StackError,
    make_room,
    read_cpu,
    run_oracle,
    run_valkey,
    wait_for_cache,
)
from loadtests.warm import warm

CASES: Final = ("cached", "cold")
CONNECTIONS: Final = [64, 256, 1_000, 2_500, 5_000]
TIMES: Final = [1, 2, 5]
WARM_UP_SHARE: Final = 0.25  # of each measurement, at its begin: the service learns its rate in that time
STEP: Final = 618_033  # without a common factor with any number of keys that is a power of ten
CLOSED: Final = "each asks again at once"
WIDTH: Final = 172
LIVE: Final = b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n"
TARGET: Final = "/participants/MSISDN/5255{:08d}"
HEAD: Final = "GET " + TARGET + (
    " HTTP/1.1\r\n"
    "content-type: application/vnd.interoperability.participants+json;version=2.0\r\n"
    "date: Sat, 28 Nov 2026 10:00:00 GMT\r\n"
    "fspiop-source: payerfsp\r\n"
    "accept: application/vnd.interoperability.participants+json;version=2\r\n"
    "fspiop-destination: Hub\r\n"
    "User-Agent: axios/1.18.1\r\n"
    "Accept-Encoding: gzip, compress, deflate, br\r\n"
    "Host: 127.0.0.1\r\n"
    "Connection: keep-alive\r\n\r\n"
)  # fmt: skip


class Load(NamedTuple):
    """What one process of clients does.  `rate`: requests a second; None: a closed loop."""

    url: str
    keys: int
    first: int
    connections: int
    seconds: float
    rate: float | None


class Tally(NamedTuple):
    """What came of it after the warm-up: seconds of each answer, and counts."""

    seconds: float
    sent: int
    served: Sequence[float]
    refused: Sequence[float]
    failed: int  # answers of another status, and connections that broke

    @classmethod
    def add(cls, parts: Sequence[Tally]) -> Tally:
        return cls(
            max(part.seconds for part in parts),
            sum(part.sent for part in parts),
            sorted(each for part in parts for each in part.served),
            sorted(each for part in parts for each in part.refused),
            sum(part.failed for part in parts),
        )


class Point(NamedTuple):
    """A row of the table; milliseconds."""

    case: str
    load: str
    connections: int
    offered: float
    goodput: float
    refused: float
    served_p50_ms: float
    served_p99_ms: float
    refused_p99_ms: float
    cores: float  # that the hub workers used, in the measurement and its warm-up
    answer_us: float  # CPU time of the hub workers for each answer, of either kind
    failed: int


# The clients ------------------------------------------------------------------------------------------------


class Clients:
    """Many connections in one loop over epoll.  Every answer is small and arrives in one piece or two."""

    def __init__(self, load: Load) -> None:
        self._load = load
        place = urlsplit(load.url)
        self._address = (str(place.hostname), int(place.port or 80))
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._due: dict[int, float] = {}  # since when the request on this connection waits
        self._parts: dict[int, bytes] = {}
        self._next = load.first
        self._sent, self._failed = 0, 0
        self._served, self._refused = array("d"), array("d")
        for _ in range(load.connections):
            self._open()
        self._greet()

    def run(self) -> Tally:
        drive = self._drive_closed if self._load.rate is None else self._drive_open
        drive(self._load.seconds * WARM_UP_SHARE)
        self._sent, self._failed, self._served, self._refused = 0, 0, array("d"), array("d")
        began = time.perf_counter()
        drive(self._load.seconds)
        took = time.perf_counter() - began
        for each in self._sockets.values():
            each.close()
        return Tally(took, self._sent, self._served, self._refused, self._failed)

    def _drive_closed(self, seconds: float) -> None:
        ends_at = time.perf_counter() + seconds
        for fd in [fd for fd in self._sockets if fd not in self._due]:
            self._send(fd, time.perf_counter())
        while (now := time.perf_counter()) < ends_at:
            for fd in self._receive(ends_at - now):
                self._send(fd, time.perf_counter())

    def _drive_open(self, seconds: float) -> None:
        assert self._load.rate is not None
        every_s = 1 / self._load.rate
        due = now = time.perf_counter()
        ends_at = now + seconds
        idle = deque(fd for fd in self._sockets if fd not in self._due)
        while now < ends_at:
            while due <= now and idle:
                self._send(idle.popleft(), due)
                due += every_s
            # Without an idle connection it waits for an answer; else for the next request, but not in a busy loop.
            idle.extend(self._receive(0.001 if idle else 0.1))
            now = time.perf_counter()

    def _open(self) -> int:
        client = socket.create_connection(self._address, timeout=30)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        self._sockets[client.fileno()] = client
        self._epoll.register(client.fileno(), select.EPOLLIN)
        return client.fileno()

    def _greet(self) -> None:
        """Wait until the service has accepted every connection: that costs more than some lookups."""
        for client in self._sockets.values():
            client.setblocking(True)
            client.sendall(LIVE)
        for client in self._sockets.values():
            client.recv(16_384)
            client.setblocking(False)

    def _send(self, fd: int, due: float) -> None:
        self._next += 1
        self._sent += 1
        self._due[fd] = due
        with suppress(OSError):  # it is broken, which the next read reports
            self._sockets[fd].send(HEAD.format(self._next * STEP % self._load.keys).encode())

    def _receive(self, timeout_s: float) -> list[int]:
        """Wait for answers; return the connections that are free again."""
        free = []
        for fd, _ in self._epoll.poll(timeout_s, 4_096):
            try:
                data = self._sockets[fd].recv(16_384)
            except OSError:
                data = b""
            if not data:
                free.append(self._replace(fd))
                continue
            if fd in self._parts:
                data = self._parts.pop(fd) + data
            if not data.endswith(b"}"):
                self._parts[fd] = data
                continue
            taken_s = time.perf_counter() - self._due.pop(fd)
            status = data[9:12]
            if status == b"200":
                self._served.append(taken_s)
            elif status == b"503":
                self._refused.append(taken_s)
            else:
                self._failed += 1
            free.append(fd)
        return free

    def _replace(self, fd: int) -> int:
        self._failed += 1
        self._due.pop(fd, None)
        self._parts.pop(fd, None)
        self._epoll.unregister(fd)
        self._sockets.pop(fd).close()
        return self._open()


def _run_clients(load: Load) -> Tally:
    return Clients(load).run()


# Measuring --------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, service: Service, cache: Cache, arguments: argparse.Namespace) -> None:
        self._service, self._cache, self._arguments = service, cache, arguments
        self._next = 0

    def measure(self, case: str, connections: int, rate: float | None, name: str) -> Point:
        given = self._arguments
        if case == "cold":
            empty(self._cache)
        count = min(given.processes, connections)
        loads = [
            Load(
                self._service.hub_url, given.keys, self._next + n * given.keys // count, connections // count,
                given.seconds, None if rate is None else rate / count,
            )
            for n in range(count)
        ]  # fmt: skip
        self._next += given.keys // 7
        workers = self._service.hub_pids
        with multiprocessing.get_context("spawn").Pool(count) as pool:
            pool.map(len, [()] * count)  # it has started
            before, began = read_cpu(workers), time.monotonic()
            tally = Tally.add(pool.map(_run_clients, loads))
            cores = read_cpu(workers).since(before).total / (time.monotonic() - began)
        return make_point(case, name, connections, tally, cores)

    def measure_case(self, case: str, show: Callable[[Point], None]) -> list[Point]:
        points = []
        for connections in self._arguments.connections:
            points.append(self.measure(case, connections, None, CLOSED))
            show(points[-1])
        best = max(1.0, *(point.goodput for point in points))
        for times in self._arguments.times:
            points.append(
                self.measure(
                    case, self._arguments.open_connections, times * best, f"fixed: {times:g} × {best:,.0f} requests/s"
                )
            )
            show(points[-1])
        return points


def make_point(case: str, load: str, connections: int, tally: Tally, cores: float) -> Point:
    answers = (len(tally.served) + len(tally.refused)) / tally.seconds
    return Point(
        case, load, connections,
        tally.sent / tally.seconds, len(tally.served) / tally.seconds, len(tally.refused) / tally.seconds,
        compute_percentile(tally.served, 50), compute_percentile(tally.served, 99),
        compute_percentile(tally.refused, 99), cores, 1e6 * cores / answers if answers else 0.0,
        tally.failed,
    )  # fmt: skip


def compute_percentile(ordered_s: Sequence[float], percent: float) -> float:
    """Return the percentile of sorted seconds, in milliseconds; 0 if there are none."""
    return 1000 * ordered_s[min(len(ordered_s) - 1, int(len(ordered_s) * percent / 100))] if ordered_s else 0.0


def empty(cache: Cache) -> None:
    with socket.create_connection(("127.0.0.1", cache.port), timeout=60) as redis:
        redis.sendall(b"FLUSHALL\r\n")
        if redis.recv(64) != b"+OK\r\n":
            raise StackError("Valkey did not empty itself")


def bench(home: Path, arguments: argparse.Namespace, show: Callable[[Point], None]) -> list[Point]:
    settings = {**LONG_TTL, "ORACLE_WORKERS": str(arguments.workers)}
    with run_valkey(home) as cache, run_oracle(home, {**settings, "ORACLE_REDIS_URL": cache.url}) as service:
        asyncio.run(dataset.fill_with_progress(service.database_url, Keys(mix="consecutive"), arguments.keys))
        wait_for_cache(service)
        running = Bench(service, cache, arguments)
        points: list[Point] = []
        for case in arguments.cases:
            if case == "cached":
                uvloop.run(warm(service.hub_url, (TARGET.format(n) for n in range(arguments.keys))))
            points += running.measure_case(case, show)
        return points


# Showing ----------------------------------------------------------------------------------------------------


COLUMNS: Final = (
    "lookups", "load", "connections", "offered requests/s", "answered lookups/s", "share of the best", "refused/s",
    "answered p50 ms", "answered p99 ms", "refused p99 ms", "cores of workers", "CPU µs an answer", "failed",
)  # fmt: skip


def make_rows(points: Sequence[Point]) -> Iterator[list[str]]:
    """Yield the cells of each point, in the order of COLUMNS."""
    for point in points:
        best = max(each.goodput for each in points if each.case == point.case)
        yield [
            point.case, point.load, f"{point.connections:,}", f"{point.offered:,.0f}", f"{point.goodput:,.0f}",
            f"{point.goodput / best:.0%}" if best else "-", f"{point.refused:,.0f}",
            _format_ms(point.served_p50_ms, point.goodput), _format_ms(point.served_p99_ms, point.goodput),
            _format_ms(point.refused_p99_ms, point.refused),
            f"{point.cores:.2f}", f"{point.answer_us:.0f}" if point.answer_us else "-", f"{point.failed:,}",
        ]  # fmt: skip


def _format_ms(value: float, rate: float) -> str:
    """Format a percentile; without an answer there is none."""
    return f"{value:,.1f}" if rate else "-"


def make_table(points: Sequence[Point]) -> Table:
    title = "More lookups than the service can answer: offered, answered (status 200) and refused (status 503)"
    table = Table(title=title, title_justify="left")
    rows = list(make_rows(points))
    for number, name in enumerate(COLUMNS):
        # The words of a head and of a load can be in several lines; a word or a figure cannot.
        cells = [row[number] for row in rows] if number > 1 else []
        width = max(map(len, (*name.split(), *cells)))
        table.add_column(name, justify="left" if name in {"lookups", "load"} else "right", min_width=width)
    for row in rows:
        table.add_row(*row)
    return table


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=_parse_cases, default=list(CASES), metavar="NAME,NAME")
    parser.add_argument(
        "--keys", type=parse_count, default=1_000_000, help="aliases in the directory (default 1,000,000)"
    )
    parser.add_argument("--seconds", type=float, default=8, help="seconds of each measurement (default 8)")
    parser.add_argument("--connections", type=parse_numbers, default=CONNECTIONS, metavar="N,N")
    parser.add_argument(
        "--times", type=_parse_times, default=TIMES, metavar="N,N", help="multiples of the best goodput"
    )
    parser.add_argument(
        "--open-connections", type=parse_count, default=5_000, help="connections for --times (default 5,000)"
    )
    parser.add_argument("--workers", type=parse_count, default=1, help="hub workers (default 1)")
    parser.add_argument("--processes", type=parse_count, default=1, help="processes with clients (default 1)")
    return parser.parse_args(words)


def _parse_cases(text: str) -> list[str]:
    chosen = text.split(",")
    if not set(chosen) <= set(CASES):
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(CASES)}")
    return chosen


def _parse_times(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def main() -> int:
    arguments = parse()
    console = Console(width=WIDTH)
    watch = machine.Watch()
    try:
        with make_room() as home:
            points = bench(home, arguments, lambda point: print(format_point(point), flush=True))
    except (StackError, dataset.Refused, ExceptionGroup) as exc:
        print(f"overload: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    surroundings = watch.end()
    console.print(make_table(points))
    machine.show(surroundings)
    figures: list[dict[str, Any]] = [point._asdict() for point in points]
    print(f"saved: {machine.save('overload', vars(arguments), figures, surroundings=surroundings)}")
    return 1 if any(point.failed for point in points) else 0


def format_point(point: Point) -> str:
    return (
        f"{point.case}, {point.load}, {point.connections:,} connections: offered {point.offered:,.0f} requests/s,"
        f" answered {point.goodput:,.0f}/s (p99 {_format_ms(point.served_p99_ms, point.goodput)} ms),"
        f" refused {point.refused:,.0f}/s (p99 {_format_ms(point.refused_p99_ms, point.refused)} ms);"
        f" {point.cores:.2f} cores, {point.answer_us:.0f} µs of CPU an answer; {point.failed:,} failed"
    )


if __name__ == "__main__":
    sys.exit(main())

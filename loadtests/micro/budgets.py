"""Measures what budgets add to a cached lookup, in process: `python -m loadtests.micro.budgets [--rounds 200]`.

A lookup from the bytes of its request to the bytes of its answer, with a session that answers at once; so the figures
are the cost of the program alone.  The modes take turns, so that other load on the machine reaches all of them, and the
fastest of many short rounds counts.

    off       nobody has a budget
    one       observe, all lookups of one FSP
    mixed     observe, lookups of 40 FSPs in turn, half of them with other headers in front
    enforce   as mixed, with enforce
    unknown   observe, all lookups of a source that is no FSP

`ORACLE_COMPILED=off` measures the sources; else the build, if there is one (`make compile`).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import uvloop

from loadtests.arguments import parse_count
from oracle import compiled
from oracle.api.http import HttpServer
from oracle.api.http.request import PlainRequest
from oracle.api.http.turns import Turns
from oracle.api.hub.participants import Participants
from oracle.budgets.buckets import Buckets
from oracle.budgets.classes import Classes, Costs, Size
from oracle.identifiers import Reading
from oracle.store.base import Generation
from oracle.store.cache.coherence import Coherence
from oracle.store.cache.lookups import Lookups
from oracle.store.cache.tags import TIME_MAX, Tags
from oracle.store.cache.values import Entry, pack_entries
from oracle.store.changes import Changes
from oracle.store.routes import Routes
from oracle.telemetry.metrics import Metrics
from oracle.telemetry.tracing import Tracing

BATCH: Final = 64  # lookups of one turn of the event loop
TURNS: Final = 20
COPY: Final = pack_entries([Entry("payeefsp", "", "")])
ENDLESS: Final = 10**12
MODES: Final = ("off", "one", "mixed", "enforce", "unknown")
FSPS: Final = [f"bank{number}" for number in range(40)]
_HEAD: Final = (
    b"GET %b HTTP/1.1\r\ncontent-type: application/vnd.interoperability.%b+json;version=2.0\r\n"
    b"date: Sat, 21 Nov 2026 19:14:11 GMT\r\nfspiop-source: %b\r\n"
    b"accept: application/vnd.interoperability.%b+json;version=2\r\nfspiop-destination: Hub\r\n"
    b"User-Agent: axios/1.18.1\r\nAccept-Encoding: gzip, compress, deflate, br\r\nHost: 127.0.0.1\r\n"
    b"Connection: keep-alive\r\n\r\n"
)


class _Wire:
    """The client's end: it takes every answer."""

    family = 1  # AF_UNIX

    def write(self, data: bytes) -> None: ...

    def get_extra_info(self, _name: str) -> Any:
        return self

    def is_closing(self) -> bool:
        return False


def _fail(error: BaseException) -> None:
    raise error


class _Session:
    """As a session that answers each read at once."""

    alive = True
    run_ids: tuple[str, ...] = ()

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._copies: dict[bytes, bytes | None] = {key: Tags().seal(key, COPY, TIME_MAX) for key in keys}

    def mget(self, keys: Sequence[bytes], done: Callable[[list[bytes | None] | None], None]) -> None:
        done([self._copies[key] for key in keys])


class Bench:
    """A hub listener without sockets, which answers the same lookups again and again."""

    def __init__(self, lookups: Lookups, targets: list[bytes], metrics: Metrics, mode: str) -> None:
        classes = Classes({name: Size(ENDLESS, ENDLESS) for name in ("C", "unknown")}, {}, "C")
        budgets = None if mode == "off" else Buckets(classes, Costs(), enforces=mode == "enforce")
        if budgets is not None:
            budgets.know(FSPS)
        self._participants = Participants(
            lookups, Changes.__new__(Changes), Routes(cast("Any", None)), metrics, Tracing.open("t", None),
            change_timeout_s=10, reading=Reading(), budgets=budgets,
        )  # fmt: skip
        server = HttpServer(lambda _: None, on_error=_fail)
        self._turns = [Turns(server) for _ in targets]
        for turns in self._turns:
            turns.connection_made(cast("Any", _Wire()))
        sources = {"one": FSPS[:1], "unknown": ["stranger"]}.get(mode, FSPS)
        self._data = []
        for number, target in enumerate(targets):
            resource = b"participants" if number % 2 and mode != "one" else b"parties"
            source = sources[number % len(sources)].encode()
            self._data.append((target, _HEAD % (target, resource, source, resource)))
        self._data.sort(key=lambda each: len(each[1]))  # a hub's lookups of one kind come in rows

    async def run_round(self) -> float:
        """Answer BATCH lookups TURNS times; return the CPU time of one, in µs."""
        serve, pairs = self._participants.serve, list(zip(self._turns, self._data, strict=True))
        started = time.process_time()
        for _ in range(TURNS):
            for turns, (target, data) in pairs:
                request = PlainRequest(turns, target, data)
                turns.current = request
                serve(request)
            await asyncio.sleep(0)
        return (time.process_time() - started) / (TURNS * len(pairs)) * 1e6


async def measure(rounds: int) -> None:
    coherence = Coherence(cast("Any", None), None, "oracle")
    await coherence._adopt(Generation("0" * 32, 1, (), 3600.0, 1), float("inf"))  # noqa: SLF001 - without a database
    metrics = Metrics.open(None, "hub", 0)
    lookups = Lookups(coherence, cast("Any", None), metrics, timeout_s=1, ttl_s=300, negative_ttl_s=60)
    identifiers = [f"52551{number:07d}" for number in range(BATCH)]
    coherence.session = cast("Any", _Session([coherence.key("MSISDN", identifier) for identifier in identifiers]))
    targets = [b"/participants/MSISDN/" + identifier.encode() for identifier in identifiers]
    benches = {mode: Bench(lookups, targets, metrics, mode) for mode in MODES}
    fastest = dict.fromkeys(benches, float("inf"))
    for _ in range(rounds):
        for mode, bench in benches.items():
            fastest[mode] = min(fastest[mode], await bench.run_round())
    print(compiled.find_state())
    for mode, took_us in fastest.items():
        print(f"{mode:<8} {took_us:.3f} µs a lookup, {took_us - fastest['off']:+.3f} µs")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=parse_count, default=200)
    uvloop.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()

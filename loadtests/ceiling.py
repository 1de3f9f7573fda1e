"""Ours beside nginx + Lua + Redis, in turn on one machine: `python -m loadtests.ceiling` (or `make ceiling`).

Sides.     The oracle (`serve`, one worker) and ceiling/nginx.conf (one worker), over the same numbers, against one and
           the same Valkey on loopback TCP, asked by wrk with the headers of a hub.  Both answer the same bytes: looked
           at, not assumed.
Rounds.    The sides take turns within each round and the order turns with the rounds: noise hits both.
Figure.    CPU per lookup of server and Valkey, user and kernel, from /proc.  Requests per second also measure wrk,
           which shares the cores.
Cases.     cached    every key asked before: one Redis read.  The share is read from /metrics in each measurement.
           unknown   numbers nobody has, asked before: "nobody" is a copy, too
           routed    nobody's, but one of 100,000 prefix rules takes them (ours only)
           cold      no key twice, none in the cache: each is a read of PostgreSQL and a fill (ours only)
Bounds.    rounds x seconds x cases x sides, and one pass over the keys to warm each case.
Exit.      0; 1 when something did not start or answered wrongly; 2 when a program is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from loadtests import dataset, machine, wrk
from loadtests.keys import Keys, fsp_ids
from loadtests.stack import (
    LONG_TTL,
    Cache,
    Cpu,
    Service,
    StackError,
    cpu,
    descendants,
    free_port,
    listens,
    machine_room,
    oracle_serve,
    start,
    stop,
    until,
    valkey,
    wait_for_cache,
)
from loadtests.warm import warm
from loadtests.wrk import Result, Targets, WrkError

HERE: Final = Path(__file__).resolve().parent / "ceiling"
MODULES: Final = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))
LUA_REDIS: Final = Path("/usr/share/lua/5.1/nginx/redis.lua")

RULES: Final = 100_000
# Longer than the rule that takes the number, and never its: each costs a lookup one more look into a table.
DECOY_LENGTHS: Final = (10, 13, 17)
DECOYS_EACH: Final = 10
# More than one worker can look up cold in a second.
COLD_RATE_MAX: Final = 40_000

SHARE_MIN: Final = 0.999


class Case(NamedTuple):
    name: str
    targets: Targets
    result: str  # what lookups_total has to say of them
    sides: tuple[str, ...]
    walks: bool = False


class Side(NamedTuple):
    name: str
    url: str
    pids: list[int]


class Measured(NamedTuple):
    """One wrk run: CPU in µs per lookup."""

    rate: float
    p50_ms: float
    p99_ms: float
    server_user: float
    server_system: float
    redis_user: float
    redis_system: float
    postgres: float
    share: float  # of lookups that ended as the case says; 1 for nginx, which does not count

    @property
    def server(self) -> float:
        return self.server_user + self.server_system

    @property
    def redis(self) -> float:
        return self.redis_user + self.redis_system


def missing_programs() -> list[str]:
    """What to install, in Debian's names."""
    wanted = {
        "wrk": shutil.which("wrk") is not None,
        "nginx": nginx_binary() is not None,
        "libnginx-mod-http-lua": _modules() is not None,
        "lua-nginx-redis": LUA_REDIS.exists(),
    }
    return [package for package, there in wanted.items() if not there]


def nginx_binary() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def versions() -> dict[str, str]:
    """Both write to stderr or stdout, as they like, and wrk says it with an exit code of 1."""
    said = {}
    for name, binary in (("nginx", nginx_binary()), ("wrk", shutil.which("wrk"))):
        outcome = subprocess.run([str(binary), "-v"], capture_output=True, text=True, check=False, timeout=10)
        lines = (outcome.stdout + outcome.stderr).splitlines()
        said[name] = lines[0].partition(" [")[0].removeprefix("nginx version: ") if lines else "unknown"
    return said


def _modules() -> Path | None:
    return next((place for place in MODULES if (place / "ngx_http_lua_module.so").exists()), None)


# The sides --------------------------------------------------------------------------------------------------


@contextmanager
def nginx(home: Path, cache: Cache, workers: int) -> Iterator[Side]:
    place = home / f"nginx-{workers}"
    place.mkdir(mode=0o755)
    home.chmod(0o711)  # started by root, its workers are somebody else
    port = free_port()
    words = {"MODULES": _modules(), "WORKERS": workers, "PORT": port, "REDIS_PORT": cache.port}
    text = (HERE / "nginx.conf").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    (place / "nginx.conf").write_text(text, encoding="utf-8")
    log = place / "nginx.log"
    command = [str(nginx_binary()), "-p", str(place), "-c", "nginx.conf", "-e", "stderr"]
    process = start(command, log)
    try:
        until(lambda: process.poll() is not None or listens(port), "nginx")
        if process.poll() is not None:
            raise StackError(f"nginx ended:\n{log.read_text()}")
        until(lambda: len(descendants(process.pid)) == workers, "nginx's workers", 10)
        yield Side("nginx", f"http://127.0.0.1:{port}", descendants(process.pid))
    finally:
        stop(process)


def store_answers(cache: Cache, answers: Iterable[tuple[str, str]]) -> None:
    """What nginx reads: `p:{Type}:{ID}` and the whole body, pipelined, a thousand at a time."""
    with socket.create_connection(("127.0.0.1", cache.port), timeout=30) as redis, redis.makefile("rb") as replies:
        for batch in _batches(answers, 1_000):
            redis.sendall(b"".join(_set_command(key, body) for key, body in batch))
            if replies.read(5 * len(batch)) != b"+OK\r\n" * len(batch):
                raise StackError("Valkey did not take the answers for nginx")


def _set_command(key: str, value: str) -> bytes:
    return f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n${len(value)}\r\n{value}\r\n".encode()


def _batches(items: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def answers_of(keys: Keys, count: int) -> Iterator[tuple[str, str]]:
    for index in range(count):
        alias = keys.alias(index)
        yield (
            f"p:{alias.party_id_type}:{alias.identifier}",
            json.dumps({"partyList": [{"fspId": alias.fsp_id}]}, separators=(",", ":")),
        )


def ask(url: str, target: str) -> bytes:
    request = urllib.request.Request(f"{url}{target}", headers={"fspiop-source": "payerfsp"})  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        body: bytes = answer.read()
        return body


def compare_answers(sides: Sequence[Side], targets: Targets, samples: int = 100) -> None:
    for _ in range(samples):
        target = targets.target(random.randrange(targets.size))
        bodies = {side.name: ask(side.url, target) for side in sides}
        if len(set(bodies.values())) != 1:
            raise StackError(f"the sides answer differently: {bodies}")


# The cases --------------------------------------------------------------------------------------------------


def cases(arguments: argparse.Namespace, total: int) -> list[Case]:
    keys = arguments.keys
    number = "/participants/MSISDN/"
    both, ours = ("ours", "nginx"), ("ours",)
    chosen = [Case("cached", Targets(f"{number}5255", 8, keys), "hit", both)]
    if arguments.unknown:
        chosen.append(Case("unknown", Targets(f"{number}5256", 8, keys), "negative_hit", both))
    if arguments.routed:
        rules = RULES - DECOYS_EACH * len(DECOY_LENGTHS)
        # 64, a rule's five digits, one that tells its ten numbers apart, zeros: 18 digits, as of a CLABE.
        head = "/participants/ACCOUNT_ID/64"
        targets = Targets(head, 8, min(keys, 10 * rules), times=100, tail="0" * 8)
        chosen.append(Case("routed", targets, "routed", ours))
    if arguments.cold:
        chosen.append(
            Case("cold", Targets(f"{number}5255", 8, total - keys, first=keys), "directory", ours, walks=True)
        )
    return chosen


async def add_routes(url: str) -> None:
    """100,000 rules by ordinary SQL: most of seven digits, the decoys longer and elsewhere."""
    decoys = [f"99{length:02d}{n:0{length - 4}d}" for length in DECOY_LENGTHS for n in range(DECOYS_EACH)]
    prefixes = [f"64{rule:05d}" for rule in range(RULES - len(decoys))] + decoys
    owners = [fsp_ids()[n % len(fsp_ids())] for n in range(len(prefixes))]
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM routes)"):
            await connection.execute(
                "INSERT INTO routes (party_id_type, prefix, fsp_id)"
                " SELECT 'ACCOUNT_ID', p, f FROM unnest($1::text[], $2::text[]) AS r (p, f)",
                prefixes,
                owners,
            )
    finally:
        await connection.close()


# Measuring --------------------------------------------------------------------------------------------------


class Bench:
    """One number of workers: its sides, its cases, its rounds."""

    def __init__(self, service: Service, cache: Cache, sides: Sequence[Side], arguments: argparse.Namespace) -> None:
        self.service, self.cache = service, cache
        self.sides = {side.name: side for side in sides}
        self.seconds: int = arguments.seconds
        self.connections: int = arguments.connections
        self.walked = 0
        self.warnings: list[str] = []

    def measure(self, case: Case, side: Side, connections: int | None = None) -> Measured:
        connections = connections or self.connections
        walk = self.walked if case.walks else None
        postgres = self.service.postgres_pids
        counted = self.service.counters("lookups_total", "result")
        before = cpu(side.pids), cpu([self.cache.pid]), cpu(postgres)
        result = wrk.run(side.url, case.targets, seconds=self.seconds, connections=connections, walk=walk)
        after = cpu(side.pids), cpu([self.cache.pid]), cpu(postgres)
        self._walk_on(case, result)
        used = [later.since(earlier) for later, earlier in zip(after, before, strict=True)]
        return self._measured(case, side, result, used, counted)

    def _walk_on(self, case: Case, result: Result) -> None:
        if case.walks:
            self.walked += result.requests + 2 * self.connections  # with those that wrk cut off at its end
            if self.walked > case.targets.size:
                raise StackError("every cold key was asked: a larger --dataset is needed")

    def _measured(self, case: Case, side: Side, result: Result, used: list[Cpu], counted: dict[str, float]) -> Measured:
        share = self._share(case, counted) if side.name == "ours" else 1.0
        if share < SHARE_MIN:
            self.warnings.append(f"{case.name}: only {share:.2%} of lookups ended as {case.result}")
        each = 1e6 / result.requests
        server, redis, postgres = used
        return Measured(
            result.rate,
            result.p50_ms,
            result.p99_ms,
            server.user * each,
            server.system * each,
            redis.user * each,
            redis.system * each,
            postgres.total * each,
            share,
        )

    def _share(self, case: Case, earlier: dict[str, float]) -> float:
        now = self.service.counters("lookups_total", "result")
        new = {result: now[result] - earlier.get(result, 0.0) for result in now}
        return new.get(case.result, 0.0) / max(1.0, sum(new.values()))

    def rounds(self, chosen: Sequence[Case], rounds: int) -> dict[str, list[Measured]]:
        turns = [(case, self.sides[name]) for case in chosen for name in case.sides]
        found: dict[str, list[Measured]] = {f"{case.name}/{side.name}": [] for case, side in turns}
        for number in range(rounds):
            first = number % len(turns)
            for case, side in turns[first:] + turns[:first]:
                found[f"{case.name}/{side.name}"].append(self.measure(case, side))
        return found


def warm_case(service: Service, cache: Cache, case: Case) -> float:
    """The bytes that a copy takes in Valkey, its key and share of the table included."""
    began, before = time.monotonic(), cache.used_bytes()
    uvloop.run(warm(service.hub_url, (case.targets.target(i) for i in range(case.targets.size))))
    rate = case.targets.size / (time.monotonic() - began)
    each = (cache.used_bytes() - before) / case.targets.size
    print(f"warmed {case.name}: {case.targets.size:,} keys, {rate:,.0f}/s, {each:.0f} bytes each in Valkey", flush=True)
    return each


def prepare(service: Service, cache: Cache, arguments: argparse.Namespace) -> int:
    """The directory filled; how many aliases it has."""
    keys = Keys(mix="consecutive")
    total: int = asyncio.run(dataset.standing(service.database_url, keys))
    wanted = arguments.dataset or arguments.keys + cold_reserve(arguments)
    if total == 0:
        asyncio.run(dataset.fill_shown(service.database_url, keys, wanted))
        total = wanted
    if total < wanted:
        raise StackError(f"the directory has {total:,} aliases, {wanted:,} are needed")
    wait_for_cache(service)
    if arguments.routed:
        asyncio.run(add_routes(service.database_url))
        probe = "/participants/ACCOUNT_ID/64" + "0" * 16
        until(lambda: b"fsp-001" in ask(service.hub_url, probe), "routes compiled", 30)
    store_answers(cache, answers_of(keys, arguments.keys))
    return total


def cold_reserve(arguments: argparse.Namespace) -> int:
    workers = max(arguments.workers)
    return arguments.rounds * arguments.seconds * COLD_RATE_MAX * workers if arguments.cold else 0


def bench(home: Path, arguments: argparse.Namespace, workers: int) -> dict[str, Any]:
    settings = {**LONG_TTL, "ORACLE_WORKERS": str(workers)}
    with ExitStack() as stack:
        room = home / f"workers-{workers}"
        room.mkdir(mode=0o711)
        cache = stack.enter_context(valkey(room))
        settings["ORACLE_REDIS_URL"] = cache.url
        service = stack.enter_context(oracle_serve(room, settings, arguments.database_url, arguments.data_dir))
        total = prepare(service, cache, arguments)
        ceiling = stack.enter_context(nginx(room, cache, workers))
        ours = Side("ours", service.hub_url, service.hub_pids)
        chosen = cases(arguments, total)
        copy_bytes = {}
        for case in chosen:
            if not case.walks:
                copy_bytes[case.name] = warm_case(service, cache, case)
            if "nginx" in case.sides:
                compare_answers([ours, ceiling], case.targets)
        running = Bench(service, cache, [ours, ceiling], arguments)
        found = running.rounds(chosen, arguments.rounds)
        sweep = [
            {"side": side.name, "connections": count, **running.measure(chosen[0], side, count)._asdict()}
            for count in arguments.sweep
            for side in (ours, ceiling)
        ]
        for warning in dict.fromkeys(running.warnings):
            print(f"! {warning}")
    return {
        "workers": workers,
        "aliases": total,
        "keys": arguments.keys,
        "copy_bytes": copy_bytes,
        "rounds": {name: [measured._asdict() for measured in measures] for name, measures in found.items()},
        "sweep": sweep,
    }


# Showing ----------------------------------------------------------------------------------------------------


def medians(measures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure by itself, and of the sums."""
    sums = [
        {**one, "server": one["server_user"] + one["server_system"], "redis": one["redis_user"] + one["redis_system"]}
        for one in measures
    ]
    sums = [{**one, "both": one["server"] + one["redis"]} for one in sums]
    return {name: statistics.median(one[name] for one in sums) for name in sums[0]}


COLUMNS: Final = (
    ("requests/s", "rate", ",.0f"),
    ("p50 ms", "p50_ms", ".2f"),
    ("p99 ms", "p99_ms", ".2f"),
    ("server µs", "server", ".1f"),
    ("user", "server_user", ".1f"),
    ("system", "server_system", ".1f"),
    ("Redis µs", "redis", ".1f"),
    ("user", "redis_user", ".1f"),
    ("system", "redis_system", ".1f"),
    ("both µs", "both", ".1f"),
    ("PostgreSQL µs", "postgres", ".1f"),
)


def rows_of(found: dict[str, Any]) -> Iterator[list[str]]:
    """A row a case and side, of medians over the rounds; and ours / nginx where both were measured."""
    middle = {name: medians(measures) for name, measures in found["rounds"].items() if measures}
    for name, figures in middle.items():
        case, _, side = name.partition("/")
        share = f"{figures['share']:.2%}" if side == "ours" else ""
        yield [case, side, *(format(figures[key], form) for _, key, form in COLUMNS), share]
        ceiling = middle.get(f"{case}/nginx")
        if side == "nginx" and ceiling is not None:
            ours = middle[f"{case}/ours"]
            ratios = (f"{ours[key] / ceiling[key]:.2f}" if ceiling[key] else "" for _, key, _ in COLUMNS)
            yield [case, "ours / nginx", *ratios, ""]


def show(found: dict[str, Any]) -> None:
    title = f"{found['workers']} worker(s) each, {found['keys']:,} keys of {found['aliases']:,} aliases; CPU per lookup"
    table = Table(title=title, title_justify="left")
    for name in ("case", "side", *(name for name, _, _ in COLUMNS), "as intended"):
        table.add_column(name, justify="left" if name in {"case", "side"} else "right", no_wrap=True)
    for row in rows_of(found):
        table.add_row(*row, end_section="/" in row[1])
    Console(width=160).print(table)


def numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",") if part]
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of positive numbers")
    return found


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=1_000_000, help="that are asked (default 1,000,000)")
    parser.add_argument("--dataset", type=int, help="aliases in the directory (default: as many as are asked)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement (default 8)")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--workers", type=numbers, default=[1], metavar="N,N", help="one comparison each (default 1)")
    parser.add_argument("--cold", action="store_true", help="also keys that are not in the cache")
    parser.add_argument("--unknown", action="store_true", help="also numbers that nobody has")
    parser.add_argument("--routed", action="store_true", help="also numbers that one of 100,000 rules takes")
    parser.add_argument(
        "--sweep", type=numbers, default=[], metavar="N,N", help="cached lookups at so many connections, once each"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="filled by `dataset --mix consecutive` (default: one for this run)"
    )
    parser.add_argument("--database-url", help="likewise, of a PostgreSQL that stands")
    return parser.parse_args(words)


def main() -> int:
    arguments = parse()
    if missing := missing_programs():
        print(f"ceiling: not installed here (Debian): apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    try:
        with machine_room() as home:
            found = []
            for workers in arguments.workers:
                found.append(bench(home, arguments, workers))
                show(found[-1])
    except (StackError, WrkError, dataset.Refused, ExceptionGroup) as exc:
        print(f"ceiling: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    # Where the directory was says nothing of the figures, and may hold a password.
    asked = {name: value for name, value in vars(arguments).items() if name not in {"database_url", "data_dir"}}
    print(f"kept: {machine.save('ceiling', {**asked, **versions()}, found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

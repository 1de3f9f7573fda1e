"""Compares the oracle with nginx + Lua + Redis on one machine: `python -m loadtests.ceiling` (or `make ceiling`).

Sides.     The oracle (`serve`, one worker) and ceiling/nginx.conf (one worker).  wrk sends both the same numbers with
           the headers of a hub.  They share one Valkey on loopback TCP.  The program checks that both answer the same
           bytes.
Rounds.    The sides take turns within each round, and each round begins with another side: noise affects both.
Figure.    CPU per lookup of server and Valkey, user and kernel, from /proc.  Requests per second also measure wrk,
           which shares the cores.
Cases.     cached    every key was asked before: one Redis read.  Each measurement reads the share from /metrics.
           unknown   unregistered numbers, asked before: their copies say "nobody"
           routed    unregistered numbers that one of 100,000 prefix routes covers (ours only)
           cold      no key twice, none in the cache: each is a read of PostgreSQL and a fill (ours only)
Bounds.    rounds x seconds x cases x sides, and one pass over the keys to warm each case.
Exit.      0; 1 if a server did not start or answered wrongly; 2 if a program is missing.
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

from loadtests import dataset, machine, wrk
from loadtests.arguments import parse_count, parse_numbers
from loadtests.figures import name_case, name_side
from loadtests.keys import Keys, list_fsp_ids
from loadtests.stack import (
    LONG_TTL,
    Cache,
    Cpu,
    Service,
    StackError,
    find_descendants,
    find_free_port,
    is_listening,
    make_room,
    read_cpu,
    run_oracle,
    run_valkey,
    start,
    stop,
    wait_for_cache,
    wait_until,
)
from loadtests.warm import warm
from loadtests.wrk import Result, Targets, WrkError

HERE: Final = Path(__file__).resolve().parent / "ceiling"
MODULES: Final = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))
LUA_REDIS: Final = Path("/usr/share/lua/5.1/nginx/redis.lua")

RULES: Final = 100_000
# Longer than the route that matches, and never matching: each costs a lookup one more look into a table.
DECOY_LENGTHS: Final = (10, 13, 17)
DECOYS_EACH: Final = 10
# One worker answers fewer cold lookups in a second.
COLD_RATE_MAX: Final = 40_000

SHARE_MIN: Final = 0.999


class Case(NamedTuple):
    name: str
    targets: Targets
    result: str  # the label with which lookups_total must count them
    sides: tuple[str, ...]
    walks: bool = False


class Side(NamedTuple):
    name: str
    url: str
    pids: list[int]


class Measurement(NamedTuple):
    """The figures of one wrk run; CPU in µs per lookup."""

    rate: float
    p50_ms: float
    p99_ms: float
    server_user: float
    server_system: float
    redis_user: float
    redis_system: float
    postgres: float
    share: float  # of lookups with the result of the case; 1 for nginx, which does not count

    @property
    def server(self) -> float:
        return self.server_user + self.server_system

    @property
    def redis(self) -> float:
        return self.redis_user + self.redis_system


def find_missing_programs() -> list[str]:
    """Return the names of the Debian packages that are missing."""
    wanted = {
        "wrk": shutil.which("wrk") is not None,
        "nginx": find_nginx() is not None,
        "libnginx-mod-http-lua": _find_modules() is not None,
        "lua-nginx-redis": LUA_REDIS.exists(),
    }
    return [package for package, there in wanted.items() if not there]


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def read_versions() -> dict[str, str]:
    """Read the versions.  The programs write them to stderr or stdout, and wrk exits with 1."""
    found = {}
    for name, binary in (("nginx", find_nginx()), ("wrk", shutil.which("wrk"))):
        outcome = subprocess.run([str(binary), "-v"], capture_output=True, text=True, check=False, timeout=10)
        lines = (outcome.stdout + outcome.stderr).splitlines()
        found[name] = lines[0].partition(" [")[0].removeprefix("nginx version: ") if lines else "unknown"
    return found


def _find_modules() -> Path | None:
    return next((place for place in MODULES if (place / "ngx_http_lua_module.so").exists()), None)


# The sides --------------------------------------------------------------------------------------------------


@contextmanager
def run_nginx(home: Path, cache: Cache, workers: int) -> Iterator[Side]:
    place = home / f"nginx-{workers}"
    place.mkdir(mode=0o755)
    home.chmod(0o711)  # if root starts it, its workers run as another user
    port = find_free_port()
    words = {"MODULES": _find_modules(), "WORKERS": workers, "PORT": port, "REDIS_PORT": cache.port}
    text = (HERE / "nginx.conf").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    (place / "nginx.conf").write_text(text, encoding="utf-8")
    log = place / "nginx.log"
    command = [str(find_nginx()), "-p", str(place), "-c", "nginx.conf", "-e", "stderr"]
    process = start(command, log)
    try:
        wait_until(lambda: process.poll() is not None or is_listening(port), "nginx")
        if process.poll() is not None:
            raise StackError(f"nginx ended:\n{log.read_text()}")
        wait_until(lambda: len(find_descendants(process.pid)) == workers, "nginx's workers", 10)
        yield Side("nginx", f"http://127.0.0.1:{port}", find_descendants(process.pid))
    finally:
        stop(process)


def store_answers(cache: Cache, answers: Iterable[tuple[str, str]]) -> None:
    """Store the answers of nginx: `p:{Type}:{ID}` and the whole body, a thousand at a time."""
    with socket.create_connection(("127.0.0.1", cache.port), timeout=30) as redis, redis.makefile("rb") as replies:
        for batch in _split_batches(answers, 1_000):
            redis.sendall(b"".join(_make_set_command(key, body) for key, body in batch))
            if replies.read(5 * len(batch)) != b"+OK\r\n" * len(batch):
                raise StackError("Valkey did not take the answers for nginx")


def _make_set_command(key: str, value: str) -> bytes:
    return f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n${len(value)}\r\n{value}\r\n".encode()


def _split_batches(items: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def make_answers(keys: Keys, count: int) -> Iterator[tuple[str, str]]:
    for index in range(count):
        alias = keys.make_alias(index)
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
        target = targets.make_target(random.randrange(targets.size))
        bodies = {side.name: ask(side.url, target) for side in sides}
        if len(set(bodies.values())) != 1:
            raise StackError(f"the sides answer differently: {bodies}")


# The cases --------------------------------------------------------------------------------------------------


def make_cases(arguments: argparse.Namespace, total: int) -> list[Case]:
    keys = arguments.keys
    number = "/participants/MSISDN/"
    both, ours = ("ours", "nginx"), ("ours",)
    chosen = [Case("cached", Targets(f"{number}5255", 8, keys), "hit", both)]
    if arguments.unknown:
        chosen.append(Case("unknown", Targets(f"{number}5256", 8, keys), "negative_hit", both))
    if arguments.routed:
        rules = RULES - DECOYS_EACH * len(DECOY_LENGTHS)
        # 64, five digits of a route, one digit for ten numbers of each, zeros: 18 digits, like a CLABE.
        head = "/participants/ACCOUNT_ID/64"
        targets = Targets(head, 8, min(keys, 10 * rules), times=100, tail="0" * 8)
        chosen.append(Case("routed", targets, "routed", ours))
    if arguments.cold:
        chosen.append(
            Case("cold", Targets(f"{number}5255", 8, total - keys, first=keys), "directory", ours, walks=True)
        )
    return chosen


async def add_routes(url: str) -> None:
    """Add 100,000 routes with plain SQL: most have seven digits; the decoys are longer and never match."""
    decoys = [f"99{length:02d}{n:0{length - 4}d}" for length in DECOY_LENGTHS for n in range(DECOYS_EACH)]
    prefixes = [f"64{rule:05d}" for rule in range(RULES - len(decoys))] + decoys
    owners = [list_fsp_ids()[n % len(list_fsp_ids())] for n in range(len(prefixes))]
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
    """Measures the sides and cases with one number of workers."""

    def __init__(self, service: Service, cache: Cache, sides: Sequence[Side], arguments: argparse.Namespace) -> None:
        self.service, self.cache = service, cache
        self.sides = {side.name: side for side in sides}
        self.seconds: int = arguments.seconds
        self.connections: int = arguments.connections
        self.walked = 0
        self.warnings: list[str] = []

    def measure(self, case: Case, side: Side, connections: int | None = None) -> Measurement:
        connections = connections or self.connections
        walk = self.walked if case.walks else None
        postgres = self.service.postgres_pids
        counted = self.service.read_counters("lookups_total", "result")
        before = read_cpu(side.pids), read_cpu([self.cache.pid]), read_cpu(postgres)
        result = wrk.run(side.url, case.targets, seconds=self.seconds, connections=connections, walk=walk)
        after = read_cpu(side.pids), read_cpu([self.cache.pid]), read_cpu(postgres)
        self._advance_walk(case, result)
        used = [later.since(earlier) for later, earlier in zip(after, before, strict=True)]
        return self._make_measurement(case, side, result, used, counted)

    def _advance_walk(self, case: Case, result: Result) -> None:
        if case.walks:
            self.walked += result.requests + 2 * self.connections  # including those that wrk cuts off at its end
            if self.walked > case.targets.size:
                raise StackError("every cold key was asked: use a larger --dataset")

    def _make_measurement(
        self, case: Case, side: Side, result: Result, used: list[Cpu], counted: dict[str, float]
    ) -> Measurement:
        share = self._compute_share(case, counted) if side.name == "ours" else 1.0
        if share < SHARE_MIN:
            self.warnings.append(
                f"only {share:.2%} of the {name_case(case.name)} were counted as {case.result!r} in /metrics:"
                " their figures mean something else"
            )
        each = 1e6 / result.requests
        server, redis, postgres = used
        return Measurement(
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

    def _compute_share(self, case: Case, earlier: dict[str, float]) -> float:
        now = self.service.read_counters("lookups_total", "result")
        new = {result: now[result] - earlier.get(result, 0.0) for result in now}
        return new.get(case.result, 0.0) / max(1.0, sum(new.values()))

    def measure_rounds(self, chosen: Sequence[Case], rounds: int) -> dict[str, list[Measurement]]:
        turns = [(case, self.sides[name]) for case in chosen for name in case.sides]
        found: dict[str, list[Measurement]] = {f"{case.name}/{side.name}": [] for case, side in turns}
        for number in range(rounds):
            first = number % len(turns)
            for case, side in turns[first:] + turns[:first]:
                found[f"{case.name}/{side.name}"].append(self.measure(case, side))
        return found


def warm_case(service: Service, cache: Cache, case: Case) -> float:
    """Ask every key once; return the bytes of a copy in Valkey, including its key and its share of the table."""
    began, before = time.monotonic(), cache.read_used_bytes()
    uvloop.run(warm(service.hub_url, (case.targets.make_target(i) for i in range(case.targets.size))))
    rate = case.targets.size / (time.monotonic() - began)
    each = (cache.read_used_bytes() - before) / case.targets.size
    count = f"{case.targets.size:,} keys at {rate:,.0f} keys/s, {each:.0f} bytes each in Valkey"
    print(f"filled the cache for {name_case(case.name)}: {count}", flush=True)
    return each


def prepare(service: Service, cache: Cache, arguments: argparse.Namespace) -> int:
    """Fill the directory if it is empty; return the number of its aliases."""
    keys = Keys(mix="consecutive")
    total: int = asyncio.run(dataset.count_aliases(service.database_url, keys))
    wanted = arguments.dataset or arguments.keys + count_cold_keys(arguments)
    if total == 0:
        asyncio.run(dataset.fill_with_progress(service.database_url, keys, wanted))
        total = wanted
    if total < wanted:
        raise StackError(f"the directory has {total:,} aliases but needs {wanted:,}")
    wait_for_cache(service)
    if arguments.routed:
        asyncio.run(add_routes(service.database_url))
        probe = "/participants/ACCOUNT_ID/64" + "0" * 16
        wait_until(lambda: b"fsp-001" in ask(service.hub_url, probe), "routes compiled", 30)
    store_answers(cache, make_answers(keys, arguments.keys))
    return total


def count_cold_keys(arguments: argparse.Namespace) -> int:
    workers = max(arguments.workers)
    return arguments.rounds * arguments.seconds * COLD_RATE_MAX * workers if arguments.cold else 0


def bench(home: Path, arguments: argparse.Namespace, workers: int) -> dict[str, Any]:
    settings = {**LONG_TTL, "ORACLE_WORKERS": str(workers)}
    with ExitStack() as stack:
        room = home / f"workers-{workers}"
        room.mkdir(mode=0o711)
        cache = stack.enter_context(run_valkey(room))
        settings["ORACLE_REDIS_URL"] = cache.url
        service = stack.enter_context(run_oracle(room, settings, arguments.database_url, arguments.data_dir))
        total = prepare(service, cache, arguments)
        ceiling = stack.enter_context(run_nginx(room, cache, workers))
        ours = Side("ours", service.hub_url, service.hub_pids)
        chosen = make_cases(arguments, total)
        copy_bytes = {}
        for case in chosen:
            if not case.walks:
                copy_bytes[case.name] = warm_case(service, cache, case)
            if "nginx" in case.sides:
                compare_answers([ours, ceiling], case.targets)
        running = Bench(service, cache, [ours, ceiling], arguments)
        found = running.measure_rounds(chosen, arguments.rounds)
        sweep = [
            {"side": side.name, "connections": count, **running.measure(chosen[0], side, count)._asdict()}
            for count in arguments.sweep
            for side in (ours, ceiling)
        ]
        for warning in dict.fromkeys(running.warnings):
            print(f"! NOT AS INTENDED: {warning}")
    return {
        "workers": workers,
        "aliases": total,
        "keys": arguments.keys,
        "copy_bytes": copy_bytes,
        "rounds": {name: [measured._asdict() for measured in measures] for name, measures in found.items()},
        "sweep": sweep,
    }


# Showing ----------------------------------------------------------------------------------------------------


def compute_medians(measures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure by itself, and of the sums."""
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
    ("server µs, user", "server_user", ".1f"),
    ("server µs, kernel", "server_system", ".1f"),
    ("Redis µs", "redis", ".1f"),
    ("Redis µs, user", "redis_user", ".1f"),
    ("Redis µs, kernel", "redis_system", ".1f"),
    ("server + Redis µs", "both", ".1f"),
    ("PostgreSQL µs", "postgres", ".1f"),
)
RATIO: Final = "oracle / nginx"
INTENDED: Final = "answered as intended"


def make_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a row for each case and side, with medians over the rounds, and ours / nginx if both were measured."""
    middle = {name: compute_medians(measures) for name, measures in found["rounds"].items() if measures}
    for name, figures in middle.items():
        case, _, side = name.partition("/")
        share = f"{figures['share']:.2%}" if side == "ours" else ""
        yield [name_case(case), name_side(side), *(format(figures[key], form) for _, key, form in COLUMNS), share]
        ceiling = middle.get(f"{case}/nginx")
        if side == "nginx" and ceiling is not None:
            ours = middle[f"{case}/ours"]
            ratios = (f"{ours[key] / ceiling[key]:.2f}" if ceiling[key] else "" for _, key, _ in COLUMNS)
            yield [name_case(case), RATIO, *ratios, ""]


def format_comparison(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a comparison: for each case, a line for each figure and a column for each side."""
    yield f"{found['workers']} worker(s) each, {found['keys']:,} keys of {found['aliases']:,} aliases"
    yield "µs: CPU time of each lookup; medians over the rounds"
    heads = (*(name for name, _, _ in COLUMNS), INTENDED)
    cases: dict[str, list[list[str]]] = {}
    for case, *cells in make_rows(found):
        cases.setdefault(case, []).append(cells)
    for case, sides in cases.items():
        yield ""
        yield f"{case:36}" + "".join(f"{side:>16}" for side, *_ in sides)
        for name, *cells in zip(heads, *(figures for _, *figures in sides), strict=True):
            yield f"  {name:34}" + "".join(f"{cell:>16}" for cell in cells)


def show(found: dict[str, Any]) -> None:
    print(*(line.rstrip() for line in format_comparison(found)), sep="\n", flush=True)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=parse_count, default=1_000_000, help="keys to ask (default 1,000,000)")
    parser.add_argument(
        "--dataset", type=parse_count, help="aliases in the directory (default: as many as the run asks)"
    )
    parser.add_argument("--rounds", type=parse_count, default=5)
    parser.add_argument("--seconds", type=parse_count, default=8, help="seconds of each measurement (default 8)")
    parser.add_argument("--connections", type=parse_count, default=64)
    parser.add_argument(
        "--workers",
        type=parse_numbers,
        default=[1],
        metavar="N,N",
        help="numbers of workers, one comparison each (default 1)",
    )
    parser.add_argument("--cold", action="store_true", help="also ask keys that are not in the cache")
    parser.add_argument("--unknown", action="store_true", help="also ask unregistered numbers")
    parser.add_argument("--routed", action="store_true", help="also ask numbers of 100,000 routes")
    parser.add_argument(
        "--sweep",
        type=parse_numbers,
        default=[],
        metavar="N,N",
        help="also measure cached lookups once with each number of connections",
    )
    parser.add_argument(
        "--data-dir", type=Path, help="data directory of `dataset --mix consecutive` (default: a new one for this run)"
    )
    parser.add_argument("--database-url", help="URL of a PostgreSQL filled in the same way")
    return parser.parse_args(words)


def main() -> int:
    arguments = parse()
    if missing := find_missing_programs():
        print(f"ceiling: programs are missing. On Debian: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    watch = machine.Watch()
    try:
        with make_room() as home:
            found = []
            for workers in arguments.workers:
                found.append(bench(home, arguments, workers))
                show(found[-1])
    except (StackError, WrkError, dataset.Refused, ExceptionGroup) as exc:
        print(f"ceiling: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    # The location of the directory does not change the figures, and can contain a password.
    asked = {name: value for name, value in vars(arguments).items() if name not in {"database_url", "data_dir"}}
    surroundings = watch.end()
    machine.show(surroundings)
    saved = machine.save("ceiling", {**asked, **read_versions()}, found, surroundings=surroundings)
    print(f"saved: {saved}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

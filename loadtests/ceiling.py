"""Compares the oracle with the floor in C and with nginx + Lua: `python -m loadtests.ceiling` (or `make ceiling`).

Sides.     The oracle (`serve`, one worker): interpreted, and compiled if `make compile` has made a build.  The peers of
           peers.py: C and nginx always, Bun, Go and Node.js where they are installed.  wrk sends all of them the same
           numbers with the headers of a hub.  They share one Valkey on loopback TCP.  The program first checks that all
           answer the same status, content type and body.
Rounds.    Each side is warmed up once.  The sides take turns within each round, and each round begins with another
           side: noise affects all of them.
Figure.    CPU per lookup of server and Valkey, user and kernel, from /proc.  Requests per second also measure wrk,
           which shares the cores.
Cases.     cached    every key was asked before: one Redis read.  Each measurement reads the share from /metrics.
           busy      the same beside two busy loops: other programs want the cores (--busy 0 leaves it out)
           slow      the same at a low fixed rate, for example 40 a second (--slow)
           unknown   unregistered numbers, asked before: their copies say "nobody"
           routed    unregistered numbers that one of 100,000 prefix routes covers (ours only)
           cold      no key twice, none in the cache: each is a read of PostgreSQL and a fill (ours only)
Cores.     The kernel chooses them.  With --pin all servers and Valkey run on core 0, wrk on core 1.
Bounds.    rounds x seconds x cases x sides, and one pass over the keys to warm each case.
Exit.      0; 1 if a server did not start or answered wrongly; 2 if a program is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import uvloop

from loadtests import dataset, machine, slow, wrk
from loadtests.arguments import parse_count, parse_numbers, parse_whole
from loadtests.busy import run_busy_loops
from loadtests.comparison import format_comparison
from loadtests.figures import name_case, name_side
from loadtests.keys import Keys, list_fsp_ids
from loadtests.peers import (
    FLOOR,
    NGINX,
    OPTIONAL,
    Side,
    find_missing_programs,
    find_optional_peers,
    read_versions,
    run_peers,
)
from loadtests.stack import (
    LONG_TTL,
    Cache,
    Cpu,
    Service,
    StackError,
    make_room,
    pin,
    read_cpu,
    read_exact_cpu,
    run_oracle,
    run_postgres,
    run_valkey,
    wait_for_cache,
    wait_until,
)
from loadtests.warm import warm
from loadtests.wrk import Result, Targets, WrkError

RULES: Final = 100_000
# Longer than the route that matches, and never matching: each costs a lookup one more look into a table.
DECOY_LENGTHS: Final = (10, 13, 17)
DECOYS_EACH: Final = 10
# One worker answers fewer cold lookups in a second.
COLD_RATE_MAX: Final = 40_000
WARM_UP_S: Final = 2  # also for compilers that compile while they run (Node.js, Bun)
SLOW_SECONDS_MIN: Final = 10  # for enough lookups
CONNECTIONS_EACH: Final = 60  # to PostgreSQL, of one service
SERVERS_CORE, CLIENT_CORE = 0, 1  # with --pin

SHARE_MIN: Final = 0.999


class Case(NamedTuple):
    name: str
    targets: Targets
    result: str  # the label with which lookups_total must count them
    sides: tuple[str, ...]
    walks: bool = False
    busy: int = 0  # loops that run beside it
    rate: int = 0  # lookups a second; 0: as many as are answered


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
    share: float  # of lookups with the result of the case; 1 for peers, which do not count


# The sides --------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """One way to run the oracle: a side of the comparison."""

    side: str
    python: str
    compiled: bool
    settings: Mapping[str, str]


def find_forms(pythons: Sequence[str] = ()) -> list[Form]:
    """Return the forms that can be measured: of this Python, or of several, which their versions then name."""
    if not pythons:
        return list(_find_forms_of(sys.executable, "compiled", "interpreted"))
    named = [(python, _read_python_version(python)) for python in pythons]
    return [form for python, version in named for form in _find_forms_of(python, f"{version} compiled", version)]


def _find_forms_of(python: str, compiled: str, interpreted: str) -> Iterator[Form]:
    built = has_build(python)
    if built:
        yield Form(compiled, python, compiled=True, settings={})
    yield Form(interpreted, python, compiled=False, settings={"ORACLE_COMPILED": "off"} if built else {})


def add_budget_modes(forms: Sequence[Form], mode: str) -> list[Form]:
    """Give each form a budget mode; `both`: two forms of each, so that one run compares the modes."""
    modes = ("off", "observe") if mode == "both" else (mode,)
    return [
        form._replace(
            side=f"{form.side}, no budgets" if mode == "off" and len(modes) > 1 else form.side,
            settings={**form.settings, "ORACLE_BUDGET_MODE": mode},
        )
        for form in forms
        for mode in modes
    ]


def has_build(python: str) -> bool:
    """Return whether there is a build of the present sources for a Python."""
    env = {name: value for name, value in os.environ.items() if name != "ORACLE_COMPILED"}
    command = [python, "-m", "oracle.compiled"]
    outcome = subprocess.run(command, cwd=machine.ROOT, env=env, capture_output=True, check=False, timeout=60)
    return outcome.returncode == 0


def _read_python_version(python: str) -> str:
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


class Oracle(NamedTuple):
    """A form that runs."""

    side: Side
    service: Service


@contextmanager
def run_forms(
    home: Path, forms: Sequence[Form], cache: Cache, arguments: argparse.Namespace, workers: int
) -> Iterator[list[Oracle]]:
    """Run the oracle in each form.  All use the directory of the first, and the same copies."""
    with ExitStack() as stack:
        running: list[Oracle] = []
        database_url, data_dir = arguments.database_url, arguments.data_dir
        if arguments.pythons and not database_url:  # their environments have no embedded servers
            database_url = stack.enter_context(run_postgres(home, CONNECTIONS_EACH * len(forms)))
        for form in forms:
            place = home / form.side.replace(" ", "-")
            place.mkdir()
            settings = {
                **LONG_TTL,
                "ORACLE_WORKERS": str(workers),
                "ORACLE_REDIS_URL": cache.url,
                **form.settings,
            }
            service = stack.enter_context(run_oracle(place, settings, database_url, data_dir, form.python))
            check_form(service, form)
            running.append(Oracle(Side(form.side, service.hub_url, service.hub_pids), service))
            database_url, data_dir = service.database_url, None
        yield running


def check_form(service: Service, form: Form) -> None:
    """Raise StackError if the service does not run in the form that is measured."""
    with urllib.request.urlopen(f"{service.admin_url}/health", timeout=10) as answer:  # noqa: S310 - ours
        compiled = json.loads(answer.read()).get("compiled", False)
    if compiled != form.compiled:
        raise StackError(f"the oracle runs {'compiled' if compiled else 'interpreted'}, not as the form {form.side}")


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


class Answer(NamedTuple):
    """What must be equal on all sides."""

    status: int
    content_type: str | None
    content_length: str | None
    body: bytes


def ask(url: str, target: str) -> Answer:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
    try:
        connection.request("GET", target, headers={"fspiop-source": "payerfsp"})
        answer = connection.getresponse()
        return Answer(
            answer.status, answer.getheader("content-type"), answer.getheader("content-length"), answer.read()
        )
    finally:
        connection.close()


def compare_answers(sides: Sequence[Side], targets: Targets, samples: int = 100) -> None:
    """Ask all sides for the same keys.  Raises StackError if a status, content type, length or body differs."""
    for _ in range(samples):
        target = targets.make_target(random.randrange(targets.size))
        answers = {side.name: ask(side.url, target) for side in sides}
        if len(set(answers.values())) != 1 or next(iter(answers.values())).status != 200:
            raise StackError(f"the sides answer differently: {answers}")


# The cases --------------------------------------------------------------------------------------------------


def make_cases(arguments: argparse.Namespace, total: int, ours: Sequence[str], peers: Sequence[str]) -> list[Case]:
    """Choose the cases, with the sides of each."""
    keys = arguments.keys
    number = "/participants/MSISDN/"
    ours, everyone = tuple(ours), (*ours, *peers)
    ends = (*ours, *(name for name in (FLOOR, NGINX) if name in peers))
    cached = Targets(f"{number}5255", 8, keys)
    chosen = [Case("cached", cached, "hit", everyone)]
    if arguments.busy:
        chosen.append(Case("busy", cached, "hit", ends, busy=arguments.busy))
    if arguments.slow:
        chosen.append(Case("slow", cached, "hit", ends, rate=arguments.slow))
    if arguments.unknown:
        chosen.append(Case("unknown", Targets(f"{number}5256", 8, keys), "negative_hit", ends))
    if arguments.routed:
        rules = RULES - DECOYS_EACH * len(DECOY_LENGTHS)
        # 64, five digits of a route, one digit for ten numbers of each, zeros: 18 digits, like a CLABE.
        head = "/participants/ACCOUNT_ID/64"
        targets = Targets(head, 8, min(keys, 10 * rules), times=100, tail="0" * 8)
        chosen.append(Case("routed", targets, "routed", ours))
    if arguments.cold:
        targets = Targets(f"{number}5255", 8, total - keys, first=keys)
        chosen.append(Case("cold", targets, "directory", ours, walks=True))
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

    def __init__(
        self, home: Path, cache: Cache, oracles: Sequence[Oracle], peers: Sequence[Side], arguments: argparse.Namespace
    ) -> None:
        self.home, self.cache = home, cache
        self.database = oracles[0].service
        self.services = {oracle.side.name: oracle.service for oracle in oracles}
        self.sides = {side.name: side for side in (*(oracle.side for oracle in oracles), *peers)}
        self.seconds: int = arguments.seconds
        self.connections: int = arguments.connections
        self.core = CLIENT_CORE if arguments.pin else None
        self.walked = 0
        self.warnings: list[str] = []

    def warm_up(self, chosen: Sequence[Case]) -> None:
        """Let each side answer once what is measured first, so that its first round is like all others."""
        case = chosen[0]
        for name in case.sides:
            wrk.run(
                self.sides[name].url,
                case.targets,
                seconds=WARM_UP_S,
                connections=self.connections,
                core=self.core,
            )

    def measure(self, case: Case, side: Side, connections: int | None = None) -> Measurement:
        postgres = self.database.postgres_pids
        service = self.services.get(side.name)
        counted = service.read_counters("lookups_total", "result") if service else {}
        with run_busy_loops(case.busy, self.seconds, self.home):
            read = read_exact_cpu if case.rate else read_cpu
            before = read(side.pids), read([self.cache.pid]), read_cpu(postgres)
            result = self._send(case, side, connections)
            after = read(side.pids), read([self.cache.pid]), read_cpu(postgres)
        self._advance_walk(case, result)
        used = [later.since(earlier) for later, earlier in zip(after, before, strict=True)]
        share = compute_share(service.read_counters("lookups_total", "result"), counted, case) if service else 1.0
        if share < SHARE_MIN:
            self.warnings.append(
                f"only {share:.2%} of the {name_case(case.name)} were counted as {case.result!r} in /metrics:"
                " their figures mean something else"
            )
        return make_measurement(result, used, share)

    def _send(self, case: Case, side: Side, connections: int | None) -> Result:
        if case.rate:
            seconds = max(self.seconds, SLOW_SECONDS_MIN)
            return slow.run(side.url, case.targets, rate=case.rate, seconds=seconds)
        return wrk.run(
            side.url,
            case.targets,
            seconds=self.seconds,
            connections=connections or self.connections,
            walk=self.walked if case.walks else None,
            core=self.core,
        )

    def _advance_walk(self, case: Case, result: Result) -> None:
        if case.walks:
            self.walked += result.requests + 2 * self.connections  # including those that wrk cuts off at its end
            if self.walked > case.targets.size:
                raise StackError("every cold key was asked: use a larger --dataset")

    def measure_rounds(self, chosen: Sequence[Case], rounds: int) -> dict[str, list[Measurement]]:
        turns = [(case, self.sides[name]) for case in chosen for name in case.sides]
        found: dict[str, list[Measurement]] = {f"{case.name}/{side.name}": [] for case, side in turns}
        for number in range(rounds):
            first = number % len(turns)
            for case, side in turns[first:] + turns[:first]:
                found[f"{case.name}/{side.name}"].append(self.measure(case, side))
        return found


def compute_share(now: Mapping[str, float], earlier: Mapping[str, float], case: Case) -> float:
    """Return the share of the new lookups that were counted with the result of the case."""
    new = {result: now[result] - earlier.get(result, 0.0) for result in now}
    return new.get(case.result, 0.0) / max(1.0, sum(new.values()))


def make_measurement(result: Result, used: Sequence[Cpu], share: float) -> Measurement:
    """Divide the CPU of the server, of Valkey and of PostgreSQL by the lookups answered."""
    server, redis, postgres = used
    each = 1e6 / result.requests
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


def warm_case(service: Service, cache: Cache, case: Case) -> float:
    """Ask every key once; return the bytes of a copy in Valkey, including its key and its share of the table."""
    began, before = time.monotonic(), cache.read_used_bytes()
    uvloop.run(warm(service.hub_url, (case.targets.make_target(i) for i in range(case.targets.size))))
    rate = case.targets.size / (time.monotonic() - began)
    each = (cache.read_used_bytes() - before) / case.targets.size
    count = f"{case.targets.size:,} keys at {rate:,.0f} keys/s, {each:.0f} bytes each in Valkey"
    print(f"filled the cache for {name_case(case.name)}: {count}", flush=True)
    return each


def prepare(oracles: Sequence[Oracle], cache: Cache, arguments: argparse.Namespace) -> int:
    """Fill the directory if it is empty; return the number of its aliases."""
    keys, database_url = Keys(mix="consecutive"), oracles[0].service.database_url
    total: int = asyncio.run(dataset.count_aliases(database_url, keys))
    wanted = arguments.dataset or arguments.keys + count_cold_keys(arguments, len(oracles))
    if total == 0:
        asyncio.run(dataset.fill_with_progress(database_url, keys, wanted))
        total = wanted
    if total < wanted:
        raise StackError(f"the directory has {total:,} aliases but needs {wanted:,}")
    for oracle in oracles:
        wait_for_cache(oracle.service)
    if arguments.routed:
        asyncio.run(add_routes(database_url))
        probe = "/participants/ACCOUNT_ID/64" + "0" * 16
        urls = [oracle.side.url for oracle in oracles]
        wait_until(lambda: all(b"fsp-001" in ask(url, probe).body for url in urls), "routes compiled", 30)
    store_answers(cache, make_answers(keys, arguments.keys))
    return total


def count_cold_keys(arguments: argparse.Namespace, forms: int) -> int:
    measured = arguments.rounds * arguments.seconds * COLD_RATE_MAX * max(arguments.workers) * forms
    return measured if arguments.cold else 0


def bench(home: Path, arguments: argparse.Namespace, workers: int) -> dict[str, Any]:
    room = home / f"workers-{workers}"
    room.mkdir(mode=0o711)
    with ExitStack() as stack:
        cache = stack.enter_context(run_valkey(room))
        forms = add_budget_modes(find_forms(arguments.pythons), arguments.budgets)
        oracles = stack.enter_context(run_forms(room, forms, cache, arguments, workers))
        total = prepare(oracles, cache, arguments)
        peers = stack.enter_context(run_peers(room, cache, workers, optional=not arguments.pythons))
        sides = [*(oracle.side for oracle in oracles), *peers]
        if arguments.pin:
            pin([cache.pid, *(pid for side in sides for pid in side.pids)], SERVERS_CORE)
        chosen = make_cases(arguments, total, [oracle.side.name for oracle in oracles], [peer.name for peer in peers])
        copy_bytes = {}
        for case in chosen:
            if not case.walks and not case.busy and not case.rate:
                copy_bytes[case.name] = warm_case(oracles[0].service, cache, case)
                compare_answers([side for side in sides if side.name in case.sides], case.targets)
        running = Bench(room, cache, oracles, peers, arguments)
        running.warm_up(chosen)
        found = running.measure_rounds(chosen, arguments.rounds)
        sweep = [
            {"side": side.name, "connections": count, **running.measure(chosen[0], side, count)._asdict()}
            for count in arguments.sweep
            for side in sides
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


def show(found: dict[str, Any]) -> None:
    print(*(line.rstrip() for line in format_comparison(found)), sep="\n", flush=True)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=parse_count, default=1_000_000, help="keys to ask (default 1,000,000)")
    parser.add_argument(
        "--dataset", type=parse_count, help="aliases in the directory (default: as many as the run asks)"
    )
    parser.add_argument("--rounds", type=parse_count, default=5)
    parser.add_argument("--seconds", type=parse_count, default=5, help="seconds of each measurement (default 5)")
    parser.add_argument("--connections", type=parse_count, default=64)
    parser.add_argument(
        "--workers",
        type=parse_numbers,
        default=[1],
        metavar="N,N",
        help="numbers of workers, one comparison each (default 1)",
    )
    parser.add_argument(
        "--busy",
        type=parse_whole,
        default=2,
        metavar="N",
        help="also measure cached lookups beside N busy loops (default 2; 0: do not)",
    )
    parser.add_argument(
        "--budgets",
        choices=("off", "observe", "both"),
        default="observe",
        help="budget_mode of the oracle (both: one after the other, in the same run)",
    )
    parser.add_argument(
        "--slow",
        type=parse_whole,
        default=0,
        metavar="RATE",
        help="also measure cached lookups at RATE a second, where there is nothing to coalesce (for example 40)",
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
    parser.add_argument("--pin", action="store_true", help="run the servers on core 0 and wrk on core 1")
    parser.add_argument(
        "--pythons",
        nargs="+",
        default=[],
        metavar="PYTHON",
        help="compare the oracle on these Pythons, which must have its packages (see `make pythons`)",
    )
    parser.add_argument(
        "--data-dir", type=Path, help="data directory of `dataset --mix consecutive` (default: a new one for this run)"
    )
    parser.add_argument("--database-url", help="URL of a PostgreSQL filled in the same way")
    return parser.parse_args(words)


def describe_absent(pythons: Sequence[str]) -> Iterator[str]:
    """Say what this run does not measure, and what to do about it."""
    if not pythons and not has_build(sys.executable):
        yield "not measured: the oracle compiled, because there is no build of these sources; run `make compile` first"
    for name in () if pythons else OPTIONAL:
        if name not in find_optional_peers():
            yield f"not measured: {name_side(name)}, because it is not installed ({name.upper()}=/path/to/it)"


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    if missing := find_missing_programs():
        print(f"ceiling: programs are missing. On Debian: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    for line in describe_absent(arguments.pythons):
        print(line)
    watch = machine.Watch()
    try:
        with make_room() as home:
            found = []
            for workers in arguments.workers:
                found.append(bench(home, arguments, workers))
                show(found[-1])
    except (StackError, WrkError, dataset.Refused) as exc:
        print(f"ceiling: {exc}", file=sys.stderr)
        return 1
    except ExceptionGroup as exc:  # of tasks that fail for one reason
        print(f"ceiling: {exc.exceptions[0]}", file=sys.stderr)
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

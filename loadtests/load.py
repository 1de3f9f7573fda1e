"""Runs one profile after the other with locust against its own service: `python -m loadtests.load` (or `make load`).

Starts a Valkey, a PostgreSQL and the oracle on loopback, fills the directory, runs each profile for a limited time,
writes reports/load/ (HTML and CSV of locust) and the summary of report.py, and stops what it has started.

`--host URL --aliases N` asks a running deployment; it must have a dataset of that size.  Then `cold` and `redis-down`
are refused, because they disturb servers.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from loadtests import dataset, machine, report
from loadtests.keys import Keys
from loadtests.profiles import PROFILES
from loadtests.stack import Cache, Service, StackError, make_room, run_oracle, run_valkey, stop, wait_for_cache
from loadtests.thresholds import TOTAL, read_csv

FOLDER: Final = machine.REPORTS / "load"
BUMP_EVERY_S: Final = 5.0

Disturbance = Callable[[float], None]  # called several times a second with the seconds since the start


class Target(NamedTuple):
    """The service under load; `service` and `cache` are set if this program started them."""

    url: str
    aliases: int
    service: Service | None = None
    cache: Cache | None = None


def make_bumps(database_url: str) -> Disturbance:
    """Make all copies unreachable, at once and again every few seconds, as a restored Redis does."""
    due = 0.0

    async def bump() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("SELECT cache_generation_bump()")
        finally:
            await connection.close()

    def disturb(elapsed_s: float) -> None:
        nonlocal due
        if elapsed_s >= due:
            due = elapsed_s + BUMP_EVERY_S
            asyncio.run(bump())

    return disturb


def make_outage(cache: Cache, duration_s: float) -> Disturbance:
    """Kill the cache after a quarter of the time, and start it again after three quarters."""
    dead = False

    def disturb(elapsed_s: float) -> None:
        nonlocal dead
        wanted = duration_s / 4 <= elapsed_s < duration_s * 3 / 4
        if wanted and not dead:
            cache.kill()
        elif dead and not wanted:
            cache.start()
        dead = wanted

    return disturb


def choose_disturbance(profile: str, target: Target, duration_s: float) -> Disturbance:
    if profile == "cold" and target.service is not None:
        return make_bumps(target.service.database_url)
    if profile == "redis-down" and target.cache is not None:
        return make_outage(target.cache, duration_s)
    return lambda _: None


def make_command(profile: str, target: Target, arguments: argparse.Namespace) -> list[str]:
    words = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py"))]
    words += ["--headless", "--only-summary", "--host", target.url, "--stop-timeout", "5", "--loglevel", "WARNING"]
    words += ["--users", str(arguments.users), "--spawn-rate", str(arguments.users)]
    words += ["--run-time", f"{arguments.duration}s", "--profile", profile, "--aliases", str(target.aliases)]
    words += ["--csv", str(FOLDER / profile), "--html", str(FOLDER / f"{profile}.html")]
    if arguments.processes > 1:
        words += ["--processes", str(arguments.processes)]
    if arguments.baseline is not None and (earlier := arguments.baseline / f"{profile}_final.csv").exists():
        words += ["--baseline", str(earlier)]
    return words


def run(profile: str, target: Target, arguments: argparse.Namespace) -> bool:
    """Run a profile; return whether its thresholds hold."""
    disturb = choose_disturbance(profile, target, arguments.duration)
    with (FOLDER / f"{profile}.log").open("wb") as log:
        process = subprocess.Popen(
            make_command(profile, target, arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=machine.ROOT,
            start_new_session=True,
        )
        began = time.monotonic()
        try:
            while process.poll() is None:
                elapsed_s = time.monotonic() - began
                if elapsed_s > arguments.duration + 60:
                    raise StackError(f"locust did not end: {log.name}")
                disturb(elapsed_s)
                time.sleep(0.1)
        finally:
            stop(process)
            # The next profile must find the servers in the same state as the first, also after an error.
            disturb(float(arguments.duration))
    return process.returncode == 0


def summarise(profile: str, held: bool) -> dict[str, Any]:
    file = FOLDER / f"{profile}_final.csv"
    if not file.exists():
        raise StackError(f"locust did not run:\n{(FOLDER / f'{profile}.log').read_text(encoding='utf-8')[-3_000:]}")
    row = read_csv(file)[TOTAL]
    p50, p95, p99 = (row.percentiles.get(at, 0.0) for at in (50, 95, 99))
    figures = f"p50 {p50:g} ms, p95 {p95:g} ms, p99 {p99:g} ms, {row.failures} failures"
    print(f"{profile:11} {row.requests:>9,} requests  {figures}  {'ok' if held else 'FAIL'}", flush=True)
    if not held:
        lines = (FOLDER / f"{profile}.log").read_text(encoding="utf-8").splitlines()
        print(*(f"  {line}" for line in lines if line.startswith("FAIL")), sep="\n")
    return {
        "profile": profile,
        "requests": row.requests,
        "failures": row.failures,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "held": held,
    }


def start_target(stack: ExitStack, arguments: argparse.Namespace) -> Target:
    home = stack.enter_context(make_room())
    cache = stack.enter_context(run_valkey(home))
    settings = {"ORACLE_REDIS_URL": cache.url, "ORACLE_WORKERS": str(arguments.workers)}
    service = stack.enter_context(run_oracle(home, settings, arguments.database_url, arguments.data_dir))
    keys = Keys()
    aliases = asyncio.run(dataset.count_aliases(service.database_url, keys))
    if aliases == 0:
        asyncio.run(dataset.fill_with_progress(service.database_url, keys, arguments.aliases))
        aliases = arguments.aliases
    wait_for_cache(service)
    return Target(service.hub_url, aliases, service, cache)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--profiles", default="hot,uniform,unknown,mixed", help=f"some of {', '.join(PROFILES)}; or all"
    )
    parser.add_argument("--duration", type=int, default=20, help="seconds for each profile (default 20)")
    parser.add_argument("--aliases", type=int, default=200_000, help="aliases in the directory (default 200,000)")
    parser.add_argument("--users", type=int, default=32, help="connections (default 32)")
    parser.add_argument("--processes", type=int, default=1, help="processes of locust (default 1)")
    parser.add_argument("--workers", type=int, default=1, help="workers of the oracle (default 1)")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="compare with this folder of --save-baseline")
    parser.add_argument("--save-baseline", type=Path, metavar="DIR", help="save this run as a baseline for later ones")
    parser.add_argument(
        "--data-dir", type=Path, help="data directory that `dataset` has filled (default: a new one for this run)"
    )
    parser.add_argument("--database-url", help="URL of a PostgreSQL that `dataset` has filled")
    parser.add_argument("--host", help="URL of a running hub listener; then nothing is started")
    arguments = parser.parse_args(words)
    chosen = list(PROFILES) if arguments.profiles == "all" else arguments.profiles.split(",")
    if unknown := [profile for profile in chosen if profile not in PROFILES]:
        parser.error(f"unknown profiles: {', '.join(unknown)}; use {', '.join(PROFILES)}")
    if arguments.host and {"cold", "redis-down"} & set(chosen):
        parser.error("cold and redis-down need servers that this program starts: do not use --host")
    arguments.profiles = chosen
    return arguments


def main() -> int:
    arguments = parse()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    summaries: list[dict[str, Any]] = []
    try:
        with ExitStack() as stack:
            target = Target(arguments.host, arguments.aliases) if arguments.host else start_target(stack, arguments)
            for profile in arguments.profiles:
                held = run(profile, target, arguments)
                summaries.append(summarise(profile, held))
    except (StackError, dataset.Refused, OSError) as exc:
        print(f"load: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    asked = {"aliases": target.aliases, "users": arguments.users, "workers": arguments.workers}
    machine.save("load", {**asked, "duration_s": arguments.duration}, summaries)
    if arguments.save_baseline is not None:
        arguments.save_baseline.mkdir(parents=True, exist_ok=True)
        for file in FOLDER.glob("*_final.csv"):
            shutil.copy(file, arguments.save_baseline)
    print(*report.write(), sep="\n")
    return 0 if all(one["held"] for one in summaries) else 1


if __name__ == "__main__":
    sys.exit(main())

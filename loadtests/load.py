"""Runs one profile after the other with locust against its own service: `python -m loadtests.load` (or `make load`).

Starts a Valkey, a PostgreSQL and the oracle on loopback, fills the directory, runs each profile for a limited time,
writes reports/load/ (HTML and CSV of locust) and the summary of report.py, and stops what it has started.

Exit.  0; 1 if an answer was wrong or failed, or the run was slower than the baseline; 2 if --baseline was given and a
       profile could not be compared with it.

`--host URL --aliases N` asks a running deployment; it must have a dataset of that size.  Then `cold` and `redis-down`
are refused, because they disturb servers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import httpx

from loadtests import dataset, machine, report
from loadtests.arguments import parse_count
from loadtests.keys import Keys
from loadtests.machine import Surroundings, Watch
from loadtests.profiles import PROFILES, make_hub_headers, make_lookup
from loadtests.stack import Cache, Service, StackError, make_room, run_oracle, run_valkey, stop, wait_for_cache
from loadtests.thresholds import TOTAL, Limits, Row, compare, judge, read_csv

FOLDER: Final = machine.REPORTS / "load"
BUMP_EVERY_S: Final = 5.0
SECONDS_MIN: Final = 0.8  # of the wanted duration: with less, the figures are those of the start of locust
DISTURBANCES: Final = "disturbances.json"  # of a baseline: what disturbed the machine, by profile
CONDITIONS: Final = "conditions.json"  # of a baseline: its machine, and what was asked for
MACHINE: Final = {"cpu": "processor", "cores": "cores", "memory": "memory"}  # what makes two machines different
OPTIONS: Final = {"aliases": "--aliases", "users": "--users", "processes": "--processes", "workers": "--workers"}

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
    return words


def run(profile: str, target: Target, arguments: argparse.Namespace) -> None:
    """Run a profile.  Raises StackError if locust does not end, or leaves no figures."""
    file = FOLDER / f"{profile}.log"
    with file.open("wb") as log:
        process = subprocess.Popen(
            make_command(profile, target, arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=machine.ROOT,
            start_new_session=True,
        )
        run_beside(process, profile, target, arguments.duration, file)
    if process.returncode not in (0, 1) or not name_final(FOLDER, profile).exists():
        raise StackError(f"locust did not run:\n{file.read_text(encoding='utf-8')[-3_000:]}")


def run_beside(process: subprocess.Popen[bytes], profile: str, target: Target, duration_s: float, log: Path) -> None:
    """Disturb the servers as the profile wants while a load generator runs.  Raises StackError if it does not end."""
    disturb = choose_disturbance(profile, target, duration_s)
    began = time.monotonic()
    try:
        while process.poll() is None:
            elapsed_s = time.monotonic() - began
            if elapsed_s > duration_s + 60:
                raise StackError(f"the load generator did not end: {log}")
            disturb(elapsed_s)
            time.sleep(0.1)
    finally:
        stop(process)
        # The next profile must find the servers in the same state as the first, also after an error.
        disturb(float(duration_s))


def name_final(folder: Path, profile: str) -> Path:
    return folder / f"{profile}_final.csv"


def summarise(
    profile: str,
    rows: Mapping[str, Row],
    baseline: Mapping[str, Row] | None,
    surroundings: Surroundings | None,
    earlier_disturbance: str = "",
    duration_s: float = 0.0,
) -> dict[str, Any]:
    """Make the figures of a profile, with the comparison in words.

    `surroundings`: None if the service is not ours, so that its programs would count as others.
    `duration_s`: how long requests were wanted.
    """
    total = rows.get(TOTAL, Row(0, 0, {}))
    seconds = total.requests / total.rate if total.rate else 0.0
    disturbance = surroundings.find_disturbance() if surroundings else ""
    if not disturbance and seconds < SECONDS_MIN * duration_s:
        disturbance = (
            f"requests were sent for {seconds:.1f} of {duration_s:g} s:"
            " --duration is too short, or the machine is too busy"
        )
    reason = "the run is not valid for comparison" if disturbance else ""
    if not reason and earlier_disturbance:
        reason = f"the baseline is not valid for comparison: {earlier_disturbance}"
    comparison = compare(rows, baseline, Limits(), reason)
    wrong = [str(verdict) for verdict in judge(rows, {}, Limits()) if not verdict.holds]
    return {
        "profile": profile,
        "requests": total.requests,
        "failures": total.failures,
        "seconds": seconds,
        "rate": total.rate,
        **{f"p{at}_ms": total.percentiles.get(at) for at in (50, 95, 99)},
        "wrong": wrong,
        "compared": comparison.made,
        "comparison": comparison.text,
        "held": not wrong and not comparison.slower,
        "surroundings": surroundings._asdict() if surroundings else None,
        "disturbance": disturbance,
    }


def describe(one: Mapping[str, Any]) -> list[str]:
    """Describe a profile in lines for the terminal."""
    times = ", ".join(f"p{at} {format_ms(one[f'p{at}_ms'])}" for at in (50, 95, 99))
    count = f"{one['requests']:,} requests in {one['seconds']:.1f} s, {one['rate']:,.0f} requests/s"
    errors = f"{one['failures']:,} wrong or failed answers"
    lines = [f"{'ok' if one['held'] else 'FAIL':4} {one['profile']:10} {count}; {times}; {errors}"]
    lines += [f"     {reason.removeprefix('FAIL ')}" for reason in one["wrong"]]
    lines.append(f"     {one['comparison']}")
    if one["disturbance"]:
        lines.append(f"     ! NOT VALID FOR COMPARISON: {one['disturbance']}")
    return lines


def format_ms(value: float | None) -> str:
    return "-" if value is None else f"{value:g} ms"


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
    parser.add_argument("--duration", type=parse_count, default=20, help="seconds for each profile (default 20)")
    parser.add_argument(
        "--aliases", type=parse_count, default=200_000, help="aliases in the directory (default 200,000)"
    )
    parser.add_argument("--users", type=parse_count, default=32, help="connections (default 32)")
    parser.add_argument("--processes", type=parse_count, default=1, help="processes of locust (default 1)")
    parser.add_argument("--workers", type=parse_count, default=1, help="workers of the oracle (default 1)")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="compare with this folder of --save-baseline")
    parser.add_argument("--save-baseline", type=Path, metavar="DIR", help="save this run as a baseline for later ones")
    parser.add_argument(
        "--data-dir", type=Path, help="data directory that `dataset` has filled (default: a new one for this run)"
    )
    parser.add_argument("--database-url", help="URL of a PostgreSQL that `dataset` has filled")
    parser.add_argument("--host", help="URL of a running hub listener; then nothing is started")
    arguments = parser.parse_args(words)
    chosen = list(PROFILES) if arguments.profiles == "all" else [word.strip() for word in arguments.profiles.split(",")]
    if unknown := [profile for profile in chosen if profile not in PROFILES]:
        parser.error(f"unknown profiles: {', '.join(unknown)}; use {', '.join(PROFILES)}")
    if arguments.host and {"cold", "redis-down"} & set(chosen):
        parser.error("cold and redis-down need servers that this program starts: do not use --host")
    if arguments.host and not arguments.host.startswith(("http://", "https://")):
        parser.error(f"--host {arguments.host} is not a URL; write http://{arguments.host}")
    if arguments.baseline and (reason := explain_baseline(arguments.baseline, chosen, list_asked(arguments))):
        parser.error(f"--baseline {arguments.baseline}: {reason}")
    try:
        if arguments.save_baseline:
            arguments.save_baseline.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        parser.error(f"--save-baseline {arguments.save_baseline}: cannot make this folder: {exc.strerror}")
    arguments.profiles = chosen
    return arguments


def main() -> int:
    arguments = parse()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    summaries: list[dict[str, Any]] = []
    watch, noted = Watch(), list[Surroundings]()
    try:
        with ExitStack() as stack:
            if arguments.host:
                target = Target(arguments.host.rstrip("/"), arguments.aliases)
                check_host(target)
            else:
                print("starting PostgreSQL, Valkey and the oracle", flush=True)
                target = start_target(stack, arguments)
            chosen = ", ".join(arguments.profiles)
            print(f"{target.aliases:,} aliases; {arguments.duration} s for each profile: {chosen}", flush=True)
            for profile in arguments.profiles:
                watch.begin()
                run(profile, target, arguments)
                surroundings = watch.end() if target.service and not arguments.database_url else None
                baseline, earlier = read_baseline(arguments.baseline, profile)
                rows = read_csv(name_final(FOLDER, profile))
                summaries.append(summarise(profile, rows, baseline, surroundings, earlier, arguments.duration))
                noted += [surroundings] if surroundings else []
                print(*describe(summaries[-1]), sep="\n", flush=True)
    except (StackError, dataset.Refused, OSError) as exc:
        print(f"load: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    asked = list_asked(arguments) | {"aliases": target.aliases}
    worst = max(noted, key=lambda each: each.others + each.stolen, default=None)
    machine.save("load", {**asked, "duration_s": arguments.duration}, summaries, surroundings=worst)
    if arguments.save_baseline is not None:
        save_baseline(arguments.save_baseline, summaries, asked)
        print(f"baseline: {arguments.save_baseline}")
    if any(one["disturbance"] for one in summaries):
        print("Some times mean nothing, see NOT VALID: run it again on a quiet machine, or with a longer --duration.")
    print("report:", *report.write())
    return choose_exit_code(summaries, compares=arguments.baseline is not None)


def choose_exit_code(summaries: Sequence[Mapping[str, Any]], *, compares: bool) -> int:
    """1: a wrong answer, or slower than the baseline; 2: a comparison was wanted and could not be made."""
    if not all(one["held"] for one in summaries):
        return 1
    return 2 if compares and not all(one["compared"] for one in summaries) else 0


def list_asked(arguments: argparse.Namespace) -> dict[str, int]:
    """List the options that change how fast a run is; without the aliases of a directory that somebody else filled."""
    asked = {name: getattr(arguments, name) for name in OPTIONS}
    if arguments.data_dir or arguments.database_url:
        del asked["aliases"]
    return asked


def check_host(target: Target) -> None:
    """Ask for the last alias of the dataset.  Raises StackError if this is no hub listener that holds it."""
    lookup = make_lookup(Keys().make_alias(target.aliases - 1))
    try:
        response = httpx.get(target.url + lookup.target, headers=make_hub_headers("loadtests"), timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise StackError(f"{target.url} does not answer: is the service running, and on this port?") from exc
    if response.status_code != 200:
        raise StackError(
            f"{target.url} does not answer lookups (HTTP {response.status_code}):"
            " --host needs the port for the hub, not the one for people"
        )
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if answer != lookup.answer:
        raise StackError(
            f"{target.url} does not hold a dataset of {target.aliases:,} aliases: fill its empty directory with"
            " `make dataset`, or give the number that it was filled with as --aliases"
        )


def save_baseline(folder: Path, summaries: Sequence[Mapping[str, Any]], asked: Mapping[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*_final.csv"):
        old.unlink()
    conditions = {"machine": machine.collect_facts(), "asked": dict(asked)}
    (folder / CONDITIONS).write_text(json.dumps(conditions), encoding="utf-8")
    for one in summaries:
        shutil.copy(name_final(FOLDER, one["profile"]), folder)
    disturbances = {one["profile"]: one["disturbance"] for one in summaries}
    (folder / DISTURBANCES).write_text(json.dumps(disturbances), encoding="utf-8")


def explain_baseline(folder: Path, profiles: Sequence[str], asked: Mapping[str, int]) -> str:
    """Explain why a run cannot be compared with this baseline; empty if it can."""
    saved = sorted(file.name.removesuffix("_final.csv") for file in folder.glob("*_final.csv"))
    if not saved:
        return "no run is saved there; save one with --save-baseline DIR and give the same folder"
    if missing := [profile for profile in profiles if profile not in saved]:
        return f"it does not have {', '.join(missing)}; use --profiles {','.join(saved)}"
    kept = folder / CONDITIONS
    conditions = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    earlier, here = conditions.get("machine", {}), machine.collect_facts()
    if others := [name for key, name in MACHINE.items() if key in earlier and earlier[key] != here[key]]:
        return f"it is of a machine with another {', '.join(others)}; save one on this machine with --save-baseline DIR"
    differ = [name for name in OPTIONS if name in asked and conditions.get("asked", asked).get(name) != asked[name]]
    if differ:
        words = " ".join(f"{OPTIONS[name]} {conditions['asked'].get(name)}" for name in differ)
        return f"it was measured with {words}; run with the same"
    return ""


def read_baseline(folder: Path | None, profile: str) -> tuple[dict[str, Row] | None, str]:
    """Read the rows of a profile, and what disturbed the machine then.  None without a folder; empty without a file."""
    if folder is None:
        return None, ""
    file = name_final(folder, profile)
    rows = read_csv(file) if file.exists() else {}
    kept = folder / DISTURBANCES
    disturbances = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    return rows, str(disturbances.get(profile, ""))


if __name__ == "__main__":
    sys.exit(main())

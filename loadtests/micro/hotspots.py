"""Shows where a worker's time goes: py-spy samples a worker under load, and prints the 15 functions with most own time.

    python -m loadtests.micro.hotspots [--seconds 10] [--cold]

Install py-spy first, because it is not a dependency: `.venv/bin/python -m pip install py-spy`.  For a plain user it can
need `sysctl kernel.yama.ptrace_scope=0`.  It sees only Python functions.  Time in C (hiredis, msgspec, the kernel)
counts for the calling function, so compare with the user and system columns of the ceiling.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Final

import uvloop

from loadtests import dataset, wrk
from loadtests.arguments import parse_count
from loadtests.keys import Keys
from loadtests.stack import LONG_TTL, StackError, make_room, run_oracle, run_valkey, wait_for_cache
from loadtests.warm import warm
from loadtests.wrk import Targets, WrkError

TOP: Final = 15
RATE_HZ: Final = 500


def find_py_spy() -> str | None:
    return shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))


def count_own_time(collapsed: str) -> Counter[str]:
    """Count samples in py-spy's `raw` format: `outer;inner;innermost 12`, a line a stack; the innermost one ran."""
    counted: Counter[str] = Counter()
    for line in collapsed.splitlines():
        stack, _, samples = line.rpartition(" ")
        if samples.isdigit() and stack:
            counted[stack.rpartition(";")[2]] += int(samples)
    return counted


def show(counted: Counter[str]) -> None:
    total = sum(counted.values()) or 1
    print(f"{'own time':>9}  function    ({total:,} samples)")
    for name, samples in counted.most_common(TOP):
        print(f"{samples / total:9.1%}  {name}")


def sample(pid: int, seconds: int, output: Path) -> None:
    # --gil would leave out what runs in C without it; --function joins the lines of one function.
    command = [str(find_py_spy()), "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(RATE_HZ)]
    command += ["--format", "raw", "--function", "--output", str(output)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if outcome.returncode != 0 or not output.exists():
        raise StackError(f"py-spy: {outcome.stderr.strip()}")


def run(home: Path, arguments: argparse.Namespace) -> Counter[str]:
    with run_valkey(home) as cache, run_oracle(home, {**LONG_TTL, "ORACLE_REDIS_URL": cache.url}) as service:
        asyncio.run(dataset.fill_with_progress(service.database_url, Keys(mix="consecutive"), arguments.aliases))
        wait_for_cache(service)
        targets = Targets("/participants/MSISDN/5255", 8, arguments.aliases)
        if not arguments.cold:
            uvloop.run(warm(service.hub_url, (targets.make_target(i) for i in range(targets.size))))
        walk = 0 if arguments.cold else None
        asking = threading.Thread(
            target=wrk.run,
            args=(service.hub_url, targets),
            kwargs={"seconds": arguments.seconds + 3, "connections": 64, "walk": walk},
        )
        asking.start()
        try:
            (worker,) = service.hub_pids
            sample(worker, arguments.seconds, home / "stacks.txt")
        finally:
            asking.join()
        return count_own_time((home / "stacks.txt").read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=parse_count, default=10)
    parser.add_argument("--aliases", type=parse_count, default=100_000)
    parser.add_argument(
        "--cold", action="store_true", help="ask keys that are not in the cache (as long as there are any)"
    )
    arguments = parser.parse_args()
    if missing := [name for name, there in (("py-spy", find_py_spy()), ("wrk", shutil.which("wrk"))) if not there]:
        print(
            f"hotspots: not installed: {' and '.join(missing)} (use pip for py-spy, apt-get for wrk)", file=sys.stderr
        )
        return 2
    try:
        with make_room() as home:
            show(run(home, arguments))
    except (StackError, WrkError, dataset.Refused, ExceptionGroup) as exc:
        print(f"hotspots: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

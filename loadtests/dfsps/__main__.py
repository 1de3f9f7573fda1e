"""Measures the account lookup service with mock FSPs: `python -m loadtests.dfsps` (or `make dfsps`).

Costs.    CPU of a whole GET /parties (the payer's GET, our forward, the payee's PUT, our forward) and of a GET
          /participants, by process, with as many lookups as one worker answers; every answer is counted.  Beside it
          a lookup in Node.js, by which the cost of ALS is estimated.  The time that the service adds, at half of that
          rate and at a fixed one.  What nine FSPs notice of a dead one.
Faults.   --faults: FSPs, ledger, Redis, PostgreSQL and workers fail while lookups go on; what payer and payee saw.
Exit.     0; 1 if the service did not start, or if a lookup that it accepted had no answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import uvloop

from loadtests import machine
from loadtests.arguments import parse_count
from loadtests.dfsps import cost, faults
from loadtests.stack import StackError, make_room


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.dfsps", description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=parse_count, default=1_000, help="fixed rate, lookups a second (default 1,000)")
    parser.add_argument("--seconds", type=parse_count, default=10, help="of each measurement (default 10)")
    parser.add_argument("--dead-rate", type=parse_count, default=300, help="lookups/s beside a dead FSP (default 300)")
    parser.add_argument("--faults", action="store_true", help="cause failures instead of measuring costs")
    parser.add_argument("--only", action="append", default=[], help="this failure alone; can be given several times")
    parser.add_argument("--lookups", type=parse_count, default=3_000, help="for each failure (default 3,000)")
    parser.add_argument("--fault-rate", type=parse_count, default=200, help="lookups/s during it (default 200)")
    parser.add_argument("--workers", type=parse_count, default=2, help="workers during failures (default 2)")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    known = [failure.name for failure in faults.FAILURES]
    unknown = [name for name in arguments.only if name not in known]
    if unknown:
        parser.error(f"not known: {', '.join(unknown)}. Choose from: {', '.join(known)}")
    with make_room() as home:
        try:
            found = uvloop.run(_run(arguments, home))
        except StackError as exc:
            print(exc, file=sys.stderr)
            return 1
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"facts": machine.collect_facts(), **found}, indent=1), encoding="utf-8")
    return int(count_lost(found) > 0)


async def _run(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    if arguments.faults:
        return await faults.run(
            home, arguments.only, lookups=arguments.lookups, rate=arguments.fault_rate, workers=arguments.workers
        )
    return await cost.run(home, rate=arguments.rate, seconds=arguments.seconds, dead_rate=arguments.dead_rate)


def count_lost(found: Any) -> int:
    """Count the lookups that were accepted and had no answer, in all summaries."""
    if not isinstance(found, dict):
        return 0
    return int(found.get("nothing", 0)) + sum(count_lost(value) for value in found.values())


if __name__ == "__main__":
    sys.exit(main())

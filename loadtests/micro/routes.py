"""Measures one route match, in process: `python -m loadtests.micro.routes`.

It uses 100,000 rules like those of a hub of credit unions: CLABE prefixes of 3, 6, 10 and 17 digits.  It measures
identifiers that match a rule, for each length of prefix, and identifiers that match none.
"""

from __future__ import annotations

import random
import time
from typing import Final

from oracle.store.routes import RouteRow, Routes, compile_routes

RULES: Final = 100_000
LENGTHS: Final = (3, 6, 10, 17)
CALLS: Final = 200_000
ROUNDS: Final = 5


def make_rules(rng: random.Random) -> list[RouteRow]:
    prefixes: set[str] = set()
    while len(prefixes) < RULES:
        length = LENGTHS[0] if len(prefixes) < 100 else rng.choice(LENGTHS[1:])
        prefixes.add("".join(rng.choices("0123456789", k=length)))
    return [("ACCOUNT_ID", prefix, f"fsp-{number}", 0.0, 4e9) for number, prefix in enumerate(sorted(prefixes))]


def measure_cost_us(routes: Routes, identifiers: list[str]) -> float:
    """Return the cost of the fastest round: other load of the machine only makes rounds slower."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for identifier in identifiers:
            routes.match("ACCOUNT_ID", identifier)
        best = min(best, time.perf_counter() - started)
    return best / len(identifiers) * 1e6


def main() -> None:
    rng = random.Random(1)
    rows = make_rules(rng)

    async def none() -> list[RouteRow]:
        return []

    routes = Routes(none)
    started = time.perf_counter()
    routes._tables = compile_routes(rows)  # noqa: SLF001 - without a database to fetch from
    print(f"{RULES:,} rules compiled in {time.perf_counter() - started:.2f} s")
    by_length = {length: [r[1] for r in rows if len(r[1]) == length] for length in LENGTHS}
    for length in LENGTHS:
        hits = [rng.choice(by_length[length]).ljust(18, "0") for _ in range(CALLS)]
        print(f"  matches a prefix of {length:2}  {measure_cost_us(routes, hits):.2f} us")
    misses = ["x" + "".join(rng.choices("0123456789", k=17)) for _ in range(CALLS)]
    print(f"  matches no prefix      {measure_cost_us(routes, misses):.2f} us")


if __name__ == "__main__":
    main()

"""Measures one route match, in process: `python -m loadtests.micro.routes`.

It uses 100,000 rules like those of a hub of credit unions: prefixes of 3, 6, 10 and 17 digits, for ACCOUNT_ID and for
CLABE.  It measures CLABEs that match a rule, for each length of prefix, and identifiers that match none.
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


def make_rules(rng: random.Random, kind: str) -> list[RouteRow]:
    prefixes: set[str] = set()
    while len(prefixes) < RULES:
        length = LENGTHS[0] if len(prefixes) < 100 else rng.choice(LENGTHS[1:])
        prefixes.add(rng.choice("123456789") + "".join(rng.choices("0123456789", k=length - 1)))
    return [("ACCOUNT_ID", kind, prefix, f"fsp-{number}", 0.0, 4e9) for number, prefix in enumerate(sorted(prefixes))]


def measure_cost_us(routes: Routes, identifiers: list[str]) -> float:
    """Return the cost of the fastest round: other load of the machine only makes rounds slower."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for identifier in identifiers:
            routes.match("ACCOUNT_ID", identifier)
        best = min(best, time.perf_counter() - started)
    return best / len(identifiers) * 1e6


def complete(prefix: str) -> str:
    """Make a CLABE with this prefix."""
    digits = prefix.ljust(17, "0")
    return digits + str(-sum(int(digit) * (3, 7, 1)[place % 3] for place, digit in enumerate(digits)) % 10)


def main() -> None:
    async def none() -> list[RouteRow]:
        return []

    for kind in ("ACCOUNT_ID", "CLABE"):
        rng = random.Random(1)
        rows = make_rules(rng, kind)
        routes = Routes(none)
        started = time.perf_counter()
        routes._tables = compile_routes(rows)  # noqa: SLF001 - without a database to fetch from
        print(f"{RULES:,} rules for {kind} compiled in {time.perf_counter() - started:.2f} s")
        by_length = {length: [row[2] for row in rows if len(row[2]) == length] for length in LENGTHS}
        for length in LENGTHS:
            hits = [complete(rng.choice(by_length[length])) for _ in range(CALLS)]
            print(f"  matches a prefix of {length:2}  {measure_cost_us(routes, hits):.2f} µs")
        misses = ["x" + "".join(rng.choices("0123456789", k=17)) for _ in range(CALLS)]
        print(f"  matches no prefix      {measure_cost_us(routes, misses):.2f} µs")


if __name__ == "__main__":
    main()

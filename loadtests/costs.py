"""Measures what ARCHITECTURE.md says that it costs, and prints its tables: `python -m loadtests.costs` (`make costs`).

It runs the programs below one after the other.  Each table is printed under the command that measures it, so every
figure can be measured again alone.  Each table is of one run.

    lookups         loadtests.ceiling with all cases, and at 40 a second
    large           cached lookups of the directory that `--large DIR` names, which `make dataset` has filled
    registrations   loadtests.registrations at 1, 32 and 128 connections
    files           loadtests.file_import with a million rows

`--last` measures nothing and prints the tables of the newest results.  A part whose program cannot run is named.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtests import machine
from loadtests.comparison import ASKS_POSTGRES, compute_medians, compute_ratio
from loadtests.peers import FLOOR, NGINX
from loadtests.report import Kept, read_results

SLOW: Final = 40
HUNDRED_MILLION: Final = "make dataset COUNT=100000000 DATASET='--mix consecutive'"


class Part(NamedTuple):
    """A program and its options; `command`: how a person runs it."""

    title: str
    tool: str
    words: tuple[str, ...]
    command: str


def make_parts(large: Path | None, quick: bool) -> list[Part]:
    """Return what is measured; `quick` tries the programs, and its figures mean nothing."""
    short = ("--keys", "20000", "--rounds", "2", "--seconds", "1") if quick else ()
    cases = ("--unknown", "--routed", "--cold", "--slow", str(SLOW), *short)
    rows = ("--rows", "20000" if quick else "1000000")
    seconds = ("--seconds", "1") if quick else ()
    ceiling = 'make ceiling CEILING="{}"'.format
    parts = [Part("Lookups, 1 M aliases, 64 connections", "ceiling", cases, ceiling(" ".join(cases)))]
    if large is not None:
        words = ("--data-dir", str(large), "--busy", "0", *short)
        command = ceiling("--data-dir DIR --busy 0")
        parts.append(Part("Lookups of a large directory", "ceiling", words, f"{command}, DIR by {HUNDRED_MILLION}"))
    return [
        *parts,
        Part("Registrations", "registrations", seconds, "python -m loadtests.registrations"),
        Part("Files", "file_import", rows, f"python -m loadtests.file_import {' '.join(rows)}"),
    ]


# The tables -------------------------------------------------------------------------------------------------

CASES: Final = {
    "cached": "cached",
    "busy": "cached, beside two busy loops",
    "slow": f"cached, {SLOW} a second",
    "unknown": "unknown, cached",
    "routed": "routed, 100,000 routes",
    "cold": "cold",
}
ASIDE: Final = "–"


def make_lookup_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of one comparison: server + Redis µs by side, and the ratios of the best form of the oracle."""
    rounds: Mapping[str, Any] = {name: measures for name, measures in found["rounds"].items() if measures}
    best = "compiled" if any(name.endswith("/compiled") for name in rounds) else "interpreted"
    heads = ("", "compiled", "interpreted", "C", "nginx + Lua", f"{best} / nginx", f"{best} / C")
    yield _join(heads)
    yield _join(["---"] * len(heads))
    for case, label in CASES.items():
        if f"{case}/{best}" in rounds:
            costs = (
                format_cost(rounds.get(f"{case}/{side}"), case) for side in ("compiled", "interpreted", FLOOR, NGINX)
            )
            yield _join((label, *costs, *_make_ratios(rounds, case, best)))


def format_cost(measures: Sequence[Mapping[str, float]] | None, case: str) -> str:
    """Return `24.3 + 2.0 µs`: server and Redis; with PostgreSQL if the case asks it."""
    if not measures:
        return ASIDE
    middle = compute_medians(measures)
    postgres = f", PostgreSQL {middle['postgres']:.1f}" if case in ASKS_POSTGRES else ""
    return f"{middle['server']:.1f} + {middle['redis']:.1f} µs{postgres}"


def _make_ratios(rounds: Mapping[str, Any], case: str, best: str) -> Iterator[str]:
    ours, nginx, floor = rounds[f"{case}/{best}"], rounds.get(f"{case}/{NGINX}"), rounds.get(f"{case}/{FLOOR}")
    if nginx:
        both, rate, p99 = (_format_ratio(compute_ratio(ours, nginx, name)) for name in ("both", "rate", "p99_ms"))
        yield f"{both}; p99 {p99}" if case == "slow" else f"{both}; requests/s {rate}, p99 {p99}"
    elif case == "cold":
        yield f"{_format_ratio(compute_ratio(ours, rounds[f'cached/{best}'], 'rate'))} of the cached requests/s"
    else:
        yield ASIDE
    yield _format_ratio(compute_ratio(ours, floor, "both")) if floor else ASIDE


def _format_ratio(ratio: float | None) -> str:
    return ASIDE if ratio is None else f"{ratio:.2f}"


def make_registration_table(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of registrations: a row for each number of connections, the medians of its rounds."""
    kinds = list(figures["rounds"][0]["cpu_us"])
    heads = ("connections", "registrations/s", "p50 ms", "p99 ms", *(f"{kind} µs" for kind in kinds))
    yield _join(heads)
    yield _join(["---"] * len(heads))
    for connections in dict.fromkeys(each["connections"] for each in figures["rounds"]):
        same = [{**each, **each["cpu_us"]} for each in figures["rounds"] if each["connections"] == connections]
        middle = {name: statistics.median(each[name] for each in same) for name in ("rate", "p50_ms", "p99_ms", *kinds)}
        cells = (f"{middle[kind]:,.0f}" for kind in kinds)
        yield _join(
            (f"{connections}", f"{middle['rate']:,.0f}", f"{middle['p50_ms']:.1f}", f"{middle['p99_ms']:.1f}", *cells)
        )


def make_file_table(figures: Mapping[str, Any]) -> Iterator[str]:
    yield _join(("rows checked", "rows applied", "jobs process", "PostgreSQL"))
    yield _join(["---"] * 4)
    yield _join(
        (
            f"{figures['validated_rows_per_s']:,.0f}/s",
            f"{figures['applied_rows_per_s']:,.0f}/s",
            f"{figures['jobs_cpu_us_per_row']:.1f} µs a row",
            f"{figures['postgres_cpu_us_per_row']:.1f} µs a row",
        )
    )


def make_table(kept: Kept) -> Iterator[str]:
    match kept["tool"]:
        case "ceiling":
            yield from make_lookup_table(kept["figures"][0])
        case "registrations":
            yield from make_registration_table(kept["figures"])
        case _:
            yield from make_file_table(kept["figures"])


def format_part(part: Part, kept: Kept) -> Iterator[str]:
    """Yield the part in the form of ARCHITECTURE.md: its title, its command, its table, and if it can be compared."""
    yield f"**{part.title}**, `{part.command}`:"
    yield ""
    yield from make_table(kept)
    yield ""
    if kept.get("disturbance"):
        yield f"! NOT VALID FOR COMPARISON: {kept['disturbance']}"
        yield ""


def _join(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# Running ----------------------------------------------------------------------------------------------------


def run(part: Part) -> Kept:
    """Run the program of a part with its own output, and return its result.  Raises CalledProcessError."""
    before = {path.name for path in machine.REPORTS.glob(f"{part.tool}-*.json")}
    subprocess.run([sys.executable, "-m", f"loadtests.{part.tool}", *part.words], cwd=machine.ROOT, check=True)
    new = [path for path in machine.REPORTS.glob(f"{part.tool}-*.json") if path.name not in before]
    kept: Kept = json.loads(max(new).read_text(encoding="utf-8"))
    return kept


def find_last(part: Part, large: Path | None) -> Kept:
    """Return the newest result of a part's program.  Raises LookupError if there is none."""
    found = [kept for kept in read_results(machine.REPORTS) if kept["tool"] == part.tool]
    if part.tool == "ceiling":
        wants_large = large is not None and str(large) in part.words
        found = [kept for kept in found if ("cold/" in " ".join(kept["figures"][0]["rounds"])) != wants_large]
    if not found:
        raise LookupError(f"there is no result of {part.command}")
    return found[-1]


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--large", type=Path, metavar="DIR", help="a directory of 100 million aliases, to measure too")
    parser.add_argument("--last", action="store_true", help="print the newest results; measure nothing")
    parser.add_argument("--quick", action="store_true", help="try the programs; the figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=["ceiling", "registrations", "file_import"], default=[])
    return parser.parse_args(words)


def main() -> int:
    arguments = parse()
    lines: list[str] = []
    failed = False
    for part in make_parts(arguments.large, arguments.quick):
        if arguments.only and part.tool not in arguments.only:
            continue
        try:
            lines += format_part(part, find_last(part, arguments.large) if arguments.last else run(part))
        except (subprocess.CalledProcessError, LookupError) as exc:
            failed = True
            lines += [f"**{part.title}**: not measured: {exc}", ""]
        except KeyboardInterrupt:
            return 130
    if arguments.large is None:
        lines.append(f"not measured: 100 M aliases; {HUNDRED_MILLION}, then --large .oracle/load")
    print("", *lines, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

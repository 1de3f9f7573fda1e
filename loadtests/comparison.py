"""The table of a comparison: medians over the rounds, and each side beside the floor and beside nginx.

A ratio is the median of the ratios of single rounds, in which the sides were measured shortly after each other: what
disturbs one round then counts once.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from loadtests.figures import name_case, name_side
from loadtests.peers import FLOOR, NGINX, OPTIONAL

Measures = Sequence[Mapping[str, float]]


class Column(NamedTuple):
    """`figure` of a side; with `other`, divided by that of another side.  `short`: its head in a terminal, if there."""

    head: str
    figure: str
    form: str = ".2f"
    other: str = ""
    short: str = ""


COLUMNS: Final = (
    Column("requests/s", "rate", ",.0f", short="requests/s"),
    Column("requests/s / nginx", "rate", other=NGINX, short="/ nginx"),
    Column("p50 ms", "p50_ms", short="p50 ms"),
    Column("p99 ms", "p99_ms", short="p99 ms"),
    Column("p99 / nginx", "p99_ms", other=NGINX, short="/ nginx"),
    Column("server µs", "server", ".1f", short="server"),
    Column("server µs, user", "server_user", ".1f"),
    Column("server µs, kernel", "server_system", ".1f"),
    Column("Redis µs", "redis", ".1f", short="Redis"),
    Column("PostgreSQL µs", "postgres", ".1f", short="PostgreSQL"),
    Column("server + Redis µs", "both", ".1f", short="sum µs"),
    Column("µs / C", "both", other=FLOOR, short="/ C"),
    Column("µs / nginx", "both", other=NGINX, short="/ nginx"),
)
INTENDED: Final = "as intended"
HEADS: Final = (*(column.head for column in COLUMNS), INTENDED)
# Cases that ask PostgreSQL.  In all others, its CPU is that of its own work in the background.
ASKS_POSTGRES: Final = frozenset({"cold"})
# Sides that have no counter of their own.
UNCOUNTED: Final = frozenset({FLOOR, NGINX, *OPTIONAL})


def add_sums(one: Mapping[str, float]) -> dict[str, float]:
    server, redis = one["server_user"] + one["server_system"], one["redis_user"] + one["redis_system"]
    return {**one, "server": server, "redis": redis, "both": server + redis}


def compute_medians(measures: Measures) -> dict[str, float]:
    """Return the median of each figure by itself, and of the sums."""
    sums = [add_sums(one) for one in measures]
    return {name: statistics.median(one[name] for one in sums) for name in sums[0]}


def compute_ratio(ours: Measures, other: Measures, name: str) -> float | None:
    """Return the median of the ratios of the rounds; None if a figure below the line is 0."""
    pairs = [(add_sums(one)[name], add_sums(two)[name]) for one, two in zip(ours, other, strict=True)]
    return statistics.median(one / two for one, two in pairs) if all(two for _, two in pairs) else None


def make_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a row for each case and side: their names, the cells of HEADS."""
    rounds: Mapping[str, Measures] = {name: measures for name, measures in found["rounds"].items() if measures}
    for name, measures in rounds.items():
        case, _, side = name.partition("/")
        middle = compute_medians(measures)
        cells = (_make_cell(rounds, case, side, middle, column) for column in COLUMNS)
        share = "" if side in UNCOUNTED else f"{middle['share']:.2%}"
        yield [name_case(case), name_side(side), *cells, share]


def _make_cell(
    rounds: Mapping[str, Measures], case: str, side: str, middle: Mapping[str, float], column: Column
) -> str:
    if not column.other:
        value: float | None = middle[column.figure]
        if column.figure == "postgres" and case not in ASKS_POSTGRES:
            value = None
    else:
        other = rounds.get(f"{case}/{column.other}") if column.other != side else None
        value = compute_ratio(rounds[f"{case}/{side}"], other, column.figure) if other else None
    return "" if value is None else format(value, column.form)


def format_comparison(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a comparison: a table for each case, with a line for each side."""
    yield f"{found['workers']} worker(s) each, {found['keys']:,} keys of {found['aliases']:,} aliases"
    yield "server, Redis: µs of CPU for each lookup; sum: both; medians over the rounds"
    yield "/ C, / nginx: the column before, divided by that of the other side; median over the rounds"
    shown = [place for place, column in enumerate(COLUMNS) if column.short]
    cases: dict[str, list[list[str]]] = {}
    for case, side, *cells in make_rows(found):
        cases.setdefault(case, []).append([side, *(cells[place] for place in shown)])
    for case, rows in cases.items():
        yield ""
        yield case
        yield from format_table(["", *(COLUMNS[place].short for place in shown)], rows)


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in columns as wide as their widest cell, without those that are empty in all rows."""
    kept = [place for place, cells in enumerate(zip(*rows, strict=True)) if place == 0 or any(cells)]
    lines = [[line[place] for place in kept] for line in (heads, *rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(kept))]
    for first, *rest in lines:
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join((f"{first:{widths[0]}}", *cells)).rstrip()

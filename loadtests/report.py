"""Writes reports/report.md and reports/report.html from the results of the other programs.

    python -m loadtests.report

The report shows the newest result of each program with its machine and commit.  The plot of cost against directory
size uses all results of the comparison: measure 1, 10 and 100 million one after the other, then write one report.  The
HTML contains its plots and needs no other file.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from loadtests import machine, overload, sealing
from loadtests.comparison import HEADS, compute_medians, make_rows
from loadtests.figures import PROFILES, TITLES, format_figure, format_time, name_case, name_side
from loadtests.machine import Surroundings
from loadtests.overload import Point
from loadtests.plots import Points, draw_plot

Kept = dict[str, Any]  # the content of one file of machine.save
Table = tuple[str, list[str], list[list[str]]]  # title, heads, rows

HOW_TO_READ: Final = (
    "CPU per lookup is user and kernel time of a process divided by the lookups answered; it is the figure to compare.",
    "Requests per second and percentiles depend on all other load on the cores, including the load generator.",
    "Compare only figures of one machine, and of runs that are valid for comparison; the tables show both.",
)


def read_results(reports: Path) -> list[Kept]:
    """Read all results, oldest first; ignore other files."""
    found = []
    for file in sorted(reports.glob("*.json")):
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(kept, dict) and {"tool", "at", "machine", "asked", "figures"} <= kept.keys():
            found.append(kept)
    return sorted(found, key=lambda kept: str(kept["at"]))


def choose_newest(results: Sequence[Kept]) -> dict[str, Kept]:
    return {kept["tool"]: kept for kept in results}


# Tables -----------------------------------------------------------------------------------------------------


def make_machine_table(kept: Kept) -> Table:
    asked = "; ".join(": ".join(format_figure(name, value)) for name, value in kept["asked"].items() if _matters(value))
    rows = [["measured at", format_time(kept["at"])]]
    if "surroundings" in kept:
        disturbance = kept["disturbance"]
        rows.append(["valid for comparison", f"NO: {disturbance}" if disturbance else "yes"])
        rows.append(["other programs", str(Surroundings(**kept["surroundings"]))])
    else:
        rows.append(["valid for comparison", "not known: other programs on the machine were not watched"])
    rows += [list(format_figure(name, value)) for name, value in kept["machine"].items()]
    return f"{get_title(kept['tool'])}: machine and arguments", ["", ""], [*rows, ["asked for", asked]]


def _matters(value: Any) -> bool:
    return value not in (None, [], False)


def get_title(tool: str) -> str:
    return TITLES.get(tool, tool.replace("_", " "))


def make_ceiling_tables(kept: Kept) -> Iterator[Table]:
    for found in kept["figures"]:
        heads = ["lookups", "side", *HEADS]
        rounds = len(next(iter(found["rounds"].values())))
        size = f"{found['keys']:,} keys of {found['aliases']:,} aliases"
        title = f"{TITLES['ceiling']}: {found['workers']} worker(s) each, {size}"
        yield f"{title}; medians of {rounds} rounds; µs: CPU time of each lookup", heads, list(make_rows(found))


LOAD_HEADS: Final = [
    "profile", "requests", "duration", "requests/s", "wrong or failed", "p50 ms", "p95 ms", "p99 ms", "answers",
    "comparison with the baseline or the limits",
]  # fmt: skip


def make_load_tables(kept: Kept) -> Iterator[Table]:
    yield get_title(kept["tool"]), LOAD_HEADS, [make_load_row(one) for one in kept["figures"]]


def make_load_row(one: Kept) -> list[str]:
    """Make the row of a profile.  Results of older versions have neither a rate nor a comparison."""
    seconds, rate, requests = one.get("seconds"), one.get("rate"), one["requests"]
    comparison = one.get("comparison", "not compared: the result of an older version does not say")
    if one.get("disturbance"):
        comparison += f". NOT VALID FOR COMPARISON: {one['disturbance']}"
    return [
        PROFILES.get(one["profile"], one["profile"]),
        f"{requests:,}",
        f"{seconds:.1f} s" if seconds else "-",
        f"{rate:,.0f}" if rate else "-",
        f"{one['failures']:,}",
        *("-" if one[name] is None or not requests else f"{one[name]:g}" for name in ("p50_ms", "p95_ms", "p99_ms")),
        "none" if not requests else "all right" if not one["failures"] else "WRONG OR FAILED",
        comparison,
    ]


def make_overload_tables(kept: Kept) -> Iterator[Table]:
    yield (
        TITLES["overload"],
        list(overload.COLUMNS),
        list(overload.make_rows([Point(**one) for one in kept["figures"]])),
    )


def make_sealing_tables(kept: Kept) -> Iterator[Table]:
    rows = [list(line.partition(": ")[::2]) for line in sealing.format_figures(kept["figures"]) if line[0] != " "]
    yield TITLES["sealing"], ["figure", "value"], rows


def make_history_tables(kept: Kept) -> Iterator[Table]:
    for size, found in kept["figures"].items():
        rows = [
            [name, f"{each['ms']:.2f}", f"{each['p99 ms']:.2f}", str(each.get("buffers", "-"))]
            for name, each in found.items()
            if name != "diff"
        ]
        if "diff" in found:
            diff = found["diff"]
            rows.append([f"all changes of an FSP: {diff['aliases']:,} aliases", f"{1000 * diff['s']:,.0f}", "-", "-"])
        yield f"{TITLES['history']}: {size} events", ["question", "median ms", "p99 ms", "blocks read"], rows


def make_plain_table(kept: Kept) -> Iterator[Table]:
    """Make the table of a program whose figures are an object; an object in it gives its rows their first words."""
    yield get_title(kept["tool"]), ["figure", "value"], list(_make_plain_rows(kept["figures"], ""))


def _make_plain_rows(figures: Kept, before: str) -> Iterator[list[str]]:
    for name, value in figures.items():
        label, text = format_figure(name, value)
        if isinstance(value, dict):
            yield from _make_plain_rows(value, f"{before}{label}, ")
        else:
            yield [f"{before}{label}", text]


TABLES: Final[dict[str, Callable[[Kept], Iterator[Table]]]] = {
    "ceiling": make_ceiling_tables,
    "k6": make_load_tables,
    "load": make_load_tables,
    "overload": make_overload_tables,
    "sealing": make_sealing_tables,
    "history": make_history_tables,
}


def make_tables(results: Sequence[Kept]) -> Iterator[Table]:
    for tool, kept in choose_newest(results).items():
        yield from TABLES.get(tool, make_plain_table)(kept)
        yield make_machine_table(kept)


# Plots ------------------------------------------------------------------------------------------------------


def make_plots(results: Sequence[Kept], reports: Path) -> Iterator[str]:
    load = read_latency_over_time(reports / "load")
    if load:
        yield draw_plot("Latency over time, by profile", "seconds", "p99 of the last 10 s, ms", load)
    compared = [kept for kept in results if kept["tool"] == "ceiling"]
    if compared:
        sweep = collect_throughput_against_p99(compared[-1])
        if sweep:
            yield draw_plot("Throughput against p99, cached, by connections", "requests/s", "p99 ms", sweep)
        sizes = collect_cost_against_size(compared)
        yield draw_plot("Cost against directory size", "aliases", "CPU µs a lookup, all processes", sizes, log_x=True)


def read_latency_over_time(folder: Path) -> dict[str, Points]:
    return {
        file.name.removesuffix("_stats_history.csv"): _read_history(file)
        for file in sorted(folder.glob("*_stats_history.csv"))
    }


def _read_history(file: Path) -> Points:
    with file.open(encoding="utf-8", newline="") as table:
        rows = [
            row for row in csv.DictReader(table) if row["Name"] == "Aggregated" and row["99%"] not in ("", "N/A", None)
        ]
    return [(float(row["Timestamp"]) - float(rows[0]["Timestamp"]), float(row["99%"])) for row in rows]


def collect_throughput_against_p99(kept: Kept) -> dict[str, Points]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for found in kept["figures"]:
        for one in found["sweep"]:
            name = f"{name_side(one['side'])}, {found['workers']} worker(s)"
            lines.setdefault(name, []).append((one["rate"], one["p99_ms"]))
    return dict(lines)


def collect_cost_against_size(compared: Sequence[Kept]) -> dict[str, Points]:
    """Collect the cost with one worker; of a size that was measured twice, the last result."""
    lines: dict[str, dict[float, float]] = {}
    for kept in compared:
        for found in kept["figures"]:
            if found["workers"] == 1:
                for name, measures in found["rounds"].items():
                    middle = compute_medians(measures)
                    cost = middle["server"] + middle["redis"] + middle["postgres"]
                    case, _, side = name.partition("/")
                    lines.setdefault(f"{name_case(case)}, {name_side(side)}", {})[float(found["aliases"])] = cost
    return {name: sorted(points.items()) for name, points in lines.items()}


# Writing ----------------------------------------------------------------------------------------------------


def write_markdown(results: Sequence[Kept]) -> str:
    lines = ["# Load tests", "", *(f"* {sentence}" for sentence in HOW_TO_READ), ""]
    for title, heads, rows in make_tables(results):
        lines += [f"## {title}", "", _write_row(heads), _write_row(["---"] * len(heads)), *map(_write_row, rows), ""]
    return "\n".join(lines)


def _write_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:0 0 1.5rem}"
    "td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:right}"
    "td:first-child,th:first-child,td:nth-child(2){text-align:left}svg{max-width:100%;height:auto}"
)


def write_html(results: Sequence[Kept], reports: Path) -> str:
    parts = ["<h1>Load tests</h1>", "<ul>", *(f"<li>{escape(sentence)}</li>" for sentence in HOW_TO_READ), "</ul>"]
    parts += [f"<figure>{figure}</figure>" for figure in make_plots(results, reports)]
    for title, heads, rows in make_tables(results):
        head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    top = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Load tests</title><style>{STYLE}</style>'
    return top + "\n".join(parts)


def write(reports: Path = machine.REPORTS) -> list[Path]:
    """Write the report, and return its files."""
    reports.mkdir(parents=True, exist_ok=True)
    results = read_results(reports)
    written = [reports / "report.md", reports / "report.html"]
    for file, text in zip(written, (write_markdown(results), write_html(results, reports)), strict=True):
        file.write_text(text, encoding="utf-8")
    return written


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    print(*write(), sep="\n")
    sys.exit(0)

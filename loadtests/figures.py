"""The words, units and decimals in which a person reads a figure.

    format_figure("applied_rows_per_s", 21_034.2)  ->  ("rows applied", "21,034 rows/s")

A program keeps its figures under short names, in JSON files.  Every name that a person can meet has a line here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple


class Figure(NamedTuple):
    """What a person reads: the words before the figure, its unit behind it, and its decimals."""

    label: str
    unit: str = ""
    decimals: int = 0


TITLES: Final = {
    "ceiling": "Cost of a lookup beside the floor in C and nginx + Lua",
    "during_import": "Lookups during an import, start and memory",
    "file_import": "A file from the upload to its results",
    "history": "Questions to the history",
    "k6": "Lookups at a fixed rate, by k6",
    "load": "A hub simulated by locust",
    "overload": "More lookups than the service can answer",
    "sealing": "Cost of sealing and verifying the history",
}

CASES: Final = {
    "cached": "cached lookups",
    "busy": "cached lookups beside busy loops",
    "slow": "cached lookups at a low rate",
    "unknown": "lookups of unregistered numbers",
    "routed": "lookups that a prefix route answers",
    "cold": "lookups that are not in the cache",
}
SIDES: Final = {
    "ours": "oracle",  # of results before there were two forms
    "interpreted": "oracle, interpreted",
    "compiled": "oracle, compiled",
    "c": "C (the floor)",
    "bun": "Bun",
    "go": "Go",
    "node": "Node.js",
    "nginx": "nginx + Lua",
}

PROFILES: Final = {
    "hot": "hot: few parties often",
    "uniform": "uniform: all parties equally often",
    "misses": "misses: unregistered numbers, each once",
    "unknown": "unknown: the same unregistered numbers",
    "mixed": "mixed: all kinds of identifiers",
    "writes": "writes: mixed, with registrations",
    "cold": "cold: all copies lost every 5 s",
    "redis-down": "redis-down: hot, without a cache for half of the time",
}

FIGURES: Final[Mapping[str, Figure]] = {
    # Of an import with lookups beside it.
    "start_first_s": Figure("first start, until the first answer", "s", 1),
    "start_again_s": Figure("start with existing data, until the first answer", "s", 1),
    "resident_idle_mib": Figure("memory of a hub worker, idle", "MiB", 1),
    "resident_loaded_mib": Figure("memory of a hub worker, after the load", "MiB", 1),
    "p50_ms_quiet": Figure("p50 of lookups, quiet", "ms", 2),
    "p50_ms_importing": Figure("p50 of lookups, during the import", "ms", 2),
    "p50_ms_ratio": Figure("p50 of lookups, during the import / quiet", "×", 2),
    "p99_ms_quiet": Figure("p99 of lookups, quiet", "ms", 2),
    "p99_ms_importing": Figure("p99 of lookups, during the import", "ms", 2),
    "p99_ms_ratio": Figure("p99 of lookups, during the import / quiet", "×", 2),
    "rate_quiet": Figure("lookups, quiet", "lookups/s"),
    "rate_importing": Figure("lookups, during the import", "lookups/s"),
    "rate_ratio": Figure("lookups, during the import / quiet", "×", 2),
    "measured_during_import_s": Figure("lookups were measured during the import for", "s", 1),
    "import_ended_meanwhile": Figure("the import ended before the last round"),
    "imported_rows": Figure("rows imported meanwhile", "rows"),
    # Of a file.
    "file_mib": Figure("size of the file", "MiB", 1),
    "upload_mib_per_s": Figure("upload", "MiB/s", 1),
    "validated_rows_per_s": Figure("rows read and checked", "rows/s"),
    "applied_rows_per_s": Figure("rows applied, with their history", "rows/s"),
    "jobs_cpu_us_per_row": Figure("CPU of the jobs process while rows are applied", "µs a row", 1),
    "postgres_cpu_us_per_row": Figure("CPU of PostgreSQL while rows are applied", "µs a row", 1),
    "end_to_end_rows_per_s": Figure("rows from the first byte sent to the state `done`", "rows/s"),
    "end_to_end_s": Figure("time from the first byte sent to the state `done`", "s", 1),
    "results_rows_per_s": Figure("rows of the results file, downloaded", "rows/s"),
    "results_mib": Figure("size of the results file", "MiB", 1),
    "admin_most_mib": Figure("peak memory of the admin process", "MiB", 1),
    "jobs_most_mib": Figure("peak memory of the jobs process", "MiB", 1),
    "lookup_rounds_beside": Figure("rounds of lookups beside the import", "rounds"),
    "lookup_p50_ms_quiet": Figure("p50 of lookups, quiet", "ms", 2),
    "lookup_p50_ms_beside": Figure("p50 of lookups, beside the import", "ms", 2),
    "lookup_p50_ms_ratio": Figure("p50 of lookups, beside the import / quiet", "×", 2),
    "lookup_p99_ms_quiet": Figure("p99 of lookups, quiet", "ms", 2),
    "lookup_p99_ms_beside": Figure("p99 of lookups, beside the import", "ms", 2),
    "lookup_p99_ms_ratio": Figure("p99 of lookups, beside the import / quiet", "×", 2),
    "lookup_rate_quiet": Figure("lookups, quiet", "lookups/s"),
    "lookup_rate_beside": Figure("lookups, beside the import", "lookups/s"),
    "lookup_rate_ratio": Figure("lookups, beside the import / quiet", "×", 2),
    # Of what was asked for.
    "aliases": Figure("aliases in the directory"),
    "keys": Figure("keys that are asked"),
    "users": Figure("connections"),
    "rate": Figure("lookups wanted", "lookups/s"),
    "k6": Figure("version of k6"),
    "connections": Figure("connections"),
    "open_connections": Figure("connections at a fixed rate"),
    "workers": Figure("hub workers"),
    "processes": Figure("processes with clients"),
    "duration_s": Figure("duration of each profile", "s"),
    "seconds": Figure("duration of each measurement", "s"),
    "rounds": Figure("rounds"),
    "rows": Figure("rows of the file"),
    "bad": Figure("bad rows among them"),
    "order": Figure("order of the rows"),
    "beside": Figure("lookups beside the import"),
    "events": Figure("events"),
    "cases": Figure("kinds of lookups"),
    "times": Figure("multiples of the best rate"),
    "dataset": Figure("aliases in the directory"),
    "cold": Figure("keys that are not in the cache"),
    "unknown": Figure("unregistered numbers"),
    "routed": Figure("numbers of prefix routes"),
    "sweep": Figure("connections, one measurement each"),
    "busy": Figure("busy loops beside cached lookups"),
    "slow": Figure("low rate of cached lookups", "lookups/s"),
    "pin": Figure("servers on core 0, wrk on core 1"),
    "pythons": Figure("Pythons"),
    **{name: Figure(f"version of {name}") for name in ("nginx", "wrk", "gcc", "bun", "go", "node")},
    # Of the machine.
    "cpu": Figure("processor"),
    "cores": Figure("cores"),
    "memory": Figure("memory"),
    "kernel": Figure("operating system"),
    "python": Figure("Python"),
    "libraries": Figure("libraries"),
    "commit": Figure("commit"),
    "load average": Figure("load average of the minute before the end"),
}


def format_figure(name: str, value: Any) -> tuple[str, str]:
    """Return the words and the value with its unit, for example ("file size", "12.3 MiB")."""
    figure = FIGURES.get(name, Figure(name.replace("_", " "), decimals=2))
    return figure.label, format_value(value, figure)


def format_value(value: Any, figure: Figure) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "not given"
        case list() | tuple():
            return ", ".join(format_value(each, Figure("")) for each in value) or "none"
        case float():
            text = f"{value:,.{figure.decimals}f}" if figure.decimals or value >= 100 else f"{value:,.4g}"
        case int():
            text = f"{value:,}"
        case _:
            text = str(value)
    return f"{text} {figure.unit}".rstrip()


def format_figures(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each figure, in columns."""
    rows = [format_figure(name, value) for name, value in figures.items()]
    width = max((len(label) for label, _ in rows), default=0)
    for label, text in rows:
        yield f"{label:{width}}  {text}"


def name_case(case: str) -> str:
    return CASES.get(case, case)


def name_side(side: str) -> str:
    return SIDES.get(side, side)


def format_time(stamp: str) -> str:
    """Turn the stamp of a result, 20261128T100000Z, into 2026-11-28 10:00:00 UTC."""
    try:
        return f"{datetime.strptime(stamp, '%Y%m%dT%H%M%SZ').replace(tzinfo=UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return stamp

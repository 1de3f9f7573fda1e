"""The tables of ARCHITECTURE.md as the program prints them: from given figures, without measuring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests import costs, machine
from loadtests.costs import find_last, format_part, make_lookup_table, make_parts
from loadtests.machine import Surroundings

BUSY = Surroundings(2, load_before=0.1, others_before=0.01, others=1.3, stolen=0.0, seconds=20.0)


def make_measures(server: float, rate: float = 20_000.0, p99_ms: float = 5.0, postgres: float = 0.0) -> list[Any]:
    """Make three rounds; the middle one has `server` µs, 1 of them in the kernel, and 2 µs of Redis."""
    return [
        {
            "rate": rate * factor,
            "p50_ms": 2.0,
            "p99_ms": p99_ms,
            "server_user": server * factor - 1,
            "server_system": 1.0,
            "redis_user": 1.0,
            "redis_system": 1.0,
            "postgres": postgres,
            "share": 1.0,
        }
        for factor in (0.5, 1.0, 2.0)
    ]


ROUNDS = {
    "cached/compiled": make_measures(12.0),
    "cached/interpreted": make_measures(16.0),
    "cached/c": make_measures(6.0),
    "cached/nginx": make_measures(26.0, rate=10_000, p99_ms=10.0),
    "slow/compiled": make_measures(400.0, rate=40.0),
    "slow/c": make_measures(100.0, rate=40.0),
    "slow/nginx": make_measures(200.0, rate=40.0),
    "routed/compiled": make_measures(13.0),
    "cold/compiled": make_measures(30.0, rate=12_000.0, postgres=12.4),
}
LOOKUPS = [{"workers": 1, "aliases": 1_000_000, "keys": 1_000_000, "copy_bytes": {}, "rounds": ROUNDS, "sweep": []}]
REGISTRATIONS = {
    "rounds": [
        {"connections": count, "rate": 1_000.0 * count, "p50_ms": 2.0, "p99_ms": 9.5, "cpu_us": {"hub workers": 400.0}}
        for count in (1, 32, 1, 32)
    ]
}
FILES = {
    "validated_rows_per_s": 250_000.0,
    "applied_rows_per_s": 21_034.0,
    "jobs_cpu_us_per_row": 12.3,
    "postgres_cpu_us_per_row": 30.1,
}


def test_a_row_has_the_cost_of_each_side_and_the_ratios_of_the_compiled_form() -> None:
    assert list(make_lookup_table(LOOKUPS[0])) == [
        "|  | compiled | interpreted | C | nginx + Lua | compiled / nginx | compiled / C |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        (
            "| cached | 12.0 + 2.0 µs | 16.0 + 2.0 µs | 6.0 + 2.0 µs | 26.0 + 2.0 µs"
            " | 0.50; requests/s 2.00, p99 0.50 | 1.75 |"
        ),
        "| cached, 40 a second | 400.0 + 2.0 µs | – | 100.0 + 2.0 µs | 200.0 + 2.0 µs | 1.99; p99 1.00 | 3.94 |",
        "| routed, 100,000 routes | 13.0 + 2.0 µs | – | – | – | – | – |",
        "| cold | 30.0 + 2.0 µs, PostgreSQL 12.4 | – | – | – | 0.60 of the cached requests/s | – |",
    ]


def test_without_a_build_the_ratios_are_those_of_the_interpreted_form() -> None:
    rounds = {name: measures for name, measures in ROUNDS.items() if "compiled" not in name}
    head, _, cached = make_lookup_table({"rounds": rounds})
    assert "interpreted / nginx" in head
    assert cached.startswith("| cached | – | 16.0 + 2.0 µs |")


def save_results(folder: Path) -> None:
    for tool, figures in (("ceiling", LOOKUPS), ("registrations", REGISTRATIONS), ("file_import", FILES)):
        machine.save(tool, {}, figures, folder, BUSY if tool == "file_import" else BUSY._replace(others=0.0))


def test_each_table_is_printed_under_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_results(tmp_path)
    monkeypatch.setattr(machine, "REPORTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["costs", "--last"])
    assert costs.main() == 0
    text = capsys.readouterr().out
    for part in make_parts(None, quick=False):
        assert f"\n**{part.title}**, `{part.command}`:\n\n|" in text
    assert "| 32 | 32,000 | 2.0 | 9.5 | 400 |\n" in text
    assert "| 250,000/s | 21,034/s | 12.3 µs a row | 30.1 µs a row |\n" in text
    assert text.count("! NOT VALID FOR COMPARISON: other programs used 1.30 of 2 cores") == 1
    assert "not measured: 100 M aliases; make dataset COUNT=100000000" in text


def test_a_part_without_a_result_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "REPORTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["costs", "--last", "--only", "registrations"])
    assert costs.main() == 1
    assert "**Registrations**: not measured: there is no result of python -m loadtests.reg" in capsys.readouterr().out


def test_the_large_directory_is_told_from_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "REPORTS", tmp_path)
    large = {"rounds": {"cached/compiled": make_measures(12.0)}, "aliases": 100_000_000}
    machine.save("ceiling", {}, [large], tmp_path)
    usual, of_large = make_parts(Path("/large"), quick=False)[:2]
    with pytest.raises(LookupError):
        find_last(usual, Path("/large"))
    kept = find_last(of_large, Path("/large"))
    assert kept["figures"] == [large]
    assert "--data-dir DIR" in next(format_part(of_large, kept))
    assert "/large" not in of_large.command

"""A run is judged by its failures and by its own past, never by a time of day or of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.thresholds import TOTAL, Limits, Row, Verdict, judge, read_csv

LIMITS = Limits(0.0, {50: 1.5, 99: 2.0})


def row(p50: float = 2, p99: float = 10, *, requests: int = 1_000, failures: int = 0) -> Row:
    return Row(requests, failures, {50: p50, 99: p99})


def broken(run: dict[str, Row], baseline: dict[str, Row], limits: Limits = LIMITS) -> list[Verdict]:
    return [verdict for verdict in judge(run, baseline, limits) if not verdict.holds]


def test_a_run_like_its_baseline_passes() -> None:
    assert not broken({TOTAL: row(), "GET MSISDN": row()}, {TOTAL: row(), "GET MSISDN": row()})


@pytest.mark.parametrize(
    ("run", "what"), [(row(p50=4.1), "p50 ms against 2 before"), (row(p99=21.1), "p99 ms against 10 before")]
)
def test_a_percentile_beyond_its_ratio_fails(run: Row, what: str) -> None:
    (verdict,) = broken({TOTAL: run}, {TOTAL: row()})
    assert verdict.what == what
    assert str(verdict).startswith("FAIL")


def test_a_millisecond_is_what_the_clock_of_locust_cannot_tell() -> None:
    assert not broken({TOTAL: row(p50=2.5, p99=3)}, {TOTAL: row(p50=1, p99=1)})


def test_without_a_baseline_only_failures_count() -> None:
    assert not broken({TOTAL: row(p50=9_999)}, {})
    (verdict,) = broken({TOTAL: row(failures=1)}, {})
    assert verdict.measured == 0.001
    assert not broken({TOTAL: row(failures=1)}, {}, Limits(0.001, {}))


def test_a_row_of_few_calls_is_not_compared() -> None:
    assert not broken({TOTAL: row(), "POST one": row(p99=999, requests=50)}, {"POST one": row()})


@pytest.mark.parametrize("run", [{}, {TOTAL: row(requests=0)}])
def test_a_run_that_asked_nothing_has_failed(run: dict[str, Row]) -> None:
    assert broken(run, {})


def test_locusts_file_is_read_by_method_and_name(tmp_path: Path) -> None:
    file = tmp_path / "hot_final.csv"
    file.write_text(
        "Type,Name,Request Count,Failure Count,50%,95%,99%,100%\n"
        "GET,MSISDN,900,1,2,5,9,30\nPOST,one,0,0,N/A,N/A,N/A,N/A\n,Aggregated,900,1,2,5,9,30\n"
    )
    rows = read_csv(file)
    assert rows["GET MSISDN"] == rows[TOTAL] == Row(900, 1, {50: 2.0, 95: 5.0, 99: 9.0})
    assert rows["POST one"] == Row(0, 0, {})

"""A run is judged by its failures and by an earlier run, never by absolute times."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.thresholds import TOTAL, Limits, Row, Verdict, judge, read_csv

LIMITS = Limits(0.0, {50: 1.5, 99: 2.0})


def make_row(p50: float = 2, p99: float = 10, *, requests: int = 1_000, failures: int = 0) -> Row:
    return Row(requests, failures, {50: p50, 99: p99})


def list_broken(run: dict[str, Row], baseline: dict[str, Row], limits: Limits = LIMITS) -> list[Verdict]:
    return [verdict for verdict in judge(run, baseline, limits) if not verdict.holds]


def test_a_run_like_its_baseline_passes() -> None:
    assert not list_broken({TOTAL: make_row(), "GET MSISDN": make_row()}, {TOTAL: make_row(), "GET MSISDN": make_row()})


@pytest.mark.parametrize(
    ("run", "what"), [(make_row(p50=4.1), "p50 ms against 2 before"), (make_row(p99=21.1), "p99 ms against 10 before")]
)
def test_a_percentile_beyond_its_ratio_fails(run: Row, what: str) -> None:
    (verdict,) = list_broken({TOTAL: run}, {TOTAL: make_row()})
    assert verdict.what == what
    assert str(verdict).startswith("FAIL")


def test_a_difference_of_one_millisecond_is_ignored() -> None:
    assert not list_broken({TOTAL: make_row(p50=2.5, p99=3)}, {TOTAL: make_row(p50=1, p99=1)})


def test_without_a_baseline_only_failures_count() -> None:
    assert not list_broken({TOTAL: make_row(p50=9_999)}, {})
    (verdict,) = list_broken({TOTAL: make_row(failures=1)}, {})
    assert verdict.measured == 0.001
    assert not list_broken({TOTAL: make_row(failures=1)}, {}, Limits(0.001, {}))


def test_a_row_of_few_calls_is_not_compared() -> None:
    assert not list_broken({TOTAL: make_row(), "POST one": make_row(p99=999, requests=50)}, {"POST one": make_row()})


@pytest.mark.parametrize("run", [{}, {TOTAL: make_row(requests=0)}])
def test_a_run_without_requests_fails(run: dict[str, Row]) -> None:
    assert list_broken(run, {})


def test_the_file_of_locust_is_read_by_method_and_name(tmp_path: Path) -> None:
    file = tmp_path / "hot_final.csv"
    file.write_text(
        "Type,Name,Request Count,Failure Count,50%,95%,99%,100%\n"
        "GET,MSISDN,900,1,2,5,9,30\nPOST,one,0,0,N/A,N/A,N/A,N/A\n,Aggregated,900,1,2,5,9,30\n"
    )
    rows = read_csv(file)
    assert rows["GET MSISDN"] == rows[TOTAL] == Row(900, 1, {50: 2.0, 95: 5.0, 99: 9.0})
    assert rows["POST one"] == Row(0, 0, {})

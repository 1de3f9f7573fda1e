"""A run is judged by its failures and by an earlier run, never by absolute times."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.thresholds import TOTAL, Limits, Row, Verdict, compare, judge, name_calls, read_csv

LIMITS = Limits(0.0, {50: 1.5, 99: 2.0})


def make_row(p50: float = 2, p99: float = 10, *, requests: int = 1_000, failures: int = 0) -> Row:
    return Row(requests, failures, {50: p50, 99: p99})


def list_broken(run: dict[str, Row], baseline: dict[str, Row], limits: Limits = LIMITS) -> list[Verdict]:
    return [verdict for verdict in judge(run, baseline, limits) if not verdict.holds]


def test_a_run_like_its_baseline_passes() -> None:
    assert not list_broken({TOTAL: make_row(), "GET MSISDN": make_row()}, {TOTAL: make_row(), "GET MSISDN": make_row()})


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (make_row(p50=4.1), "FAIL all calls: p50 4.1 ms (limit 4 ms; 2 ms in the baseline)"),
        (make_row(p99=21.1), "FAIL all calls: p99 21.1 ms (limit 21 ms; 10 ms in the baseline)"),
    ],
)
def test_a_percentile_beyond_its_ratio_fails(run: Row, text: str) -> None:
    (verdict,) = list_broken({TOTAL: run}, {TOTAL: make_row()})
    assert str(verdict) == text


def test_a_difference_of_one_millisecond_is_ignored() -> None:
    assert not list_broken({TOTAL: make_row(p50=2.5, p99=3)}, {TOTAL: make_row(p50=1, p99=1)})


def test_without_a_baseline_only_failures_count() -> None:
    assert not list_broken({TOTAL: make_row(p50=9_999)}, {})
    (verdict,) = list_broken({TOTAL: make_row(failures=1)}, {})
    assert str(verdict) == "FAIL all calls: 0.10% of the answers were wrong or failed (limit 0.00%)"
    assert not list_broken({TOTAL: make_row(failures=1)}, {}, Limits(0.001, {}))


def test_a_row_of_few_calls_is_not_compared() -> None:
    assert not list_broken({TOTAL: make_row(), "POST one": make_row(p99=999, requests=50)}, {"POST one": make_row()})


@pytest.mark.parametrize("run", [{}, {TOTAL: make_row(requests=0)}])
def test_a_run_without_requests_fails(run: dict[str, Row]) -> None:
    (verdict,) = list_broken(run, {})
    assert str(verdict) == "FAIL all calls: no request was answered"


def test_the_file_of_locust_is_read_by_method_and_name(tmp_path: Path) -> None:
    file = tmp_path / "hot_final.csv"
    file.write_text(
        "Type,Name,Request Count,Failure Count,Requests/s,50%,95%,99%,100%\n"
        "GET,MSISDN,900,1,45.5,2,5,9,30\nPOST,one,0,0,0.0,N/A,N/A,N/A,N/A\n,Aggregated,900,1,45.5,2,5,9,30\n"
    )
    rows = read_csv(file)
    assert rows["GET MSISDN"] == rows[TOTAL] == Row(900, 1, {50: 2.0, 95: 5.0, 99: 9.0}, 45.5)
    assert rows["POST one"] == Row(0, 0, {})


# The comparison in words --------------------------------------------------------------------------------------


BUSY = "other programs used 1.30 of 2 cores during the run (limit 0.20)"


@pytest.mark.parametrize(
    ("run", "baseline", "disturbance", "reason"),
    [
        ({TOTAL: make_row()}, None, "", "no baseline was given (--baseline DIR)"),
        ({TOTAL: make_row()}, {}, "", "the baseline does not have this profile"),
        ({}, {TOTAL: make_row()}, "", "no request was answered"),
        ({TOTAL: make_row(requests=0)}, {TOTAL: make_row()}, "", "no request was answered"),
        ({TOTAL: make_row(requests=150)}, {TOTAL: make_row()}, "", "150 requests here and 1,000 in the baseline are"),
        ({TOTAL: make_row()}, {TOTAL: make_row(requests=9)}, "", "1,000 requests here and 9 in the baseline are too"),
        ({TOTAL: Row(1_000, 0, {})}, {TOTAL: make_row()}, "", "1,000 requests here and 1,000 in the baseline are"),
        ({TOTAL: make_row()}, {TOTAL: make_row()}, BUSY, BUSY),
        ({TOTAL: make_row(p99=999)}, {TOTAL: make_row()}, BUSY, BUSY),
    ],
)
def test_a_run_that_was_not_compared_gives_the_reason(
    run: dict[str, Row], baseline: dict[str, Row] | None, disturbance: str, reason: str
) -> None:
    made, slower, text = compare(run, baseline, LIMITS, disturbance)
    assert (made, slower) == (False, False)
    assert text.startswith(f"not compared: {reason}")


def test_a_comparison_counts_what_it_compared_and_names_what_is_slower() -> None:
    run = {TOTAL: make_row(), "GET MSISDN": make_row(), "POST one": make_row(requests=7)}
    baseline = {TOTAL: make_row(), "GET MSISDN": make_row(), "POST one": make_row()}
    assert compare(run, baseline, LIMITS) == (
        True,
        False,
        "not slower than the baseline: 4 percentiles compared; too few requests to compare: registrations of one alias",
    )
    slow = compare({**run, "GET MSISDN": make_row(p99=50)}, baseline, LIMITS)
    assert (slow.made, slow.slower) == (True, True)
    assert slow.text == ("slower than the baseline: lookups of MSISDN: p99 50 ms (limit 21 ms; 10 ms in the baseline)")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (TOTAL, "all calls"),
        ("GET ACCOUNT_ID/CLABE", "lookups of ACCOUNT_ID/CLABE"),
        ("GET just registered", "lookups of an alias just registered"),
        ("POST one", "registrations of one alias"),
        ("POST bulk of 2000", "registrations, bulk of 2000"),
    ],
)
def test_calls_have_names_that_people_read(name: str, words: str) -> None:
    assert name_calls(name) == words

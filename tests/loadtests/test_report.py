"""A report shows the results with machine and commit, in one file that needs no other file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from loadtests import figures, machine, report
from loadtests.ceiling import parse
from loadtests.comparison import HEADS, compute_medians, compute_ratio, format_comparison, make_rows
from loadtests.load import choose_exit_code, describe, summarise
from loadtests.machine import Surroundings, Times, Watch, compute_others
from loadtests.overload import Point
from loadtests.peers import find_missing_programs
from loadtests.plots import draw_plot
from loadtests.stack import read_cpu, read_exact_cpu
from loadtests.thresholds import TOTAL, Row

QUIET = Surroundings(2, load_before=0.1, others_before=0.01, others=0.03, stolen=0.0, seconds=20.0)
BUSY = QUIET._replace(others=1.3)
ROWS = {TOTAL: Row(400, 0, {50: 2.0, 95: 5.0, 99: 9.0}, 20.0)}
BASELINE = {TOTAL: Row(800, 0, {50: 2.0, 95: 5.0, 99: 9.0}, 40.0)}
SEALING = {
    "registrations": {"off": 900.0, "on": 850.0, "ratio": 0.944, "rounds": {"off": [1.0], "on": [1.0]}},
    "bulk": {"off": 9_000.0, "on": 8_500.0, "ratio": 0.944, "rounds": {"off": [1.0], "on": [1.0]}},
    "sealing": {"events": 1_000, "rate": 200_000.0, "cpu_us": 4.2},
    "verification": {"seconds": 1.0, "cpu_s": 0.9, "resident_mib": 60.0, "summary": "all is well"},
    "bytes_an_event": {"events": 300.0},
    "tampering": {"seconds": 1.0, "findings": ["altered: event 7 "]},
    "missed": [],
}


def make_measurement(server: float, rate: float = 20_000.0) -> dict[str, float]:
    zero = dict.fromkeys(("redis_user", "redis_system", "postgres"), 1.0)
    return {
        "rate": rate,
        "p50_ms": 2.0,
        "p99_ms": 9.0,
        "server_user": server,
        "server_system": 1.0,
        "share": 1.0,
        **zero,
    }


def make_comparison(aliases: int) -> dict[str, Any]:
    sweep = [{"side": "compiled", "connections": 4, **make_measurement(20.0, rate)} for rate in (5_000.0, 9_000.0)]
    return {
        "workers": 1,
        "aliases": aliases,
        "keys": 1_000,
        "rounds": {
            "cached/compiled": [make_measurement(20.0), make_measurement(90.0), make_measurement(30.0)],
            "cached/c": [make_measurement(8.0), make_measurement(40.0), make_measurement(10.0)],
            "cached/nginx": [make_measurement(14.0), make_measurement(60.0), make_measurement(20.0)],
            "cold/interpreted": [make_measurement(40.0)],
        },
        "sweep": sweep,
    }


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert compute_medians(make_comparison(1_000_000)["rounds"]["cached/compiled"])["server"] == 31.0


def test_a_ratio_compares_the_sides_of_the_same_round() -> None:
    rounds = make_comparison(1_000_000)["rounds"]
    ours, nginx = rounds["cached/compiled"], rounds["cached/nginx"]
    # 23/17, 93/63, 33/23 with the 2 of Redis and the 1 of the kernel: medians of each side would give 33/23 alone.
    assert compute_ratio(ours, nginx, "both") == pytest.approx(33 / 23)
    assert compute_ratio(ours[:2], nginx[:2], "both") == pytest.approx((23 / 17 + 93 / 63) / 2)
    assert compute_ratio(ours, nginx, "postgres") == 1.0
    assert compute_ratio(ours, [{**one, "postgres": 0.0} for one in nginx], "postgres") is None


def test_a_row_has_the_ratios_to_the_sides_that_were_measured_in_its_case() -> None:
    rows = {tuple(row[:2]): dict(zip(HEADS, row[2:], strict=True)) for row in make_rows(make_comparison(1_000_000))}
    ours = rows["cached lookups", "oracle, compiled"]
    assert (ours["server + Redis µs"], ours["µs / C"], ours["µs / nginx"]) == ("33.0", "2.16", "1.43")
    assert ours["as intended"] == "100.00%"
    floor, nginx = rows["cached lookups", "C (the floor)"], rows["cached lookups", "nginx + Lua"]
    assert (floor["µs / C"], floor["µs / nginx"], nginx["µs / nginx"], nginx["as intended"]) == ("", "0.65", "", "")
    cold = rows["lookups that are not in the cache", "oracle, interpreted"]
    assert (cold["server + Redis µs"], cold["µs / C"], cold["µs / nginx"]) == ("43.0", "", "")
    assert (cold["PostgreSQL µs"], ours["PostgreSQL µs"]) == ("1.0", "")  # only cold lookups ask it


def test_both_files_show_all_saved_results(tmp_path: Path) -> None:
    for aliases in (1_000_000, 10_000_000):
        machine.save("ceiling", {"keys": 1_000}, [make_comparison(aliases)], tmp_path)
    machine.save("load", {"users": 3}, [summarise("hot", ROWS, None, QUIET)], tmp_path, QUIET)
    kept = json.loads(machine.save("during_import", {}, {"p99_ms_ratio": 4.5}, tmp_path).read_text())["machine"]
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "broken.json").write_text("{")
    history = tmp_path / "load" / "hot_stats_history.csv"
    history.parent.mkdir()
    history.write_text("Timestamp,Name,99%\n100,Aggregated,N/A\n101,Aggregated,7\n102,Aggregated,9\n")

    text, page = (file.read_text() for file in report.write(tmp_path))

    p99 = "| p99 of lookups, during the import / quiet | 4.50 × |"
    for wanted in (
        "cached lookups",
        "µs / nginx",
        "| hot: few parties often | 400 |",
        p99,
        kept["commit"],
        kept["cpu"],
    ):
        assert wanted in text
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    titles = [ET.fromstring(one).findtext("{http://www.w3.org/2000/svg}text") for one in plots]  # noqa: S314 - ours
    assert titles == [
        "Latency over time, by profile",
        "Throughput against p99, cached, by connections",
        "Cost against directory size",
    ]
    assert "src=" not in page
    assert "href=" not in page


def test_a_report_without_results_can_be_written(tmp_path: Path) -> None:
    assert all(file.exists() for file in report.write(tmp_path / "new"))


def test_results_of_one_program_are_saved_side_by_side(tmp_path: Path) -> None:
    first = machine.save("load", {}, [], tmp_path)
    assert json.loads(first.read_text())["machine"].keys() >= {"cpu", "cores", "kernel", "python", "commit"}


@pytest.mark.parametrize("log_x", [False, True])
def test_a_plot_draws_any_points_and_shows_names_as_text(log_x: bool) -> None:
    drawn = draw_plot(
        "<t>", "x & y", "y", {"a<b": [(1.0, 0.0), (1e8, 5.0)], "c": [(10.0, 0.001)], "none": []}, log_x=log_x
    )
    root = ET.fromstring(drawn)  # noqa: S314 - ours
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<t>", "x & y", "a<b", "c"} <= set(texts)
    assert "none" not in texts
    assert "nothing measured" in draw_plot("t", "x", "y", {"a": []})


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert {"wrk", "nginx"} <= set(find_missing_programs())


def test_lists_of_numbers_are_read() -> None:
    assert parse(["--workers", "1,2", "--sweep", "4,16"]).workers == [1, 2]
    with pytest.raises(SystemExit):
        parse(["--workers", "0"])


# What a person reads ----------------------------------------------------------------------------------------------


def save_every_result(reports: Path, surroundings: Surroundings) -> None:
    point = Point("cached", "each asks again at once", 64, 900.0, 800.0, 0.0, 1.0, 2.0, 0.0, 0.9, 25.0, 0)
    history = {"1,000,000": {"as of an instant": {"ms": 1.0, "p99 ms": 2.0}, "diff": {"s": 1.5, "aliases": 100}}}
    flat = {name: 1.0 for name in figures.FIGURES if name.endswith(("_s", "_mib", "_ratio", "_quiet", "_beside"))}
    for tool, found in {
        "ceiling": [make_comparison(1_000)],
        "load": [summarise("writes", ROWS, BASELINE, surroundings)],
        "overload": [point._asdict()],
        "sealing": SEALING,
        "history": history,
        "during_import": flat,
        "file_import": flat,
    }.items():
        machine.save(tool, {"open_connections": 5, "duration_s": 20}, found, reports, surroundings)


def test_a_report_has_no_name_of_the_program(tmp_path: Path) -> None:
    save_every_result(tmp_path, QUIET)
    text, _ = (file.read_text() for file in report.write(tmp_path))
    libraries = next(line for line in text.splitlines() if line.startswith("| libraries"))
    assert re.findall(r"\b[a-z]+_[a-z_0-9]+\b", text.replace(libraries, "")) == []
    assert not re.search(r"\b\d{8}T\d{6}Z\b", text)
    assert "None" not in text
    assert re.search(r"\| measured at \| \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \|", text)


@pytest.mark.parametrize("surroundings", [QUIET, BUSY])
def test_every_table_tells_if_it_is_valid_for_comparison(tmp_path: Path, surroundings: Surroundings) -> None:
    save_every_result(tmp_path, surroundings)
    text, _ = (file.read_text() for file in report.write(tmp_path))
    valid = re.findall(r"^\| valid for comparison \| (.*) \|$", text, re.MULTILINE)
    busy = "NO: other programs used 1.30 of 2 cores during the run (limit 0.20)"
    assert valid == 7 * [busy if surroundings is BUSY else "yes"]
    assert ("not compared: the run is not valid for comparison. NOT VALID" in text) == (surroundings is BUSY)


def test_a_profile_is_described_with_its_rate_duration_and_errors() -> None:
    first, comparison = describe(summarise("hot", ROWS, BASELINE, QUIET))
    assert first == (
        "ok   hot        400 requests in 20.0 s, 20 requests/s; p50 2 ms, p95 5 ms, p99 9 ms; 0 wrong or failed answers"
    )
    assert comparison == "     not slower than the baseline: 3 percentiles compared"
    assert describe(summarise("hot", ROWS, None, QUIET))[1].startswith("     not compared: no baseline was given")


def test_a_busy_machine_is_named_and_its_times_are_not_compared() -> None:
    slow = {TOTAL: Row(400, 0, {50: 2.0, 95: 5.0, 99: 900.0}, 20.0)}
    one = summarise("hot", slow, BASELINE, BUSY)
    assert (one["held"], one["compared"]) == (True, False)
    assert describe(one)[-1] == (
        "     ! NOT VALID FOR COMPARISON: other programs used 1.30 of 2 cores during the run (limit 0.20)"
    )
    earlier = summarise("hot", slow, BASELINE, QUIET, "other programs used 1.00 of 2 cores during the run")
    assert earlier["comparison"] == (
        "not compared: the baseline is not valid for comparison: other programs used 1.00 of 2 cores during the run"
    )


def test_a_phase_that_was_too_short_is_not_compared() -> None:
    short = summarise("hot", ROWS, BASELINE, QUIET, duration_s=60)
    assert (short["held"], short["compared"]) == (True, False)
    assert describe(short)[-1].startswith("     ! NOT VALID FOR COMPARISON: requests were sent for 20.0 of 60 s: ")
    assert summarise("hot", ROWS, BASELINE, QUIET, duration_s=21)["compared"]


def test_wrong_answers_fail_a_run_on_any_machine() -> None:
    wrong = {TOTAL: Row(400, 4, {50: 2.0}, 20.0)}
    for surroundings in (QUIET, BUSY, None):
        one = summarise("hot", wrong, None, surroundings)
        assert not one["held"]
        assert "     all calls: 1.00% of the answers were wrong or failed (limit 0.00%)" in describe(one)
    nothing = summarise("hot", {TOTAL: Row(0, 0, {})}, BASELINE, QUIET)
    assert describe(nothing)[0].startswith("FAIL hot        0 requests in 0.0 s, 0 requests/s; p50 -, p95 -, p99 -;")


def test_the_exit_code_shows_a_comparison_that_could_not_be_made() -> None:
    same, quiet, busy = (
        summarise("hot", ROWS, *given) for given in ((BASELINE, QUIET), (None, QUIET), (BASELINE, BUSY))
    )
    assert choose_exit_code([same], compares=True) == 0
    assert choose_exit_code([quiet], compares=False) == 0
    assert choose_exit_code([same, busy], compares=True) == 2
    slow = summarise("hot", {TOTAL: Row(400, 0, {50: 99.0}, 20.0)}, BASELINE, QUIET)
    assert choose_exit_code([slow, busy], compares=True) == 1


@pytest.mark.parametrize(
    ("surroundings", "reason"),
    [
        (QUIET, ""),
        (BUSY, "other programs used 1.30 of 2 cores during the run (limit 0.20)"),
        (
            QUIET._replace(stolen=0.5),
            "the host of this virtual machine took 0.50 of 2 cores during the run (limit 0.20)",
        ),
        (QUIET._replace(others_before=2.0), "other programs used 2.00 of 2 cores just before the run (limit 0.20)"),
        (QUIET._replace(load_before=9.0), ""),  # of a run of our own that has just ended
    ],
)
def test_a_machine_is_judged_by_what_others_use(surroundings: Surroundings, reason: str) -> None:
    assert surroundings.find_disturbance() == reason


def test_cpu_is_read_in_steps_and_exactly() -> None:
    began = read_exact_cpu([os.getpid()])
    while read_exact_cpu([os.getpid()]).since(began).total < 0.05:
        sum(range(10_000))
    counted, exact = read_cpu([os.getpid()]), read_exact_cpu([os.getpid()])
    assert exact.since(began).total >= 0.05
    assert exact.user / exact.total == pytest.approx(counted.user / counted.total, rel=0.1)


def test_our_own_work_is_not_that_of_others() -> None:
    assert compute_others(Times(0.0, 100.0, 7.0, 10.0), Times(10.0, 112.0, 8.0, 21.0)) == (0.1, 0.1)
    assert compute_others(Times(0.0, 100.0, 7.0, 10.0), Times(10.0, 101.0, 7.0, 21.0)) == (0.0, 0.0)
    watch = Watch(before_s=0)
    spent = machine.read_times()
    sum(range(2_000_000))
    assert machine.read_times().own > spent.own
    assert watch.end().cores == machine.count_cores()


def test_a_comparison_has_a_line_for_each_side_and_fits_a_terminal() -> None:
    lines = list(format_comparison(make_comparison(1_000_000)))
    assert lines[0] == "1 worker(s) each, 1,000 keys of 1,000,000 aliases"
    text = "\n".join(lines)
    first, last = "requests/s", "sum µs"
    assert re.search(rf"^cached lookups\n +{first} .* {last} +/ C +/ nginx$", text, re.MULTILINE)
    assert re.search(r"^oracle, compiled +20,000 .* 33\.0 +2\.16 +1\.43$", text, re.MULTILINE)
    assert re.search(rf"^lookups that are not in the cache\n +{first} .* {last}$", text, re.MULTILINE)
    assert max(map(len, lines)) <= 120

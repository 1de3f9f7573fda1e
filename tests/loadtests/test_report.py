"""A report shows the results with machine and commit, in one file that needs no other file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from loadtests import machine, report
from loadtests.ceiling import compute_medians, find_missing_programs, make_rows, parse
from loadtests.plots import draw_plot


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
    sweep = [{"side": "ours", "connections": 4, **make_measurement(20.0, rate)} for rate in (5_000.0, 9_000.0)]
    return {
        "workers": 1,
        "aliases": aliases,
        "keys": 1_000,
        "rounds": {
            "cached/ours": [make_measurement(20.0), make_measurement(90.0), make_measurement(30.0)],
            "cached/nginx": [make_measurement(14.0), make_measurement(14.0), make_measurement(14.0)],
            "cold/ours": [make_measurement(40.0)],
        },
        "sweep": sweep,
    }


def test_a_figure_is_the_median_of_its_rounds_and_a_ratio_compares_medians() -> None:
    found = make_comparison(1_000_000)
    assert compute_medians(found["rounds"]["cached/ours"])["server"] == 31.0
    ours, ceiling, ratio, cold = make_rows(found)
    assert [row[1] for row in (ours, ceiling, ratio, cold)] == ["ours", "nginx", "ours / nginx", "ours"]
    assert (ours[5], ceiling[5], ratio[5]) == ("31.0", "15.0", "2.07")


def test_both_files_show_all_saved_results(tmp_path: Path) -> None:
    for aliases in (1_000_000, 10_000_000):
        machine.save("ceiling", {"keys": 1_000}, [make_comparison(aliases)], tmp_path)
    line = {"requests": 5, "failures": 0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "held": True}
    machine.save("load", {"users": 3}, [{"profile": "hot", **line}], tmp_path)
    kept = json.loads(machine.save("during_import", {}, {"p99_ms_ratio": 4.5}, tmp_path).read_text())["machine"]
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "broken.json").write_text("{")
    history = tmp_path / "load" / "hot_stats_history.csv"
    history.parent.mkdir()
    history.write_text("Timestamp,Name,99%\n100,Aggregated,N/A\n101,Aggregated,7\n102,Aggregated,9\n")

    text, page = (file.read_text() for file in report.write(tmp_path))

    for wanted in ("cached", "ours / nginx", "| hot | 5 |", "p99_ms_ratio", kept["commit"], kept["cpu"]):
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

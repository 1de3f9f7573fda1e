"""What k6 is given and what is made of its figures; and k6 itself, where it is installed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtests import k6, machine
from loadtests.k6 import BROKEN, INSTALLED, MISSING, PROFILES, find_k6, make_plan, parse, read_rows, summarise
from loadtests.load import Target
from loadtests.machine import Surroundings
from loadtests.stack import StackError
from loadtests.thresholds import OPEN_LIMITS_MS, TOTAL, Row, find_broken_limits

QUIET = Surroundings(2, load_before=0.1, others_before=0.01, others=0.03, stolen=0.0, seconds=20.0)
BUSY = QUIET._replace(others=1.3)
TARGET = Target("http://127.0.0.1:1", 1_000)


def make_summary(p95: float = 2.0, p99: float = 4.0, wrong: int = 0, dropped: int = 0) -> dict[str, Any]:
    """Make what index.js writes: figures of k6 for all lookups and for one kind."""
    times = {"values": {"count": 400, "p(50)": 1.0, "p(95)": p95, "p(99)": p99}}
    nothing = {"values": {"count": 0, "p(50)": 0, "p(95)": 0, "p(99)": 0}}
    counts = {"values": {"count": wrong}}
    return {
        "milliseconds": 20_000,
        "metrics": {
            "http_req_duration": times,
            "http_req_duration{expected_response:true}": times,
            "http_req_duration{name:MSISDN}": times,
            "http_req_duration{name:PERSONAL_ID/NRC}": nothing,
            "wrong_answers": counts,
            "wrong_answers{name:MSISDN}": counts,
            **({"dropped_iterations": {"values": {"count": dropped}}} if dropped else {}),
        },
    }


def test_the_plan_has_the_lookups_headers_and_limits_of_locust() -> None:
    plan = make_plan("hot", TARGET, parse(["--rate", "30", "--duration", "2"]))
    assert (plan["rate"], plan["duration_s"], plan["endpoint"]) == (30, 2, TARGET.url)
    assert plan["limits_ms"] == {str(at): limit for at, limit in OPEN_LIMITS_MS.items()}
    assert plan["headers"]["fspiop-source"] == "fsp-001"
    name, target, answer = plan["lookups"][0]
    assert len(plan["lookups"]) == 60
    assert target.startswith(f"/participants/{name.partition('/')[0]}/")
    assert answer["partyList"][0]["fspId"].startswith("fsp-")
    json.dumps(plan)


def test_an_identifier_that_must_be_asked_once_is_planned_once() -> None:
    plan = make_plan("misses", TARGET, parse(["--rate", "6000", "--duration", "10"]))
    assert len({target for _, target, _ in plan["lookups"]}) == 60_000


def test_the_scripts_have_no_limit_and_no_rate_of_their_own() -> None:
    text = (k6.SCRIPT).read_text(encoding="utf-8")
    assert "plan.limits_ms" in text
    assert "rate: plan.rate" in text
    assert not [limit for limit in OPEN_LIMITS_MS.values() if f"<{limit:g}" in text]


def test_the_figures_of_k6_are_rows_like_those_of_locust() -> None:
    assert read_rows(make_summary(wrong=3)) == {
        TOTAL: Row(400, 3, {50: 1.0, 95: 2.0, 99: 4.0}, 20.0),
        "GET MSISDN": Row(400, 3, {50: 1.0, 95: 2.0, 99: 4.0}, 20.0),
        "GET PERSONAL_ID/NRC": Row(0, 0, {}, 0.0),
    }


@pytest.mark.parametrize(
    ("summary", "surroundings", "held", "text"),
    [
        (make_summary(), QUIET, True, "within the limits: p95 10 ms, p99 50 ms, no lookup dropped"),
        (make_summary(p95=12.0), QUIET, False, "over the limits: p95 12 ms (limit 10 ms)"),
        (make_summary(p95=12.0), BUSY, True, "not judged, over the limits: p95 12 ms (limit 10 ms)"),
        (make_summary(dropped=7), QUIET, False, "over the limits: 7 lookups dropped, because all connections waited"),
        (make_summary(wrong=1), BUSY, False, "within the limits"),
    ],
)
def test_times_are_judged_on_a_quiet_machine_and_answers_on_any(
    summary: dict[str, Any], surroundings: Surroundings, held: bool, text: str
) -> None:
    one = summarise("hot", summary, surroundings, 20.0)
    assert (one["held"], one["comparison"][: len(text)]) == (held, text)


def test_a_figure_at_the_limit_breaks_it() -> None:
    assert not list(find_broken_limits(Row(400, 0, {95: 9.99, 99: 49.9}), 0))
    assert len(list(find_broken_limits(Row(400, 0, {95: 10.0, 99: 50.0}), 1))) == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--rate", "0"], "argument --rate: '0' is not a whole number of at least 1, without a unit"),
        (["--profiles", "writes"], "the profile writes is one of locust's: use `make load`"),
        (["--profiles", "warm"], "unknown profiles: warm; use hot, uniform"),
        (["--host", "localhost:3000"], "is not a URL; write http://localhost:3000"),
        (["--profiles", "all", "--host", "http://x"], "cold and redis-down need servers that this program starts"),
    ],
)
def test_arguments_that_no_run_can_use_are_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(words)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err
    assert "writes" not in PROFILES


def test_without_k6_the_program_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["k6"])
    monkeypatch.setattr(k6, "INSTALLED", tmp_path / "absent")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("K6", "")
    assert k6.main() == 2
    assert capsys.readouterr().err == f"k6: {MISSING}\n"
    monkeypatch.setenv("K6", "/absent/k6")
    assert k6.main() == 2
    assert capsys.readouterr().err == "k6: K6=/absent/k6 is not a program: name k6 itself\n"


def test_only_its_own_lock_file_names_k6() -> None:
    locks = [lock for lock in machine.ROOT.glob("requirements*.lock") if "\nk6==" in f"\n{lock.read_text()}"]
    assert locks == []
    assert "k6==" in (machine.ROOT / "loadtests" / "k6" / "requirements.lock").read_text()
    assert "k6" not in (machine.ROOT / "pyproject.toml").read_text()


# With k6 ----------------------------------------------------------------------------------------------------


@contextmanager
def serve(body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.skipif(find_k6() is None, reason="k6 is not installed")
@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'{"partyList":[]}', False),
        (b'{"partyList":[{"fspId":"fsp-001"}]}', True),
        (b'{"partyList":[],"more":1}', True),
        (b"no JSON", True),
    ],
)
def test_k6_counts_every_wrong_answer(
    body: bytes, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k6, "FOLDER", tmp_path)
    arguments = parse(["--rate", "20", "--duration", "1", "--users", "2", "--profiles", "unknown"])
    with serve(body) as url:
        found = k6.run(str(find_k6()), "unknown", Target(url, 1_000), arguments)
    rows = read_rows(found)
    assert rows[TOTAL].requests > 0
    assert rows[TOTAL].failures == (rows[TOTAL].requests if wrong else 0)
    assert sum(row.requests for name, row in rows.items() if name != TOTAL) == rows[TOTAL].requests


@pytest.mark.skipif(find_k6() is None, reason="k6 is not installed")
def test_a_k6_that_cannot_run_is_shown_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k6, "FOLDER", tmp_path)
    monkeypatch.setattr(k6, "SCRIPT", tmp_path / "absent.js")
    with pytest.raises(StackError, match=r"k6 did not run:\n.*absent\.js"):
        k6.run(str(find_k6()), "hot", TARGET, parse(["--rate", "1", "--duration", "1"]))
    assert BROKEN == 99
    assert INSTALLED.parts[-3:] == ("k6", "bin", "k6")

"""The first page, and the health of the service: who sees what, what is wrong in words, and plots."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from console_people import check_accessible, issue, sign_in
from oracle_process import until
from playwright.async_api import expect

from oracle.api.console.formats import DASH, format_number
from oracle.api.console.pages.health import draw_plots, find_problems
from oracle.api.console.plots import HEIGHT, ROWS_MAX, WIDTH, Line, draw, find_top

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin_service import Service
    from browser import Tab
    from console_people import Person

WITHOUT_HUB = True
HEAD: Final = "kind,identifier,sub_id,currency,country,action\n"
NASTY: Final = '<script>alert(1)</script> "</td>.csv'
NOW: Final = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(service: Service) -> Service:
    """Greenbank has two persons: a file and a change of its maker wait; one file was not accepted."""
    maker = service.client("dfsp-maker", "greenbank")
    etag = service.operator.get("/fsps/greenbank").headers["etag"]
    two = service.operator.patch("/fsps/greenbank", json={"twoPersons": True}, headers={"if-match": etag})
    two.raise_for_status()
    change = maker.post("/fsps/greenbank/aliases", json={"kind": "MSISDN", "identifier": "+525512345678"})
    assert change.status_code == 202
    for name, text in ((NASTY, f"{HEAD}MSISDN,+525512345679,,MXN,,add\n"), ("broken.csv", "no,columns\n1,2\n")):
        sent = maker.post("/fsps/greenbank/batches", params={"fileName": name}, content=text.encode(),
                          headers={"content-type": "text/csv"})  # fmt: skip
        assert sent.status_code == 201, sent.text
    until(lambda: [one["state"] for one in maker.get("/fsps/greenbank/batches").json()["items"]]
          == ["failed", "waiting", "waiting"])  # fmt: skip
    return service


# The first page ---------------------------------------------------------------------------------------------------


def read_home(person: Person) -> str:
    answer = person.get("/console")
    assert answer.status_code == 200, answer.text
    return str(answer.text).partition("<main")[2]


@pytest.mark.usefixtures("filled")
def test_a_checker_sees_what_waits(person: Callable[..., Person]) -> None:
    text = read_home(person("dfsp-checker", "greenbank"))
    assert "Add an alias: +52 55 1234 5678" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "The service now" not in text
    assert "Nothing waits for you" in read_home(person("dfsp-checker", "redbank"))


def test_a_maker_sees_what_failed_and_what_waits_for_others(filled: Service, person: Callable[..., Person]) -> None:
    maker = person("dfsp-maker", "greenbank")
    assert "Nothing waits for you" in read_home(maker)  # another maker of the same FSP uploaded all
    key = filled.issue("dfsp-maker", "greenbank")
    mine = filled.as_key(key)
    mine.post(
        "/fsps/greenbank/batches", params={"fileName": "mine.csv"}, content=b"no,columns\n1,2\n",
        headers={"content-type": "text/csv"},
    ).raise_for_status()  # fmt: skip
    mine.post("/fsps/greenbank/aliases", json={"kind": "MSISDN", "identifier": "+525512345670"}).raise_for_status()
    until(lambda: mine.get("/fsps/greenbank/batches?state=failed&limit=1").json()["items"][0]["fileName"] == "mine.csv")
    maker.sign_in(key)
    text = read_home(maker)
    assert re.search(r"Not accepted</span>\s*<a [^>]*><bdi>mine.csv", text)
    assert "The first line does not contain the column names" in text
    assert "1 upload or change of yours waits for a checker." in text
    assert "Look for doubtful aliases" in text
    assert maker.get("/console/doubts").status_code == 200


@pytest.mark.usefixtures("filled")
def test_staff_sees_the_service_and_nobody_sees_another_fsp(person: Callable[..., Person]) -> None:
    for role in ("operator", "auditor", "reader"):
        text = read_home(person(role))
        assert "The service now" in text
        assert "broken.csv" in text
    assert "Waiting for approval</th>" in read_home(person("operator"))
    stranger = person("dfsp-maker", "redbank")
    assert "broken.csv" not in read_home(stranger)
    elsewhere = stranger.get("/console?fsp=greenbank")
    assert "broken.csv" not in elsewhere.text
    assert stranger.get("/console/doubts?fsp=greenbank").status_code == 200
    for hostile in ("%00", "<script>", "a" * 10_000):
        assert stranger.get("/console", params={"fsp": hostile}).status_code < 500
    assert stranger.get("/console/health").status_code == 403
    assert stranger.get("/console/health/now").status_code == 403


def test_an_operator_sees_that_an_fsp_waits_to_be_confirmed(filled: Service, person: Callable[..., Person]) -> None:
    operator, line = person("operator"), "FSP that nobody has confirmed"
    assert line not in read_home(operator)
    filled.fetch("INSERT INTO fsps (fsp_id, status) VALUES ('newbank', 'provisional')")
    assert f'<a href="/console/fsps?status=provisional"><bdi>1 {line}</bdi></a>' in read_home(operator)
    for other in (person("auditor"), person("dfsp-maker", "redbank")):
        assert line not in read_home(other)
    shown = operator.get("/console/fsps?status=provisional").text
    assert "newbank" in shown
    assert "redbank" not in shown.partition("<main")[2]
    filled.fetch("UPDATE fsps SET status = 'active' WHERE fsp_id = 'newbank'")


# Health -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_health_shows_processes_stores_and_plots(person: Callable[..., Person]) -> None:
    operator = person("operator")
    page = operator.get("/console/health")
    assert page.text.count('<figure class="plot"') == 6
    for expected in ("Everything works.", "Administration", "Background jobs", "PostgreSQL", "Redis", "every 15s"):
        assert expected in page.text, expected
    assert "style=" not in page.text
    still = operator.get("/console/health?refresh=off").text
    assert "every 15s" not in still
    assert "Start refreshing" in still
    part = operator.get("/console/health/now", headers={"hx-request": "true"}).text
    assert part.lstrip().startswith('<div id="health"')


def test_a_page_that_refreshes_itself_does_not_keep_the_session(filled: Service, person: Callable[..., Person]) -> None:
    operator = person("operator")
    actor = operator.key.split("_")[1]
    age = "UPDATE console_sessions SET seen_at = now() - interval '10 minutes' WHERE actor = $1"
    rests = "SELECT now() - seen_at AS rests FROM console_sessions WHERE actor = $1"
    filled.fetch(age, actor)
    assert operator.get("/console/health/now").status_code == 200
    assert filled.fetch(rests, actor)[0]["rests"] > timedelta(minutes=9)
    assert operator.get("/console/health").status_code == 200
    assert filled.fetch(rests, actor)[0]["rests"] < timedelta(minutes=1)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_refresh_keeps_focus_and_what_is_open(filled: Service, tab: Tab) -> None:
    await sign_in(tab, filled, await issue(filled, "operator"))
    page = tab.page
    await page.clock.install()
    await page.goto(f"{filled.oracle.admin_url}/console/health")
    values = page.locator("#health summary").first
    await values.press("Enter")
    await page.evaluate("document.querySelector('#health').dataset.before = 'yes'")
    async with page.expect_response("**/console/health/now") as answer:
        await page.clock.run_for(16_000)
    assert (await answer.value).status == 200
    await expect(page.locator("#health details").first).to_have_attribute("open", "")
    await expect(values).to_be_focused()
    await check_accessible(page)
    await page.get_by_role("link", name="Stop refreshing").click()
    await expect(page.get_by_role("link", name="Start refreshing")).to_be_visible()
    assert tab.complaints == []


def make_state(**changed: Any) -> dict[str, Any]:
    """A state in which everything works."""
    state: dict[str, Any] = {
        "parts": [], "failingJobs": [], "processes": [{"certificateExpiresAt": None}],
        "database": {"connections": 5, "connectionsMax": 100}, "cache": {"memoryBytes": 1, "memoryMaxBytes": 100},
        "sealing": {"directoryDifferences": None}, "als": {"registered": {"MSISDN": True}},
        "imports": {"stalledS": 0.0}, "calls": {"hostsBlocked": 0}, "budgets": {"mode": "observe", "empty": 3},
    }  # fmt: skip
    return state | changed


@pytest.mark.parametrize(
    ("changed", "kind", "expected"),
    [
        (
            {"parts": [{"name": "datastore", "status": "DOWN", "reason": "refused"}]},
            "bad",
            "PostgreSQL does not answer",
        ),
        ({"parts": [{"name": "cache", "status": "DOWN", "reason": None}]}, "warn", "Redis does not answer"),
        ({"parts": [{"name": "changes", "status": "DOWN", "reason": "x"}]}, "bad", "takes no changes"),
        ({"parts": [{"name": "sealing", "status": "DOWN", "reason": "x"}]}, "bad", "not sealed in time"),
        ({"database": {"connections": 95, "connectionsMax": 100}}, "warn", "95 of at most 100"),
        ({"cache": {"memoryBytes": 95, "memoryMaxBytes": 100}}, "warn", "95%"),
        ({"failingJobs": ["imports"]}, "bad", "cannot work: files."),
        ({"sealing": {"directoryDifferences": 1}}, "bad", "1 difference between"),
        ({"als": {"registered": {"MSISDN": True, "IBAN": False}}}, "warn", "oracle for: IBAN."),
        ({"processes": [{"certificateExpiresAt": "2026-12-01T12:00:00Z"}]}, "warn", "expires in 2 days"),
        ({"processes": [{"certificateExpiresAt": "2026-11-01T12:00:00Z"}]}, "bad", "has expired"),
        ({"imports": {"stalledS": 600.0}}, "warn", "10 minutes"),
        ({"calls": {"hostsBlocked": 2}}, "warn", "2 hosts are not called"),
        ({"budgets": {"mode": "enforce", "empty": 1}}, "warn", "1 FSP has used up its budget"),
    ],
)
def test_what_is_wrong_is_said_in_words(changed: dict[str, Any], kind: str, expected: str) -> None:
    (found,) = find_problems(make_state(**changed), NOW)
    assert found.kind == kind
    assert expected in found.text


def test_nothing_is_wrong_with_a_service_that_works() -> None:
    assert list(find_problems(make_state(), NOW)) == []


# Plots ------------------------------------------------------------------------------------------------------------


def write(value: float | None) -> str:
    return DASH if value is None else format_number(value)


def test_a_plot_has_gaps_where_nothing_is_known() -> None:
    times = [NOW + timedelta(seconds=15 * number) for number in range(5)]
    plot = draw("x", "X", times, [Line("a", [1, None, 2, 4, None])], write, span_s=60)
    (line,) = plot.lines
    assert line.dots == f"M0 {HEIGHT * 0.8:.1f}h0"
    assert line.path == f"M{WIDTH / 2:.0f} {HEIGHT * 0.6:.1f}L{WIDTH * 0.75:.0f} {HEIGHT * 0.2:.1f}"
    assert (plot.top, line.last, line.highest) == ("5", DASH, "4")
    assert plot.description == f"a: {DASH} now, 4 at most."


def test_the_table_of_a_plot_has_few_rows_with_the_newest_first() -> None:
    times = [NOW + timedelta(seconds=15 * number) for number in range(240)]
    plot = draw("x", "X", times, [Line("a", [float(number) for number in range(240)])], write, span_s=3_600)
    assert len(plot.table) == ROWS_MAX
    assert plot.table[0].at == times[-1]
    assert plot.table[0].values == [format_number(229.5)]


@pytest.mark.parametrize(("highest", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (37, 50), (50, 50), (99, 100)])
def test_the_scale_ends_at_a_round_number(highest: float, top: float) -> None:
    assert find_top(highest) == pytest.approx(top)


def test_plots_of_a_service_that_has_just_started_are_empty() -> None:
    for plot in draw_plots([], NOW):
        assert [line.path for line in plot.lines] == [""] * len(plot.lines)
        assert plot.table == []


def test_a_plot_begins_when_the_service_started_and_shows_a_point_that_is_alone() -> None:
    times = [NOW + timedelta(seconds=15 * number) for number in (1, 2, 3)]
    sample = {"seconds": 15, "lookups": {}, "hitRatio": None, "p50S": None, "errors": 0, "overBudget": 0,
              "changes": 0, "rows": 0, "sealingWaitS": None}  # fmt: skip
    items = [{**sample, "at": at.isoformat(), "p99S": 0.1 if at == times[2] else None} for at in times]
    plot = next(one for one in draw_plots(items, NOW) if one.name == "times")
    assert (plot.begin, plot.end) == (NOW, times[2])
    assert (plot.lines[0].path, plot.lines[0].dots) == ("", "M600 0.0h0")

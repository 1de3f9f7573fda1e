"""Verifications by the service: by the API, by the pages, with a history that was changed behind the service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from console_people import check_accessible, issue, sign_in
from oracle_process import until
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin_service import Service
    from browser import Tab
    from console_people import Person

WITHOUT_HUB = True


@pytest.fixture(scope="module")
def auditing(person: Callable[..., Person]) -> Person:
    return person("auditor")


@asynccontextmanager
async def tampering(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser to whom no trigger applies."""
    connection = await asyncpg.connect(urlsplit(database_url)._replace(netloc="postgres@").geturl())
    try:
        await connection.execute("SET session_replication_role = replica")
        yield connection
    finally:
        await connection.close()


def api(client: httpx.Client, path: str = "") -> str:
    return str(client.base_url).replace("/admin/v1", "/audit/v1").rstrip("/") + "/verifications" + path


def end(client: httpx.Client, number: int) -> Any:
    """Wait for the end of a verification."""
    until(lambda: client.get(api(client, f"/{number}")).json()["state"] not in ("waiting", "running"))
    return client.get(api(client, f"/{number}")).json()


def until_sealed(client: httpx.Client) -> None:
    status = api(client).replace("/verifications", "/log/status")
    until(lambda: (found := client.get(status).json())["size"] > 0 and found["waitingS"] is None)


def test_one_at_a_time_and_it_can_be_stopped(auditor: httpx.Client, operator: httpx.Client) -> None:
    started = auditor.post(api(auditor), json={})
    assert started.status_code == 201
    number = started.json()["verificationId"]
    second = operator.post(api(operator), json={"directory": False})
    assert (second.status_code, second.json()["code"]) == (409, "already_running")
    stopped = operator.post(api(operator, f"/{number}/stop")).json()
    assert stopped["state"] in ("stopped", "done")  # it can be quicker than we are
    assert stopped["askedByName"] == "auditor of None (auditor)"
    if stopped["state"] == "stopped":
        assert stopped["stoppedByName"] == "bootstrap (operator)"
    assert auditor.post(api(auditor, "/999999/stop")).status_code == 404


def test_an_unchanged_history_has_nothing_wrong(auditor: httpx.Client) -> None:
    until_sealed(auditor)
    found = end(auditor, auditor.post(api(auditor), json={}).json()["verificationId"])
    assert (found["state"], found["findings"], found["listed"]) == ("done", 0, [])
    assert found["leavesRead"] == found["leaves"] > 0
    assert found["rowsRead"] > 0
    listed = auditor.get(api(auditor)).json()
    assert listed["items"][0]["verificationId"] == found["verificationId"]
    assert set(listed["background"]) == {"comparedAt", "differences"}


@pytest.mark.asyncio(loop_scope="module")
async def test_what_somebody_changed_in_the_database_is_shown_where_it_is(
    service: Service, tab: Tab, maker: httpx.Client, auditor: httpx.Client, auditing: Person
) -> None:
    body = {"kind": "MSISDN", "identifier": "+5215512345678"}
    await asyncio.to_thread(maker.post, "/fsps/greenbank/aliases", json=body)
    await asyncio.to_thread(until_sealed, auditor)
    async with tampering(service.database_url) as superuser:
        event_id = await superuser.fetchval("SELECT max(event_id) FROM events WHERE entity = 'alias'")
        await superuser.execute("UPDATE events SET actor = 'nobody' WHERE event_id = $1", event_id)
        await superuser.execute("UPDATE aliases SET fsp_id = 'redbank' WHERE identifier = '525512345678'")
    await sign_in(tab, service, await issue(service, "auditor"))
    page = tab.page
    await page.goto(f"{service.oracle.admin_url}/console/audit/verifications")
    await check_accessible(page)
    await page.get_by_role("button", name="Start a verification").click()
    await expect(page.locator("#verification-status")).to_contain_text("2 differences", timeout=30_000)
    table = page.get_by_role("table")
    await expect(table).to_contain_text("An event was altered")
    await expect(table).to_contain_text("An alias differs from its events")
    await check_accessible(page)
    await page.get_by_role("link", name=f"event {event_id}").first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Event {event_id}")
    await asyncio.to_thread(require_spoken, auditor, auditing, event_id)
    assert [line for line in tab.complaints if "/events: net::ERR_ABORTED" not in line] == []
    assert "2 differences" in (await asyncio.to_thread(auditing.get, "/console/audit/verifications")).text


def require_spoken(auditor: httpx.Client, watching: Person, event_id: int) -> None:
    """What was found is in the language of who asks, on the page and in the API; it is kept in English."""
    number = auditor.get(api(auditor)).json()["items"][0]["verificationId"]
    altered = []
    for code in ("en", "es", "my", "en"):
        answer = auditor.get(api(auditor, f"/{number}"), headers={"accept-language": code})
        assert answer.headers["content-language"] == code
        altered.append(next(each for each in answer.json()["listed"] if each["kind"] == "altered"))
    assert [each.pop("text").partition(",")[0].partition("၊")[0] for each in altered] == [
        f"event {event_id} differs from what was sealed as leaf {event_id - 1}",
        f"el evento {event_id} no es lo que se selló como hoja {event_id - 1}",
        f"ဖြစ်ရပ် {event_id} သည် အမှတ်စဉ် {event_id - 1} အဖြစ် တံဆိပ်ခတ်ထားသည်နှင့် မတူပါ",
        f"event {event_id} differs from what was sealed as leaf {event_id - 1}",
    ]
    assert altered == [altered[0]] * 4
    for code, words in (("es", "evento"), ("my", "ဖြစ်ရပ်")):
        watching.post("/console/language", {"language": code})
        page = watching.get(f"/console/audit/verifications/{number}").text
        assert f'<a href="/console/audit/events/{event_id}">{words} {event_id}</a>' in page
        assert "the directory" not in page
    watching.post("/console/language", {"language": "en"})


async def begin_elsewhere(database_url: str) -> int:
    """Begin a verification that no process of the service does or takes over, so it runs until `end_all`."""
    async with tampering(database_url) as superuser:
        number: int = await superuser.fetchval(
            "INSERT INTO verifications (state, directory, asked_by, begun_at, seen_at, runner)"
            " VALUES ('running', false, 'nobody', now(), now() + interval '1 day', gen_random_uuid())"
            " RETURNING verification_id"
        )
        return number


async def end_all(database_url: str) -> None:
    async with tampering(database_url) as superuser:
        await superuser.execute("UPDATE verifications SET state = 'stopped', ended_at = now() WHERE ended_at IS NULL")


def test_who_signs_out_follows_no_verification_any_more(service: Service, person: Callable[..., Person]) -> None:
    watching = person("auditor")
    number = asyncio.run(begin_elsewhere(service.database_url))
    path = f"/console/audit/verifications/{number}"
    try:
        watching.get(path)
        cookie = "; ".join(f"{name}={value}" for name, value in watching.cookies.items())
        with httpx.stream("GET", f"{service.oracle.admin_url}{path}/events", headers={"cookie": cookie}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            assert watching.post("/console/sign-out").status_code == 303
            assert "event: end" not in list(lines)  # the verification has not ended, but the stream has
    finally:
        asyncio.run(end_all(service.database_url))


def test_without_script_it_is_started_and_looked_at_again(auditing: Person, auditor: httpx.Client) -> None:
    auditing.get("/console/audit/verifications")
    shown = auditing.follow(auditing.post("/console/audit/verifications", {"directory": "on"}))
    number = int(re.findall(r"Verification (\d+)</h1>", shown.text)[0])
    again = auditing.post("/console/audit/verifications", {"directory": "on"})
    end(auditor, number)
    assert again.status_code == 303
    page = auditing.get(f"/console/audit/verifications/{number}")
    assert "What is wrong" in page.text
    assert "hx-sse:connect" not in page.text


def test_a_maker_has_no_verifications(person: Callable[..., Person]) -> None:
    assert person("dfsp-maker", "greenbank").get("/console/audit/verifications").status_code == 403

"""Search: one identifier, who answers and why, its life, and the proof; for each kind of person."""

from __future__ import annotations

import asyncio
import html
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from console_people import check_accessible, each_look, issue, sign_in
from oracle_process import until
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from admin_service import Service
    from browser import Tab
    from console_people import Person

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True
PICTURES: Final = os.environ.get("CONSOLE_PICTURES")

NUMBER: Final = "+52 55 1234 5678"
ROUTED: Final = "+52 55 1234 9999"
CLABE: Final = "032180000118359719"
PATH: Final = "/console/search"


@pytest.fixture(scope="module")
def suspended_at(service: Service, operator: httpx.Client, maker: httpx.Client, stranger: httpx.Client) -> datetime:
    """Give greenbank a number and redbank a CLABE and a route; suspend greenbank for a while: when that began."""
    add(maker, "greenbank", "MSISDN", NUMBER, "MXN")
    add(maker, "greenbank", "MSISDN", NUMBER, "USD")
    add(stranger, "redbank", "CLABE", CLABE, None)
    route = {"kind": "MSISDN", "prefix": "525512349", "fspId": "redbank", "reason": "a test"}
    operator.post("/routes", json=route).raise_for_status()
    for status in ("suspended", "active"):
        operator.post("/fsps/greenbank/status", json={"status": status, "reason": "an audit"}).raise_for_status()
    rows = service.fetch("SELECT at FROM events WHERE entity = 'fsp' AND after->>'status' = 'suspended'")
    until(lambda: operator.get(audit(operator, "/log/status")).json()["waitingS"] is None)
    return rows[0]["at"]  # type: ignore[no-any-return]


def add(client: httpx.Client, fsp_id: str, kind: str, identifier: str, currency: str | None) -> None:
    body = {"kind": kind, "identifier": identifier, "currency": currency}
    client.post(f"/fsps/{fsp_id}/aliases", json=body).raise_for_status()


def audit(client: httpx.Client, path: str) -> str:
    return str(client.base_url).rstrip("/").replace("/admin/v1", "/audit/v1") + path


@pytest.fixture(scope="module")
def auditor_page(suspended_at: datetime, person: MakePerson) -> Person:  # noqa: ARG001 - when the data are there
    one = person("auditor")
    one.get(PATH)
    return one


@pytest.fixture(scope="module")
def maker_page(suspended_at: datetime, person: MakePerson) -> Person:  # noqa: ARG001 - as above
    one = person("dfsp-maker", "greenbank")
    one.get(PATH)
    return one


def search(one: Person, identifier: str, status: int = 200, **fields: Any) -> str:
    """Search, and return the words of the page."""
    answer = one.post(PATH, {"identifier": identifier, **fields})
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return read(answer)


def read(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


# What is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [NUMBER, "+5215512345678", "(+52) 55-1234-5678", "၅၂၅၅၁၂၃၄၅၆၇၈"])
def test_any_spelling_finds_who_answers_and_why(auditor_page: Person, written: str) -> None:
    text = search(auditor_page, written)
    assert "Answer: greenbank" in text
    assert "The FSP registered this identifier." in text
    assert "It was read as: Phone number." in text
    assert "Entry of greenbank registered, for MXN" in text
    assert "dfsp-maker of greenbank" in text
    assert "status: Suspended" in text  # in its life


def test_each_reason_has_its_words(auditor_page: Person, suspended_at: datetime) -> None:
    assert "A route for its beginning leads to the FSP." in search(auditor_page, ROUTED)
    assert "Answer: nobody" in search(auditor_page, NUMBER, currency="eur")
    assert "registered for other currencies only" in search(auditor_page, NUMBER, currency="EUR")
    assert "Nobody registered this identifier" in search(auditor_page, "ana@example.com")
    then = (suspended_at + timedelta(milliseconds=1)).isoformat()
    text = search(auditor_page, NUMBER, at=then)
    assert "Answer: nobody" in text
    assert "greenbank registered this identifier, but greenbank is suspended." in text


def test_a_time_is_read_in_the_zone_of_the_form(auditor_page: Person, suspended_at: datetime) -> None:
    before = suspended_at - timedelta(days=1)
    for moment, zone in ((before, "UTC"), (before - timedelta(hours=6), "America/Mexico_City")):
        text = search(auditor_page, NUMBER, at=moment.strftime("%Y-%m-%dT%H:%M:%S"), zone=zone)
        assert "Answer: nobody" in text
        assert f"{before:%-I:%M:%S}" in text
    later = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
    assert "Answer: greenbank" in search(auditor_page, NUMBER, at=later, zone="UTC")
    assert "Time: Not a valid time" in search(auditor_page, NUMBER, 400, at="yesterday")
    assert "Time: " in search(auditor_page, NUMBER, 400, at="0001-01-01T00:00")


def test_an_identifier_of_older_rules_is_found_as_it_is_stored(auditor_page: Person, service: Service) -> None:
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('MSISDN', '5255123', 'greenbank') RETURNING 1"
    )
    assert "Phone number: " in search(auditor_page, "5255123", 400, kind="MSISDN")
    assert "Answer: greenbank" in search(auditor_page, "5255123", kind="MSISDN", asStored="on")


def test_the_page_of_an_alias_leads_here(person: MakePerson, auditor_page: Person) -> None:
    one = person("operator")
    one.get(PATH)
    page = one.post(PATH, {"identifier": NUMBER}).text
    alias, event = (re.search(rf'href="(/console/{path}[^"]+)"', page) for path in ("aliases/of/", "audit/events/"))
    assert alias is not None
    assert event is not None
    for visitor, address in ((one, alias[1]), (auditor_page, event[1])):
        shown = visitor.get(html.unescape(address)).text
        form = shown.partition('action="/console/search">')[2] if address == alias[1] else shown
        assert 'name="kind" value="MSISDN"' in form
    assert "aliases/of/" not in auditor_page.post(PATH, {"identifier": NUMBER}).text


def test_an_unclear_identifier_is_asked_about(auditor_page: Person) -> None:
    answer = auditor_page.post(PATH, {"identifier": "55 1234 5678"})
    assert "What kind of identifier is this?" in answer.text
    assert "Phone number of Mexico" in answer.text
    asked = read(answer).partition("What kind of identifier is this?")[2]
    assert "Account number" not in asked  # spaces are in no account number
    assert "Answer: greenbank" in search(auditor_page, "55 1234 5678", kind="MSISDN", country="MX")
    assert "It can be only this kind" in answer.text
    assert "It can be several" not in answer.text
    text = search(auditor_page, "MA123456")
    for kind in ("Personal document", "Business", "Device", "Chosen name"):
        assert kind in text.partition("Choose one")[2]
    assert "It is not an identifier of any kind." in search(auditor_page, "two words & more")


@pytest.mark.parametrize(
    ("written", "fields", "reason"),
    [
        (CLABE[:-1] + "8", {}, "Identifier: CLABE: the last digit is the check digit: it is 8, and 9 is needed"),
        ("GB83 WEST 1234 5698 7654 32", {}, "characters 3 and 4, are 83, and 82 is needed"),
        ("12/OUKAMA(N)12345", {}, "the number has 5 digits, and six are needed"),
        ("+52 55 1234", {}, "Identifier: Phone number:"),
        ("ana@@example.com", {"kind": "EMAIL"}, "it has 2 signs @, and one is needed"),
        ("x", {"kind": "nothing"}, "Kind: "),
        (NUMBER, {"country": "XX"}, "Country: "),
        (NUMBER, {"currency": "PESO"}, "Currency: "),
        (NUMBER, {"subId": "a b"}, "SubId: "),
        ("", {}, "Identifier: Write an identifier."),
    ],
)
def test_a_bad_identifier_gets_the_reason_and_the_wrong_part(
    auditor_page: Person, written: str, fields: dict[str, str], reason: str
) -> None:
    answer = auditor_page.post(PATH, {"identifier": written, **fields})
    assert answer.status_code in (400, 422)
    assert "There is a problem" in answer.text
    assert reason in read(answer)


# Who sees what ----------------------------------------------------------------------------------------------------


def test_people_of_an_fsp_see_their_own_alone(maker_page: Person) -> None:
    assert "Answer: greenbank" in search(maker_page, NUMBER)
    for foreign in (CLABE, ROUTED):
        text = search(maker_page, foreign)
        assert "Answer: nobody" in text
        assert "What other FSPs have of it is not shown here." in text
        assert "redbank" not in text
    assert maker_page.post(PATH, {"identifier": NUMBER, "fsp": "redbank"}).status_code == 403


def test_a_question_has_an_address_that_its_person_alone_can_open(auditor_page: Person, maker_page: Person) -> None:
    answer = auditor_page.post(PATH, {"identifier": NUMBER, "currency": "MXN", "lead": "on"})
    address = answer.headers["location"]
    assert NUMBER[-4:] not in address
    again = auditor_page.get(address)
    assert "Answer: greenbank" in read(again)
    assert f'value="{NUMBER}"' in again.text
    assert maker_page.get(address).status_code == 404
    assert auditor_page.get(f"{PATH}?of=nothing").status_code == 404
    part = auditor_page.post(PATH, {"identifier": NUMBER, "lead": "on"}, headers={"hx-request": "true"})
    assert part.headers["hx-push-url"].startswith(f"{PATH}?of=")


def test_a_reader_cannot_search(person: MakePerson) -> None:
    one = person("reader", "greenbank")
    assert one.get(PATH).status_code == 403
    assert 'id="find"' not in one.get("/console").text


def test_an_identifier_is_in_no_address(auditor_page: Person, maker_page: Person) -> None:
    for one in (auditor_page, maker_page):
        answer = one.post(PATH, {"identifier": NUMBER})
        for address in re.findall(r'(?:href|action|hx-\w+)="([^"]*)"', answer.text):
            assert "1234" not in address
        assert "1234" not in re.findall(r"<title>(.*?)</title>", answer.text, re.DOTALL)[0]


def test_a_search_is_recorded_with_the_person(auditor_page: Person, service: Service) -> None:
    search(auditor_page, "never-seen@example.com")
    rows = service.fetch("SELECT asked FROM audit_reads WHERE party_identifier = 'never-seen@example.com'")
    assert {row["asked"] for row in rows} == {"resolve", "timeline"}


@pytest.mark.parametrize(
    "written",
    ["<script>alert(1)</script>", "\"'><img src=x>", "\u202e+525512345678", "\0", "a" * 10_000, "{{ 7*7 }}", "%00%s"],
)
@pytest.mark.parametrize("kind", ["", "ALIAS"])
def test_hostile_text_is_only_text(auditor_page: Person, written: str, kind: str) -> None:
    answer = auditor_page.post(PATH, {"identifier": written, "kind": kind, "subId": written, "at": written})
    assert answer.status_code < 500
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    answer = auditor_page.post(PATH, {"identifier": NUMBER, "cursor": written})
    assert 400 <= answer.status_code < 500


def test_a_long_life_has_pages(auditor_page: Person, maker: httpx.Client) -> None:
    path = "/fsps/greenbank/aliases"
    for _ in range(11):
        maker.post(path, json={"kind": "EMAIL", "identifier": "long@example.com"}).raise_for_status()
        maker.delete(f"{path}/EMAIL/long@example.com", params={"reason": "other"}).raise_for_status()
    answer = auditor_page.post(PATH, {"identifier": "long@example.com"})
    assert answer.text.count("Entry of greenbank") == 21  # with the event that led to the answer
    found = re.search(r'name="cursor" value="([^"]+)"', answer.text)
    assert found is not None
    fields = {"identifier": "long@example.com", "kind": "EMAIL", "cursor": found[1]}
    whole = auditor_page.post(PATH, fields)
    part = auditor_page.post(PATH, fields, headers={"hx-request": "true"})
    assert "Answer: nobody" in whole.text
    assert part.text.lstrip().startswith('<section id="life"')
    for page in (whole, part):
        life = page.text.partition('id="life"')[2]
        assert life.count("Entry of greenbank") == 2
        assert "First changes" in life


# The proof, in a real browser ---------------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
async def test_an_auditor_finds_who_answered_and_takes_a_proof_along(
    service: Service, suspended_at: datetime, auditor: httpx.Client, tab: Tab, tmp_path: Path, complete: bool
) -> None:
    page = tab.page
    await sign_in(tab, service, await issue(service, "auditor"))
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search an identifier")).to_be_focused()
    await page.keyboard.type(CLABE[:-1] + "8")
    await page.keyboard.press("Enter")
    await expect(page.locator(".errors")).to_contain_text("9 is needed")
    await expect(page.locator(".errors")).to_be_focused()
    await page.locator(".errors a").click()
    await page.get_by_label("Identifier").fill(NUMBER)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Answer: greenbank")).to_be_focused()
    # As an extension of the browser does: htmx does not copy it to the field of the answer, or the policy would refuse.
    await page.locator("#field-identifier").evaluate("field => field.style.setProperty('caret-color', 'red')")
    await page.get_by_text("Another time").click()
    await page.locator("#field-at").fill(f"{suspended_at + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}")
    await page.locator("#field-currency").fill("USD")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_text("Currency asked for")).to_be_visible()
    number = 0
    async for look in each_look(page):
        number += 1
        if complete or PICTURES or number == 2:
            await check_accessible(page)
            wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, look
        if PICTURES:
            await page.screenshot(path=Path(PICTURES) / f"search_for-{look}.png", full_page=True)
    async with page.expect_download() as download:
        await page.get_by_role("link", name=re.compile("Download the proof of event")).first.click()
    proof, key = tmp_path / "proof.json", tmp_path / "log.vkey"
    await (await download.value).save_as(proof)
    keys = await asyncio.to_thread(auditor.get, audit(auditor, "/log/keys"))
    key.write_text(keys.json()["items"][0]["vkey"])
    command = [sys.executable, "-m", "oracle.verifier", "proof", str(proof), "--key", str(key)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: ASYNC221 - it is quick
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "VERIFIED" in checked.stdout
    await page.locator("#slash-key").uncheck()
    await page.goto(f"{service.oracle.admin_url}/console")
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search an identifier")).not_to_be_focused()
    assert [line for line in tab.complaints if "status of 400" not in line] == []

"""The pages of aliases: what people see, do and cannot do.  By HTTP, and once in a browser."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

import pytest
from console_people import check_accessible, issue, sign_in
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from admin_service import Service
    from browser import Tab
    from console_people import Person

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True

LIST: Final = "/console/aliases"
NEW: Final = f"{LIST}/new"
CHECK: Final = f"{LIST}/check"


def read(answer: httpx.Response) -> str:
    """Return the text of a page, without its tags."""
    body = answer.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def find_links(answer: httpx.Response, part: str) -> list[str]:
    return [html.unescape(link) for link in re.findall(r'href="([^"]+)"', answer.text) if part in link]


def find_value(answer: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', answer.text)
    assert found is not None, name
    return html.unescape(found[1])


def add(client: httpx.Client, fsp_id: str, kind: str, identifier: str, currency: str | None = None) -> None:
    body = {"kind": kind, "identifier": identifier, "currency": currency}
    answer = client.post(f"/fsps/{fsp_id}/aliases", json=body)
    assert answer.status_code in (200, 201), answer.text


@pytest.fixture(scope="module")
def clerk(person: MakePerson) -> Person:
    return person("dfsp-maker", "greenbank")


def test_an_alias_is_added_changed_and_removed(clerk: Person) -> None:
    form = clerk.get(NEW)
    once = find_value(form, "once")
    sent = {"fsp": "greenbank", "once": once, "kind": "MSISDN", "identifier": "+52 55 1234 5678", "currency": "mxn",
            "reason": "New customer"}  # fmt: skip
    page = clerk.follow(clerk.post(NEW, sent))
    assert "The alias was added." in read(page)
    assert "+52 55 1234 5678" in read(page)
    assert "New customer" in read(page)
    here = str(page.url)

    form = clerk.get(find_links(page, "/change")[0])
    version = find_value(form, "version")
    refused = clerk.post(f"{here}/change", {"version": version, "currency": "XXX", "reason": "", "once": "a"})
    assert refused.status_code == 422
    form = clerk.get(f"{here}/change")
    sent = {"version": version, "currency": "USD", "reason": "Dollar account", "once": find_value(form, "once")}
    page = clerk.follow(clerk.post(f"{here}/change", sent))
    assert "The alias was changed." in read(page)
    assert "MXN → USD" in read(page)

    sent = {"version": version, "reason": "fraud", "once": "b" * 36}
    stale = clerk.post(f"{here}/remove", sent)
    assert stale.status_code == 422
    form = clerk.get(f"{here}/remove")
    assert "no payment to this identifier finds an account" in read(form)
    sent = {
        "version": find_value(form, "version"),
        "reason": "fraud",
        "note": "Case 7",
        "once": find_value(form, "once"),
    }
    page = clerk.follow(clerk.post(f"{here}/remove", sent))
    assert "The alias was removed." in read(page)
    assert clerk.get(here).status_code == 404


# The list --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock(service: Service) -> None:
    """Some aliases of redbank, and two that older rules let in."""
    maker = service.client("dfsp-maker", "redbank")
    for number in range(60):
        add(maker, "redbank", "MSISDN", f"+52552000{number:04}", "MXN")
    add(maker, "redbank", "CLABE", "032180000118359719", "USD")
    add(maker, "redbank", "NRC", "12/OUKAMA(N)123456", "MMK")
    service.fetch("INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('MSISDN', '5588887777', 'redbank')")


@pytest.fixture(scope="module")
def seller(person: MakePerson) -> Person:
    return person("dfsp-maker", "redbank")


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize(
    ("filters", "there", "absent"),
    [
        ({"kind": "CLABE"}, "032 180 00011835971 9", "+52 55 2000 0001"),
        ({"currency": "mmk"}, "123456", "+52 55 2000 0001"),
        ({"prefix": "+52 55 2000 001"}, "+52 55 2000 0010", "+52 55 2000 0009"),
        ({"kind": "CLABE", "prefix": "032 180"}, "032 180 00011835971 9", "+52"),
        ({"state": "unanswered"}, "No alias matches the filter.", "+52"),
        ({"currency": "JPY"}, "No alias matches the filter.", "+52"),
        ({"kind": "CLABE", "prefix": "x"}, "There is a problem Begins with", "No alias matches"),
        ({"currency": "1"}, "There is a problem Currency", "No alias matches"),
        ({"kind": "NOTHING"}, "There is a problem", "No alias matches"),
    ],
)
def test_the_list_is_filtered_and_no_address_shows_an_identifier(
    seller: Person, filters: dict[str, str], there: str, absent: str
) -> None:
    seller.get(LIST)
    found = seller.post(LIST, {"fsp": "redbank", **filters})
    assert "2000" not in found.headers["location"]
    page = read(seller.follow(found))
    assert there in page
    assert absent not in page.partition("Filter")[2]


@pytest.mark.usefixtures("stock")
def test_the_list_has_pages_and_an_export_of_the_same_filter(seller: Person) -> None:
    page = seller.follow(seller.post(LIST, {"fsp": "redbank", "prefix": "+52 55 2000"}))
    assert read(page).count("+52 55 2000") == 50
    following = seller.get(find_links(page, "cursor=")[0])
    assert "+52 55 2000 0059" in read(following)
    part = seller.get(find_links(page, "cursor=")[0], headers={"hx-request": "true"})
    assert part.text.lstrip().startswith('<div id="aliases">')
    csv, ndjson = (seller.get(link) for link in find_links(page, "/export"))
    assert csv.headers["content-disposition"].endswith("aliases-redbank.csv")
    assert len(csv.text.splitlines()) == 61
    assert len(ndjson.text.splitlines()) == 60


@pytest.mark.usefixtures("stock")
def test_what_another_fsp_has_looks_like_nothing(seller: Person, clerk: Person) -> None:
    assert clerk.get(f"{LIST}?fsp=redbank").status_code == 403
    alias = next(link for link in find_links(seller.get(LIST), "/of/"))
    assert seller.get(alias).status_code == 200
    for path in (alias, f"{alias}/change", f"{alias}/remove", f"{LIST}?prefix={alias.rpartition('/')[2]}"):
        assert clerk.get(path).status_code == 404
    assert clerk.post(f"{alias}/remove", {"reason": "fraud"}).status_code == 404
    assert clerk.post(NEW, {"fsp": "redbank", "kind": "ALIAS", "identifier": "a"}).status_code == 403


@pytest.mark.usefixtures("stock")
def test_an_operator_chooses_an_fsp_first(person: MakePerson) -> None:
    one = person("operator")
    for path in (LIST, NEW, CHECK, f"{LIST}/doubtful"):
        page = one.get(path)
        assert "Choose an FSP" in read(page)
        chosen = one.get(find_links(page, "fsp=redbank")[0])
        assert "redbank" in read(chosen)
    assert one.get(f"{LIST}?fsp=nobank").status_code == 404
    assert one.follow(one.get(f"{LIST}/export")).status_code == 200


@pytest.mark.usefixtures("stock")
def test_a_reader_sees_no_buttons_and_no_history(person: MakePerson) -> None:
    one = person("reader", "redbank")
    page = one.get(LIST)
    assert "Add an alias" not in read(page)
    alias = read(one.get(find_links(page, "/of/")[0]))
    assert "Currencies" in alias
    assert "Remove" not in alias
    assert "History" not in alias


@pytest.mark.usefixtures("stock")
def test_a_doubtful_alias_says_why_and_can_be_removed(seller: Person) -> None:
    page = seller.get(f"{LIST}/doubtful")
    assert "5588887777" not in read(page)
    page = seller.get(find_links(page, "cursor=")[0])
    assert "5588887777" in read(page)
    assert "The hub refuses it today" in read(page)
    alias = find_links(page, "/of/")[0]
    form = seller.get(f"{alias}/remove")
    sent = {"version": find_value(form, "version"), "reason": "correction", "once": find_value(form, "once")}
    page = seller.follow(seller.post(f"{alias}/remove", sent))
    assert "The alias was removed." in read(page)
    assert "No alias is doubtful." in read(seller.get(f"{LIST}/doubtful?cursor="))
    for seen in ("x", "-1", "9" * 5_000):
        assert seller.get(f"{LIST}/doubtful", params={"cursor": "", "seen": seen}).status_code == 200


# A list that is checked -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stock")
def test_a_list_shows_the_bad_ones_first_and_why(seller: Person) -> None:
    seller.get(CHECK)
    lines = "+52 55 2000 0001\n\n032180000118359718\n+52 55 2999 0000\r\n  032180000118359719 \n12345"
    answer = seller.post(CHECK, {"fsp": "redbank", "items": lines})
    page = read(answer)
    assert "2 not valid 1 not registered 2 registered" in page
    assert [found.partition(" ")[0] for found in re.findall(r"<tr><td>(\d+)", answer.text)] == ["3", "6", "4", "1", "5"]
    assert "the check digit" in page
    assert "The spelling does not show what it is." in page
    assert len(find_links(answer, "/of/")) == 2
    named = read(seller.post(CHECK, {"fsp": "redbank", "kind": "ACCOUNT_ID", "items": "12345"}))
    assert "1 not registered" in named


def test_a_list_of_a_thousand_is_checked_and_a_longer_one_is_refused(clerk: Person) -> None:
    clerk.get(CHECK)
    answer = clerk.post(CHECK, {"fsp": "greenbank", "items": "\n".join(f"+5255300{n:05}" for n in range(1_000))})
    assert "1,000 not registered" in read(answer)
    for kind in ("", "MSISDN"):
        answer = clerk.post(CHECK, {"fsp": "greenbank", "kind": kind, "items": "x\n" * 1_001})
        assert answer.status_code == 422
        assert "There is a problem Identifiers" in read(answer)
    assert "There is a problem Identifiers" in read(clerk.post(CHECK, {"fsp": "greenbank", "items": " \n "}))


# Two persons ------------------------------------------------------------------------------------------------------


def test_a_change_of_an_fsp_with_two_persons_waits(service: Service, person: MakePerson) -> None:
    service.operator.post("/fsps", json={"fspId": "pairbank", "twoPersons": True, "currencies": ["MXN", "USD"]})
    one = person("dfsp-maker", "pairbank")
    form = one.get(NEW)
    assert "your change waits until a second person approves it" in read(form)
    assert '<option value="USD">' in form.text
    sent = {"fsp": "pairbank", "kind": "EMAIL", "identifier": "Ana@Example.com", "currency": "USD"}
    page = read(one.follow(one.post(NEW, {**sent, "once": find_value(form, "once")})))
    assert "waits for a second person" in page
    assert "ana@example.com" in page
    page = read(one.get(LIST))
    assert "This FSP has no aliases." in page
    assert "Upload a file" in page
    again = one.post(NEW, {**sent, "once": "another"})
    assert again.status_code == 422
    assert "waits" in read(again)


# What people send -------------------------------------------------------------------------------------------------

HOSTILE: Final = (
    "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{ 7*7 }}", "\u202e1234", "a\x00b", "x" * 10_000,
    "%00", "../../etc", "=1+1", "\ud83d",
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_texts_stay_texts(clerk: Person, number: int) -> None:
    text = HOSTILE[number].encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    clerk.get(NEW)
    names = ("kind", "identifier", "subId", "currency", "country", "reason")
    answers = [
        clerk.post(NEW, {"fsp": "greenbank", "kind": "ALIAS", "identifier": "x", "once": "y", name: text})
        for name in names
    ]
    answers.append(clerk.post(CHECK, {"fsp": "greenbank", "kind": "ALIAS", "items": text}))
    answers.append(clerk.follow(clerk.post(LIST, {"fsp": "greenbank", "prefix": text, "kind": text})))
    answers.append(clerk.get(LIST, params={"currency": text, "state": text, "cursor": text}))
    for answer in answers:
        assert answer.status_code in (200, 303, 422), answer.text
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "49" not in read(answer) if "7*7" in text else True


@pytest.mark.usefixtures("stock")
def test_a_hostile_reason_is_shown_as_it_is(seller: Person) -> None:
    form = seller.get(NEW)
    reason = "<b onmouseover='x'>\"quoted\" & \u202eRTL"
    sent = {"fsp": "redbank", "kind": "ALIAS", "identifier": "hostile", "reason": reason}
    page = seller.follow(seller.post(NEW, {**sent, "once": find_value(form, "once")}))
    assert "<b on" not in page.text
    assert html.unescape(page.text).count("<b onmouseover='x'>") == 1


# In a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stock")
@pytest.mark.asyncio(loop_scope="module")
async def test_a_clerk_adds_finds_and_removes_an_alias(service: Service, tab: Tab) -> None:
    page = tab.page
    await page.set_viewport_size({"width": 320, "height": 800})
    await sign_in(tab, service, await issue(service, "dfsp-maker", "redbank"))
    await page.goto(service.oracle.admin_url + NEW)
    await page.locator("#field-identifier").fill("55 1234")
    await page.get_by_role("button", name="Add").press("Enter")
    await page.locator(".errors a").click()
    await expect(page.locator("#field-identifier")).to_be_focused()
    await check_accessible(page)
    await page.keyboard.press("Control+A")
    await page.keyboard.type("+52 55 7777 0001")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("+52 55 7777 0001")
    await expect(page.locator("#events")).to_contain_text("Registered")
    await check_accessible(page)

    await page.get_by_role("link", name="Aliases · redbank").click()
    await page.get_by_label("Begins with").fill("+52 55 77")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await check_accessible(page)
    await page.locator("tbody a").click()
    await page.get_by_role("link", name="Remove").click()
    await page.get_by_role("button", name="Remove").click()
    await expect(page.locator("#field-reason")).to_be_focused()  # the browser refuses the form without one
    await page.locator("#field-reason").select_option("account_closed")
    await check_accessible(page)
    await page.get_by_role("button", name="Remove").click()
    await expect(page.locator("#messages")).to_contain_text("The alias was removed.")

    await page.goto(service.oracle.admin_url + CHECK)
    await page.locator("#field-items").fill("+52 55 2000 0001\n+52 55 7777 0001\n12345")
    await page.get_by_role("button", name="Check").click()
    await expect(page.get_by_role("heading", name="Result")).to_be_focused()
    await check_accessible(page)
    # Pages that were left before a part of them came are no complaint.
    assert [line for line in tab.complaints if "422" not in line and "ERR_ABORTED" not in line] == []
    assert [address for address in tab.asked if "7777" in address] == []

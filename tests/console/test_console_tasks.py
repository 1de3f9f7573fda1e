"""Tasks of a checker in the console: what waits, samples, approve, reject, past decisions, and hostile texts."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from console_people import check_accessible, each_look, issue, sign_in
from oracle_process import until
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin_service import Service
    from browser import Tab
    from console_people import Person
    from playwright.async_api import APIResponse

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True
WITH_ISSUER = True

HEADER: Final = "kind,identifier,sub_id,currency,country,action\n"
FSP: Final = "/fsps/greenbank"


@pytest.fixture(scope="module")
def maker(service: Service) -> httpx.Client:
    service.operator.patch(FSP, json={"twoPersons": False}).raise_for_status()
    for identifier, currency in (("kept", "MXN"), ("moved", "MXN"), ("gone", "MXN"), ("one", "MXN")):
        body = {"kind": "ALIAS", "identifier": identifier, "currency": currency}
        service.operator.post(f"{FSP}/aliases", json=body).raise_for_status()
    service.operator.patch(FSP, json={"twoPersons": True}).raise_for_status()
    return service.client("dfsp-maker", "greenbank")


@pytest.fixture(scope="module")
def ben(person: MakePerson) -> Person:
    return person("dfsp-checker", "greenbank")


def upload(client: httpx.Client, *rows: str, name: str = "people.csv") -> str:
    """Upload a file, and return its number when it waits."""
    content = HEADER + "".join(f"{row}\n" for row in rows)
    answer = client.post(f"{FSP}/batches", params={"fileName": name}, content=content.encode()).raise_for_status()
    number = answer.json()["batchId"]
    until(lambda: state_of(client, number) == "waiting")
    return str(number)


def ask_for_change(client: httpx.Client, identifier: str = "one", reason: str = "asked") -> str:
    path = f"{FSP}/aliases/ALIAS/{identifier}"
    answer = client.patch(path, json={"currency": "USD", "reason": reason}).raise_for_status()
    return str(answer.json()["batchId"])


def state_of(client: httpx.Client, number: Any) -> str:
    state: str = client.get(f"{FSP}/batches/{number}").json()["state"]
    return state


def path_of(number: str) -> str:
    return f"/console/tasks/greenbank/{number}"


def text_of(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


def read_version(answer: httpx.Response) -> str:
    return html.unescape(re.search(r'name="version" value="([^"]*)"', answer.text)[1])  # type: ignore[index]


def test_a_checker_approves_a_file_after_a_sample(maker: httpx.Client, ben: Person) -> None:
    number = upload(
        maker, "ALIAS,new,,USD,,add", "ALIAS,kept,,MXN,,add", "ALIAS,moved,,USD,,replace", "ALIAS,gone,,,,remove",
        "FAX,1,,,,",
    )  # fmt: skip
    listed = ben.get("/console/tasks")
    assert f'href="{path_of(number)}"' in listed.text
    assert "people.csv 4 rows" in text_of(listed)
    page = ben.get(path_of(number))
    text = text_of(page)
    for row in ("new Chosen name Add Not registered USD 2", "kept Chosen name Add MXN No change 3",
                "moved Chosen name Replace MXN USD 4", "gone Chosen name Remove MXN Not registered 5"):  # fmt: skip
        assert row in text, text
    assert "<del>MXN</del>" in page.text
    assert "<ins>USD</ins>" in page.text
    assert "Rows that are not valid 1" in text
    file = f"/console/files/greenbank/{number}"
    assert f"{file}/cancel" not in page.text + ben.get(file).text  # a checker rejects what others sent
    assert "4 rows are processed at once" in text
    answer = ben.follow(ben.post(f"{path_of(number)}/approve", {"version": read_version(page), "once": "a"}))
    assert f"File {number} is approved." in text_of(answer)
    until(lambda: state_of(maker, number) == "done")
    decided = text_of(ben.get("/console/tasks/decisions"))
    assert re.search(rf"{number} people.csv 4 rows dfsp-maker of greenbank .* Approved dfsp-checker", decided), decided
    again = text_of(ben.get(path_of(number)))
    assert "approved it on" in again
    assert "Your decision" not in again


def test_a_rejection_needs_a_reason(maker: httpx.Client, ben: Person) -> None:
    number = ask_for_change(maker)
    page = ben.get(path_of(number))
    assert "one Chosen name Replace MXN USD" in text_of(page)
    version = read_version(page)
    refused = ben.post(f"{path_of(number)}/reject", {"version": version, "once": "r1"})
    assert refused.status_code == 422
    assert 'href="#field-reason"' in refused.text
    assert '<details id="reject" open>' in refused.text
    done = ben.follow(ben.post(f"{path_of(number)}/reject", {"version": version, "reason": "wrong", "once": "r2"}))
    assert f"Change {number} is rejected." in text_of(done)
    assert state_of(maker, number) == "rejected"
    assert "wrong" in text_of(ben.get("/console/tasks/decisions"))
    late = ben.post(f"{path_of(number)}/approve", {"version": version, "once": "r3"})
    assert late.status_code == 422
    assert "rejected it on" in text_of(late)


def test_nobody_is_offered_to_approve_their_own(service: Service, ben: Person, visitor: MakePerson) -> None:
    number = upload(service.operator, "ALIAS,own,,,,")
    own = visitor()
    own.sign_in(service.operator.headers["authorization"].removeprefix("Bearer "))
    page = own.get(path_of(number))
    assert "You sent this yourself" in text_of(page)
    assert f"{path_of(number)}/approve" not in page.text
    assert re.search(rf"{number} .*? own.*|{number}.*You", text_of(own.get("/console/tasks")))
    refused = own.post(f"{path_of(number)}/approve", {"version": "", "once": "o"})
    assert refused.status_code == 422
    assert "There is a problem" in refused.text
    assert f"{path_of(number)}/approve" in ben.get(path_of(number)).text


def test_other_roles_see_what_waits_and_decide_nothing(maker: httpx.Client, person: MakePerson) -> None:
    number = upload(maker, "ALIAS,roles,,,,")
    for role, fsp_id in (("dfsp-maker", "greenbank"), ("auditor", None)):
        one = person(role, fsp_id)
        page = one.get(path_of(number))
        assert f"{path_of(number)}/approve" not in page.text
        assert "A checker of the FSP decides" in page.text
        assert f'href="{path_of(number)}"' in one.get("/console/tasks").text
        assert one.post(f"{path_of(number)}/approve", {"version": ""}).status_code == 403
    other = person("dfsp-checker", "redbank")
    assert path_of(number) not in other.get("/console/tasks").text
    assert "Nothing waits" in other.get("/console/tasks").text
    assert other.get(path_of(number)).status_code == 403
    assert other.get(f"/console/tasks/redbank/{number}").status_code == 404


HOSTILE: Final = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'; DROP TABLE batches; --", "{{ 7 * 7 }}",
    "{% raw %}", "</q><b>", "n" * 200,
)  # fmt: skip


def test_texts_of_others_do_no_harm(maker: httpx.Client, ben: Person) -> None:
    for at, text in enumerate(HOSTILE):
        number = upload(maker, f"ALIAS,harm{at},,,,", name=text)
        change = ask_for_change(maker, reason=f"{text}{at}")
        version = read_version(ben.get(path_of(number)))
        ben.post(f"{path_of(number)}/reject", {"version": version, "reason": text, "once": f"h{at}"})
        for address in ("/console/tasks", path_of(number), path_of(change), "/console/tasks/decisions"):
            page = ben.get(address)
            assert page.status_code == 200
            assert "<script>alert" not in page.text
            assert "<img src=x" not in page.text
            assert "</q><b>" not in page.text
        assert text in html.unescape(ben.get("/console/tasks/decisions").text)
        maker.post(f"{FSP}/batches/{change}/cancel", json={}).raise_for_status()
    number = upload(maker, "ALIAS,reasons,,,,")
    for reason in ("x" * 10_000, "a\0b"):
        answer = ben.post(f"{path_of(number)}/reject", {"version": "", "reason": reason, "once": reason[:9]})
        assert answer.status_code == 422, reason[:9]
    for query in ({"cursor": "x"}, {"fsp": "<b>"}, {"by": "x" * 10_000}, {"by": "\0"}):
        for address in ("/console/tasks", "/console/tasks/decisions"):
            assert ben.get(address, params=query).status_code < 500


@pytest.mark.asyncio(loop_scope="module")
async def test_a_checker_decides_in_a_browser(service: Service, maker: httpx.Client, tab: Tab) -> None:
    number = upload(maker, *(f"ALIAS,many{at},,MXN,," for at in range(60)), name="many people.csv")
    page = tab.page
    await sign_in(tab, service, await issue(service, "dfsp-checker", "greenbank"))
    await page.goto(f"{service.oracle.admin_url}/console/tasks")
    await page.locator(f'a[href="{path_of(number)}"]').click()
    await page.wait_for_selector("#sample")
    before = await page.locator("#sample tbody").inner_text()
    await page.locator("#sample a[hx-get]").click()
    await page.wait_for_function("before => document.querySelector('#sample tbody').innerText !== before", arg=before)
    async for _look in each_look(page):
        await check_accessible(page)
    await page.locator("#reject summary").click()
    await page.locator("#field-reason").fill("not our customers")
    await page.locator("#reject button").click()
    await page.wait_for_selector("#messages p")
    assert "is rejected" in await page.locator("#messages").inner_text()
    async for _look in each_look(page):
        await check_accessible(page)


# A person of several FSPs, who comes from an identity provider -------------------------------------------------------


async def come_in(service: Service, tab: Tab, path: str, **claims: list[str]) -> None:
    """Ask for a page, sign in as Vera at the identity provider, and come back to the page."""
    assert service.issuer is not None
    service.issuer.subject, service.issuer.access_claims = "vera", {"realm_access": None, **claims}
    await tab.page.goto(f"{service.oracle.admin_url}{path}")
    await tab.page.locator("a", has_text="Sign in with").click()
    await tab.page.wait_for_url(f"**{path}")


async def add_alias(tab: Tab, identifier: str) -> None:
    await tab.page.get_by_role("link", name="Add an alias").click()
    await tab.page.locator("#field-kind").select_option("ALIAS")
    await tab.page.locator("#field-identifier").fill(identifier)
    await tab.page.locator("#field-reason").fill("a test")
    await tab.page.locator("main form button").last.click()


async def send(tab: Tab, path: str, fields: dict[str, str]) -> APIResponse:
    """Send a form as the browser would, but one that its page does not have."""
    token = await tab.page.locator('meta[name="csrf"]').get_attribute("content")
    return await tab.page.request.post(
        urljoin(tab.page.url, path), form={**fields, "csrf": token or ""}, headers={"sec-fetch-site": "same-origin"}
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_person_of_several_fsps_works_for_each_of_them_and_approves_nothing_of_their_own(
    service: Service, maker: httpx.Client, tab: Tab
) -> None:
    service.operator.post("/fsps", json={"fspId": "goldbank"}).raise_for_status()
    page, who = tab.page, tab.page.locator("#me a")
    await come_in(service, tab, "/console/aliases", maker=["greenbank", "redbank"])
    assert await page.locator("main .cards a").all_inner_texts() == ["greenbank", "redbank"]
    await page.locator("main .cards a").last.click()
    await expect(who).to_have_text("Maker · redbank")
    await add_alias(tab, "vera1")
    await expect(page.get_by_text("The alias was added.")).to_be_visible()
    # The form decides, not an address that somebody else can have written.
    third = {"fsp": "redbank", "kind": "ALIAS", "identifier": "vera3", "reason": "a test"}
    assert (await send(tab, "/console/aliases/new?fsp=greenbank", third)).status == 200
    for identifier in ("vera1", "vera3"):
        assert service.operator.get(f"/fsps/redbank/aliases/ALIAS/{identifier}").status_code == 200
        assert service.operator.get(f"{FSP}/aliases/ALIAS/{identifier}").status_code == 404

    await page.goto(f"{service.oracle.admin_url}/console/aliases?fsp=redbank")
    await page.get_by_role("link", name="Choose another FSP").click()
    await page.locator("main .cards a").first.click()
    await add_alias(tab, "vera2")
    await expect(page.get_by_text("waits for a second person")).to_be_visible()
    await expect(who).to_have_text("Maker · greenbank")
    task = page.url

    for path in ("/console/aliases?fsp=goldbank", "/console/fsps/goldbank", "/console/search?fsp=goldbank"):
        await page.goto(f"{service.oracle.admin_url}{path}")
        await expect(who).to_have_text("Maker")

    # The provider makes her a checker: she is still the person who sent the change.
    await page.get_by_role("button", name="Sign out").click()
    await come_in(service, tab, urlsplit(task).path, checker=["greenbank", "redbank"])
    await expect(who).to_have_text("Checker · greenbank")
    await expect(page.get_by_text("You sent this yourself")).to_be_visible()
    # Without the form, and in the name of the other FSP.
    assert (await send(tab, f"{urlsplit(task).path}/approve", {})).status == 422
    assert (await send(tab, f"{urlsplit(task).path}/approve".replace("greenbank", "redbank"), {})).status == 404
    assert state_of(maker, task.rpartition("/")[2]) == "waiting"

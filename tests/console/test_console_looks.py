"""Each page in a real browser: nothing refused by the content policy, usable for everybody, in all looks.

CONSOLE_PICTURES=FOLDER makes a picture of each page in each look, to be looked at.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from browser import WAIT_MS
from console_examples import fill
from console_people import check_accessible, each_look, issue, sign_in
from playwright.async_api import expect

from oracle.api.console.declarations import list_pages

if TYPE_CHECKING:
    from admin_service import Service
    from browser import Tab
    from playwright.async_api import Browser

    from oracle.api.console.declarations import Page

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHOUT_HUB = True

PICTURES: Final = os.environ.get("CONSOLE_PICTURES")
LANGUAGE: Final = os.environ.get("CONSOLE_LANGUAGE", "en")  # of the pictures
# Who opens the pages that an operator cannot open.
ROLES: Final = (("operator", None), ("dfsp-maker", "greenbank"), ("dfsp-checker", "greenbank"), ("auditor", None))


async def look_at(tab: Tab, name: str, address: str, *, complete: bool) -> None:
    """Check a page in each look; without `complete`, in one of the four, another one for each page."""
    page = tab.page
    await page.goto(address)
    number = 0
    async for look in each_look(page):
        number += 1
        if not complete and not PICTURES and number != 1 + len(name) % 4:
            continue
        await check_accessible(page)
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} scrolls sideways: {look}"
        if PICTURES:
            await page.screenshot(path=Path(PICTURES) / f"{name}-{look}.png", full_page=True)


def check_complaints(tab: Tab) -> None:
    """Require that the browser refused nothing.

    That a thing is not there is no complaint about a page, nor that the browser left a page before all of it came.
    """
    told = [line for line in tab.complaints if "status of 404" not in line and "net::ERR_ABORTED" not in line]
    assert told == []


async def test_the_page_to_sign_in(service: Service, tab: Tab) -> None:
    await look_at(tab, "sign_in", f"{service.oracle.admin_url}/console/sign-in", complete=True)
    check_complaints(tab)


async def test_each_page(service: Service, tab: Tab, complete: bool) -> None:
    left: list[Page] = [
        page for page in list_pages().values() if page.method == "GET" and not page.is_part and not page.is_open
    ]
    await tab.page.set_extra_http_headers({"accept-language": LANGUAGE})
    for role, fsp_id in ROLES:
        await tab.page.goto("about:blank")  # the page before asks again by itself, and would be refused
        await tab.page.context.clear_cookies()
        await sign_in(tab, service, await issue(service, role, fsp_id))
        for page in list(left):
            address = service.oracle.admin_url + fill(page)
            answer = await tab.page.request.get(address)
            if answer.status == 403:
                continue
            assert answer.status < 500, page.name
            left.remove(page)
            await look_at(tab, page.name, address, complete=complete)
    assert [page.name for page in left] == []
    check_complaints(tab)


async def test_without_script_everything_here_works_too(service: Service, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    await page.goto(f"{service.oracle.admin_url}/console/fsps")
    await page.get_by_role("button", name="Español").click()
    await page.locator("#field-key").fill(await issue(service, "operator"))
    await page.get_by_role("button", name="Iniciar sesión").click()
    await page.get_by_role("link", name="Nuevo FSP").click()
    await page.get_by_label("ID del FSP").fill("yellowbank")
    await page.get_by_role("button", name="Crear").click()
    await expect(page.locator("#messages")).to_contain_text("yellowbank")
    await page.locator("#menu").get_by_role("link", name="FSP", exact=True).click()
    await page.get_by_label("Estado").select_option("closed")
    await page.get_by_role("button", name="Filtrar").click()
    await expect(page.locator("#fsps")).to_contain_text("ningún FSP")
    await page.get_by_role("button", name="Cerrar sesión").click()
    await expect(page.locator("#messages")).to_contain_text("Su sesión se cerró")
    await context.close()


async def test_an_operator_creates_an_fsp(service: Service, tab: Tab) -> None:
    await sign_in(tab, service, await issue(service, "operator"))
    page = tab.page
    await page.get_by_role("navigation").get_by_role("link", name="FSPs").click()
    await page.get_by_role("link", name="New FSP").click()
    await page.get_by_label("FSP id").fill("greenbank")
    await page.get_by_role("button", name="Create").click()
    await expect(page.locator(".errors")).to_contain_text("already exists")
    await page.locator(".errors a").click()
    await expect(page.get_by_label("FSP id")).to_be_focused()
    await check_accessible(page)
    await page.get_by_label("FSP id").fill("bluebank")
    await page.get_by_role("button", name="Create").click()
    await expect(page.locator("#messages")).to_contain_text("bluebank")
    await page.get_by_role("navigation").get_by_role("link", name="FSPs").click()
    await page.get_by_label("Status").select_option("closed")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("#fsps")).to_contain_text("no FSP")
    assert "status=closed" in page.url
    assert [line for line in tab.complaints if "status of 422" not in line] == []


async def test_what_was_written_is_there_again_after_the_session_ended(service: Service, tab: Tab) -> None:
    key = await issue(service, "operator")
    await sign_in(tab, service, key)
    page = tab.page
    await page.goto(f"{service.oracle.admin_url}/console/new-fsp")
    await page.get_by_label("FSP id").fill("latebank")
    await page.get_by_label("Two persons", exact=True).check()
    await page.context.clear_cookies(name="__Host-oracle-session")
    await page.get_by_role("button", name="Create").click()
    await page.locator("#field-key").fill(key)
    await page.locator("#sign-in form button").click()
    await expect(page.locator("#messages")).to_contain_text("What you had written is back")
    await expect(page.get_by_label("FSP id")).to_have_value("latebank")
    await expect(page.get_by_label("Two persons", exact=True)).to_be_checked()
    await page.get_by_role("button", name="Create").click()
    await expect(page.locator("#messages")).to_contain_text("latebank")
    assert await page.evaluate("sessionStorage.getItem('written')") is None


async def test_the_picture_of_a_prefix_fits_a_telephone(service: Service, tab: Tab) -> None:
    await sign_in(tab, service, await issue(service, "operator"))
    body = {"kind": "MSISDN", "prefix": "52559", "fspId": "greenbank"}
    assert (await asyncio.to_thread(service.operator.post, "/routes", json=body)).status_code in (201, 409)
    page = tab.page
    await page.set_viewport_size({"width": 320, "height": 640})
    await page.goto(f"{service.oracle.admin_url}/console/routes/coverage")
    await page.locator("#field-kind").select_option("MSISDN")
    await page.locator("#field-prefix").fill("5255")
    await page.get_by_role("button", name="Show").click()
    picture = await page.locator("svg.coverage").bounding_box()
    bar = await page.locator("svg.coverage > svg rect").bounding_box()
    assert picture is not None
    assert bar is not None
    assert picture["width"] <= 288
    assert picture["x"] + 0.85 * picture["width"] < bar["x"] < picture["x"] + picture["width"] - bar["width"] + 1
    assert await page.locator(".tick:visible").count() == 5
    await check_accessible(page)


async def test_badges_and_links_of_files_keep_burmese_words_whole(service: Service, tab: Tab) -> None:
    file = b"kind,identifier\nALIAS,\nALIAS,some.shop\n"
    headers = {"content-type": "text/csv"}
    made = await asyncio.to_thread(
        service.operator.post, "/fsps/greenbank/batches?fileName=a.csv", content=file, headers=headers
    )
    assert made.status_code == 201, made.text
    page = tab.page
    await page.set_extra_http_headers({"accept-language": "my"})
    await sign_in(tab, service, await issue(service, "operator"))
    for width in (320, 1280):
        await page.set_viewport_size({"width": width, "height": 800})
        await page.goto(f"{service.oracle.admin_url}/console/files")
        await expect(page.locator("#file-list a[download]")).to_have_count(1)  # it is applied, and has failed rows
        words = page.locator("#file-list .word")
        lines = await words.evaluate_all("found => found.map((one) => one.getClientRects().length)")
        assert set(lines) == {1}
        box = page.locator(".scroll").first
        assert await box.evaluate("one => one.scrollWidth <= one.clientWidth")


async def test_on_a_small_telephone_each_row_is_a_card_with_the_names_of_its_columns(
    service: Service, tab: Tab
) -> None:
    await sign_in(tab, service, await issue(service, "operator"))
    page = tab.page
    await page.set_viewport_size({"width": 320, "height": 640})
    await page.goto(f"{service.oracle.admin_url}/console/fsps")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="greenbank"))
    await expect(row.get_by_role("cell").nth(1)).to_have_attribute("data-label", "Status")
    assert await row.get_by_role("rowheader").evaluate("one => getComputedStyle(one).display") == "flow-root"
    box = page.locator(".scroll").first
    assert await box.evaluate("one => one.scrollWidth <= one.clientWidth && !one.hasAttribute('tabindex')")

"""The pages in a real browser: nothing refused by the content policy, usable for everybody, in all looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from console_people import check_accessible, each_look, issue, sign_in
from playwright.async_api import expect

if TYPE_CHECKING:
    from admin_service import Service
    from browser import Tab

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHOUT_HUB = True

# A folder for pictures of each page in each look, to be looked at; not set: none are made.
PICTURES = os.environ.get("CONSOLE_PICTURES")


async def look_at(tab: Tab, path: str) -> None:
    """Check a page in each look."""
    page = tab.page
    await page.goto(path)
    async for look in each_look(page):
        await check_accessible(page)
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} scrolls sideways: {look}"
        if PICTURES:
            name = path.rpartition("/console")[2].replace("/", "_") or "home"
            await page.screenshot(path=Path(PICTURES) / f"{name}-{look}.png", full_page=True)


async def test_the_page_to_sign_in(service: Service, tab: Tab) -> None:
    await look_at(tab, f"{service.oracle.admin_url}/console/sign-in")
    assert tab.complaints == []


async def test_the_pages_of_an_operator(service: Service, tab: Tab) -> None:
    await sign_in(tab, service, await issue(service, "operator"))
    for path in ("/console", "/console/account", "/console/fsps", "/console/fsps/new", "/console/nothing"):
        await look_at(tab, service.oracle.admin_url + path)
    assert [line for line in tab.complaints if "404" not in line] == []


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
    await page.get_by_label("Status").select_option("closed")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("#fsps")).to_contain_text("no FSP")
    assert "status=closed" in page.url
    assert [line for line in tab.complaints if "422" not in line] == []

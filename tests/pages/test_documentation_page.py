"""The documentation of both listeners, in a real browser."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from browser import WAIT_MS
from playwright.async_api import expect

if TYPE_CHECKING:
    from admin_service import Service
    from browser import Tab
    from playwright.async_api import Locator

pytestmark = pytest.mark.asyncio(loop_scope="module")


def operations(name: str) -> set[str]:
    """The operationIds of a contract."""
    paths: dict[str, Any] = json.loads(files("oracle.schemas").joinpath(f"{name}.openapi.json").read_bytes())["paths"]
    return {
        operation["operationId"] for item in paths.values() for operation in item.values() if "operationId" in operation
    }


async def open_docs(tab: Tab, url: str) -> Locator:
    await tab.page.goto(url)
    blocks = tab.page.locator(".opblock")
    await expect(blocks.first).to_be_visible(timeout=WAIT_MS)
    return blocks


async def check_operations(tab: Tab, blocks: Locator, name: str, url: str) -> None:
    seen = {str(await block.get_attribute("id")).rpartition("-")[2] for block in await blocks.all()}
    assert seen == operations(name)
    assert tab.complaints == []  # the content policy refuses nothing, and no script fails
    assert [asked for asked in tab.asked if not asked.startswith((url, "data:"))] == []


async def test_the_page_shows_each_operation_and_a_person_can_try_one(service: Service, tab: Tab) -> None:
    blocks = await open_docs(tab, service.oracle.admin_url + "/docs")
    await check_operations(tab, blocks, "admin", service.oracle.admin_url)
    page = tab.page
    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator(".auth-container input").first.fill(service.issue("reader", "greenbank"))
    await page.locator(".auth-btn-wrapper button[type=submit]").click()
    await page.locator(".btn-done").click()
    block = page.locator("[id$=-getOwnCredential]")
    await block.locator(".opblock-summary-control").click()
    await block.get_by_role("button", name="Try it out").click()
    await block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response .response-col_status").first
    await expect(status).to_have_text(re.compile(r"^\s*200"), timeout=WAIT_MS)
    await expect(block.locator(".live-responses-table")).to_contain_text("greenbank")
    assert tab.complaints == []


async def test_the_hub_contract_cannot_be_called_from_here(service: Service, tab: Tab) -> None:
    blocks = await open_docs(tab, f"{service.oracle.admin_url}/docs?contract=hub")
    await check_operations(tab, blocks, "hub", service.oracle.admin_url)
    await blocks.first.locator(".opblock-summary-control").click()
    await expect(blocks.first.locator(".opblock-body")).to_be_visible(timeout=WAIT_MS)
    assert await tab.page.get_by_role("button", name="Try it out").count() == 0
    await expect(tab.page.locator("#hub")).to_contain_text("port 3000")


async def test_an_error_code_has_its_place(service: Service, tab: Tab) -> None:
    await tab.page.goto(f"{service.oracle.admin_url}/docs/errors#bad_identifier")
    await expect(tab.page.locator("#bad_identifier")).to_be_in_viewport()
    assert tab.complaints == []


async def test_the_hub_listener_says_what_it_is(service: Service, tab: Tab) -> None:
    await tab.page.goto(service.oracle.hub_url + "/")
    await expect(tab.page.locator("body")).to_contain_text("hub")
    assert tab.complaints == []

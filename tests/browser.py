"""A real browser for tests of pages: Debian's Chromium, driven by Playwright.

browser     the running Chromium of this test run, started when first asked for
tab         a page of its own, with what the browser asked for and found wrong

Without Chromium the tests are not run, and the run's last lines say so.  In CI that is a failure.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
# The sandbox needs rights that a container or root does not have; the rest keeps the browser off the network.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Tab(NamedTuple):
    page: Page
    complaints: list[str]  # errors of scripts, refused resources, failed requests
    asked: list[str]  # the address of each request


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Debian's package chromium")
        pytest.skip("pages: install Debian's package chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    page = browser.new_page()
    tab = Tab(page, [], [])
    page.on("console", lambda said: tab.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    page.on("request", lambda request: tab.asked.append(request.url))
    page.on("requestfailed", lambda request: tab.complaints.append(f"{request.url}: {request.failure}"))
    yield tab
    page.close()

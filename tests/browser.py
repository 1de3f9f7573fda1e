"""A real browser for tests of pages: Debian's Chromium, driven by Playwright.

browser  one Chromium for the tests of a module, which are marked `pytest.mark.asyncio(loop_scope="module")`
tab      a page of its own, with what the browser asked for and found wrong

Without Chromium the tests are not run, and the run's last line names them.  In CI that is a failure.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

# The sandbox needs rights that a container or root does not have; the rest keeps the browser off the network.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT_MS = 60_000  # for a busy machine
expect.set_options(timeout=WAIT_MS)
MISSING = "pages are not tested: install Debian's package chromium"


class Tab(NamedTuple):
    page: Page
    complaints: list[str]  # errors of scripts, refused resources, failed requests
    asked: list[str]  # the address of each request


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)  # a person without the browser can run the rest; the summary below names what is left out
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=WAIT_MS)
        yield running
        await running.close()


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    page = await browser.new_page()
    page.set_default_timeout(WAIT_MS)
    tab = Tab(page, [], [])
    page.on("console", lambda line: tab.complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    page.on("request", lambda request: tab.asked.append(request.url))
    page.on("requestfailed", lambda request: tab.complaints.append(f"{request.url}: {request.failure}"))
    yield tab
    await page.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if any(MISSING in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(f"tests/pages: {MISSING}")

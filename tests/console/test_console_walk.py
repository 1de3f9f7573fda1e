"""The whole way through the console, as people go it: a file with bad rows, its correction, a second person's approval,
a suspended FSP, and an auditor who takes a proof along.

In each language, once with the keyboard alone and once without script.  CONSOLE_PICTURES=FOLDER makes the pictures of
the README (`make pictures`).
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from browser import WAIT_MS
from oracle_process import until
from playwright.async_api import TimeoutError as PlaywrightTimeoutError
from playwright.async_api import expect

from oracle.api.console.formats import format_number
from oracle.api.console.languages import language, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from admin_service import Service
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHOUT_HUB = True

PICTURES: Final = os.environ.get("CONSOLE_PICTURES")
LANGUAGES: Final = ("en", "es", "my")
USUAL: Final = ("es-keyboard", "my-plain")
TABS_MAX: Final = 200
HEADER: Final = "kind,identifier,sub_id,currency,country,action\n"


class Walk(NamedTuple):
    language: str
    way: str  # keyboard, or plain: without script

    @property
    def name(self) -> str:
        return NAMES[WALKS.index(self)]

    @property
    def fsp_id(self) -> str:
        return self.name.replace(" ", "").lower()

    def say(self, message: str) -> str:
        return load(self.language).find(message)


NAMES: Final = ("Tulip Bank", "Lily Bank", "Rose Bank", "Mint Bank", "Sage Bank", "Palm Bank")
WALKS: Final = [Walk(language, way) for language in LANGUAGES for way in ("keyboard", "plain")]


class Hands:
    """Hands on a mouse, in a browser without script."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def press(self, selector: str, then: str) -> None:
        """Press a link or a button, and wait for an address that matches `then`."""
        await self.page.locator(selector).first.click()
        await expect(self.page).to_have_url(re.compile(rf"{then}(\?[^#]*)?(#content)?$"), timeout=WAIT_MS)

    async def write(self, selector: str, text: str) -> None:
        await self.page.locator(selector).fill(text)

    async def open(self, selector: str) -> None:
        await self.page.locator(selector).first.click()

    async def choose_file(self, selector: str, file: Path) -> None:
        await self.page.locator(selector).set_input_files(file)

    async def download(self, selector: str) -> bytes:
        async with self.page.expect_download() as coming:
            await self.open(selector)
        path = await (await coming.value).path()
        return await asyncio.to_thread(path.read_bytes)

    async def see(self, selector: str, text: str = "") -> None:
        """Look at the page again until it shows that."""
        end = time.monotonic() + WAIT_MS / 1000
        while not await self.page.locator(selector).filter(has_text=text).count():
            assert time.monotonic() < end, f"{self.page.url} does not show {selector} {text}"
            await self.page.reload()


class Keyboard(Hands):
    """Hands on the keyboard alone."""

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        # From the beginning: a dialog that opens before somebody listens stays open, and there is one at most.
        page.on("filechooser", lambda _: None)

    async def press(self, selector: str, then: str) -> None:
        await self.open(selector)
        await expect(self.page).to_have_url(re.compile(rf"{then}(\?[^#]*)?(#content)?$"), timeout=WAIT_MS)
        await self.page.wait_for_load_state()

    async def write(self, selector: str, text: str) -> None:
        await self._reach(selector)
        if await self.page.evaluate("document.activeElement.type") == "datetime-local":
            await self.page.locator(selector).fill(text)  # the order of its parts is that of the browser's language
        else:
            await self.page.keyboard.type(text)

    async def open(self, selector: str) -> None:
        await self._reach(selector)
        await self.page.keyboard.press("Enter")

    async def choose_file(self, selector: str, file: Path) -> None:
        for patience_ms in (WAIT_MS / 6, WAIT_MS):  # a busy browser can lose the key, or move the focus late
            await self._reach(selector)
            with suppress(PlaywrightTimeoutError):
                async with self.page.expect_file_chooser(timeout=patience_ms) as coming:
                    await self.page.keyboard.press("Space")
                break
        await (await coming.value).set_files(file)

    async def see(self, selector: str, text: str = "") -> None:
        await expect(self.page.locator(selector).filter(has_text=text).first).to_be_visible(timeout=WAIT_MS)

    async def _reach(self, selector: str) -> None:
        """Press Tab until the focus is there, and require that it is seen.  The first link skips the menu."""
        is_new = "place => document.activeElement === document.body && !!document.querySelector(`main :is(${place})`)"
        if await self.page.evaluate(is_new, selector):
            await self.page.keyboard.press("Tab")
            await self.page.keyboard.press("Enter")
        for _ in range(TABS_MAX):
            if await self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                assert await self.page.evaluate("document.activeElement.matches(':focus-visible')")
                return
            await self.page.keyboard.press("Tab")
        pytest.fail(f"the keyboard does not reach {selector} of {self.page.url}")


@asynccontextmanager
async def sit_down(
    browser: Browser, service: Service, walk: Walk, label: str, role: str, fsp_id: str | None = None
) -> AsyncIterator[Hands]:
    """Open a browser of a person, who signs in."""
    key = await asyncio.to_thread(service.issue, role, fsp_id, label=label)
    context = await browser.new_context(
        base_url=service.oracle.admin_url, java_script_enabled=walk.way == "keyboard", reduced_motion="reduce",
        viewport={"width": 1100, "height": 760}, extra_http_headers={"accept-language": walk.language},
    )  # fmt: skip
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    hands = (Keyboard if walk.way == "keyboard" else Hands)(page)
    await page.goto("/console/sign-in")
    assert await page.locator("html").get_attribute("lang") == walk.language
    await hands.write("#field-key", key)
    await hands.press("#sign-in form button", "/console")
    yield hands
    await context.close()


async def go_to(hands: Hands, place: str) -> None:
    await hands.press(f'#menu a[href="/console/{place}"]', f"/console/{place}")


async def take_picture(hands: Hands, walk: Walk, name: str, *, is_whole: bool = False) -> None:
    """Take a picture of what a person sees first, or of the whole page."""
    if PICTURES and walk == WALKS[0]:
        await hands.page.evaluate("scrollTo(0, 0)")
        await hands.page.screenshot(path=Path(PICTURES) / f"console-{name}.png", full_page=is_whole)


@pytest.mark.parametrize("walk", WALKS, ids="-".join)
async def test_a_file_from_its_maker_to_the_proof_of_an_auditor(
    service: Service, browser: Browser, walk: Walk, tmp_path: Path, complete: bool
) -> None:
    if not complete and not PICTURES and "-".join(walk) not in USUAL:
        pytest.skip("one of each way in the usual run")  # all six take two minutes; `--complete` runs them
    number = f"+52 55 2345 {10 + WALKS.index(walk)}78"
    new = {"fspId": walk.fsp_id, "name": walk.name, "twoPersons": True, "defaultCountry": "MX"}
    await asyncio.to_thread(lambda: service.operator.post("/fsps", json=new).raise_for_status())
    await upload_and_correct(service, browser, walk, tmp_path, number)
    await approve(service, browser, walk)
    answered_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    await asyncio.to_thread(until, lambda: datetime.now(UTC) > answered_at + timedelta(seconds=1))
    await suspend(service, browser, walk)
    await prove(service, browser, walk, tmp_path, number, answered_at)


async def upload_and_correct(service: Service, browser: Browser, walk: Walk, folder: Path, number: str) -> None:
    """A maker uploads a file with bad rows, sees them, corrects them, and uploads these again."""
    file, corrected = folder / "customers.csv", folder / "corrected.csv"
    good = "".join(f"MSISDN,+52 55 8{WALKS.index(walk)}45 {at},,MXN,,\n" for at in range(1000, 1060))
    file.write_text(f"{HEADER}{good}MSISDN,55234,,MXN,,\nFAX,5512345678,,MXN,,\n")
    async with sit_down(browser, service, walk, "Ana", "dfsp-maker", walk.fsp_id) as ana:
        await go_to(ana, "files")
        await ana.press('main a[href^="/console/files/new"]', "/files/new")
        await ana.choose_file("#field-file", file)
        if walk.way == "plain":
            await ana.press("button[formaction]", "/files/check")
        await ana.see(".check-result[data-kind=warn]", walk.say("The kind is not known"))
        if walk.way == "plain":
            await ana.choose_file("#field-file", file)
        await ana.press("form[data-upload] .buttons button:not([formaction])", rf"/files/{walk.fsp_id}/\d+")
        await ana.see("#state", walk.say("Waiting for approval"))
        await ana.see("#failed", walk.say("Failed rows"))
        await take_picture(ana, walk, "file")
        failed = (await ana.download('a[href$="only=failed"][download]')).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(failed)))
        assert [row["code"] for row in rows] == ["bad_identifier", "unknown_kind"]
        with corrected.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, list(rows[0]))
            writer.writeheader()
            writer.writerow({**rows[0], "identifier": number})
            writer.writerow({**rows[1], "kind": "ALIAS", "identifier": f"{walk.fsp_id}.shop"})
        await ana.press('main a[href^="/console/files/new"]', "/files/new")
        await ana.choose_file("#field-file", corrected)
        await ana.press("form[data-upload] .buttons button:not([formaction])", rf"/files/{walk.fsp_id}/\d+")
        await ana.see("#state", walk.say("Waiting for approval"))
        assert await ana.page.locator("#failed").count() == 0


async def approve(service: Service, browser: Browser, walk: Walk) -> None:
    """A checker looks at a sample of both files, and approves them."""
    async with sit_down(browser, service, walk, "Ben", "dfsp-checker", walk.fsp_id) as ben:
        await go_to(ben, "tasks")
        for left in (2, 1):
            assert await ben.page.locator("#tasks tbody tr").count() == left
            await ben.press("#tasks tbody a", rf"/tasks/{walk.fsp_id}/\d+")
            await ben.see("#sample", walk.say("Not registered"))
            await take_picture(ben, walk, "task")
            await ben.press("#approve button", "/tasks")
            await ben.see("#messages p")
        await ben.see("#tasks .empty", walk.say("Nothing waits for a second person."))
    path = f"/fsps/{walk.fsp_id}/batches"

    def list_states() -> list[str]:
        return [one["state"] for one in service.operator.get(path).json()["items"]]

    await asyncio.to_thread(until, lambda: list_states() == ["done", "done"])


async def suspend(service: Service, browser: Browser, walk: Walk) -> None:
    """An operator sees what a suspension does, and suspends the FSP."""
    async with sit_down(browser, service, walk, "Oscar", "operator") as one:
        await go_to(one, "fsps")
        await one.press(f'#fsps a[href="/console/fsps/{walk.fsp_id}"]', f"/fsps/{walk.fsp_id}")
        await one.press('a[href$="/status/suspended"]', "/status/suspended")
        language.set(walk.language)
        await one.see(".impact", format_number(62))
        await one.write("#field-reason", "a fraud case")
        await one.press("main section form button", f"/fsps/{walk.fsp_id}")
        await one.see("main .badge", walk.say("Suspended"))


async def prove(
    service: Service, browser: Browser, walk: Walk, folder: Path, number: str, answered_at: datetime
) -> None:
    """An auditor finds that nobody answers now, who answered before, and takes a proof along that verifies offline."""
    auditor = await asyncio.to_thread(service.client, "auditor")
    audit = str(auditor.base_url).rstrip("/").replace("/admin/v1", "/audit/v1")

    def fetch(path: str) -> Any:
        return auditor.get(audit + path).json()

    await asyncio.to_thread(until, lambda: fetch("/log/status")["waitingS"] is None)
    async with sit_down(browser, service, walk, "Eva", "auditor") as eva:
        await go_to(eva, "search")
        await eva.write("#field-identifier", number)
        await eva.press("form.search .row button", "/search")
        await eva.see(".verdict[data-kind=bad]", walk.say("Answer: nobody"))
        await eva.open("form.search summary")
        await eva.write("#field-at", f"{answered_at:%Y-%m-%dT%H:%M:%S}")
        await eva.press("form.search .row button", "/search")
        await eva.see(".verdict[data-kind=good]", walk.fsp_id)
        await take_picture(eva, walk, "search", is_whole=True)
        proof = folder / "proof.json"
        proof.write_bytes(await eva.download(".answer tbody tr:last-child a[download]"))
    key = folder / "log.vkey"
    key.write_text((await asyncio.to_thread(fetch, "/log/keys"))["items"][0]["vkey"])
    command = [sys.executable, "-m", "oracle.verifier", "proof", str(proof), "--key", str(key), "--show"]
    checked = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "VERIFIED" in checked.stdout
    digits = "".join(filter(str.isdigit, number))
    assert f"party_identifier  {digits}\n" in checked.stdout

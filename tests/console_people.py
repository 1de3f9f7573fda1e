"""People who use the console: with a browser (`sign_in`, `check_accessible`), and by HTTP alone (`Person`).

visitor           visitor(): not signed in, by HTTP
person            person("operator"), person("dfsp-maker", "greenbank"): signed in, by HTTP
sign_in           await sign_in(tab, service, key): a browser that is signed in, at the home page
check_accessible  await check_accessible(tab.page): axe finds nothing, for the present colours and width
read_fields       read_fields(page): what a browser would send of the largest form of a page
each_look         async for look in each_look(tab.page): light and dark, 320 and 1280 px
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from html import unescape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

if TYPE_CHECKING:
    from admin_service import Service
    from browser import Tab
    from playwright.async_api import Page

_CSRF = re.compile(r'name="csrf" (?:value|content)="([^"]+)"')
_AXE = files("axe_playwright_python").joinpath("axe.min.js")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Person:
    """A browser without script: cookies, forms and redirects.  httpx sends no Secure cookie over plain HTTP."""

    def __init__(self, url: str, **headers: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, headers={"sec-fetch-site": "same-origin", **headers})
        self.cookies: dict[str, str] = {}
        self.csrf = ""
        self.key = ""

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._ask("GET", path, **options)

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send a form with the token of the page that was seen last."""
        return self._ask("POST", path, data={"csrf": self.csrf, **(data or {})}, **options)

    def send(self, path: str, content: bytes, media_type: str) -> httpx.Response:
        """Send a form that is written already."""
        return self._ask("POST", path, content=content, headers={"content-type": media_type})

    def follow(self, answer: httpx.Response) -> httpx.Response:
        assert answer.status_code == 303, answer.text
        return self.get(answer.headers["location"])

    def sign_in(self, key: str) -> httpx.Response:
        self.key = key
        self.get("/console/sign-in")
        return self.post("/console/sign-in", {"key": key})

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = self.client.request(method, path, headers={**headers, **options.pop("headers", {})}, **options)
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0]
            if "Max-Age=0" in rest:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        found = _CSRF.search(answer.text)
        if found:
            self.csrf = found[1]
        return answer


@pytest.fixture(scope="module")
def visitor(service: Service) -> Iterator[Callable[..., Person]]:
    """Make a person who is not signed in."""
    with ExitStack() as stack:

        def make(**headers: str) -> Person:
            made = Person(service.oracle.admin_url, **headers)
            stack.enter_context(made.client)
            return made

        yield make


@pytest.fixture(scope="module")
def person(service: Service, visitor: Callable[..., Person]) -> Callable[..., Person]:
    """Make a person who is signed in with a new key of a role."""

    def make(role: str, fsp_id: str | None = None) -> Person:
        made = visitor()
        made.follow(made.sign_in(service.issue(role, fsp_id)))  # the home page has the token that forms need
        return made

    return make


async def sign_in(tab: Tab, service: Service, key: str) -> None:
    """Sign in with a key, in a real browser."""
    page = tab.page
    await page.goto(f"{service.oracle.admin_url}/console/sign-in")
    await page.locator("#field-key").fill(key)
    await page.locator("#sign-in form button").click()
    await page.wait_for_url("**/console")


async def issue(service: Service, role: str, fsp_id: str | None = None) -> str:
    """Issue a key from a test that has an event loop."""
    return await asyncio.to_thread(service.issue, role, fsp_id)


async def check_accessible(page: Page) -> None:
    """Require that axe finds nothing wrong with the page, as it looks now."""
    # Not as a script of the page: its content policy would refuse that.
    if not await page.evaluate("typeof window.axe === 'object'"):
        await page.evaluate(_AXE.read_text())
    found = await page.evaluate("tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", TAGS)
    if found["violations"]:
        pytest.fail("\n".join([page.url, *(_describe(one) for one in found["violations"])]))


def _describe(violation: dict[str, Any]) -> str:
    nodes = [f"  {node['html'][:200]}\n  {node.get('failureSummary', '')}" for node in violation["nodes"][:3]]
    return "\n".join([f"{violation['id']}: {violation['help']}", *nodes])


async def each_look(page: Page) -> AsyncIterator[str]:
    """Show the page in light and dark, on a small telephone and on a desk."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width in (320, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            yield f"{scheme}-{width}"


def read_fields(page: str) -> dict[str, Any]:
    """Read what a browser would send of the largest form of a page: lists of values by their names."""
    form = max(re.findall(r"<form.*?</form>", page, re.DOTALL), key=len)
    fields: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        values = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if values.get("type") == "checkbox" and " checked" not in tag:
            continue
        fields.setdefault(unescape(values["name"]), []).append(unescape(values.get("value", "")))
    for name, text in re.findall(r'<textarea[^>]*name="(\w+)"[^>]*>\n?(.*?)</textarea>', form, re.DOTALL):
        fields[name] = [unescape(text)]
    for name, options in re.findall(r'<select[^>]*name="(\w+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        fields[name] = [unescape(found[1]) if (found := re.search(r'value="([^"]*)" selected', options)) else ""]
    return fields


async def fetch(service: Service, sql: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(service.database_url)
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()

"""What the console costs those who do not use it, and what it costs those who do."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from oracle.api.admin.app import AdminServices, admin_app
from oracle.api.admin.compression import accepts_gzip
from oracle.api.console.answers import Answer
from oracle.api.console.assets import load_assets
from oracle.api.console.declarations import list_pages
from oracle.api.console.visits import make_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from console_people import Person

WITHOUT_HUB = True


def test_a_hub_worker_loads_no_templates_and_no_calendars() -> None:
    code = (
        "from oracle.run.wiring import load; import sys; load('hub');"
        "print([n for n in sys.modules if n.partition('.')[0] in ('jinja2', 'markupsafe', 'babel', 'litestar')])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout == "[]\n"


async def test_without_the_console_the_root_leads_to_the_documentation() -> None:
    app = admin_app(AdminServices(*[cast("Any", None)] * 4))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", app)), base_url="http://oracle") as client:
        assert (await client.get("/")).headers["location"] == "docs"
        assert (await client.get("/console")).status_code == 404


def test_pages_that_change_something_are_forms() -> None:
    for page in list_pages().values():
        assert page.method in ("GET", "POST")
        assert page.under in ("", *list_pages()), page.name


def test_an_address_holds_what_the_path_does_not_name_in_its_query() -> None:
    assert make_url("fsps", status="active", cursor=None) == "/console/fsps?status=active"
    assert make_url("end_session", session_id="a/b ?") == "/console/account/sessions/a%2Fb%20%3F/end"


def test_assets_are_compressed_once() -> None:
    for asset in load_assets().values():
        assert len(asset.zipped) <= len(asset.plain)
        assert asset.version in asset.url


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True), ("br, GZIP;q=0.5", True), ("*", True), ("br;q=0, *;q=0.1", True), ("gzip; q=1.000", True),
        ("", False), ("identity", False), ("br, x-gzip2", False), ("gzip;q=0", False), ("gzip ; q = 0.000", False),
        ("gzip;q=0, *", False), ("*, gzip;q=0", False), ("*;q=0", False), ("gzip;q=0.0, br", False),
    ],
)  # fmt: skip
def test_gzip_is_sent_to_those_alone_who_take_it(header: str, *, takes: bool) -> None:
    assert accepts_gzip(header) is takes


def test_a_page_is_compressed_for_a_browser_that_takes_it(person: Callable[..., Person]) -> None:
    one = person("operator")
    for path in ("/console/fsps", "/console/no-such-page"):
        plain, zipped = (one.get(path, headers={"accept-encoding": form}) for form in ("gzip;q=0, *", "gzip"))
        assert "content-encoding" not in plain.headers
        assert zipped.headers["content-encoding"] == "gzip"
        assert plain.headers["vary"] == zipped.headers["vary"] == "accept-encoding"
        assert zipped.num_bytes_downloaded < len(plain.content) / 2
        assert zipped.text.partition("<main")[2][:200] == plain.text.partition("<main")[2][:200]


def test_a_page_that_another_site_asked_for_is_not_compressed(person: Callable[..., Person]) -> None:
    one = person("operator")
    for said in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
        found = one.get("/console/fsps", headers={"accept-encoding": "gzip", **said})
        assert found.status_code == 200
        assert "content-encoding" not in found.headers


def test_a_page_with_a_secret_is_not_compressed(person: Callable[..., Person]) -> None:
    one = person("operator")
    one.get("/console/new-key")
    shown = one.post(
        "/console/new-key", {"role": "auditor", "label": "aok_ guess"}, headers={"accept-encoding": "gzip"}
    )
    assert shown.status_code == 200
    assert '<code id="secret"' in shown.text
    assert "content-encoding" not in shown.headers


def test_files_and_events_are_sent_as_they_are() -> None:
    async def write() -> AsyncIterator[bytes]:
        yield b"event"

    for answer in (Answer(write(), media_type="text/event-stream"), Answer(b"a" * 9_999, media_type="text/csv")):
        before = answer.body
        answer.compress()
        assert answer.body is before
        assert "content-encoding" not in dict(answer.lines)


def test_a_page_takes_some_milliseconds(person: Callable[..., Person]) -> None:
    one = person("operator")
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        assert one.get("/console/fsps").status_code == 200
        times.append(time.perf_counter() - begin)
    print(f"a page: median {sorted(times)[10] * 1000:.1f} ms")
    assert sorted(times)[5] < 0.25  # a busy machine; alone it is 10 ms

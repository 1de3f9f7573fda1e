"""The pages of aliases: what people see, do and cannot do.  By HTTP, and once in a browser."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
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

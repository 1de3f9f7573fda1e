"""The pages of the admin listener: both contracts, the error codes, and nothing from elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest

from oracle.api.admin.app import description
from oracle.api.admin.codes import MEANINGS, Code, anchor, markdown
from oracle.api.admin.documentation import ASSETS, errors_page
from oracle.identifiers.errors import EXPLANATIONS
from oracle.imports.refusals import REFUSALS

if TYPE_CHECKING:
    import httpx
    from admin_service import Service

WITHOUT_HUB = True  # see admin_service

CSP: Final = "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
PAGES: Final = ("/docs", "/docs?contract=hub", "/docs/errors")


@pytest.fixture(scope="module")
def get(service: Service) -> Any:
    anybody = service.as_key(None)

    def get(path: str, **headers: str) -> httpx.Response:
        return anybody.get(service.oracle.admin_url + path, headers=headers)

    return get


def test_the_root_leads_to_the_console(get: Any) -> None:
    answer = get("/")
    assert (answer.status_code, answer.headers["location"]) == (302, "console")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_its_headers_and_no_inline_script(get: Any, path: str) -> None:
    page = get(path)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"] == CSP
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script>|<style|\son\w+=|style=|javascript:", page.text)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_only_assets_of_this_listener(get: Any, path: str) -> None:
    page = get(path).text
    loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', page)
    assert loaded
    assert [address for address in loaded if not re.fullmatch(r"data:,|(?:docs/)?assets/[\w.-]+", address)] == []
    assert {address.rpartition("/")[2] for address in loaded} <= {"data:,", *ASSETS}


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_an_asset_is_kept_and_compressed(get: Any, name: str) -> None:
    asset = get(f"/docs/assets/{name}", **{"Accept-Encoding": "gzip"})
    assert (asset.status_code, asset.headers["content-encoding"]) == (200, "gzip")
    assert asset.headers["cache-control"] == "public, max-age=86400"
    assert asset.headers["x-content-type-options"] == "nosniff"
    assert asset.content == files("oracle.api.admin").joinpath("assets", *ASSETS[name][0].split("/")).read_bytes()
    again = get(f"/docs/assets/{name}", **{"If-None-Match": asset.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert get(f"/docs/assets/{name}", **{"Accept-Encoding": "identity"}).content == asset.content


@pytest.mark.parametrize("name", ["LICENSE", "docs.html", "..%2Fapp.py", "swagger-ui%2Fswagger-ui.css", "x"])
def test_no_other_file_is_served(get: Any, name: str) -> None:
    assert get(f"/docs/assets/{name}").status_code == 404


def test_both_contracts_are_served(get: Any) -> None:
    admin = get("/openapi.json")
    assert (admin.headers["content-type"], admin.content) == ("application/json", description())
    hub = get("/docs/hub.openapi.json")
    assert hub.headers["content-type"] == "application/json"
    assert hub.content == files("oracle.schemas").joinpath("hub.openapi.json").read_bytes()


def test_the_viewer_comes_with_its_licence() -> None:
    folder = files("oracle.api.admin").joinpath("assets", "swagger-ui")
    assert "Apache License" in folder.joinpath("LICENSE").read_text(encoding="utf-8")
    assert "swagger-ui-dist" in folder.joinpath("README.md").read_text(encoding="utf-8")


# Error codes --------------------------------------------------------------------------------------------------


def test_every_code_has_a_meaning() -> None:
    assert sorted(get_args(Code)) == sorted(MEANINGS)
    assert all(meaning.title and meaning.cause and meaning.remedy for meaning in MEANINGS.values())


def test_the_document_lists_every_code_and_no_other() -> None:
    """When this fails: `make contract`."""
    root = files("oracle.schemas").joinpath("..")
    document = root.joinpath("docs", "errors.md").read_text(encoding="utf-8")
    assert document == markdown()
    headings = re.findall(r"^## (.+)$", document, re.MULTILINE)
    assert headings == [*MEANINGS, "Codes of rows", "Reasons for a bad identifier"]
    assert all(f"- `{code}`: " in document for code in (*REFUSALS, *EXPLANATIONS))


def test_the_page_has_a_place_for_every_code() -> None:
    places = re.findall(r'<section id="(\w+)">', errors_page())
    assert [anchor(code) for code in MEANINGS] == [f"/docs/errors#{place}" for place in places]


def test_a_problem_leads_to_its_explanation(service: Service, get: Any) -> None:
    answer = service.as_key(None).get("/fsps")
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert problem == {
        "type": "/docs/errors#unauthorized",
        "title": MEANINGS["unauthorized"].title,
        "status": 401,
        "detail": "A valid key is required",
        "code": "unauthorized",
        "hint": "Send the header Authorization: Bearer aok_…",
    }
    path, _, place = problem["type"].partition("#")
    assert f'id="{place}"' in get(path).text


def test_a_problem_names_the_member_that_is_wrong(operator: httpx.Client) -> None:
    made = operator.post("/fsps", json={"fspId": "a b"})
    assert (made.status_code, made.json()["field"]) == (400, "fspId")
    timed = operator.post("/credentials", json={"role": "reader", "label": "x", "expiresAt": "tomorrow"})
    assert (timed.status_code, timed.json()["field"]) == (400, "expiresAt")
    assert timed.json()["detail"] == "Not a valid time; use RFC 3339, for example 2026-11-28T10:00:00Z"
    listed = operator.get("/batches", params={"from": "2026-11-28T10:00:00"})
    assert (listed.status_code, listed.json()["field"], listed.json()["detail"]) == (
        400,
        "from",
        timed.json()["detail"],
    )


def test_a_list_has_a_link_to_its_next_page(operator: httpx.Client) -> None:
    first = operator.get("/fsps", params={"limit": 1, "status": "active"})
    assert first.links["next"]["url"].startswith("?")
    again = operator.get(f"/fsps{first.links['next']['url']}")
    assert [each["fspId"] for each in again.json()["items"]] == ["redbank"]
    while "next" in again.links:
        again = operator.get(f"/fsps{again.links['next']['url']}")
    assert again.json()["next"] is None


def test_a_cursor_is_good_for_its_filters_and_its_key_alone(service: Service, operator: httpx.Client) -> None:
    cursor = operator.get("/fsps", params={"limit": 1}).json()["next"]
    other = service.client("operator")
    for client, query in ((operator, {"status": "active"}), (other, {}), (operator, {"cursor": f"{cursor}A"})):
        refused = client.get("/fsps", params={"cursor": cursor, "limit": 1} | query)
        assert (refused.status_code, refused.json()["field"]) == (400, "cursor")

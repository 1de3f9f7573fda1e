"""Routes in the console: what a route takes over is shown before, and a prefix is drawn."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from console_people import Person, check_accessible, issue, read_fields, sign_in
from markupsafe import escape
from playwright.async_api import expect

from oracle.api.console.coverage import draw

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from admin_service import Service
    from browser import Tab

WITHOUT_HUB = True

HOSTILE: Final = (
    '<script>alert("1")</script>',
    "\"' onmouseover=x",
    "\u202egnirts",
    "{{ 7 * 7 }}",
    "a\0b",
    "x" * 10_000,
)
CLABE = "012180000118359713"


@pytest.fixture(scope="module")
def chief(person: Callable[..., Person]) -> Person:
    return person("operator")


@pytest.fixture(scope="module", autouse=True)
def seeded(operator: httpx.Client) -> None:
    """Two routes, of which the first has the number 1."""
    for prefix, fsp_id in (("012", "greenbank"), ("0121", "redbank")):
        add(operator, prefix, fsp_id)


def add(operator: httpx.Client, prefix: str, fsp_id: str, **members: Any) -> int:
    body = {"kind": "CLABE", "prefix": prefix, "fspId": fsp_id, **members}
    created = operator.post("/routes", json=body).raise_for_status().json()
    return int(created["route"]["routeId"])


def test_the_list_is_filtered_and_no_address_has_what_was_typed(chief: Person, operator: httpx.Client) -> None:
    add(operator, "646", "redbank", validTo=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    chief.get("/console/routes")
    answer = chief.post("/console/routes/find", {"kind": "CLABE", "prefix": CLABE, "when": "now"})
    assert "0121" not in answer.headers["location"]
    page = chief.follow(answer).text
    assert re.findall(r'/console/routes/\d+"><bdi>(\d+)</bdi></a>', page) == ["012", "0121"]
    assert f'value="{CLABE}"' in page
    nothing = chief.follow(chief.post("/console/routes/find", {"fspId": "nobody"})).text
    assert "No route fits this filter" in nothing
    assert chief.get("/console/routes?of=abc").status_code == 404


def test_what_a_new_route_takes_over_is_shown_before(chief: Person, operator: httpx.Client) -> None:
    fields = read_fields(chief.get("/console/routes/new").text)
    fields |= {"kind": "CLABE", "prefix": "0122", "fspId": "redbank", "step": "check"}
    page = chief.post("/console/routes/new", fields).text
    assert "Loses <bdi>0122</bdi> to redbank" in page
    assert operator.get("/routes", params={"kind": "CLABE", "prefix": "0122"}).json()["items"][-1]["prefix"] == "012"
    fields = read_fields(page) | {"step": "create", "reason": "the list of November"}
    first, again = (chief.post("/console/routes/new", fields) for _ in range(2))
    assert first.headers["location"] == again.headers["location"]
    conflict = chief.post("/console/routes/new", fields | {"step": "check"}).text
    assert "It cannot be created" in conflict
    assert "Create the route" not in conflict
    bad = chief.post("/console/routes/new", fields | {"step": "check", "prefix": "x y"})
    assert bad.status_code == 422
    assert 'id="error-prefix"' in bad.text
    late = chief.post("/console/routes/new", fields | {"step": "check", "validTo": "2020-01-01T00:00"})
    assert 'id="error-validTo"' in late.text


def test_a_route_is_changed_and_ended_with_a_reason(chief: Person, operator: httpx.Client) -> None:
    number = add(operator, "0128", "redbank", note="old")
    fields = read_fields(chief.get(f"/console/routes/{number}/change").text)
    operator.patch(f"/routes/{number}", json={"validTo": "2099-01-01T00:00:00Z"}).raise_for_status()
    late = chief.post(f"/console/routes/{number}/change", fields | {"note": "new"})
    assert "Somebody changed this meanwhile" in late.text
    assert chief.post(f"/console/routes/{number}/change", read_fields(late.text)).status_code == 303
    found = operator.get(f"/routes/{number}").json()
    assert (found["note"], found["validTo"]) == ("new", "2099-01-01T00:00:00Z")
    fields = read_fields(chief.get(f"/console/routes/{number}/end").text)
    assert 'id="error-reason"' in chief.post(f"/console/routes/{number}/end", fields).text
    assert chief.post(f"/console/routes/{number}/end", fields | {"reason": "moved"}).status_code == 303
    assert "ended already" in chief.get(f"/console/routes/{number}/end").text
    soon = add(operator, "0129", "redbank", validFrom="2099-01-01T00:00:00Z")
    fields = read_fields(chief.get(f"/console/routes/{soon}/end").text)
    done = chief.post(f"/console/routes/{soon}/end", fields | {"reason": "not wanted"})
    assert "withdrawn" in chief.follow(done).text


def send(chief: Person, path: str, content: bytes, **fields: str) -> httpx.Response:
    csrf = read_fields(chief.get("/console/routes/import").text)["csrf"][0]
    headers = {"cookie": "; ".join(f"{name}={value}" for name, value in chief.cookies.items())}
    data = {"csrf": csrf, "unknownFsps": "refuse", **fields}
    return chief.client.post(path, data=data, files={"file": ("r.csv", content, "text/csv")}, headers=headers)


def test_a_list_is_checked_then_imported(chief: Person, operator: httpx.Client) -> None:
    bad = send(chief, "/console/routes/import/check", b"prefix,fspId\n0130,redbank\nx,redbank\n0131,nobody\n")
    assert "cannot be imported yet" in bad.text
    assert bad.text.count('<th scope="row">') == 2
    assert send(chief, "/console/routes/import", b"prefix,fspId\nx,redbank\n").status_code == 422
    good = b"prefix,fspId\n01219,greenbank\n0133,redbank\n"
    page = send(chief, "/console/routes/import/check", good).text
    assert "Loses the prefix of this line" in page
    assert not operator.get("/routes", params={"kind": "CLABE", "prefix": "0133"}).json()["items"]
    done = send(chief, "/console/routes/import", good, reason="November")
    assert done.headers["location"] == "/console/routes"
    assert operator.get("/routes", params={"kind": "CLABE", "prefix": "0133"}).json()["items"]
    assert send(chief, "/console/routes/import/check", b"").status_code == 422


def test_what_if_explains_whole_pages_and_parts(chief: Person) -> None:
    chief.get("/console/routes/what-if")
    page = chief.post("/console/routes/what-if", {"kind": "CLABE", "identifier": CLABE}).text
    assert "redbank answers" in page
    part = chief.post(
        "/console/routes/what-if", {"kind": "CLABE", "identifier": "0121"}, headers={"hx-request": "true"}
    )
    assert part.status_code == 200
    assert part.text.lstrip().startswith('<div id="answer"')
    assert "data-focus" not in part.text
    assert chief.post("/console/routes/what-if", {"kind": "CLABE", "identifier": "0121"}).status_code == 422


def test_the_coverage_names_who_answers(chief: Person, operator: httpx.Client) -> None:
    chief.get("/console/routes/coverage")
    page = chief.post("/console/routes/coverage", {"kind": "CLABE", "prefix": "01"}).text
    assert "<svg" in page
    assert re.search(r'level-1"><a href="/console/routes/\d+"><bdi>0121<', page)
    operator.post("/fsps/redbank/status", json={"status": "suspended", "reason": "a test"}).raise_for_status()
    assert "Answers nobody" in chief.post("/console/routes/coverage", {"kind": "CLABE", "prefix": "01"}).text
    operator.post("/fsps/redbank/status", json={"status": "active", "reason": "a test"}).raise_for_status()
    assert chief.post("/console/routes/coverage", {"kind": "", "prefix": ""}).status_code in (200, 422)


def make_route(prefix: str, fsp_id: str, kind: str = "CLABE") -> dict[str, Any]:
    return {"prefix": prefix, "fspId": fsp_id, "kind": kind}


def test_the_longest_prefix_takes_its_part_of_the_picture() -> None:
    routes = [make_route("0", "a"), make_route("01", "b"), make_route("013", "a"), make_route("01", "c", "ACCOUNT_ID")]
    picture = draw("0", routes, frozenset(), "CLABE")
    assert [(part.route["fspId"], part.share, part.level) for part in picture.parts] == [
        ("a", 0.9, 0), ("b", 0.09, 1), ("a", 0.01, 2),
    ]  # fmt: skip
    assert [(name, share) for name, share, _ in picture.shares] == [("a", 0.91), ("b", 0.09)]
    assert [(bar.x, bar.width) for bar in picture.bars] == [(0.0, 1_000.0), (100.0, 100.0), (130.0, 10.0)]
    # A telephone has room for some of the texts only.
    assert [(bar.label, bar.is_roomy) for bar in picture.bars] == [("0 · a", False), ("01 · b", True), ("", True)]
    ticks = draw("032", [], frozenset(), "CLABE").ticks
    assert [tick.text for tick in ticks if not tick.is_roomy] == ["0320", "0322", "0324", "0326", "0328"]
    silent = draw("0", routes, frozenset({"b"}), "CLABE")
    assert [(name, share) for name, share, _ in silent.shares] == [("a", 0.91), ("", 0.09)]
    assert draw("5", [], frozenset(), "CLABE").parts == []
    letters = draw("MX", [make_route("MX0É", "a"), make_route("MXZ<", "b")], frozenset(), "ALIAS")
    assert [part.share for part in letters.parts] == [None, None]


# Where a person writes, and which field.  Changes that are made wait until every process follows them: few of those.
FIELDS: Final = (
    ("find", "prefix"), ("find", "fspId"), ("new", "prefix"), ("new", "note"), ("new", "validFrom"),
    ("what-if", "identifier"), ("what-if", "at"), ("what-if", "currency"), ("coverage", "prefix"), ("coverage", "kind"),
    ("1/change", "seen"), ("1/change", "validTo"), ("1/end", "version"), ("1/end", "at"),
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(chief: Person, text: str) -> None:
    chief.get("/console/routes")
    for path, name in FIELDS:
        fields = {"kind": "CLABE", "prefix": "0199", "fspId": "greenbank", "step": "check", "identifier": CLABE}
        answer = chief.post(f"/console/routes/{path}", {**fields, name: text})
        assert answer.status_code < 500, (path, name)
        assert "<script>alert" not in answer.text
    assert send(chief, "/console/routes/import/check", text.encode(), fspId=text, reason=text).status_code < 500


def test_a_hostile_note_is_shown_as_it_is(chief: Person, operator: httpx.Client) -> None:
    add(operator, "0190", "greenbank", note=HOSTILE[0])
    page = chief.get("/console/routes").text
    assert escape(HOSTILE[0]) in page
    assert HOSTILE[0] not in page


def test_people_of_an_fsp_see_their_routes_alone(person: Callable[..., Person]) -> None:
    maker = person("dfsp-maker", "greenbank")
    page = maker.get("/console/fsps/greenbank/routes").text
    assert "012" in page
    assert "0121<" not in page
    assert "New route" not in page
    assert maker.get("/console/routes").status_code == 403
    assert maker.get("/console/fsps/redbank/routes").status_code == 403


@pytest.mark.asyncio(loop_scope="module")
async def test_an_operator_asks_draws_and_imports(service: Service, tab: Tab) -> None:
    await sign_in(tab, service, await issue(service, "operator"))
    page = tab.page
    url = f"{service.oracle.admin_url}/console/routes"
    await page.goto(f"{url}/what-if")
    await page.get_by_label("Identifier", exact=True).press_sequentially(CLABE)
    await expect(page.locator("#answer h2")).to_have_text("redbank answers")
    await check_accessible(page)
    await page.goto(f"{url}/coverage")
    await page.get_by_label("Prefix").fill("01")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("#picture-title")).to_be_focused()
    await check_accessible(page)
    await page.goto(f"{url}/import")
    file = {"name": "r.csv", "mimeType": "text/csv", "buffer": b"prefix,fspId\n0177,redbank\n"}
    await page.get_by_label("List of routes").set_input_files(file)  # type: ignore[arg-type]
    await page.get_by_role("button", name="Check the list").click()
    await expect(page.locator("#checked-title")).to_be_focused()
    await check_accessible(page)
    await page.get_by_role("button", name="Import the list").click()
    await expect(page.locator("#messages")).to_contain_text("1 route is created")
    assert [line for line in tab.complaints if "ERR_ABORTED" not in line] == []  # home was left while it loaded

"""FSPs in the console: what an operator changes, what is shown before, and what somebody else changed meanwhile."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Any, Final

import pytest
from console_people import Person, check_accessible, issue, read_fields, sign_in
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from oracle_process import until
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from admin_service import Service
    from browser import Tab

WITHOUT_HUB = True

HOSTILE = (
    '<script>alert("1")</script>', "\"' onmouseover=x", "</textarea><b>", "\u202egnirts", "{{ 7 * 7 }}", "a\0b",
    "x" * 10_000, "%00%0a", "\U0001f600" * 3,
)  # fmt: skip
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"  # noqa: E501


@pytest.fixture(scope="module")
def chief(person: Callable[..., Person]) -> Person:
    return person("operator")


def make(operator: httpx.Client, fsp_id: str, **members: Any) -> None:
    operator.post("/fsps", json={"fspId": fsp_id, **members}).raise_for_status()


def test_an_fsp_is_created_with_all_its_fields(chief: Person, operator: httpx.Client) -> None:
    page = chief.get("/console/new-fsp").text
    fields = read_fields(page) | {
        "fspId": "bluebank", "name": "Blue Bank", "kinds": ["MSISDN", "CLABE"], "currencies": "mxn, USD",
        "defaultCountry": "mx", "contactEmail": "ana@blue.example", "twoPersons": "on", "useCases": "p2p",
    }  # fmt: skip
    answer = chief.post("/console/new-fsp", fields)
    again = chief.post("/console/new-fsp", fields)  # the same form a second time does nothing
    assert answer.headers["location"] == again.headers["location"] == "/console/fsps/bluebank"
    found = operator.get("/fsps/bluebank").json()
    assert {name: found[name] for name in ("name", "kinds", "currencies", "defaultCountry", "twoPersons")} == {
        "name": "Blue Bank", "kinds": ["CLABE", "MSISDN"], "currencies": ["MXN", "USD"], "defaultCountry": "MX",
        "twoPersons": True,
    }  # fmt: skip
    assert found["contact"]["email"] == "ana@blue.example"
    seen = chief.get("/console/fsps/bluebank").text
    assert "Blue Bank" in seen
    assert "changes through the hub need no second person" in seen


@pytest.mark.parametrize(
    ("name", "text"),
    [("fspId", "b x"), ("defaultCountry", "ZZZ"), ("defaultCountry", "ZZ"), ("currencies", "pesos"),
     ("currencies", "MXN ZZZ"), ("contactEmail", "ana"), ("kinds", "PASSPORT"), ("name", "x" * 129)],
)  # fmt: skip
def test_a_mistake_is_shown_at_its_field(chief: Person, name: str, text: str) -> None:
    chief.get("/console/new-fsp")
    answer = chief.post("/console/new-fsp", {"fspId": "wrongbank", name: text})
    assert answer.status_code == 422
    assert f'href="#field-{name}"' in answer.text
    assert f'id="error-{name}"' in answer.text


def test_only_what_the_person_changed_is_sent(chief: Person, operator: httpx.Client) -> None:
    make(operator, "onlybank", name="Only", kinds=[], contact={"name": "Ana", "phone": "1"})
    fields = read_fields(chief.get("/console/fsps/onlybank/change").text)
    assert chief.post("/console/fsps/onlybank/change", fields | {"contactPhone": "2"}).status_code == 303
    found = operator.get("/fsps/onlybank").json()
    assert (found["name"], found["kinds"]) == ("Only", [])
    assert found["contact"] == {"name": "Ana", "email": None, "phone": "2"}


def test_a_change_of_somebody_else_is_shown_and_kept(chief: Person, operator: httpx.Client) -> None:
    make(operator, "twobank", name="Old", dfspType="bank")
    fields = read_fields(chief.get("/console/fsps/twobank/change").text)
    operator.patch("/fsps/twobank", json={"name": "Theirs"}).raise_for_status()
    answer = chief.post("/console/fsps/twobank/change", fields | {"dfspType": "wallet"})
    assert answer.status_code == 409
    assert "Somebody changed this meanwhile" in answer.text
    assert re.search(r"<td><bdi>Old</bdi></td><td><bdi>Theirs</bdi></td><td>–</td>", answer.text)
    merged = read_fields(answer.text)
    assert (merged["name"], merged["dfspType"]) == (["Theirs"], ["wallet"])
    assert chief.post("/console/fsps/twobank/change", merged).status_code == 303
    found = operator.get("/fsps/twobank").json()
    assert (found["name"], found["dfspType"]) == ("Theirs", "wallet")


def test_a_change_outside_of_the_form_is_told_too(chief: Person, operator: httpx.Client) -> None:
    make(operator, "outsidebank", name="Old")
    fields = read_fields(chief.get("/console/fsps/outsidebank/change").text)
    operator.post("/fsps/outsidebank/status", json={"status": "suspended", "reason": "asked"}).raise_for_status()
    answer = chief.post("/console/fsps/outsidebank/change", fields | {"name": "New"})
    assert answer.status_code == 409
    assert "Somebody changed this meanwhile" in answer.text
    assert "Changes of others" not in answer.text
    assert chief.post("/console/fsps/outsidebank/change", read_fields(answer.text)).status_code == 303
    assert operator.get("/fsps/outsidebank").json()["name"] == "New"


def test_what_a_suspension_stops_is_shown_before(chief: Person, operator: httpx.Client) -> None:
    make(operator, "stopbank", name="Stop")
    for number in (1, 2):
        alias = {"kind": "MSISDN", "identifier": f"+52551234100{number}"}
        operator.post("/fsps/stopbank/aliases", json=alias).raise_for_status()
    operator.post("/routes", json={"kind": "CLABE", "prefix": "646", "fspId": "stopbank"}).raise_for_status()
    page = chief.get("/console/fsps/stopbank/status/suspended").text
    assert "2 aliases stop answering" in page
    assert "1 route answers nobody" in page
    fields = read_fields(page)
    assert "Reason" in chief.post("/console/fsps/stopbank/status/suspended", fields | {"reason": ""}).text
    assert operator.get("/fsps/stopbank").json()["status"] == "active"
    done = chief.follow(chief.post("/console/fsps/stopbank/status/suspended", fields | {"reason": "asked"}))
    assert "is suspended" in done.text
    assert operator.get("/fsps/stopbank").json()["status"] == "suspended"
    page = chief.get("/console/fsps/stopbank/status/active").text
    assert "2 aliases answer again" in page
    operator.post("/fsps/stopbank/status", json={"status": "closed", "reason": "meanwhile"}).raise_for_status()
    answer = chief.post("/console/fsps/stopbank/status/active", read_fields(page) | {"reason": "back"})
    assert answer.status_code == 422
    assert "Somebody changed this FSP meanwhile" in answer.text
    assert chief.get("/console/fsps/stopbank/status/gone").status_code == 404


LATE: Final = b"kind,identifier,sub_id,currency,country,action\nALIAS,late1,,,,\nALIAS,late2,,,,\n"
HALTED: Final = "The FSP haltbank is suspended: no lookup finds its aliases."


def read(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    body = answer.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def upload_late(maker: httpx.Client, state: str) -> str:
    """Upload a file for haltbank, and return its number when it has this state."""
    number = maker.post("/fsps/haltbank/batches", content=LATE).raise_for_status().json()["batchId"]
    until(lambda: maker.get(f"/fsps/haltbank/batches/{number}").json()["state"] == state)
    return str(number)


@pytest.fixture(scope="module")
def halted(service: Service, operator: httpx.Client) -> httpx.Client:
    """A maker of haltbank, which has aliases and is suspended."""
    make(operator, "haltbank")
    maker = service.client("dfsp-maker", "haltbank")
    for name in ("kept", "changed", "gone"):
        maker.post("/fsps/haltbank/aliases", json={"kind": "ALIAS", "identifier": name}).raise_for_status()
    operator.post("/fsps/haltbank/status", json={"status": "suspended", "reason": "a test"}).raise_for_status()
    return maker


def test_people_of_a_suspended_fsp_can_do_what_the_operator_reads(chief: Person, halted: httpx.Client) -> None:
    abilities = "Its people can still sign in, read, and upload files. New aliases are refused, and all rows of files"
    page = read(chief.get("/console/fsps/greenbank/status/suspended"))
    assert abilities in page
    assert "Its people can still change and remove single aliases." in page
    path = "/fsps/haltbank/aliases"
    assert halted.post(path, json={"kind": "ALIAS", "identifier": "new"}).status_code == 409
    assert halted.patch(f"{path}/ALIAS/changed", json={"currency": "USD", "reason": "a"}).status_code == 200
    assert halted.delete(f"{path}/ALIAS/gone", params={"reason": "other"}).status_code == 204
    number = upload_late(halted, "done")
    rows = halted.get(f"/fsps/haltbank/batches/{number}").json()["rows"]
    assert (rows["read"], rows["applied"], rows["failed"]) == (2, 0, 2)


def test_people_of_a_suspended_fsp_see_it_where_they_work(
    chief: Person, operator: httpx.Client, halted: httpx.Client, person: Callable[..., Person]
) -> None:
    operator.patch("/fsps/haltbank", json={"twoPersons": True}).raise_for_status()
    number = upload_late(halted, "waiting")
    ana, ben = person("dfsp-maker", "haltbank"), person("dfsp-checker", "haltbank")
    listed = ana.get("/console/aliases").text
    (alias,) = set(re.findall(r'href="(/console/aliases/of/[^"]+)"[^>]*><bdi>kept', listed))
    file, task = f"/console/files/haltbank/{number}", f"/console/tasks/haltbank/{number}"
    places = ["/console", "/console/files/new", file, "/console/aliases", "/console/aliases/new"]
    for place in (*places, alias, f"{alias}/change", f"{alias}/remove"):
        page = read(ana.get(place))
        assert page.count(HALTED) == 1, place
        assert "Changes and removals that a second person approves fail, too." in page
    assert HALTED in read(ana.post("/console/files/check", files={"file": ("a.csv", LATE)}))
    assert HALTED in read(ben.get("/console"))
    decision = ben.get(task)
    assert read(decision).count(HALTED) == 1
    assert "If you approve now, all of it fails." in read(decision)
    shown = read(ana.get(alias))
    assert re.search("Not answered ?: the FSP is suspended", shown)
    assert "Answers" not in shown

    assert ben.post(f"{task}/approve", read_fields(decision.text) | {"reason": ""}).status_code == 303
    until(lambda: "Complete" in ana.get(file).text)
    assert "Complete, all failed" in read(ana.get(file))
    operator.post("/fsps/haltbank/status", json={"status": "active", "reason": "a test"}).raise_for_status()
    assert "second person approves fail" in read(chief.get("/console/fsps/haltbank/status/suspended"))
    assert "suspended" not in read(ana.get("/console"))
    operator.post("/fsps/haltbank/status", json={"status": "closed", "reason": "a test"}).raise_for_status()
    assert "The FSP haltbank is closed: no lookup finds its aliases." in read(
        chief.get("/console/aliases?fsp=haltbank")
    )
    assert ana.get("/console").status_code == 303  # nobody of a closed FSP can sign in, so its people need no notice


def test_a_logo_is_set_shown_and_removed(chief: Person, operator: httpx.Client) -> None:
    make(operator, "logobank")

    def send(image: bytes) -> httpx.Response:
        fields = read_fields(chief.get("/console/fsps/logobank/logo").text)
        data = {name: values[0] for name, values in fields.items() if name != "file"}
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in chief.cookies.items())}
        files = {"file": ("a.gif", image, "image/gif")}
        return chief.client.post("/console/fsps/logobank/logo", data=data, files=files, headers=headers)

    assert "must be a PNG, JPEG or GIF" in send(b"<svg/>").text
    assert send(b"GIF89a" + b"x" * 20_000).status_code == 422
    assert send(GIF).status_code == 303
    found = re.search(r'src="(/console/fsps/logobank/logo.image[^"]*)"', chief.get("/console/fsps/logobank").text)
    assert found is not None
    image = chief.get(unescape(found[1]))
    assert (image.headers["content-type"], image.content) == ("image/gif", GIF)
    fields = read_fields(chief.get("/console/fsps/logobank/logo").text)
    assert chief.post("/console/fsps/logobank/logo/remove", {"version": fields["version"]}).status_code == 303
    assert operator.get("/fsps/logobank").json()["logo"] is None


def test_endpoints_and_keys_are_set_and_removed(chief: Person, operator: httpx.Client) -> None:
    make(operator, "callbank")
    fields = read_fields(chief.get("/console/fsps/callbank/endpoints").text)
    bad = chief.post("/console/fsps/callbank/endpoints", fields | {"baseUrl": "ftp://x"})
    assert bad.status_code == 422
    assert 'id="error-baseUrl"' in bad.text
    one = {"baseUrl": "https://a.example", "url-FSPIOP_CALLBACK_URL_PARTIES_GET": "https://b.example/p"}
    assert chief.post("/console/fsps/callbank/endpoints", fields | one).status_code == 303
    found = operator.get("/fsps/callbank/endpoints").json()
    assert (found["baseUrl"], list(found["urls"])) == ("https://a.example", ["FSPIOP_CALLBACK_URL_PARTIES_GET"])
    late = chief.post("/console/fsps/callbank/endpoints", fields | {"baseUrl": "https://c.example"})
    assert "Somebody changed this meanwhile" in late.text
    key = rsa.generate_private_key(65537, 2048).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    fields = read_fields(chief.get("/console/fsps/callbank/jws-keys/new").text)
    assert (
        'id="error-pem"' in chief.post("/console/fsps/callbank/jws-keys/new", fields | {"label": "a", "pem": "x"}).text
    )
    fields = read_fields(chief.get("/console/fsps/callbank/jws-keys/new").text)
    assert chief.post("/console/fsps/callbank/jws-keys/new", fields | {"label": "2026", "pem": pem}).status_code == 303
    (stored,) = operator.get("/fsps/callbank/jws-keys").json()["items"]
    path = f"/console/fsps/callbank/jws-keys/{stored['keyId']}/remove"
    assert "last key" in chief.get(path).text
    assert chief.post(path).status_code == 303
    assert operator.get("/fsps/callbank/jws-keys").json()["items"] == []


def test_people_of_an_fsp_see_their_own_and_change_nothing(person: Callable[..., Person]) -> None:
    maker = person("dfsp-maker", "greenbank")
    page = maker.get("/console/fsps/greenbank").text
    assert "greenbank" in page
    for word in ("Suspend", "Change the FSP", "Add a key"):
        assert word not in page
    assert maker.get("/console/fsps/redbank").status_code == 403
    assert maker.get("/console/fsps/greenbank/change").status_code == 403


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(chief: Person, text: str) -> None:
    chief.get("/console/new-fsp")
    names = ("name", "localeName", "dfspType", "additionalInfo", "contactName", "useCases", "kinds", "currencies")
    for name in names:
        answer = chief.post("/console/fsps/greenbank/change", {name: text, "seen": text, "version": ""})
        assert answer.status_code in (303, 422), answer.text
        assert "<script>alert" not in answer.text
        assert "</textarea><b>" not in answer.text
    assert chief.post("/console/fsps/greenbank/status/active", {"reason": text}).status_code in (303, 422)
    assert chief.post("/console/fsps/greenbank/change", {"version": text}).status_code in (303, 400, 409, 422)
    page = chief.get("/console/fsps/greenbank").text
    assert "<script>alert" not in page


@pytest.mark.parametrize("fsp_id", ["a/b", "a?b", "a%2Fb", '"', "a;b", "<x>", "new"])
def test_an_fsp_may_be_called_anything(chief: Person, operator: httpx.Client, fsp_id: str) -> None:
    make(operator, fsp_id, name="Any")
    links = re.findall(r'href="(/console/fsps/[^"]+)">([^<]+)</a>', chief.get("/console/fsps").text)
    (path,) = [unescape(path) for path, name in links if unescape(name) == fsp_id]
    assert "Any" in chief.get(path).text
    assert chief.get(f"{path}/change").status_code == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_an_operator_suspends_and_reactivates_with_the_keyboard(service: Service, tab: Tab) -> None:
    await sign_in(tab, service, await issue(service, "operator"))
    page = tab.page
    await page.goto(f"{service.oracle.admin_url}/console/fsps/redbank")
    await page.get_by_role("link", name="Suspend").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Suspend redbank?")
    await page.get_by_label("Reason").focus()
    await page.keyboard.type("asked by the scheme")
    await page.keyboard.press("Enter")
    await expect(page.locator("#messages")).to_contain_text("is suspended")
    await check_accessible(page)
    await page.get_by_role("link", name="Reactivate").press("Enter")
    await page.get_by_label("Reason").fill("the scheme agrees")
    await page.get_by_role("button", name="Reactivate").press("Enter")
    await expect(page.locator("#messages")).to_contain_text("is active")
    assert [line for line in tab.complaints if "ERR_ABORTED" not in line] == []  # home was left while it loaded

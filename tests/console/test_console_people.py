"""Keys in the console: issue, show the secret once, change, rotate, revoke; refused calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from console_people import Person, check_accessible, issue, read_fields, sign_in
from playwright.async_api import expect

from oracle.api.admin.codes import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin_service import Service
    from browser import Tab

WITHOUT_HUB = True
SECRET = re.compile(r"aok_[a-z2-7]{12}_[0-9a-f]{64}")
HOSTILE = (
    '<script>alert("1")</script>', "\"' onmouseover=x", "{{ 7 * 7 }}", "\u202egnirts", "a\0b", "x" * 10_000,
    "\U0001f600" * 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def chief(person: Callable[..., Person]) -> Person:
    return person("operator")


def make_key(chief: Person, **values: Any) -> tuple[str, str]:
    """Issue a key with the form; return its id and the key."""
    fields = read_fields(chief.get("/console/new-key").text)
    page = chief.post("/console/new-key", fields | {"label": "Ana Ruiz", "role": "reader", **values})
    assert page.status_code == 200, page.text
    found = SECRET.search(page.text)
    assert found is not None
    return found[0].split("_")[1], found[0]


def works(service: Service, key: str) -> bool:
    answer = httpx.get(f"{service.oracle.admin_url}/admin/v1/me", headers={"authorization": f"Bearer {key}"})
    return answer.status_code == 200


def test_a_key_is_issued_and_its_secret_shown_once(chief: Person, service: Service, operator: httpx.Client) -> None:
    fields = read_fields(chief.get("/console/new-key").text) | {
        "label": "Ana <Ruiz>", "role": "dfsp-maker", "fspId": "greenbank", "expiresAt": "2099-12-31",
    }  # fmt: skip
    page = chief.post("/console/new-key", fields)
    found = SECRET.search(page.text)
    assert found is not None
    assert "no-store" in page.headers["cache-control"]
    assert works(service, found[0])
    again = chief.post("/console/new-key", fields)  # the same form a second time issues nothing
    assert again.status_code == 422, re.sub("<[^>]+>", "", again.text)
    assert not SECRET.search(again.text)
    made = [one for one in operator.get("/credentials").json()["items"] if one["label"] == "Ana <Ruiz>"]
    assert [(one["role"], one["fspId"], one["expiresAt"]) for one in made] == [
        ("dfsp-maker", "greenbank", "2100-01-01T00:00:00Z")
    ]
    seen = chief.get(f"/console/keys/{made[0]['credentialId']}").text
    assert "Ana &lt;Ruiz&gt;" in seen
    assert 'value="2099-12-31"' in seen
    assert not SECRET.search(seen + chief.get("/console/keys").text)


@pytest.mark.parametrize(
    ("name", "values"),
    [("expiresAt", {"expiresAt": "tomorrow"}), ("expiresAt", {"expiresAt": "2001-01-01"}),
     ("expiresAt", {"expiresAt": "9999-12-31"}), ("fspId", {"role": "dfsp-maker"}),
     ("fspId", {"role": "operator", "fspId": "greenbank"}), ("role", {"role": "king"}), ("role", {"role": ""}),
     ("person", {"person": "Ana"}), ("label", {"label": ""})],
)  # fmt: skip
def test_a_mistake_is_shown_at_its_field(chief: Person, name: str, values: dict[str, str]) -> None:
    chief.get("/console/new-key")
    page = chief.post("/console/new-key", {"label": "Ana", "role": "reader", **values})
    assert page.status_code == 422
    assert f'href="#field-{name}"' in page.text
    assert not SECRET.search(page.text)


def test_a_form_for_a_new_key_chooses_no_role_and_asks_for_the_fsp_in_words(chief: Person) -> None:
    page = chief.get("/console/new-key").text
    assert read_fields(page)["role"] == [""]
    assert re.search(r'<select[^>]*name="role"[^>]* required', page)
    assert "Choose the role of the key." in chief.post("/console/new-key", {"label": "Ana", "role": ""}).text
    refused = chief.post("/console/new-key", {"label": "Ana", "role": "dfsp-maker"}).text
    assert "Name the FSP that the key acts for" in refused
    assert "Set fspId" not in refused


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_as_texts(chief: Person, text: str) -> None:
    chief.get("/console/new-key")
    page = chief.post("/console/new-key", {"label": text, "role": "reader", "person": text, "expiresAt": text})
    assert page.status_code == 422
    assert "<script>alert" not in page.text
    assert "\"' onmouseover" not in page.text
    assert chief.get("/console/keys", params={"fsp": text, "role": "reader"}).status_code in (200, 422)


def test_a_key_like_another_has_its_role_and_fsp(chief: Person) -> None:
    credential_id, _ = make_key(chief, role="dfsp-checker", fspId="greenbank")
    fields = read_fields(chief.get("/console/new-key", params={"like": credential_id}).text)
    assert (fields["role"], fields["fspId"]) == (["dfsp-checker"], ["greenbank"])


def test_a_key_is_changed_and_a_change_of_others_is_not_lost(chief: Person, operator: httpx.Client) -> None:
    credential_id, _ = make_key(chief)
    path = f"/console/keys/{credential_id}"
    fields = read_fields(chief.get(path).text)
    operator.patch(f"/credentials/{credential_id}", json={"label": "Beto"}).raise_for_status()
    page = chief.post(path, fields | {"label": "Carla"})
    assert page.status_code == 422
    assert "meanwhile" in page.text
    fields = read_fields(chief.get(path).text)
    assert fields["label"] == ["Beto"]
    chief.follow(chief.post(path, fields | {"label": "Carla", "expiresAt": "2098-01-01"}))
    found = operator.get(f"/credentials/{credential_id}").json()
    assert (found["label"], found["expiresAt"]) == ("Carla", "2098-01-02T00:00:00Z")


def test_a_key_gets_a_new_secret_and_is_revoked(
    chief: Person, service: Service, visitor: Callable[..., Person]
) -> None:
    credential_id, first = make_key(chief)
    who = visitor()
    who.sign_in(first)
    fields = read_fields(chief.get(f"/console/keys/{credential_id}/rotate").text)
    page = chief.post(f"/console/keys/{credential_id}/rotate", fields | {"graceS": "0"})
    found = SECRET.search(page.text)
    assert found is not None
    assert (works(service, first), works(service, found[0])) == (False, True)
    assert who.get("/console").status_code == 303  # its session has ended
    path = f"/console/keys/{credential_id}/revoke"
    fields = read_fields(chief.get(path).text)
    assert chief.post(path, fields | {"reason": ""}).status_code == 422
    assert works(service, found[0])
    chief.follow(chief.post(path, fields | {"reason": "left"}))
    assert not works(service, found[0])
    assert "Revoked" in chief.get(f"/console/keys/{credential_id}").text


def test_everybody_can_make_a_new_secret_for_their_own_key(service: Service, person: Callable[..., Person]) -> None:
    maker = person("dfsp-maker", "greenbank")
    assert maker.get("/console/keys").status_code == 403
    fields = read_fields(maker.get("/console/account/key").text)
    page = maker.post("/console/account/key", fields | {"graceS": "86400"})
    found = SECRET.search(page.text)
    assert found is not None
    assert works(service, found[0])
    assert works(service, maker.key)  # for a day


def test_refused_calls_are_listed(chief: Person, person: Callable[..., Person]) -> None:
    stranger = person("dfsp-maker", "greenbank")
    httpx.get(f"{stranger.client.base_url}/admin/v1/credentials", headers={"authorization": f"Bearer {stranger.key}"})
    page = chief.get("/console/refused-calls").text
    assert "GET /credentials" in page
    assert MEANINGS["forbidden"].title in page


@pytest.mark.asyncio(loop_scope="module")
async def test_an_operator_issues_a_key_in_a_browser(service: Service, tab: Tab) -> None:
    await sign_in(tab, service, await issue(service, "operator"))
    page = tab.page
    await page.get_by_role("link", name="People and keys").first.click()
    await page.get_by_role("link", name="New key").click()
    await page.locator("#field-label").fill("Dora")
    await page.locator("#field-role").select_option("reader")
    await page.get_by_role("button", name="Issue the key").click()
    await expect(page.locator("#secret")).to_have_text(SECRET)
    await check_accessible(page)
    await page.get_by_role("link", name="I have copied it").click()
    await expect(page.locator("h1")).to_have_text("Dora")
    await check_accessible(page)
    await page.get_by_role("link", name="Revoke").click()
    await check_accessible(page)
    assert tab.complaints == []

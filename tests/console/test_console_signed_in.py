"""Sessions of other people: who sees them, who ends them, and what is left of a session that has ended."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from console_people import Person, check_accessible, fetch, issue, read_fields, sign_in
from oracle_process import PATIENT, SERVE, start_oracle
from playwright.async_api import expect
from test_console_calls import OPERATOR, Site, open_site, visit_issuer

from oracle.api.admin.callers import Caller, Inside
from oracle.api.console.api import Question
from oracle.identity.identity import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from admin_service import Service
    from browser import Tab

    from oracle.run.embedded import ValkeyServer

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True
PERSON: Final = "oidc:hub:rosa"
HOSTILE: Final = (
    "x", "1", "' OR true --", "%00", "a%2fb", "5B0C7A4E-3F7D-4C54-9D1C-6F0E2A8B9D31",
    "{5b0c7a4e-3f7d-4c54-9d1c-6f0e2a8b9d31}", "5b0c7a4e3f7d4c549d1c6f0e2a8b9d31",
    "5b0c7a4e-3f7d-4c54-9d1c-6f0e2a8b9d31%0a", "x" * 5_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def chief(person: MakePerson) -> Person:
    return person("operator")


def id_of(one: Person) -> str:
    return one.key.split("_")[1]


def list_of(service: Service, by: str) -> list[dict[str, Any]]:
    listed = service.operator.get("/sessions", params={"by": by}).raise_for_status()
    found: list[dict[str, Any]] = listed.json()["items"]
    return found


def end(service: Service, session_id: str, **headers: str) -> httpx.Response:
    return service.operator.post(f"/sessions/{session_id}/end", json={"reason": "a test"}, headers=headers)


def is_signed_in(one: Person) -> bool:
    return one.get("/console").status_code == 200


def events_of(service: Service, session_id: str) -> list[Any]:
    return service.fetch(
        "SELECT actor, role, fsp_id, action, reason, before::text FROM events WHERE entity = 'session'"
        " AND before ->> 'session_id' = $1",
        session_id,
    )


# What is shown ----------------------------------------------------------------------------------------------------


def test_a_session_is_listed_without_its_secrets(service: Service, person: MakePerson) -> None:
    one = person("dfsp-maker", "greenbank")
    (found,) = list_of(service, id_of(one))
    assert found == service.operator.get(f"/sessions/{found['sessionId']}").json()
    assert (found["actor"], found["actorName"]) == (id_of(one), "dfsp-maker of greenbank (maker of greenbank)")
    assert (found["way"], found["issuer"], found["person"], found["role"]) == ("key", None, None, "dfsp-maker")
    assert (found["fspIds"], found["address"]) == (["greenbank"], "127.0.0.1")
    assert found["startedAt"] <= found["lastUsedAt"] < found["endsAt"]
    rows = service.fetch("SELECT * FROM console_sessions WHERE session_id::text = $1", found["sessionId"])
    said = str(found)
    for secret in (one.key.split("_")[2], one.cookies["__Host-oracle-session"], rows[0]["token_sha256"].hex(),
                   rows[0]["secret_sha256"].hex()):  # fmt: skip
        assert secret not in said
    filters = ({"fspId": "greenbank"}, {"role": "dfsp-maker"}, {"by": "dfsp-maker of greenbank", "role": "dfsp-maker"})
    for query in filters:
        assert found in service.operator.get("/sessions", params=query).json()["items"]
    for query in ({"fspId": "redbank"}, {"role": "auditor"}):
        assert found not in service.operator.get("/sessions", params=query).json()["items"]


def test_pages_have_each_session_once(service: Service, person: MakePerson) -> None:
    ids = {id_of(person("auditor")) for _ in range(5)}
    path, seen = "/sessions?role=auditor&limit=2", []
    while path:
        answer = service.operator.get(path)
        seen += [one["actor"] for one in answer.json()["items"]]
        path = f"/sessions{answer.links['next']['url']}" if "next" in answer.links else ""
    assert ids <= set(seen)
    assert len(seen) == len(set(seen))
    cursor = service.operator.get("/sessions?role=auditor&limit=2").json()["next"]
    for other in ("/sessions?role=operator", "/sessions?role=auditor&by=x"):  # it means nothing with other filters
        assert service.operator.get(f"{other}&cursor={cursor}").status_code == 400


@pytest.mark.parametrize("end_of", ["revoke", "rotate", "expiry"])
def test_a_session_whose_key_has_ended_is_not_listed(service: Service, person: MakePerson, end_of: str) -> None:
    one = person("reader")
    path = f"/credentials/{id_of(one)}"
    if end_of == "revoke":
        service.operator.post(f"{path}/revoke", json={"reason": "a test"}).raise_for_status()
    elif end_of == "rotate":
        service.operator.post(f"{path}/rotate", json={"graceS": 0}).raise_for_status()
    else:
        service.fetch("UPDATE credentials SET expires_at = now() WHERE credential_id = $1", id_of(one))
    assert list_of(service, id_of(one)) == []
    assert not is_signed_in(one)


# The end ----------------------------------------------------------------------------------------------------------


def test_an_ended_session_is_refused_at_once_and_is_one_event(service: Service, person: MakePerson) -> None:
    one, other = person("dfsp-maker", "greenbank"), person("dfsp-maker", "greenbank")
    (found,) = list_of(service, id_of(one))
    assert end(service, found["sessionId"]).json() == {"ended": 1}
    assert not is_signed_in(one)
    assert is_signed_in(other)
    assert end(service, found["sessionId"]).json() == {"ended": 0}  # once more does nothing
    (event,) = events_of(service, found["sessionId"])
    assert (event["actor"], event["role"]) == (service.operator.get("/me").json()["actor"], "operator")
    assert (event["fsp_id"], event["action"], event["reason"]) == ("greenbank", "removed", "a test")
    for hidden in ("sha256", "browser", "address", "127.0.0.1"):
        assert hidden not in event["before"]
    assert service.operator.get(f"/sessions/{found['sessionId']}").status_code == 404
    one.sign_in(one.key)  # the key is still valid
    assert is_signed_in(one)


def test_what_a_person_or_time_ends_is_no_event(service: Service, person: MakePerson) -> None:
    one, late = person("reader"), person("reader")
    ids = [list_of(service, id_of(each))[0]["sessionId"] for each in (one, late)]
    one.get("/console/account")
    one.post("/console/sign-out")
    assert list_of(service, id_of(one)) == []
    service.fetch("UPDATE console_sessions SET seen_at = now() - interval '1 day' WHERE actor = $1", id_of(late))
    assert list_of(service, id_of(late)) == []
    assert end(service, ids[1]).json() == {"ended": 0}
    assert [events_of(service, each) for each in ids] == [[], []]


def test_all_sessions_of_a_person_end_and_those_of_nobody_else(
    service: Service, visitor: MakePerson, person: MakePerson
) -> None:
    """With several keys, one of which got its person after it signed in."""
    keys = [service.issue("reader", person=PERSON), service.issue("operator", person=PERSON), service.issue("reader")]
    people = [visitor() for _ in (*keys, keys[0])]
    for one, key in zip(people, (*keys, keys[0]), strict=True):
        one.sign_in(key)
    service.operator.patch(f"/credentials/{id_of(people[2])}", json={"person": PERSON}).raise_for_status()
    stranger = person("reader")
    for by in (PERSON, id_of(people[1])):
        assert {one["actor"] for one in list_of(service, by)} == {id_of(one) for one in people}
    body = {"actor": id_of(people[1]), "reason": "she left"}
    assert service.operator.post("/sessions/end", json=body).json() == {"ended": 4}
    assert [is_signed_in(one) for one in people] == [False] * 4
    assert is_signed_in(stranger)
    assert service.operator.post("/sessions/end", json={**body, "actor": PERSON}).json() == {"ended": 0}
    assert service.operator.post("/sessions/end", json={**body, "actor": id_of(stranger)}).json() == {"ended": 1}


def test_ends_that_meet_are_one_end(service: Service, person: MakePerson) -> None:
    one = person("reader")
    (found,) = list_of(service, id_of(one))
    begin = threading.Barrier(8)

    def run(number: int) -> int:
        begin.wait()
        if number % 2:
            answer = end(service, found["sessionId"])
        else:
            answer = service.operator.post("/sessions/end", json={"actor": id_of(one), "reason": "a test"})
        ended: int = answer.raise_for_status().json()["ended"]
        return ended

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(run, range(8))) == 1
    assert len(events_of(service, found["sessionId"])) == 1


def test_requests_in_flight_do_not_bring_a_session_back(service: Service, person: MakePerson) -> None:
    """Each request that notes the use of a session races with its end."""
    one = person("reader")
    (found,) = list_of(service, id_of(one))
    cookies = {"cookie": f"__Host-oracle-session={one.cookies['__Host-oracle-session']}"}
    service.fetch("UPDATE console_sessions SET seen_at = now() - interval '10 minutes' WHERE actor = $1", id_of(one))

    def ask(_: int) -> int:
        return httpx.get(f"{service.oracle.admin_url}/console/account", headers=cookies, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(ask, range(24))
        assert end(service, found["sessionId"]).json() == {"ended": 1}
        assert set(answers) <= {200, 303}
    assert ask(0) == 303
    assert not service.fetch("SELECT FROM console_sessions WHERE actor = $1", id_of(one))


@pytest.mark.parametrize("session_id", HOSTILE)
def test_hostile_ids_are_no_sessions(service: Service, chief: Person, session_id: str) -> None:
    for answer in (service.operator.get(f"/sessions/{session_id}"), end(service, session_id)):
        assert answer.status_code in (404, 405), answer.text
    assert chief.get(f"/console/sessions/{session_id}/end").status_code == 404


@pytest.mark.parametrize("actor", ["", "a\0b", "x\ny", "x" * 321, None, ["x"]])
def test_hostile_actors_are_refused(service: Service, actor: Any) -> None:
    refused = service.operator.post("/sessions/end", json={"actor": actor, "reason": "a test"})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
    for text in ("%", "' OR true --", "\u202eana"):
        body = {"actor": text, "reason": "a test"}
        assert service.operator.post("/sessions/end", json=body).json() == {"ended": 0}


@contextmanager
def open_second(service: Service, valkey_server: ValkeyServer, home: Path) -> Iterator[str]:
    env = {**PATIENT, "ORACLE_DATABASE_URL": service.database_url, "ORACLE_REDIS_URL": valkey_server.url()}
    with start_oracle(home, env, command=(*SERVE, "--only", "admin")) as oracle:
        yield oracle.admin_url


def test_an_end_counts_in_every_process_and_for_answers_that_are_open(
    service: Service, visitor: MakePerson, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """One service ends it, and the other one has its answers open: of a file that waits, and of a verification."""
    service.operator.post("/fsps", json={"fspId": "twobank", "twoPersons": True}).raise_for_status()
    file = service.operator.post("/fsps/twobank/batches", content=b"kind,identifier\nALIAS,s1\n").json()["batchId"]
    (row,) = service.fetch(
        "INSERT INTO verifications (state, directory, asked_by, begun_at, seen_at, runner)"
        " VALUES ('running', false, 'x', now(), now() + interval '1 hour', gen_random_uuid()) RETURNING verification_id"
    )
    one = visitor()
    one.sign_in(service.issue("operator"))
    cookies = {"cookie": f"__Host-oracle-session={one.cookies['__Host-oracle-session']}"}
    with open_second(service, valkey_server, tmp_path) as url, ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=url, headers=cookies, timeout=30))
        paths = (f"/console/files/twobank/{file}/events", f"/console/audit/verifications/{row[0]}/events")
        streams = [stack.enter_context(client.stream("GET", path)) for path in paths]
        pieces = [stream.iter_text() for stream in streams]
        for stream, piece in zip(streams, pieces, strict=True):
            assert stream.headers["content-type"] == "text/event-stream"
            assert next(piece)
        (found,) = list_of(service, id_of(one))
        assert end(service, found["sessionId"]).json() == {"ended": 1}
        assert client.get("/console").status_code == 303
        for piece in pieces:
            for _ in piece:  # it ends: else this waits until the time limit of the client
                pass


# Who sees what ----------------------------------------------------------------------------------------------------


async def add_person(site: Site, role: str, fsp_ids: list[str] | None, actor: str) -> None:
    await site.console.services.postgres.note(
        "session_add", actor.encode().ljust(32)[:32], actor, role, fsp_ids, actor, 3_600.0, 1_800.0, None, "x", "y"
    )


async def test_an_operator_of_some_fsps_sees_their_sessions_only(database_url: str, tmp_path: Path) -> None:
    """As lists of keys do; and ends none, as such an operator revokes no key."""
    async with open_site(database_url, tmp_path) as site:
        api = site.console.api
        await add_person(site, "operator", None, "oidc:hub:chief")
        await add_person(site, "dfsp-maker", ["green"], "oidc:hub:gita")
        await add_person(site, "dfsp-maker", ["red"], "oidc:hub:rosa")
        await add_person(site, "dfsp-checker", ["green", "red"], "oidc:hub:bea")
        caller = Caller("gateway:ana", Role.OPERATOR, frozenset({"green"}), "gateway", None, secret="s")
        bound = Inside(caller, "192.0.2.9")

        async def list_seen(**query: str) -> dict[str, Any]:
            listed = await api.ask(bound, Question("listSessions", query=query))
            return {one["actor"]: one["fspIds"] for one in listed.json["items"]}

        both = {"oidc:hub:gita": ["green"], "oidc:hub:bea": ["green"]}  # not that she can act for red, too
        assert await list_seen() == await list_seen(fspId="green") == both
        assert await list_seen(fspId="red") == await list_seen(by="oidc:hub:rosa") == {}
        everything = (await api.ask(OPERATOR, Question("listSessions"))).json["items"]
        assert {one["actor"]: (one["way"], one["issuer"], one["fspIds"]) for one in everything} == {
            "oidc:hub:chief": ("oidc", "hub", None), "oidc:hub:gita": ("oidc", "hub", ["green"]),
            "oidc:hub:rosa": ("oidc", "hub", ["red"]), "oidc:hub:bea": ("oidc", "hub", ["green", "red"]),
        }  # fmt: skip
        path = {"session_id": everything[0]["sessionId"]}
        reason = {"reason": "a test"}
        for question in (
            Question("getSession", path), Question("endSession", path, body=reason),
            Question("endSessions", body={"actor": "oidc:hub:gita", **reason}),
        ):  # fmt: skip
            assert (await api.ask(bound, question)).status == 403
        assert len((await api.ask(OPERATOR, Question("listSessions"))).json["items"]) == 4


async def test_a_person_of_an_identity_provider_is_signed_out_and_can_come_back(
    database_url: str, tmp_path: Path
) -> None:
    async with open_site(database_url, tmp_path) as site:
        api = site.console.api
        site.issuer.access_claims = {"realm_access": None, "roles": ["boss"]}
        assert (await site.client.get(await visit_issuer(site))).status_code == 303
        body = {"role": "reader", "label": "Ana", "person": "oidc:hub:ana"}
        key = (await api.ask(OPERATOR, Question("createCredential", body=body))).json["credential"]["credentialId"]
        (found,) = (await api.ask(OPERATOR, Question("listSessions", query={"by": key}))).json["items"]
        assert (found["actor"], found["actorName"]) == ("oidc:hub:ana", "Ana (signed in with hub)")
        assert (found["way"], found["issuer"], found["person"]) == ("oidc", "hub", "oidc:hub:ana")
        page = await site.client.get("/console/sessions")
        assert "Ana (signed in with hub)" in page.text
        ends = Question("endSessions", body={"actor": key, "reason": "a test"})
        assert (await api.ask(OPERATOR, ends)).json == {"ended": 1}
        assert (await site.client.get("/console")).status_code == 303
        assert (await site.client.get(await visit_issuer(site))).status_code == 303  # the provider lets them in again
        assert (await site.client.get("/console")).status_code == 200


# The pages --------------------------------------------------------------------------------------------------------


def test_a_session_ends_with_the_form_and_needs_a_reason(service: Service, chief: Person, person: MakePerson) -> None:
    one = person("dfsp-maker", "greenbank")
    (found,) = list_of(service, id_of(one))
    path = f"/console/sessions/{found['sessionId']}/end"
    fields = read_fields(chief.get(path).text)
    assert chief.post(path, fields | {"reason": ""}).status_code == 422
    assert chief.post(path, fields | {"reason": "a\0b"}).status_code == 422
    assert is_signed_in(one)
    done = chief.follow(chief.post(path, fields | {"reason": "left"}))
    assert "1 session has ended." in done.text
    assert not is_signed_in(one)
    assert chief.get(path).status_code == 404


def test_names_and_browsers_are_shown_as_texts(service: Service, chief: Person, visitor: MakePerson) -> None:
    bad = '<script>alert("1")</script>'
    one = visitor(**{"user-agent": bad})
    one.sign_in(service.issue("reader", label=bad))
    (found,) = list_of(service, id_of(one))
    for path in (f"sessions?by={id_of(one)}", f"sessions/{found['sessionId']}/end", f"sessions/end?actor={id_of(one)}"):
        page = chief.get(f"/console/{path}")
        assert page.status_code == 200
        assert "&lt;script&gt;alert" in page.text
        assert "<script>alert" not in page.text
    for by in ("nobody at all", "\0", "x" * 400):
        assert chief.get("/console/sessions", params={"by": by}).status_code == 422


def test_a_person_who_is_not_there_has_no_session_to_end(service: Service, chief: Person) -> None:
    assert chief.get("/console/sessions/end").headers["location"] == "/console/sessions"
    chief.get("/console/sessions")
    nobody = chief.post("/console/sessions/end", {"reason": "all of them", "once": "x"})
    assert nobody.headers["location"] == "/console/sessions"
    assert is_signed_in(chief)
    assert "no open session" in chief.get(f"/console/sessions/end?actor={service.issue('reader').split('_')[1]}").text
    assert chief.get("/console/sessions/end?actor=nobody").status_code == 400


def test_a_name_in_a_refusal_does_not_turn_the_rest_of_the_sentence(service: Service, chief: Person) -> None:
    for label in ("tilting \u202eone", "tilting \u2066\u2029other"):
        service.issue("reader", label=label)
    refused = chief.get("/console/sessions/end?actor=tilting")
    assert refused.status_code == 400
    assert "tilting one (reader)" in refused.text
    assert "tilting other (reader)" in refused.text
    assert not set("\u202e\u2066\u2029") & set(refused.text)


def test_an_operator_who_ends_their_own_session_is_signed_out(service: Service, person: MakePerson) -> None:
    one = person("operator")
    (found,) = list_of(service, id_of(one))
    path = f"/console/sessions/{found['sessionId']}/end"
    page = one.get(path)
    assert "you are signed out at once" in page.text
    answer = one.post(path, read_fields(page.text) | {"reason": "mine"})
    assert answer.headers["location"].startswith("/console/sign-in")
    assert "__Host-oracle-session" not in one.cookies
    assert "1 session has ended." in one.follow(answer).text


def test_an_ended_token_cannot_be_used_again_or_chosen(service: Service, person: MakePerson) -> None:
    """The person signs in with the cookie of the ended session: they get a new token, and the old one stays ended."""
    one = person("reader")
    old = one.cookies["__Host-oracle-session"]
    end(service, list_of(service, id_of(one))[0]["sessionId"])
    one.cookies["__Host-oracle-session"] = old
    assert one.sign_in(one.key).status_code == 303
    assert one.cookies["__Host-oracle-session"] != old
    assert is_signed_in(one)
    one.cookies["__Host-oracle-session"] = old
    assert not is_signed_in(one)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_operator_ends_sessions_in_a_browser(service: Service, tab: Tab, visitor: MakePerson) -> None:
    key = await issue(service, "dfsp-maker", "greenbank")
    people = [visitor(**{"user-agent": "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"}) for _ in range(2)]
    for one in people:
        one.sign_in(key)
    await sign_in(tab, service, await issue(service, "operator"))
    page = tab.page
    await page.goto(f"{service.oracle.admin_url}/console/keys/{id_of(people[0])}")
    await page.get_by_role("link", name="Sessions").click()
    rows = page.locator("#sessions tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("Firefox, Windows")
    await check_accessible(page)
    await rows.first.get_by_role("link", name="End the session of").click()
    await check_accessible(page)
    await page.locator("#field-reason").fill("a telephone was lost")
    await page.get_by_role("button", name="End the session").click()
    await expect(page.get_by_text("1 session has ended.")).to_be_visible()
    await page.locator("#field-by").fill(id_of(people[0]))
    await page.get_by_role("button", name="Filter").click()
    await expect(rows).to_have_count(1)
    await rows.first.get_by_role("link", name="End the session of").click()
    await page.get_by_role("link", name="End all sessions of this person instead").click()
    await check_accessible(page)
    await page.locator("#field-reason").fill("she left")
    await page.get_by_role("button", name="End all sessions").click()
    await expect(page.get_by_text("1 session has ended.")).to_be_visible()
    assert [is_signed_in(one) for one in people] == [False, False]
    reasons = await fetch(service, "SELECT reason FROM events WHERE entity = 'session' ORDER BY event_id DESC LIMIT 2")
    assert [row["reason"] for row in reasons] == ["she left", "a telephone was lost"]
    # The home page asks for a part of itself, which is given up when the person leaves it.
    assert [line for line in tab.complaints if "net::ERR_ABORTED" not in line] == []

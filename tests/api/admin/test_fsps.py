"""FSPs and credentials: what an operator does with them, and when it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from oracle.identifiers import KINDS

if TYPE_CHECKING:
    from admin_service import Service


def test_a_repeated_call_is_done_once_and_answered_the_same(operator: httpx.Client) -> None:
    key = {"Idempotency-Key": "first"}
    one = operator.post("/fsps", json={"fspId": "bluebank"}, headers=key)
    two = operator.post("/fsps", json={"fspId": "bluebank"}, headers=key)
    assert (one.status_code, one.content) == (two.status_code, two.content) == (201, two.content)
    assert two.headers["idempotency-replayed"] == "true"
    other = operator.post("/fsps", json={"fspId": "bluebank", "name": "B"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_only_the_first_caller_gets_a_new_secret_again(service: Service, operator: httpx.Client) -> None:
    body = {"role": "dfsp-maker", "fspId": "greenbank", "label": "again"}
    one = operator.post("/credentials", json=body, headers={"Idempotency-Key": "secret"})
    two = operator.post("/credentials", json=body, headers={"Idempotency-Key": "secret"})
    assert one.json()["key"] == two.json()["key"]
    secret = one.json()["key"].rpartition("_")[2].encode()
    kept = service.fetch("SELECT answer FROM idempotency WHERE idempotency_key = 'secret'")[0]["answer"]
    assert secret not in kept


def test_a_suspended_fsp_is_not_answered_once_that_is_acknowledged(service: Service, operator: httpx.Client) -> None:
    party = "/MSISDN/525511110001"
    assert service.hub.post(party, json={"fspId": "greenbank"}).status_code == 201
    for status, answered in (("suspended", []), ("active", [{"fspId": "greenbank"}]), ("closed", [])):
        changed = operator.post("/fsps/greenbank/status", json={"status": status, "reason": "a test"})
        assert changed.json()["status"] == status
        assert service.hub.get(party).json() == {"partyList": answered}
    assert operator.post("/fsps/greenbank/status", json={"status": "active", "reason": "a test"}).is_success


def test_a_revoked_credential_is_refused_at_once(service: Service, operator: httpx.Client) -> None:
    key = service.issue("reader", "greenbank")
    holder = service.as_key(key)
    assert holder.get("/me").json()["role"] == "reader"
    operator.post(f"/credentials/{key.split('_')[1]}/revoke", json={"reason": "left"}).raise_for_status()
    assert holder.get("/me").status_code == 401


def test_two_secrets_are_valid_during_a_rotation(service: Service, operator: httpx.Client) -> None:
    old = service.issue("reader", "greenbank")
    path = f"/credentials/{old.split('_')[1]}/rotate"
    new = operator.post(path, json={"graceS": 3600}).json()["key"]
    assert all(service.as_key(key).get("/me").is_success for key in (old, new))
    newest = operator.post(path, json={"graceS": 3600}).json()["key"]
    assert [service.as_key(key).get("/me").status_code for key in (old, new, newest)] == [401, 200, 200]


def test_the_hub_changes_no_alias_of_an_fsp_that_refuses_it(service: Service, operator: httpx.Client) -> None:
    made = operator.post("/fsps", json={"fspId": "deskbank"})
    assert made.json()["hubChanges"] == "on"
    hub, desk, own = service.hub, {"fspiop-source": "deskbank"}, {"fspId": "deskbank"}

    def call(method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, str]:
        answer = hub.request(method, path, json=body, headers={**desk, **(headers or {})})
        error = answer.json().get("errorInformation", {}) if answer.content else {}
        assert len(error.get("errorDescription", "")) <= 128
        return answer.status_code, error.get("errorCode", "")

    for path, body in (("/ALIAS/desk", own), ("/ALIAS/desk", {**own, "partySubIdOrType": "s"})):
        assert call("POST", path, body) == (201, "")
    changed = operator.patch("/fsps/deskbank", json={"hubChanges": "off"})
    assert (changed.status_code, changed.json()["hubChanges"]) == (200, "off")

    assert call("POST", "/ALIAS/new", own) == (403, "3003")
    assert call("POST", "/ALIAS/desk", own) == (403, "3003")  # it is so already: refused all the same
    assert call("PUT", "/ALIAS/desk", {**own, "currency": "MXN"}) == (403, "3003")
    assert call("PUT", "/ALIAS/desk", own) == (403, "3003")
    assert call("DELETE", "/ALIAS/desk") == (403, "3040")
    assert call("DELETE", "/ALIAS/desk?partySubIdOrType=s") == (403, "3040")
    items = [{"partyIdType": "ALIAS", "partyIdentifier": name, **own} for name in ("desk", "new", "newer")]
    bulk = hub.post("", json={"requestId": "7", "partyList": items}, headers=desk)
    assert bulk.status_code == 201
    assert [item["errorInformation"]["errorCode"] for item in bulk.json()["partyList"]] == ["3003"] * 3
    # A hint of the hub for this FSP would be an alias that nobody of the FSP has asked for.
    hint = {"content-type": "application/vnd.interoperability.parties+json;version=2.0"}
    assert call("POST", "/ALIAS/new", own, hint) == (201, "")

    # What others can do stays as it is, and so do lookups and the changes of the administration.
    assert hub.post("/ALIAS/desk", json={"fspId": "redbank"}, headers={"fspiop-source": "redbank"}).status_code == 409
    assert hub.delete("/ALIAS/desk", headers={"fspiop-source": "redbank"}).status_code == 403
    assert hub.get("/ALIAS/desk").json()["partyList"][0]["fspId"] == "deskbank"
    assert hub.get("/ALIAS/new").json()["partyList"] == []
    aliases = "/fsps/deskbank/aliases"
    assert operator.post(aliases, json={"kind": "ALIAS", "identifier": "new"}).status_code == 201
    assert operator.delete(f"{aliases}/ALIAS/new", params={"reason": "correction"}).status_code == 204

    operator.patch("/fsps/deskbank", json={"hubChanges": "on"}).raise_for_status()
    assert call("PUT", "/ALIAS/desk", {**own, "currency": "MXN"}) == (200, "")
    assert call("DELETE", "/ALIAS/desk") == (204, "")
    events = service.fetch(
        "SELECT after ->> 'hub_changes' AS now, role FROM events WHERE entity = 'fsp' AND fsp_id = 'deskbank'"
        " ORDER BY event_id"
    )
    assert [tuple(event) for event in events] == [("true", "operator"), ("false", "operator"), ("true", "operator")]


def test_the_hub_registers_only_the_kinds_and_currencies_of_an_fsp(service: Service, operator: httpx.Client) -> None:
    given = {"fspId": "narrow", "kinds": ["MSISDN"], "currencies": ["MXN"]}
    operator.post("/fsps", json=given).raise_for_status()
    hub, narrow = service.hub, {"fspiop-source": "narrow"}

    def register(party: str, currency: str) -> tuple[int, str]:
        answer = hub.post(party, json={"fspId": "narrow", "currency": currency}, headers=narrow)
        return answer.status_code, answer.json().get("errorInformation", {}).get("errorCode", "")

    assert register("/MSISDN/525511119001", "MXN") == (201, "")
    assert register("/MSISDN/525511119002", "USD") == (403, "3003")
    assert register("/ACCOUNT_ID/000000356", "MXN") == (403, "3003")
    change = {"fspId": "narrow", "currency": "USD"}
    assert hub.put("/MSISDN/525511119001", json=change, headers=narrow).status_code == 403
    parties = [
        {"partyIdType": kind, "partyIdentifier": identifier, "fspId": "narrow"}
        for kind, identifier in (("IBAN", "MX12"), ("MSISDN", "525511119003"), ("EMAIL", "a@b.mx"))
    ]
    bulk = {"requestId": "7", "partyList": parties, "currency": "MXN"}
    hub.post("", json=bulk, headers=narrow).raise_for_status()
    found = [hub.get(f"/MSISDN/52551111900{n}").json()["partyList"] for n in (1, 2, 3)]
    assert [len(entries) for entries in found] == [1, 0, 1]
    assert found[0] == [{"fspId": "narrow", "currency": "MXN"}]


def test_a_refused_country_is_the_member_to_correct(operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "cards"}).raise_for_status()
    for kind, identifier, country in (
        ("NRC", "12/OUKAMA(N)123456", "ZM"),
        ("CLABE", "032180000118359719", "MM"),
        ("MSISDN", "5512345678", "ZZ"),
    ):
        alias = {"kind": kind, "identifier": identifier, "country": country}
        refused = operator.post("/fsps/cards/aliases", json=alias).json()
        assert (refused["code"], refused["field"]) == ("bad_identifier", "country")


def test_a_refusal_names_the_member_and_the_expected_value_but_not_the_sent_one(operator: httpx.Client) -> None:
    def hint(body: object) -> str:
        return str(operator.post("/fsps", json=body).json()["hint"])

    assert hint({}) == "fspId: It is missing: add it"
    assert hint({"fspId": "x", "currencies": ["pesos"]}) == "currencies[0]: Expected text of at most 3 characters"
    assert hint({"fspId": "x", "currencies": ["N/A"]}) == "currencies[0]: Expected 3 letters A to Z"
    assert hint({"fspId": "x", "defaultCountry": "M"}) == "defaultCountry: Expected 2 letters A to Z"
    assert hint({"fspId": "x", "contact": {"email": "ana"}}).endswith("an email address such as ana@example.com")
    words = "fspId: Expected 1 to 32 letters A to Z, digits or signs, without spaces"
    assert hint({"fspId": "two words"}) == words
    assert hint({"fspId": "x", "defaultCountry": 5}) == "defaultCountry: Expected text or null, got a whole number"
    number = "525512345678"
    unknown = "the body: It has a member that is not known: remove it, or correct its name"
    assert hint({"fspId": "x", number: 1}) == unknown
    assert hint({"fspId": "x", "kinds": [f"{number} - 1"]}) == f"kinds[0]: Expected one of {', '.join(sorted(KINDS))}"
    asked = operator.get("/batches", params={"state": "none", "limit": 0}).json()["hint"]
    assert sorted(asked.split("; ")) == [
        "limit: Expected a whole number of at least 1",
        "state: Expected one of applying, cancelled, done, failed, rejected, validating, waiting",
    ]


def test_the_impact_counts_what_follows_the_status(service: Service, operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "impactbank"}).raise_for_status()
    nothing = {"aliases": 0, "aliasesExact": True, "routes": 0, "openFiles": 0, "keys": 0}
    assert operator.get("/fsps/impactbank/impact").json() == nothing
    alias = {"kind": "MSISDN", "identifier": "+525512340001"}
    operator.post("/fsps/impactbank/aliases", json=alias).raise_for_status()
    route = {"kind": "CLABE", "prefix": "646", "fspId": "impactbank"}
    operator.post("/routes", json=route).raise_for_status()
    service.issue("dfsp-maker", "impactbank")
    found = operator.get("/fsps/impactbank/impact").json()
    assert found == {**nothing, "aliases": 1, "routes": 1, "keys": 1}
    assert operator.get("/fsps/nobody/impact").status_code == 404

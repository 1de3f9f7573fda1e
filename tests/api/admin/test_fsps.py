"""FSPs and credentials: what an operator does with them, and when it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from admin_service import Service


def test_a_repeated_call_is_done_once_and_answered_the_same(operator: httpx.Client) -> None:
    key = {"Idempotency-Key": "first"}
    one = operator.post("/fsps", json={"fspId": "bluebank"}, headers=key)
    two = operator.post("/fsps", json={"fspId": "bluebank"}, headers=key)
    assert (one.status_code, one.content) == (two.status_code, two.content) == (201, two.content)
    assert two.headers["idempotency-replayed"] == "true"
    other = operator.post("/fsps", json={"fspId": "bluebank", "name": "B"}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_a_new_secret_is_answered_again_to_its_asker_alone(service: Service, operator: httpx.Client) -> None:
    body = {"role": "dfsp-maker", "fspId": "greenbank", "label": "again"}
    one = operator.post("/credentials", json=body, headers={"Idempotency-Key": "secret"})
    two = operator.post("/credentials", json=body, headers={"Idempotency-Key": "secret"})
    assert one.json()["key"] == two.json()["key"]
    secret = one.json()["key"].rpartition("_")[2].encode()
    kept = service.fetch("SELECT answer FROM idempotency WHERE idempotency_key = 'secret'")[0]["answer"]
    assert secret not in kept


def test_a_suspended_fsp_is_not_answered_once_that_is_acknowledged(service: Service, operator: httpx.Client) -> None:
    party = f"{service.oracle.hub_url}/participants/MSISDN/525511110001"
    hub = {"fspiop-source": "greenbank"}
    assert httpx.post(party, json={"fspId": "greenbank"}, headers=hub).status_code == 201
    for status, answered in (("suspended", []), ("active", [{"fspId": "greenbank"}]), ("closed", [])):
        changed = operator.post("/fsps/greenbank/status", json={"status": status, "reason": "a test"})
        assert changed.json()["status"] == status
        assert httpx.get(party, headers=hub).json() == {"partyList": answered}
    assert operator.post("/fsps/greenbank/status", json={"status": "active", "reason": "a test"}).is_success


def test_a_revoked_credential_is_refused_at_once(service: Service, operator: httpx.Client) -> None:
    key = service.issue("reader", "greenbank")
    holder = service.as_key(key)
    assert holder.get("/me").json()["role"] == "reader"
    operator.post(f"/credentials/{key.split('_')[1]}/revoke", json={"reason": "left"}).raise_for_status()
    assert holder.get("/me").status_code == 401


def test_two_secrets_are_valid_while_one_takes_over(service: Service, operator: httpx.Client) -> None:
    old = service.issue("reader", "greenbank")
    path = f"/credentials/{old.split('_')[1]}/rotate"
    new = operator.post(path, json={"graceS": 3600}).json()["key"]
    assert all(service.as_key(key).get("/me").is_success for key in (old, new))
    newest = operator.post(path, json={"graceS": 3600}).json()["key"]
    assert [service.as_key(key).get("/me").status_code for key in (old, new, newest)] == [401, 200, 200]

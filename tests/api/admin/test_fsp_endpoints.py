"""Where an FSP is called, and the keys of its signatures: by the admin API, by the command line, and in history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from oracle.api.dfsp.signatures import KEYS_MAX
from oracle.scheme.base import PARTIES_GET, PARTIES_PUT, PATHS

if TYPE_CHECKING:
    from pathlib import Path

    from admin_service import Service
    from shell import Shell

WITHOUT_HUB = True  # see admin_service

BASE = "https://api.greenbank.example/fspiop"
URL = "http://greenbank:4001/parties/{{partyIdType}}/{{partyIdentifier}}"
PATH = "/fsps/greenbank/endpoints"
KEYS = "/fsps/greenbank/jws-keys"
NOTHING: dict[str, Any] = {"fspId": "greenbank", "baseUrl": None, "urls": {}, "isProxy": False, "changedAt": None}


def make_pem(bits: int = 2048) -> str:
    return write_public(rsa.generate_private_key(65537, bits))


def write_public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.fixture(scope="module")
def pem() -> str:
    return make_pem()


@pytest.fixture(autouse=True)
def _clean(service: Service) -> None:
    """Each test begins without endpoints and keys, as far as history allows it."""
    service.fetch("UPDATE fsp_endpoints SET base_url = NULL, urls = '{}', is_proxy = false")
    service.fetch("DELETE FROM fsp_jws_keys")


def list_events(service: Service, entity: str) -> list[tuple[str, Any, Any]]:
    rows = service.fetch(
        "SELECT action, before, after FROM events WHERE entity = $1 AND actor <> 'oracle' AND channel = 'admin'"
        " ORDER BY event_id",
        entity,
    )
    return [(row["action"], json.loads(row["before"] or "null"), json.loads(row["after"] or "null")) for row in rows]


def test_endpoints_are_set_as_a_whole_with_one_event_for_each_change(service: Service, operator: httpx.Client) -> None:
    before = len(list_events(service, "endpoints"))
    read = operator.get(PATH)
    assert {**read.json(), "changedAt": None} == NOTHING
    first = operator.put(PATH, json={"baseUrl": BASE, "isProxy": True}, headers={"If-Match": read.headers["etag"]})
    assert first.json() == {**NOTHING, "baseUrl": BASE, "isProxy": True, "changedAt": first.json()["changedAt"]}
    again = operator.put(PATH, json={"baseUrl": BASE, "isProxy": True})
    assert (again.json(), again.headers["etag"]) == (first.json(), first.headers["etag"])
    late = operator.put(PATH, json={}, headers={"If-Match": read.headers["etag"]})
    assert (late.status_code, late.json()["code"]) == (412, "version_mismatch")
    second = operator.put(PATH, json={"urls": {PARTIES_GET: URL}})
    assert second.json() == {**NOTHING, "urls": {PARTIES_GET: URL}, "changedAt": second.json()["changedAt"]}
    assert operator.get(PATH).json() == second.json()
    events = list_events(service, "endpoints")[before:]
    assert [(new["base_url"], new["urls"], new["is_proxy"]) for _, _, new in events] == [
        (BASE, {}, True),
        (None, {PARTIES_GET: URL}, False),
    ]
    assert events[1][1] == events[0][2]


def test_endpoints_that_cannot_be_called_are_refused_and_nothing_changes(operator: httpx.Client) -> None:
    assert operator.put(PATH, json={"baseUrl": BASE}).is_success
    whole = dict.fromkeys(PATHS, URL)
    for body, code, field in (
        ({"baseUrl": "http://user:hunter2@greenbank/x"}, "bad_url", "baseUrl"),
        ({"baseUrl": "http://hunter2:x@greenbank"}, "bad_url", "baseUrl"),
        ({"baseUrl": f"{BASE}/"}, "bad_url", "baseUrl"),
        ({"baseUrl": "ftp://greenbank"}, "bad_url", "baseUrl"),
        ({"baseUrl": ""}, "invalid", "baseUrl"),
        ({"urls": {PARTIES_GET: "http://x:hunter2@greenbank/{{partyIdentifier}}"}}, "bad_url", "urls"),
        ({"urls": {PARTIES_GET: "http://greenbank/{{hunter2}}"}}, "bad_url", "urls"),
        ({"urls": {PARTIES_PUT: "http://greenbank/{{partySubIdOrType}}"}}, "bad_url", "urls"),
        ({"urls": {"FSPIOP_CALLBACK_URL_HUNTER": URL}}, "invalid", "urls"),
        ({"urls": {**whole, "FSPIOP_CALLBACK_URL_OTHER": URL}}, "invalid", None),
        ({"urls": {PARTIES_GET: None}}, "invalid", None),
        ({"urls": [URL]}, "invalid", None),
        ({"isProxy": "yes"}, "invalid", None),
        ({"base_url": BASE}, "invalid", None),
    ):
        refused = operator.put(PATH, json=body)
        assert (refused.status_code, refused.json()["code"]) == (400, code), body
        assert field is None or refused.json()["field"] == field
        assert "hunter2" not in refused.text
    assert operator.get(PATH).json()["baseUrl"] == BASE
    assert operator.get("/fsps/nobody/endpoints").status_code == 404
    assert operator.put("/fsps/nobody/endpoints", json={}).status_code == 404


def test_an_fsp_reads_its_own_endpoints_and_cannot_change_them(maker: httpx.Client, stranger: httpx.Client) -> None:
    assert maker.get(PATH).is_success
    assert maker.put(PATH, json={}).json()["code"] == "forbidden"
    assert maker.post(KEYS, json={"label": "x", "pem": "x"}).json()["code"] == "forbidden"
    assert stranger.get(PATH).json()["code"] == stranger.get(KEYS).json()["code"] == "foreign"


def test_keys_are_added_listed_and_removed_with_one_event_each(
    service: Service, operator: httpx.Client, pem: str
) -> None:
    before = len(list_events(service, "jws-key"))
    added = operator.post(KEYS, json={"label": "2026", "pem": f"# a comment\n{pem}\n"})
    assert added.status_code == 201
    key = added.json()
    assert (key["label"], key["pem"]) == ("2026", pem)
    assert added.headers["location"].endswith(f"{KEYS}/{key['keyId']}")
    same = operator.post(KEYS, json={"label": "again", "pem": pem})
    assert (same.status_code, same.json()["code"]) == (409, "key_exists")
    other = operator.post("/fsps/redbank/jws-keys", json={"label": "of two FSPs", "pem": pem})
    assert other.status_code == 201
    assert operator.delete(f"/fsps/redbank/jws-keys/{key['keyId']}").status_code == 404
    assert operator.get(KEYS).json() == {"items": [key]}
    wrong = operator.delete(f"{KEYS}/{key['keyId']}", headers={"If-Match": '"other"'})
    assert wrong.status_code == 412
    assert operator.delete(f"{KEYS}/{key['keyId']}", headers={"If-Match": added.headers["etag"]}).json() == key
    assert operator.delete(f"{KEYS}/{key['keyId']}").status_code == 404
    assert operator.get(KEYS).json() == {"items": []}
    events = list_events(service, "jws-key")[before:]
    assert [(action, (new or old)["label"]) for action, old, new in events] == [
        ("registered", "2026"), ("registered", "of two FSPs"), ("removed", "2026"),
    ]  # fmt: skip
    assert operator.get("/fsps/nobody/jws-keys").status_code == 404


def test_a_key_that_cannot_be_used_is_refused_and_a_private_one_is_not_repeated(
    operator: httpx.Client, pem: str
) -> None:
    private = rsa.generate_private_key(65537, 2048)
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    for text in (
        "x",
        pem.replace("PUBLIC", "OTHER"),
        pem[:-100],
        pem + make_pem(),
        make_pem(1024),
        write_public(ec.generate_private_key(ec.SECP256R1())),
        secret,
    ):
        refused = operator.post(KEYS, json={"label": "x", "pem": text})
        assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (400, "bad_key", "pem"), text
        assert secret[40:80] not in refused.text
    assert operator.get(KEYS).json() == {"items": []}


def test_an_fsp_has_a_bounded_number_of_keys(service: Service, operator: httpx.Client, pem: str) -> None:
    for number in range(KEYS_MAX):
        service.fetch(
            "INSERT INTO fsp_jws_keys (fsp_id, label, pem, sha256) VALUES ('greenbank', 'x', $1, $2)",
            pem, f"{number:064}",
        )  # fmt: skip
    refused = operator.post(KEYS, json={"label": "x", "pem": pem})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_keys")


def test_the_database_refuses_what_the_api_would_not_write(service: Service) -> None:
    import asyncpg

    for column, value in (
        ("base_url", "http://user:password@greenbank"),
        ("base_url", "ftp://greenbank"),
        ("urls", '{"FSPIOP_CALLBACK_URL_PARTIES_GET": "http://user:x@greenbank/"}'),
        ("urls", '{"FSPIOP_CALLBACK_URL_PARTIES_GET": 7}'),
        ("urls", '{"OTHER": "http://greenbank/"}'),
        ("urls", "[]"),
    ):
        cast = "$1::text::jsonb" if column == "urls" else "$1"
        statement = f"INSERT INTO fsp_endpoints (fsp_id, {column}) VALUES ('redbank', {cast})"  # noqa: S608
        with pytest.raises(asyncpg.CheckViolationError):
            service.fetch(statement, value)
    for statement in (
        "DELETE FROM fsp_endpoints",
        "TRUNCATE fsp_endpoints",
        "TRUNCATE fsp_jws_keys",
        "UPDATE fsp_jws_keys SET label = 'x'",
    ):
        with pytest.raises(asyncpg.PostgresError, match="not allowed"):
            service.fetch(statement)
    assert service.fetch("SELECT * FROM fsp_endpoints WHERE fsp_id = 'redbank'") == []


def test_the_command_line_shows_and_changes_endpoints(shell: Shell) -> None:
    def run(*words: str) -> Any:
        return shell("fsp", "endpoints", "greenbank", *words, "--json").json

    assert run()["baseUrl"] is None
    assert run("--base-url", BASE, "--set", f"parties_get={URL}", "--proxy")["urls"] == {PARTIES_GET: URL}
    changed = run("--set", f"{PARTIES_PUT}={URL}", "--no-proxy")
    assert changed["urls"] == {PARTIES_GET: URL, PARTIES_PUT: URL}
    assert (changed["baseUrl"], changed["isProxy"]) == (BASE, False)
    assert run("--unset", "PARTIES_GET", "--no-base-url")["baseUrl"] is None
    assert set(run()["urls"]) == {PARTIES_PUT}
    for words in (["--unset", "PARTIES_GET"], ["--set", "PARTIES_GET"], ["--base-url", "http://x:hunter2@greenbank"]):
        failed = shell("fsp", "endpoints", "greenbank", *words)
        assert failed.code != 0
        assert "hunter2" not in failed.out + failed.err
    assert "baseUrl" in shell("fsp", "endpoints", "greenbank").out


def test_the_command_line_adds_lists_and_removes_keys(shell: Shell, tmp_path: Path, pem: str) -> None:
    file = tmp_path / "green.pem"
    file.write_text(pem)
    number = shell("fsp", "jws-key", "add", "greenbank", str(file), "--json").json["keyId"]
    (listed,) = [shell("fsp", "jws-key", "list", "greenbank", "--json").json]
    assert (listed["keyId"], listed["label"]) == (number, "green.pem")
    again = shell("fsp", "jws-key", "add", "greenbank", str(file), "--label", "x")
    assert (again.code != 0, "already" in again.err) == (True, True)
    assert str(number) in shell("fsp", "jws-key", "remove", "greenbank", str(number)).out
    assert shell("fsp", "jws-key", "list", "greenbank").out.strip() == ""

"""A running service and the ALS of its hub: the jobs process, the admin API, `oracle als` and `oracle oracles`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import servers
from admin_service import Service
from als_stand_in import Als, run_als, write
from oracle_process import PATIENT, SERVE, OracleProcess, start_oracle, until

if TYPE_CHECKING:
    from pathlib import Path

    from shell import Shell

    from oracle.run.embedded import PostgresServer, ValkeyServer

OURS = "http://als-msisdn-oracle"
THEIRS = "http://other-oracle"


@pytest.fixture(scope="module")
def als() -> Iterator[Als]:
    with run_als() as als:
        yield als


def choose_environment(als: Als, database_url: str, valkey: ValkeyServer) -> dict[str, str]:
    return {
        **PATIENT, "ORACLE_DATABASE_URL": database_url, "ORACLE_REDIS_URL": valkey.url(),
        "ORACLE_ALS_ADMIN_URL": als.url, "ORACLE_ALS_ENDPOINT": OURS, "ORACLE_ALS_CHECK_INTERVAL_S": "1",
    }  # fmt: skip


@pytest.fixture(scope="module")
def service(
    als: Als,
    postgres_template: PostgresServer,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service without a hub listener that checks the registration each second."""
    name = asyncio.run(servers.make_database(postgres_template))
    url = postgres_template.url(name)
    env = choose_environment(als, url, valkey_server)
    try:
        with ExitStack() as stack:
            home = tmp_path_factory.mktemp("als")
            oracle = stack.enter_context(start_oracle(home, env, command=(*SERVE, "--only", "admin")))
            yield Service(oracle, url, stack)
    finally:
        asyncio.run(servers.drop_database(postgres_template, name))


@pytest.fixture(autouse=True)
def _clean(als: Als) -> None:
    als.rows.clear()
    als.fault = None


def list_events(service: Service) -> list[tuple[str, str, str, str]]:
    rows = service.fetch(
        "SELECT action, channel, actor, coalesce(after, before)->>'url' AS url FROM events"
        " WHERE entity = 'als-oracle' ORDER BY event_id"
    )
    return [tuple(row) for row in rows]


def read_metric(service: Service | OracleProcess) -> str:
    oracle = service.oracle if isinstance(service, Service) else service
    page = httpx.get(f"{oracle.admin_url}/metrics").text
    found = re.search(r'^moja_oracle_als_registered\{[^}]*party_id_type="MSISDN"[^}]*\} (\S+)$', page, re.MULTILINE)
    return found[1] if found else ""


def test_the_jobs_process_heals_a_wiped_als_and_reports(service: Service, als: Als) -> None:
    until(lambda: als.choose("MSISDN") == OURS)
    als.rows.clear()
    until(lambda: als.choose("MSISDN") == OURS)
    until(lambda: read_metric(service) == "1.0")
    assert list_events(service)[-1] == ("registered", "self-heal", "registration", OURS)
    als.have_only("MSISDN", THEIRS)
    until(lambda: read_metric(service) == "0.0")
    assert service.operator.get("/me").is_success
    assert httpx.get(f"{service.oracle.admin_url}/ready").is_success, "readiness does not depend on it"
    assert als.choose("MSISDN") == THEIRS


def test_the_admin_api_shows_the_registration_and_registers(service: Service, als: Als, auditor: httpx.Client) -> None:
    number = als.have_only("MSISDN", "http://user:secret@other")
    shown = auditor.get("/als/registration").json()
    assert (shown["isRegistered"], shown["alsAdminUrl"], shown["acts"]) == (False, als.url, [])
    (item,) = shown["items"]
    assert (item["state"], item["code"], item["endpoint"]) == ("different", "other_endpoint", OURS)
    assert item["row"] == {
        "oracleId": number, "partyIdType": "MSISDN", "currency": None, "endpoint": "http://user:***@other",
        "isDefault": False,
    }  # fmt: skip
    assert auditor.post("/als/registration", json={"replace": True}).json()["code"] == "forbidden"
    before = len(list_events(service))
    kept = service.operator.post("/als/registration", json={}).json()
    assert (kept["isRegistered"], kept["acts"]) == (False, [])
    made = service.operator.post("/als/registration", json={"replace": True}).json()
    assert (made["isRegistered"], [act["action"] for act in made["acts"]]) == (True, ["removed", "registered"])
    assert (als.choose("MSISDN"), als.changes[-2:]) == (OURS, [f"DELETE /oracles/{number}", "POST /oracles"])
    actor = service.fetch("SELECT credential_id FROM credentials WHERE role = 'operator' AND label = 'bootstrap'")
    events = list_events(service)[before:]
    assert events == [
        ("removed", "admin", actor[0][0], "http://user:***@other"),
        ("registered", "admin", actor[0][0], OURS),
    ]
    listed = auditor.get("/../../audit/v1/events", params={"entity": "als-oracle", "limit": 2}).json()["items"]
    assert [each["entity"] for each in listed] == ["als-oracle"] * 2


def test_an_als_that_fails_is_a_502_and_nothing_else_fails(service: Service, als: Als) -> None:
    async def fail(_method: str, _target: str) -> bytes | None:
        return write(500, b"<html>secret</html>")

    als.fault = fail
    for answer in (service.operator.get("/als/registration"), service.operator.post("/als/registration", json={})):
        assert (answer.status_code, answer.json()["code"]) == (502, "als_failed")
        assert "secret" not in answer.text


# The command line ----------------------------------------------------------------------------------------------------


def test_the_commands_ask_the_service(shell: Shell, als: Als) -> None:
    als.have_only("MSISDN", THEIRS)
    status = shell("als", "status")
    assert status.code == 7
    assert status.lines == [["MSISDN", "", "different", THEIRS, "The row of ALS has another endpoint"]]
    assert "--replace" in status.err
    assert f"this oracle is not registered as wanted at {als.url}: MSISDN" in status.err
    assert shell("als", "register").code == 5
    assert als.choose("MSISDN") == THEIRS
    registered = shell("als", "register", "--replace")
    assert (registered.code, registered.lines[0][2]) == (0, "registered")
    assert f"registered at ALS: MSISDN  {OURS}" in registered.err
    assert shell("als", "status", "--json").json["isRegistered"] is True
    misused = shell("als", "status", "--type", "ALIAS")
    assert (misused.code, "need --als-admin" in misused.err) == (2, True)


def test_the_commands_call_an_als_themselves_without_a_key(
    shell: Shell, als: Als, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(verb: str, *words: str) -> Any:
        return shell.as_key(None, "als", verb, "--als-admin", f"{als.url}/", *words)

    assert run("status").code == 2, "no endpoint"
    ours = ("--endpoint", OURS, "--type", "alias,EMAIL")
    assert run("status", *ours).code == 7
    assert run("register", *ours).code == 6, "no database for the event"
    assert als.rows == [] or {row.party_id_type for row in als.rows} == {"MSISDN"}
    monkeypatch.setenv("ORACLE_DATABASE_URL", service.database_url)
    made = run("register", *ours, "--currency", "MXN,USD", "--default", "--json").json
    assert (made["isRegistered"], len(made["acts"])) == (True, 4)
    assert run("status", *ours, "--currency", "usd").code == 0
    ours_alone = [
        event for event in list_events(service) if event[2] == "als-command"
    ]  # the jobs heal MSISDN meanwhile
    assert {event[:2] for event in ours_alone} == {("registered", "admin")}
    for words in (
        ("--endpoint", f"{OURS}/"), ("--endpoint", "oracle"), ("--endpoint", OURS, "--type", "CLABE"),
        ("--endpoint", OURS, "--currency", "pesos"), ("--endpoint", OURS, "--currency", "MXN,USD"),
    ):  # fmt: skip
        refused = run("register", *words)
        assert (refused.code, als.choose("EMAIL")) == (2, OURS), refused.err
    als.url, right = "http://127.0.0.1:1", als.url
    try:
        away = run("status", "--endpoint", OURS)
    finally:
        als.url = right
    assert (away.code, "ALS cannot be reached" in away.err) == (6, True)


def test_watch_heals_and_tells_what_changed(shell: Shell, als: Als, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []

    def wipe(_: float) -> None:
        """In place of the pause between two checks."""
        rounds.append(als.choose("ALIAS"))
        if len(rounds) == 1:
            als.rows.clear()
        elif len(rounds) == 2:
            als.have("ALIAS", THEIRS, "MXN")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("oracle.commands.als.time.sleep", wipe)
    monkeypatch.setenv("ORACLE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    als.have("ALIAS", OURS)
    watched = shell.as_key(
        None, "als", "watch", "--als-admin", als.url, "--endpoint", OURS, "--type", "ALIAS", "--every", "1"
    )
    assert watched.code == 130
    # Without PostgreSQL nothing is changed; it goes on nevertheless.
    assert rounds == [OURS, "3003", THEIRS]
    said = [line.split("Z ", 1)[1] for line in watched.err.splitlines()]
    assert said[0] == "registered"
    assert "Nothing is changed at ALS without its event" in said[1]
    assert said[2] == "not registered: ALIAS. Reasons: `oracle als status`"


def test_oracles_are_added_listed_and_removed_with_an_event_each(shell: Shell, service: Service) -> None:
    def list_oracle_events() -> list[tuple[Any, ...]]:
        rows = service.fetch(
            "SELECT action, channel, coalesce(after, before)->>'url' AS url FROM events WHERE entity = 'oracle'"
            " ORDER BY event_id"
        )
        return [tuple(row) for row in rows]

    added = shell("oracles", "add", "alias", THEIRS, "--currency", "mxn", "--default", "--json").json
    assert (added["partyIdType"], added["currency"], added["isDefault"]) == ("ALIAS", "MXN", True)
    again = shell("oracles", "add", "ALIAS", OURS, "--currency", "MXN")
    assert (again.code, "oracle_exists" in again.err) == (5, True)
    assert shell("oracles", "add", "ALIAS", "http://user:hunter2@x").code == 5
    assert shell("oracles", "add", "CLABE", OURS).code == 2
    assert shell("oracles", "add", "ALIAS", OURS, "--currency", "XXY").code == 5
    number = str(added["oracleId"])
    assert shell("oracles", "list").lines == [[number, "ALIAS", "MXN", "yes", THEIRS, added["changedAt"]]]
    assert shell("oracles", "remove", number, "--if-match", "99").code == 5
    assert number in shell("oracles", "remove", number, "--if-match", str(added["version"])).out
    assert shell("oracles", "remove", number).code == 3
    assert shell("oracles", "list", "--json").out == ""
    assert list_oracle_events() == [("registered", "admin", THEIRS), ("removed", "admin", THEIRS)]


def test_a_service_without_an_als_says_so(shell: Shell, tmp_path: Path) -> None:
    """Its settings are refused where only a half is there."""
    for name in ("ADMIN_URL", "ENDPOINT"):
        file = tmp_path / f"{name}.toml"
        file.write_text(json.dumps(f"als_{name.lower()}").strip('"') + ' = "http://als/"\n')
        checked = shell("check-config", "--config", str(file))
        assert (checked.code, "ORACLE_ALS_ENDPOINT" in checked.err) == (1, True)


def test_of_two_services_one_checks_and_the_other_takes_over(
    service: Service, als: Als, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """The leader's jobs process is killed while its supervisor is stopped, as if its machine had gone."""

    def count_checks() -> int:
        return sum(call.startswith("GET ") for call in als.calls)

    def heal() -> int:
        """Wipe ALS; return how many rows were created until one more check has passed."""
        before, checks = len(als.changes), count_checks()
        als.rows.clear()
        until(lambda: als.choose("MSISDN") == OURS)
        until(lambda: count_checks() > checks + 1)
        return len(als.changes) - before

    env = choose_environment(als, service.database_url, valkey_server)
    with start_oracle(tmp_path, env, command=(*SERVE, "--only", "admin")) as second:
        until(lambda: read_metric(service) == "1.0")
        until(lambda: count_waiting(service) == 2)
        assert heal() == 1
        assert read_metric(second) == ""
        supervisor, (jobs,) = service.oracle, service.oracle.workers("jobs")
        supervisor.signal(signal.SIGSTOP)
        try:
            jobs.kill()
            until(lambda: read_metric(second) == "1.0")
            assert heal() == 1
        finally:
            supervisor.signal(signal.SIGCONT)


def count_waiting(service: Service) -> int:
    """Count the processes that want to check the registration: each has a connection for it."""
    name = "application_name = 'oracle als check'"
    rows = service.fetch(f"SELECT FROM pg_stat_activity WHERE datname = current_database() AND {name}")
    return len(rows)

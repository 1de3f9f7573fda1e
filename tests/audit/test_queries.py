"""Questions to history: pages, who may ask what, what a DFSP sees, differences, the log, exports, and who asked."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import httpx
import pytest
from listener import DESCRIPTION
from oracle_process import until

from oracle.api.admin.callers import Caller
from oracle.api.admin.problems import Refusal
from oracle.api.history.questions import record
from oracle.api.history.reads_quota import ReadsQuota
from oracle.commands.audit_questions import ACTIONS, CHANNELS, ENTITIES
from oracle.identity.identity import Role
from oracle.verifier import merkle
from oracle.verifier.cli import main as verify_files
from oracle.verifier.exports import verify_exports
from oracle.verifier.leaf import leaf_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin_service import Service
    from shell import Shell

    from oracle.api.admin.calls import Call

PHONES = [f"52551234{n:04}" for n in range(20)]


class History:
    """The audit API with one key."""

    def __init__(self, service: Service, role: str, fsp_id: str | None = None) -> None:
        self.key = service.issue(role, fsp_id)
        self.http = service.as_key(self.key)
        self._root = f"{service.oracle.admin_url}/audit/v1"

    def get(self, path: str, **params: Any) -> httpx.Response:
        named = {name.rstrip("_"): value for name, value in params.items() if value is not None}
        return _ask_until_answered(lambda: self.http.get(self._root + path, params=named))

    def post(self, path: str, **body: Any) -> httpx.Response:
        return _ask_until_answered(lambda: self.http.post(self._root + path, json=body))

    def all(self, path: str, **body: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            page = self.post(path, **body).json()
            found += page["items"]
            if page["next"] is None:
                return found
            body["cursor"] = page["next"]


def _ask_until_answered(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask again, as the commands do, while PostgreSQL pauses."""
    answers: list[httpx.Response] = []

    def is_over() -> bool:
        answers.append(ask())
        return answers[-1].status_code != 503

    until(is_over)
    return answers[-1]


@pytest.fixture(scope="module")
def auditor_of(service: Service) -> History:
    return History(service, "auditor")


@pytest.fixture(scope="module")
def filled(service: Service) -> datetime:
    """Twenty phones of greenbank, of which redbank gets two by hand and one is removed; when it began."""
    began = datetime.now(UTC)
    hub = {"fspiop-source": "greenbank"}
    for phone in PHONES:
        party = f"{service.oracle.hub_url}/participants/MSISDN/{phone}"
        httpx.post(party, json={"fspId": "greenbank", "currency": "MXN"}, headers=hub).raise_for_status()
    httpx.delete(f"{service.oracle.hub_url}/participants/MSISDN/{PHONES[0]}", headers=hub).raise_for_status()
    service.fetch("UPDATE aliases SET fsp_id = 'redbank' WHERE identifier = ANY ($1)", PHONES[1:3])
    return began


def wait_until_sealed(auditor: History) -> int:
    """How many leaves there are once nothing waits."""
    until(lambda: auditor.get("/log/status").json()["waitingS"] is None)
    return int(auditor.get("/log/status").json()["size"])


# Events -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_pages_are_complete_and_stable_under_writes(service: Service, auditor_of: History) -> None:
    for filters in ({}, {"fspId": "greenbank"}, {"entity": "credential"}, {"kind": "MSISDN", "identifier": PHONES[1]}):
        whole = [event["eventId"] for event in auditor_of.all("/events/search", **filters, limit=1000)]
        first = auditor_of.post("/events/search", **filters, limit=3).json()
        service.fetch("UPDATE fsps SET name = coalesce(name, '') || 'x' WHERE fsp_id = 'greenbank'")
        rest = auditor_of.all("/events/search", **filters, limit=3, cursor=first["next"]) if first["next"] else []
        paged = [event["eventId"] for event in [*first["items"], *rest]]
        assert paged == whole
        assert paged == sorted(paged, reverse=True)


def test_each_filter_gives_what_a_filter_of_all_events_gives(auditor_of: History, filled: datetime) -> None:
    everything = auditor_of.all("/events/search", limit=1000)
    request_id = next(event["requestId"] for event in everything if event["requestId"])
    middle = filled + (datetime.now(UTC) - filled) / 2
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"channel": "hub"}, lambda e: e["channel"] == "hub"),
        ({"action": "removed", "fspId": "greenbank"}, lambda e: e["action"] == "removed" and e["fspId"] == "greenbank"),
        ({"actor": "greenbank"}, lambda e: e["actor"] == "greenbank"),
        ({"entity": "fsp", "channel": "admin"}, lambda e: (e["entity"], e["channel"]) == ("fsp", "admin")),
        ({"requestId": request_id}, lambda e: e["requestId"] == request_id),
        ({"to": middle.isoformat()}, lambda e: datetime.fromisoformat(e["at"]) < middle),
        ({"from": middle.isoformat()}, lambda e: datetime.fromisoformat(e["at"]) >= middle),
        ({"traceId": "none"}, lambda _: False),
    ]
    for filters, is_wanted in cases:
        found = [event["eventId"] for event in auditor_of.all("/events/search", **filters, limit=5)]
        wanted = [event["eventId"] for event in everything if is_wanted(event)]
        assert found == wanted, filters


def test_a_mistyped_filter_is_an_error(auditor_of: History) -> None:
    for name, known in (("channel", CHANNELS), ("action", ACTIONS), ("entity", ENTITIES)):
        for value in known:
            assert auditor_of.post("/events/search", **{name: value}, limit=1).status_code == 200, value
        assert auditor_of.post("/events/search", **{name: "nonsense"}).status_code == 400
        assert auditor_of.get("/events", **{name: "nonsense"}).status_code == 400


def test_an_unknown_fsp_is_an_error(auditor_of: History) -> None:
    times = {"from_": "2020-01-01T00:00:00Z", "to": "2999-01-01T00:00:00Z"}
    party = {"kind": "MSISDN", "identifier": PHONES[5]}

    def ask(fsp_id: str) -> set[int]:
        answers = [
            auditor_of.get("/events", fspId=fsp_id),
            auditor_of.post("/events/search", fspId=fsp_id),
            auditor_of.get(f"/fsps/{fsp_id}/events"),
            auditor_of.post(f"/fsps/{fsp_id}/events/search"),
            auditor_of.post(f"/fsps/{fsp_id}/resolve", **party),
            auditor_of.post(f"/fsps/{fsp_id}/timeline", **party),
            auditor_of.get(f"/fsps/{fsp_id}/diff", **times),
            auditor_of.get("/export/filtered.ndjson", fspId=fsp_id),
        ]
        return {answer.status_code for answer in answers}

    wait_until_sealed(auditor_of)  # an export needs a sealed event
    assert ask("greenbank") == {200}
    assert ask("grenbank") == {404}


def test_the_same_identifier_in_any_spelling_by_get_and_post(auditor_of: History, filled: datetime) -> None:
    phone = PHONES[5]
    answers = [
        auditor_of.get("/events", kind="MSISDN", identifier=spelling, country=country).json()["items"]
        for spelling, country in ((phone, None), (f"+{phone}", None), (f"+52 55 1234 {phone[-4:]}", None),
                                  (f"55 1234 {phone[-4:]}", "MX"))
    ]  # fmt: skip
    answers.append(auditor_of.post("/events/search", kind="msisdn", identifier=phone).json()["items"])
    answers.append(auditor_of.get("/events", kind="MSISDN", identifier=phone, asStored=True).json()["items"])
    assert len(answers[0]) == 1
    assert all(answer == answers[0] for answer in answers)
    assert datetime.fromisoformat(answers[0][0]["at"]) > filled


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/events", {"limit": 0}),
        ("/events", {"fspId": ""}),
        ("/events", {"from": "yesterday"}),
        ("/events", {"to": "2026-01-01T00:00:00"}),
        ("/events", {"channel": "nonsense"}),
        ("/events", {"identifier": PHONES[5]}),
        ("/events", {"asStored": "perhaps"}),
        ("/resolve", {"kind": "MSISDN", "identifier": PHONES[5], "currency": "pesos"}),
        ("/resolve", {"kind": "MSISDN", "identifier": PHONES[5], "at": "yesterday"}),
        ("/timeline", {"kind": "MSISDN", "identifier": PHONES[5], "limit": 1001}),
        ("/timeline", {"kind": "MSISDN", "identifier": PHONES[5], "country": "Mexico"}),
    ],
)
def test_a_question_that_is_refused_is_refused_alike_by_get_and_post(
    auditor_of: History, path: str, asked: dict[str, Any]
) -> None:
    by_get = auditor_of.get(path, **asked)
    by_post = auditor_of.post("/events/search" if path == "/events" else path, **asked)
    assert by_get.status_code == by_post.status_code == 400
    assert by_get.json() == by_post.json()
    wrong = list(asked)[-1]
    assert wrong in by_get.text


def test_a_get_takes_the_fields_of_the_post() -> None:
    contract = DESCRIPTION
    paths, schemas = contract["paths"], contract["components"]["schemas"]
    for get, post in (
        ("/events", "/events/search"),
        ("/fsps/{fsp_id}/events", "/fsps/{fsp_id}/events/search"),
        ("/resolve", "/resolve"),
        ("/timeline", "/timeline"),
    ):
        taken = {each["name"] for each in paths[f"/audit/v1{get}"]["get"]["parameters"] if each["in"] == "query"}
        body = paths[f"/audit/v1{post}"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert taken == schemas[body.rpartition("/")[2]]["properties"].keys()


@pytest.mark.parametrize("path", ["/events", "/resolve", "/timeline", "/log/entries/9999999", "/log/consistency",
                                  "/reads", "/export/events.ndjson"])  # fmt: skip
def test_bad_questions_are_refused_and_hold_no_identifier(auditor_of: History, path: str) -> None:
    for params in (
        {"kind": "MSISDN", "identifier": "0123x"},
        {"kind": "NOTHING", "identifier": "0123x"},
        {"kind": "MSISDN", "identifier": "0123x", "at": "yesterday", "cursor": "!"},
        {"from": "2026-01-01T00:00:00", "to": "9" * 30, "begin": -1, "end": 1 << 70, "limit": 0, "size": -1},
        {"identifier": "0123x\0", "kind": "ALIAS", "asStored": True, "cursor": "kwE", "begin": 5, "end": 1},
    ):
        answer = auditor_of.get(path, **params)
        assert 400 <= answer.status_code < 500 or (answer.status_code == 200 and not answer.json().get("items"))
        assert "0123x" not in answer.text


# Rights to ask ----------------------------------------------------------------------------------------------------


def test_who_may_ask_what(service: Service, auditor_of: History) -> None:
    allowed = {
        "operator": {"/events": 200, "/reads": 403, "/log/status": 200, "/fsps/greenbank/events": 200},
        "dfsp-maker": {"/events": 403, "/reads": 403, "/log/status": 200, "/fsps/greenbank/events": 200,
                       "/fsps/redbank/events": 403},
        "dfsp-checker": {"/events": 403, "/fsps/greenbank/events": 200},
        "reader": {"/events": 403, "/reads": 403, "/log/status": 403, "/fsps/greenbank/events": 403},
    }  # fmt: skip
    for role, answers in allowed.items():
        asker = History(service, role, None if role == "operator" else "greenbank")
        assert {path: asker.get(path).status_code for path in answers} == answers, role
    assert auditor_of.get("/reads").status_code == 200


@pytest.mark.usefixtures("filled")
def test_a_dfsp_sees_its_own_and_nothing_of_others(service: Service) -> None:
    green, red = History(service, "dfsp-maker", "greenbank"), History(service, "dfsp-maker", "redbank")
    lost = PHONES[1]
    at = datetime.now(UTC).isoformat()
    for asker, fsp_id, other in ((green, "greenbank", "redbank"), (red, "redbank", "greenbank")):
        reported = [
            asker.all(f"/fsps/{fsp_id}/events/search", limit=1000),
            asker.all(f"/fsps/{fsp_id}/events/search", kind="MSISDN", identifier=lost),
            asker.post(f"/fsps/{fsp_id}/resolve", kind="MSISDN", identifier=lost, at=at).json(),
            asker.post(f"/fsps/{fsp_id}/timeline", kind="MSISDN", identifier=lost).json(),
        ]
        assert other not in json.dumps(reported), fsp_id
    # The answer about a thing of another FSP is that about a missing thing.
    absent = green.post("/fsps/greenbank/resolve", kind="MSISDN", identifier="525599990000", at=at).json()
    foreign = green.post("/fsps/greenbank/resolve", kind="MSISDN", identifier=lost, at=at).json()
    assert {**absent, "party": None} == {**foreign, "party": None}
    assert red.post("/fsps/redbank/resolve", kind="MSISDN", identifier=lost, at=at).json()["fspId"] == "redbank"
    took = [event for event in red.all("/fsps/redbank/events/search") if event["identifier"] == lost]
    assert [(event["before"], event["after"]["fsp_id"]) for event in took] == [(None, "redbank")]


def test_every_question_is_recorded_and_nobody_can_change_the_record(service: Service, auditor_of: History) -> None:
    phone = "525512347777"
    auditor_of.post("/resolve", kind="MSISDN", identifier=phone)
    auditor_of.get("/events", kind="MSISDN", identifier=phone, actor="somebody")
    auditor_of.get("/events", kind="MSISDN", identifier="not one")
    reads = auditor_of.get("/reads", kind="MSISDN", identifier=phone).json()["items"]
    assert [read["asked"] for read in reads] == ["reads", "events", "resolve"]
    assert {read["credentialId"] for read in reads} == {auditor_of.key.split("_")[1]}
    assert reads[1]["details"] == {"actor": "somebody"}
    for statement in ("DELETE FROM audit_reads", "UPDATE audit_reads SET role = 'x'", "TRUNCATE audit_reads"):
        with pytest.raises(asyncpg.PostgresError, match="not allowed"):
            service.fetch(statement)
    privilege = "has_table_privilege('oracle_app', 'audit_reads', $1)"
    may = {name: service.fetch(f"SELECT {privilege} AS may", name)[0]["may"] for name in ("INSERT", "UPDATE", "DELETE")}
    assert may == {"INSERT": False, "UPDATE": False, "DELETE": False}, "INSERT of some columns: not of number and time"


# Between two instants ---------------------------------------------------------------------------------------------


def test_a_difference_is_that_of_the_two_states(service: Service, auditor_of: History, filled: datetime) -> None:
    def difference(since: datetime, last: datetime) -> dict[str, Any]:
        answer = auditor_of.get("/fsps/greenbank/diff", from_=since.isoformat(), to=last.isoformat())
        lines = [json.loads(line) for line in answer.text.splitlines()]
        counts = lines.pop()["end"]
        assert sum(counts[name] for name in ("added", "removed", "changed")) == len(lines)
        return {line["identifier"]: line for line in lines}

    now = datetime.now(UTC)
    assert sorted(difference(filled, now)) == PHONES[3:]  # what came and went in between is no difference
    hub = {"fspiop-source": "greenbank"}
    changed: list[tuple[str, str, dict[str, str] | None]] = [
        ("PUT", PHONES[4], {"fspId": "greenbank", "currency": "USD"}),
        ("DELETE", PHONES[6], None),
        ("POST", "525512348888", {"fspId": "greenbank"}),
    ]
    for method, phone, body in changed:
        url = f"{service.oracle.hub_url}/participants/MSISDN/{phone}"
        httpx.request(method, url, json=body, headers=hub).raise_for_status()
    service.fetch("UPDATE aliases SET fsp_id = 'redbank' WHERE identifier = $1", PHONES[7])
    changes = difference(now, datetime.now(UTC))
    assert {phone: line["change"] for phone, line in changes.items()} == {
        PHONES[4]: "changed", PHONES[6]: "removed", PHONES[7]: "removed", "525512348888": "added",
    }  # fmt: skip
    assert changes[PHONES[4]]["removed"] == [{"currency": "MXN", "default": True}]
    assert changes[PHONES[4]]["added"] == [{"currency": "USD", "default": True}]
    back = difference(now - timedelta(days=9), filled)
    assert back == {}


def test_a_timeline_ends_where_the_entry_of_another_fsp_decides(service: Service) -> None:
    green, red = History(service, "dfsp-maker", "greenbank"), History(service, "dfsp-maker", "redbank")
    service.fetch("UPDATE key_policies SET policy = 'per-currency' WHERE party_id_type = 'BUSINESS'")
    for table, fsp_id, currency in (("aliases", "greenbank", ""), ("alias_currencies", "redbank", "MXN")):
        service.fetch(
            f"INSERT INTO {table} (party_id_type, identifier, fsp_id, currency) VALUES ('BUSINESS', 'B1', $1, $2)",  # noqa: S608
            fsp_id,
            currency,
        )
    for asker, fsp_id, answers in ((green, "greenbank", ["greenbank", None]), (red, "redbank", ["redbank"])):
        question = {"kind": "BUSINESS", "identifier": "B1", "currency": "MXN"}
        life = asker.post(f"/fsps/{fsp_id}/timeline", **question).json()["items"]
        assert [moment["fspId"] for moment in life] == answers
        assert asker.post(f"/fsps/{fsp_id}/resolve", **question).json()["fspId"] == answers[-1]


# The log ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_an_event_is_proved_by_what_the_api_says(auditor_of: History) -> None:
    size = wait_until_sealed(auditor_of)
    event = auditor_of.post("/events/search", kind="MSISDN", identifier=PHONES[1]).json()["items"][0]
    entry = auditor_of.get(f"/log/entries/{event['eventId']}", size=size).json()
    proof = [base64.b64decode(each) for each in entry["proof"]]
    leaf = leaf_hash(entry["line"].encode())
    assert json.loads(entry["line"])["event_id"] == event["eventId"]
    assert merkle.verify_inclusion(entry["leafIndex"], size, leaf, proof, base64.b64decode(entry["root"]))
    reported = auditor_of.get("/log/consistency", from_=3, to=size).json()
    first, second = (base64.b64decode(reported[name]) for name in ("firstRoot", "secondRoot"))
    assert merkle.verify_consistency(3, size, first, second, [base64.b64decode(each) for each in reported["proof"]])
    assert base64.b64decode(entry["root"]) == second
    nothing = auditor_of.get("/log/entries/1", size=0)
    assert (nothing.status_code, nothing.json()["detail"]) == (
        400, "Event 1 is leaf 0: it was sealed after the first 0 leaves",
    )  # fmt: skip
    ahead = auditor_of.get("/log/entries/1", size=size + 1_000_000).json()["detail"]
    assert ahead.startswith("The log has only "), "another cause has other words"
    backwards = auditor_of.get("/log/consistency", from_=size, to=1).json()
    assert backwards["detail"] == "`from` is after `to`"
    notes = auditor_of.get("/log/checkpoints", limit=2).json()["items"]
    assert notes[0]["note"] == auditor_of.get("/log/checkpoint").text
    assert auditor_of.get("/log/keys").json()["items"]


@pytest.mark.usefixtures("filled")
def test_a_dfsp_proves_its_own_event_and_no_other(service: Service, auditor_of: History) -> None:
    wait_until_sealed(auditor_of)
    maker = History(service, "dfsp-maker", "greenbank")
    events = auditor_of.all("/events/search", limit=1000)
    own = next(
        e for e in events if e["fspId"] == "greenbank" and e["entity"] == "alias" and e["action"] == "registered"
    )
    others = [e for e in events if e["entity"] != "alias" or e["fspId"] == "redbank"]
    assert {e["entity"] for e in others} >= {"credential", "secret", "fsp"}
    assert maker.get(f"/fsps/greenbank/log/entries/{own['eventId']}").status_code == 200
    assert {maker.get(f"/fsps/greenbank/log/entries/{e['eventId']}").status_code for e in others} == {404}


@pytest.mark.usefixtures("filled")
def test_an_export_over_http_is_one_that_verifies_offline(auditor_of: History, tmp_path: Path) -> None:
    wait_until_sealed(auditor_of)
    manifest = auditor_of.get("/export/manifest.json", sinceSize=2)
    span = {name: manifest.json()[name] for name in ("begin", "end")}
    (tmp_path / "manifest.json").write_bytes(manifest.content)
    for name in ("events.ndjson", "hashes.bin", "events.csv"):
        (tmp_path / name).write_bytes(auditor_of.get(f"/export/{name}", **span).content)
    assert verify_exports([tmp_path]).findings == []

    filtered = [
        json.loads(line) for line in auditor_of.get("/export/filtered.ndjson", fspId="redbank").text.splitlines()
    ]
    reported = filtered.pop()["manifest"]
    assert reported["filter"] == {"fspId": "redbank"}
    assert reported["count"] == len(filtered) > 0
    lines = (tmp_path / "events.ndjson").read_text().splitlines()
    assert all(json.loads(lines[each["leaf"]]) == each["event"] for each in filtered if each["leaf"] < len(lines))


@pytest.mark.usefixtures("filled")
def test_a_filtered_export_as_a_table_has_the_rows_of_the_whole_one(auditor_of: History) -> None:
    path = "/export/filtered.ndjson"
    span: dict[str, Any] = {"begin": 0, "end": wait_until_sealed(auditor_of)}
    header, *rows = auditor_of.get("/export/events.csv", **span).text.split("\r\n")
    for wanted in ({"fspId": "redbank"}, {"entity": "fsp"}, {"fspId": "redbank", "entity": "batch"}):
        *lines, _ = auditor_of.get(path, **wanted, **span).text.splitlines()
        table = auditor_of.get(path, format="csv", **wanted, **span)
        assert table.headers["content-type"].startswith("text/csv")
        assert table.text == "\r\n".join([header, *(rows[json.loads(line)["leaf"]] for line in lines), ""])
        assert (len(lines) > 0) == (wanted != {"fspId": "redbank", "entity": "batch"})
    _, read, *_ = auditor_of.get("/reads").json()["items"]  # the first is this question
    assert (read["asked"], read["details"]["as"]) == ("export", "text/csv")


@pytest.mark.usefixtures("filled")
def test_a_filtered_export_has_the_events_by_which_an_fsp_lost_aliases(service: Service, auditor_of: History) -> None:
    hub = {"fspiop-source": "greenbank"}
    url = f"{service.oracle.hub_url}/participants/MSISDN/525512345555"
    httpx.post(url, json={"fspId": "greenbank"}, headers=hub).raise_for_status()
    service.fetch("UPDATE aliases SET fsp_id = 'redbank' WHERE identifier = '525512345555'")
    wait_until_sealed(auditor_of)
    exported = auditor_of.get("/export/filtered.ndjson", fspId="greenbank", entity="alias").text.splitlines()[:-1]
    listed = [event["eventId"] for event in auditor_of.all("/events/search", fspId="greenbank", entity="alias")]
    assert sorted(json.loads(line)["event"]["event_id"] for line in exported) == sorted(listed)


def test_the_form_of_a_filtered_export_is_asked_for_by_name_or_by_accept(service: Service, auditor_of: History) -> None:
    wait_until_sealed(auditor_of)
    url = f"{service.oracle.admin_url}/audit/v1/export/filtered.ndjson"
    for accept, form, answered in (
        ("*/*", {}, "application/x-ndjson"), ("text/csv", {}, "text/csv"), ("text/*, text/csv;q=0.9", {}, "text/csv"),
        ("application/x-ndjson, text/csv;q=0.5", {}, "application/x-ndjson"),
        ("text/csv", {"format": "ndjson"}, "application/x-ndjson"), ("application/json", {"format": "csv"}, "text/csv"),
    ):  # fmt: skip
        answer = auditor_of.http.get(url, headers={"Accept": accept}, params={"fspId": "redbank", **form})
        assert answer.headers["content-type"].partition(";")[0] == answered, (accept, form)
        assert answer.text.startswith("event_id," if answered == "text/csv" else '{"leaf":')
    assert auditor_of.get("/export/filtered.ndjson", format="xlsx").status_code == 400


# The commands -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_the_commands_of_an_auditor(
    auditor_of: History, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_sealed(auditor_of)
    monkeypatch.chdir(tmp_path)

    def type_command(*words: str) -> str:
        done = shell.as_key(auditor_of.key, "audit", *words)
        assert done.code == 0, done.err
        return done.out

    note = type_command("fetch-checkpoint")
    (tmp_path / "kept").write_text(note)
    resolved = json.loads(type_command("resolve", "MSISDN", f"+{PHONES[8]}", "--json"))
    assert (resolved["fspId"], resolved["reason"]) == ("greenbank", "alias")
    assert "by greenbank as fsp through hub" in type_command("resolve", "MSISDN", PHONES[8])
    assert "greenbank MXN (alias)" in type_command("timeline", "MSISDN", PHONES[8])
    event_id = str(resolved["events"][-1]["eventId"])
    assert f'"event_id":{event_id},' in type_command("proof", event_id, "--checkpoint", "kept")
    assert type_command("events", "--kind", "MSISDN", "--identifier", PHONES[8]).count("\n") == 1
    assert (
        len(type_command("diff", "--fsp", "greenbank", "--from", "2020-01-01", "--to", "2999-01-01").splitlines()) > 10
    )
    assert "timeline" in type_command("reads", "--limit", "50")
    type_command("fetch", "export", "--since", "kept", "--csv")
    type_command("verify", "--offline", "export", "--since", "kept")
    (tmp_path / "log.vkey").write_text(type_command("fetch-keys"))
    trusted = ("--key", "log.vkey", "--checkpoint", "kept")
    assert type_command("proof", event_id, *trusted, "--out", "proof.json") == "", "the event is in the file alone"
    refused = shell.as_key(auditor_of.key, "audit", "proof", event_id, "--out", "proof.json")
    assert refused.code == 1, "evidence is not overwritten"
    type_command("fetch", "later", "--after", "export")
    for words in (("export", "export", "later", *trusted), ("proof", "proof.json", *trusted)):
        assert verify_files(words) == 0
    assert verify_files(("proof", "proof.json")) == 1
    assert stat.S_IMODE((tmp_path / "proof.json").stat().st_mode) == 0o600
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert (proof["format"], proof["eventId"]) == ("alias-oracle-proof/1", int(event_id))
    (tmp_path / "proof.json").write_text(json.dumps({**proof, "line": proof["line"].replace("greenbank", "redbank")}))
    assert verify_files(("proof", "proof.json", *trusted)) == 1
    type_command("status")


def test_a_caller_who_leaves_early_leaves_no_open_connection(service: Service, auditor_of: History) -> None:
    """More of them than there are connections for this; each stream is closed after its first piece."""
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id) SELECT 'ALIAS', 'many-' || n, 'greenbank'"
        " FROM generate_series(1, 20000) AS n"
    )
    size = wait_until_sealed(auditor_of)
    root = f"{service.oracle.admin_url}/audit/v1"
    times = {"from": "2020-01-01T00:00:00Z", "to": datetime.now(UTC).isoformat()}
    for _ in range(12):
        for path, params in (
            ("/export/events.ndjson", {"begin": 0, "end": size}),
            ("/fsps/greenbank/diff", times),
        ):
            with auditor_of.http.stream("GET", root + path, params=params) as answer:
                assert answer.status_code in (200, 503)  # two exports at a time: the one before can still run
                next(answer.iter_raw())
    assert auditor_of.get("/export/events.ndjson", begin=0, end=size).status_code == 200
    span = {"from_": times["from"], "to": times["to"]}
    assert len(auditor_of.get("/fsps/greenbank/diff", **span).text.splitlines()) > 20_000
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'oracle desk' AND state LIKE 'idle in%'"
    until(lambda: service.fetch(busy.replace("count(*)", "count(*) AS n"))[0]["n"] == 0)


async def test_an_instant_is_final_once_nothing_older_can_come(service: Service, auditor_of: History) -> None:
    phone = "525512346666"

    async def resolve_at(at: datetime) -> Any:
        body = {"kind": "MSISDN", "identifier": phone, "at": at.isoformat()}
        return (await asyncio.to_thread(auditor_of.post, "/resolve", **body)).json()

    async def becomes_final(at: datetime) -> None:
        """The service itself may have been writing: it seals what the other tests did."""
        async with asyncio.timeout(60):
            while not (await resolve_at(at))["isFinal"]:
                pass

    before = datetime.now(UTC)
    writer = await asyncpg.connect(service.database_url)
    try:
        async with writer.transaction():
            await writer.execute(
                "INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('MSISDN', $1, 'greenbank')", phone
            )
            written = datetime.now(UTC)
            open_yet = await resolve_at(written)
            assert (open_yet["fspId"], open_yet["isFinal"]) == (None, False)
            await becomes_final(before)
    finally:
        await writer.close()
    await becomes_final(written)
    assert (await resolve_at(written))["fspId"] == "greenbank"
    assert (await resolve_at(before))["fspId"] is None
    assert not (await resolve_at(datetime.now(UTC) + timedelta(days=1)))["isFinal"]


# The quota of recorded questions ------------------------------------------------------------------------------------


def make_call(quota: ReadsQuota, noted: list[str], credential_id: str) -> Call:
    async def note(query: str, *_: object) -> int:
        noted.append(query)
        return 1

    caller = Caller(actor=credential_id, role=Role.AUDITOR, fsp_ids=None, way="key", person=None, secret="secret")
    postgres = SimpleNamespace(note=note)
    return cast(
        "Call",
        SimpleNamespace(
            caller=caller, fsp_ids=None, postgres=postgres, reads_quota=quota, request_id="r" * 32, trace_id=""
        ),
    )


@pytest.mark.parametrize(("details", "recorded"), [({}, 18), ({"actor": "\U00020000" * 256}, 6)])
async def test_a_credential_can_write_so_many_bytes_of_records_in_a_day(details: dict[str, Any], recorded: int) -> None:
    now = [1000.0]
    quota = ReadsQuota(day_bytes_max=10_000, clock=lambda: now[0])
    noted: list[str] = []
    for _ in range(recorded):
        await record(make_call(quota, noted, "one"), "events", None, None, details)
    for _ in range(100):
        with pytest.raises(Refusal) as over:
            await record(make_call(quota, noted, "one"), "events", None, None, details)
    assert (over.value.status, over.value.code) == (429, "too_many_questions")
    assert len(noted) == recorded, "a refused question leaves no row"
    await record(make_call(quota, noted, "two"), "events", None, None, details)
    now[0] += int(over.value.headers["Retry-After"])
    await record(make_call(quota, noted, "one"), "events", None, None, details)
    now[0] += 86_400
    for _ in range(recorded):
        await record(make_call(quota, noted, "one"), "events", None, None, details)

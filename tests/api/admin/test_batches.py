"""Bulk files over HTTP: upload, follow, approve, reject, cancel, results; and which keys may see them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from differences import list_differences
from oracle_process import until

if TYPE_CHECKING:
    from admin_service import Service

HEADER = "kind,identifier,sub_id,currency,country,action\n"
BATCHES = "/fsps/greenbank/batches"
BUSY = ("validating", "applying")


def rows(prefix: str, count: int) -> str:
    return HEADER + "".join(f"ALIAS,{prefix}{n},,,,\n" for n in range(count))


def upload(client: httpx.Client, data: str, path: str = BATCHES, **headers: str) -> Any:
    answer = client.post(path, params={"fileName": "a file.csv"}, content=data.encode(), headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def wait_until_settled(client: httpx.Client, batch: Any, path: str = BATCHES) -> Any:
    """As it is when nothing more happens by itself."""
    until(lambda: client.get(f"{path}/{batch['batchId']}").json()["state"] not in BUSY)
    return client.get(f"{path}/{batch['batchId']}").json()


@pytest.fixture
def two_persons(operator: httpx.Client) -> Iterator[None]:
    operator.patch("/fsps/greenbank", json={"twoPersons": True}).raise_for_status()
    yield
    operator.patch("/fsps/greenbank", json={"twoPersons": False}).raise_for_status()


def test_a_file_from_its_upload_to_the_results(service: Service, maker: httpx.Client) -> None:
    answer = maker.post(BATCHES, params={"fileName": "a.csv", "note": "first"}, content=rows("up", 3) + "FAX,1,,,,\n")
    batch = answer.json()
    assert (answer.status_code, batch["state"], batch["fileName"], batch["note"]) == (
        201, "validating", "a.csv", "first",
    )  # fmt: skip
    path = answer.headers["location"].removeprefix("/admin/v1")
    done = wait_until_settled(maker, batch)
    assert (done["state"], done["rows"]) == ("done", {"read": 4, "valid": 3, "applied": 3, "changed": 3, "failed": 1})
    read = maker.get(f"{path}/results")
    assert read.headers["content-type"].startswith("text/csv")
    table = read.text.splitlines()
    assert table[1] == "2,added,,,up0,ALIAS,up0,,,,"
    assert table[4].startswith("5,invalid,unknown_kind,")
    assert maker.get(f"{path}/results", params={"only": "failed"}).text.splitlines() == [table[0], table[4]]
    as_lines = maker.get(f"{path}/results", headers={"Accept": "application/x-ndjson"})
    assert as_lines.headers["content-type"].startswith("application/x-ndjson")
    lines = as_lines.text.splitlines()
    assert json.loads(lines[0]) == {
        "line": 2, "status": "added", "code": "", "message": "", "canonical": "up0",
        "kind": "ALIAS", "identifier": "up0", "sub_id": "", "currency": "", "country": "", "action": "",
    }  # fmt: skip
    assert maker.get(f"{path}/file").text == rows("up", 3) + "FAX,1,,,,\n"
    assert service.hub.get("/ALIAS/up0").json() == {"partyList": [{"fspId": "greenbank"}]}


def test_a_deleted_file_is_gone_and_its_batch_is_there(service: Service, maker: httpx.Client) -> None:
    batch = wait_until_settled(maker, upload(maker, rows("gone", 1)))
    path = f"{BATCHES}/{batch['batchId']}"
    assert batch["fileDeletedAt"] is None
    service.fetch("INSERT INTO batch_deletions (batch_id) VALUES ($1)", batch["batchId"])
    for what in ("/file", "/results"):
        gone = maker.get(path + what)
        assert (gone.status_code, gone.json()["code"]) == (410, "file_deleted")
    there = maker.get(path).json()
    assert there.pop("fileDeletedAt") is not None
    assert there == {name: value for name, value in batch.items() if name != "fileDeletedAt"}


def test_a_file_is_absent_for_another_fsp(maker: httpx.Client, stranger: httpx.Client, operator: httpx.Client) -> None:
    batch = upload(maker, rows("mine", 1))
    number = batch["batchId"]
    for path in ("", "/results", "/events", "/file"):
        assert stranger.get(f"{BATCHES}/{number}{path}").status_code == 403
        assert stranger.get(f"/fsps/redbank/batches/{number}{path}").status_code == 404
        assert operator.get(f"/fsps/redbank/batches/{number}{path}").status_code == 404
    for verb in ("approve", "reject", "cancel"):
        refused = operator.post(f"/fsps/redbank/batches/{number}/{verb}", json={"reason": "x"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert stranger.get("/batches").status_code == 403
    assert number not in [item["batchId"] for item in stranger.get("/fsps/redbank/batches").json()["items"]]


@pytest.mark.usefixtures("two_persons")
def test_a_checker_approves_a_file(maker: httpx.Client, checker: httpx.Client) -> None:
    batch = wait_until_settled(maker, upload(maker, rows("four", 2)))
    path = f"{BATCHES}/{batch['batchId']}"
    assert (batch["state"], batch["needsApproval"]) == ("waiting", True)
    assert maker.post(f"{path}/approve", json={}).status_code == 403
    stale = checker.post(f"{path}/approve", json={}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    etag = checker.get(path).headers["etag"]
    approved = checker.post(f"{path}/approve", json={"reason": "looked at it"}, headers={"If-Match": etag})
    assert (approved.status_code, approved.json()["decisionReason"]) == (200, "looked at it")
    assert wait_until_settled(maker, batch)["state"] == "done"
    again = checker.post(f"{path}/reject", json={"reason": "no"})
    assert (again.status_code, again.json()["code"]) == (409, "not_waiting")


@pytest.mark.usefixtures("two_persons")
def test_the_uploader_cannot_approve_or_reject_their_own_file(operator: httpx.Client, checker: httpx.Client) -> None:
    batch = wait_until_settled(operator, upload(operator, rows("own", 1)))
    path = f"{BATCHES}/{batch['batchId']}"
    refused = operator.post(f"{path}/approve", json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "same_person")
    assert checker.post(f"{path}/reject", json={}).status_code == 400
    rejected = checker.post(f"{path}/reject", json={"reason": "wrong month"}).json()
    assert (rejected["state"], rejected["decisionReason"]) == ("rejected", "wrong month")


@pytest.mark.usefixtures("two_persons")
def test_a_second_key_with_the_same_label_is_not_a_second_person(service: Service) -> None:
    maker = service.as_key(service.issue("dfsp-maker", "greenbank", label="Ana Flores"))
    waiting = wait_until_settled(maker, upload(maker, rows("alone", 1)))
    change = maker.post("/fsps/greenbank/aliases", json={"kind": "ALIAS", "identifier": "alone"}).json()
    for label, role, fsp_id in (
        ("Ana Flores", "dfsp-checker", "greenbank"), (" ana  FLORES", "operator", None),
        ("Aña Flóres", "operator", None),
    ):  # fmt: skip
        same = service.as_key(service.issue(role, fsp_id, label=label))
        for batch in (waiting, change):
            for verb in ("approve", "reject"):
                refused = same.post(f"{BATCHES}/{batch['batchId']}/{verb}", json={"reason": "x"})
                assert (refused.status_code, refused.json()["code"]) == (403, "same_person")
                assert refused.json()["hint"].endswith("an operator can change the label of one key")
    other = service.as_key(service.issue("dfsp-checker", "greenbank", label="Ana Ruiz"))
    assert other.post(f"{BATCHES}/{waiting['batchId']}/approve", json={}).status_code == 200
    assert other.post(f"{BATCHES}/{change['batchId']}/reject", json={"reason": "x"}).status_code == 200
    for verb in ("approve", "reject"):
        late = other.post(f"{BATCHES}/{change['batchId']}/{verb}", json={"reason": "x"}).json()
        assert late["hint"] == "Its state is rejected. It was rejected by Ana Ruiz (checker of greenbank)"


@pytest.mark.usefixtures("two_persons")
def test_a_body_that_is_missing_or_not_json_is_named(maker: httpx.Client, checker: httpx.Client) -> None:
    change = maker.post("/fsps/greenbank/aliases", json={"kind": "ALIAS", "identifier": "unread"}).json()
    path = f"{BATCHES}/{change['batchId']}"
    for verb in ("approve", "reject", "cancel"):
        missing = checker.post(f"{path}/{verb}", headers={"Content-Type": "application/json"}).json()
        assert missing["hint"] == "the body: It is missing: send an object in JSON, at least {}"
        for body in ("{", "reason=x", "{}x", b"\xff"):
            refused = checker.post(f"{path}/{verb}", content=body, headers={"Content-Type": "application/json"})
            assert (refused.status_code, refused.json()["detail"]) == (400, "The body is not valid JSON")
    assert maker.post(f"{path}/cancel", json={}).status_code == 200


@pytest.mark.usefixtures("two_persons")
def test_a_waiting_file_is_cancelled_once(maker: httpx.Client) -> None:
    batch = wait_until_settled(maker, upload(maker, rows("never", 1)))
    path = f"{BATCHES}/{batch['batchId']}"
    assert maker.post(f"{path}/cancel", json={}).json()["state"] == "cancelled"
    again = maker.post(f"{path}/cancel", json={})
    assert (again.status_code, again.json()["code"]) == (409, "already_ended")
    assert maker.get(f"{path}/results").text.splitlines()[1].startswith("2,cancelled,cancelled,")


# One alias ----------------------------------------------------------------------------------------------------

ALIASES = "/fsps/greenbank/aliases"
UNANSWERED: dict[str, Any] = {"partyList": []}


def ask(client: httpx.Client, method: str, path: str = "", **sent: Any) -> Any:
    """Ask for a change of one alias that must wait: its batch."""
    answered = client.request(method, ALIASES + path, **sent)
    assert answered.status_code == 202, answered.text
    batch = answered.json()
    assert answered.headers["location"] == f"/admin/v1{BATCHES}/{batch['batchId']}"
    assert (batch["state"], batch["needsApproval"], batch["rows"]["valid"]) == ("waiting", True, 1)
    return batch


def approve(client: httpx.Client, batch: Any) -> list[str]:
    """Approve it, and return the line of its results."""
    path = f"{BATCHES}/{batch['batchId']}"
    assert client.post(f"{path}/approve", json={}).status_code == 200
    assert wait_until_settled(client, batch)["state"] == "done"
    (line,) = client.get(f"{path}/results", params={"format": "ndjson"}).text.splitlines()
    result = json.loads(line)
    return [result["status"], result["code"]]


@pytest.fixture
def added(maker: httpx.Client) -> Iterator[str]:
    """An alias that greenbank has registered by itself."""
    maker.post(ALIASES, json={"kind": "ALIAS", "identifier": "one", "currency": "MXN"})
    yield "/ALIAS/one"
    for batch in maker.get(BATCHES, params={"state": "waiting"}).json()["items"]:
        maker.post(f"{BATCHES}/{batch['batchId']}/cancel", json={}).raise_for_status()
    maker.delete(f"{ALIASES}/ALIAS/one", params={"reason": "correction"})


def test_each_change_of_one_alias_waits_for_a_second_person(
    service: Service, maker: httpx.Client, checker: httpx.Client, operator: httpx.Client, added: str
) -> None:
    operator.patch("/fsps/greenbank", json={"twoPersons": True}).raise_for_status()
    try:
        new = {"kind": "CLABE", "identifier": "032-180-00011835971-9", "subId": "s", "currency": "MXN", "reason": "why"}
        waiting = ask(maker, "POST", json=new)
        assert (waiting["fileName"], waiting["note"], waiting["uploadedRole"]) == (
            "one alias: add",
            "why",
            "dfsp-maker",
        )
        assert waiting["change"] == {
            "action": "add", "kind": "CLABE", "identifier": "032180000118359719",
            "display": "032 180 00011835971 9", "subId": "s", "currency": "MXN", "present": [],
            "ifMatch": False,
        }  # fmt: skip
        assert maker.get(f"{BATCHES}/{waiting['batchId']}/file").text == (
            HEADER.replace("\n", "\r\n") + "CLABE,032180000118359719,s,MXN,,add\r\n"
        )
        listed = checker.get(BATCHES, params={"state": "waiting"}).json()["items"]
        assert (listed[0]["batchId"], listed[0]["change"]) == (waiting["batchId"], waiting["change"])
        clabe = "/ACCOUNT_ID/032180000118359719?partySubIdOrType=s"
        assert service.hub.get(clabe).json() == UNANSWERED
        assert maker.post(f"{BATCHES}/{waiting['batchId']}/approve", json={}).status_code == 403
        assert approve(checker, waiting) == ["added", ""]
        assert service.hub.get(clabe).json()["partyList"][0]["fspId"] == "greenbank"

        update = ask(maker, "PATCH", added, json={"currency": "usd", "reason": "asked"})
        assert (update["fileName"], update["change"]["action"]) == ("one alias: update", "update")
        listed = checker.get(BATCHES, params={"state": "waiting"}).json()["items"]
        shown = checker.get(f"{BATCHES}/{update['batchId']}").json()
        assert [each["change"]["present"] for each in (update, shown, listed[0])] == [["MXN"]] * 3
        for asking, status in ((maker, 409), (operator, 202)):  # the same change twice is one batch of one person
            twice = asking.patch(ALIASES + added, json={"currency": "USD", "reason": "asked again"})
            assert twice.status_code == status, twice.text
            if status == 409:
                assert (twice.json()["code"], twice.json()["detail"]) == (
                    "already_waiting", f"Batch {update['batchId']} already waits for this change",
                )  # fmt: skip
                assert twice.headers["location"] == f"/admin/v1{BATCHES}/{update['batchId']}"
            else:
                assert operator.post(f"{BATCHES}/{twice.json()['batchId']}/cancel", json={}).status_code == 200
        etag = maker.get(ALIASES + added).headers["etag"]
        named = ask(maker, "PATCH", added, json={"currency": "USD", "reason": "x"}, headers={"If-Match": etag})
        assert maker.post(f"{BATCHES}/{named['batchId']}/cancel", json={}).status_code == 200  # another change
        assert maker.get(ALIASES + added).json()["entries"][0]["currency"] == "MXN"
        assert approve(operator, update) == ["changed", ""]
        assert maker.get(ALIASES + added).json()["entries"][0]["currency"] == "USD"

        # An operator is not the way around the second person: their own change waits for another key, too.
        for asking in (maker, operator):
            removal = ask(asking, "DELETE", added, params={"reason": "moved", "note": "to a friend"})
            assert (removal["fileName"], removal["note"]) == ("one alias: remove", "moved: to a friend")
        refused = operator.post(f"{BATCHES}/{removal['batchId']}/approve", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "same_person")
        assert approve(checker, removal) == ["removed", ""]
        assert service.hub.get("/ALIAS/one").json() == UNANSWERED
    finally:
        operator.patch("/fsps/greenbank", json={"twoPersons": False}).raise_for_status()

    def find_events(entity: str) -> list[tuple[str, ...]]:
        rows = service.fetch(
            "SELECT action, channel, reason FROM events WHERE entity = $1 AND request_id = $2 ORDER BY event_id",
            entity, f"batch:{update['batchId']}",
        )  # fmt: skip
        return [tuple(row) for row in rows]

    assert find_events("alias") == [("changed", "import", "asked")]
    states = service.fetch(
        "SELECT after ->> 'state' AS state FROM events WHERE entity = 'batch' AND after ->> 'batch_id' = $1"
        " ORDER BY event_id", str(update["batchId"]),
    )  # fmt: skip
    assert [row["state"] for row in states] == ["waiting", "applying", "done"]


@pytest.mark.usefixtures("added", "two_persons")
def test_what_cannot_be_done_or_is_so_already_waits_for_nobody(
    operator: httpx.Client, maker: httpx.Client, stranger: httpx.Client
) -> None:
    stranger.post("/fsps/redbank/aliases", json={"kind": "ALIAS", "identifier": "theirs"})
    before = maker.get(BATCHES).json()["items"]
    one = f"{ALIASES}/ALIAS/one"

    def post(**members: str) -> httpx.Response:
        return maker.post(ALIASES, json={"kind": "ALIAS", "identifier": "one", **members})

    assert post(currency="MXN").status_code == 200  # it is so already
    assert maker.patch(one, json={"currency": "MXN", "reason": "x"}).status_code == 200
    refused = [
        post(identifier="theirs"),
        post(kind="CLABE", identifier="1"),
        maker.patch(f"{ALIASES}/ALIAS/theirs", json={"currency": None, "reason": "x"}),
        maker.patch(one, json={"currency": "USD", "reason": "x"}, headers={"If-Match": '"stale"'}),
        maker.delete(one, params={"reason": "moved", "currency": "USD"}),
        maker.delete(f"{ALIASES}/ALIAS/nobody", params={"reason": "moved"}),
    ]
    operator.patch("/fsps/greenbank", json={"currencies": ["MXN"]}).raise_for_status()
    refused += [post(currency="USD"), maker.patch(one, json={"currency": "USD", "reason": "x"})]
    operator.patch("/fsps/greenbank", json={"currencies": None}).raise_for_status()
    assert [(answered.status_code, answered.json()["code"]) for answered in refused] == [
        (409, "held_elsewhere"), (400, "bad_identifier"), (404, "not_found"), (412, "version_mismatch"),
        (404, "not_found"), (404, "not_found"), (409, "not_allowed"), (409, "not_allowed"),
    ]  # fmt: skip
    assert maker.get(BATCHES).json()["items"] == before
    ask(maker, "DELETE", "/ALIAS/one", params={"reason": "moved"})
    assert len(maker.get(BATCHES).json()["items"]) == len(before) + 1


@pytest.mark.usefixtures("added", "two_persons")
def test_a_change_whose_alias_has_changed_since_is_refused_when_it_is_approved(
    service: Service, maker: httpx.Client, checker: httpx.Client, added: str
) -> None:
    etag = maker.get(ALIASES + added).headers["etag"]
    named = {"If-Match": etag}
    update = ask(maker, "PATCH", added, json={"currency": "USD", "reason": "x"}, headers=named)
    removal = ask(maker, "DELETE", added, params={"reason": "moved"}, headers=named)
    unnamed = ask(maker, "PATCH", added, json={"currency": "EUR", "reason": "x"})
    assert [batch["change"]["ifMatch"] for batch in (update, removal, unnamed)] == [True, True, False]
    service.hub.put("/ALIAS/one", json={"fspId": "greenbank", "currency": "GBP"}).raise_for_status()
    assert approve(checker, update) == ["refused", "changed_since"]
    assert approve(checker, removal) == ["refused", "changed_since"]
    assert approve(checker, unnamed) == ["changed", ""]
    again = ask(maker, "DELETE", added, params={"reason": "moved"}, headers={"If-Match": "*"})
    late = ask(maker, "PATCH", added, json={"currency": "CAD", "reason": "x"})
    assert approve(checker, again) == ["removed", ""]
    # An update registers nothing, neither for an alias that is gone nor for one that another FSP holds now.
    assert approve(checker, late) == ["refused", "not_registered"]
    assert service.hub.get("/ALIAS/one").json() == UNANSWERED


@pytest.mark.usefixtures("two_persons")
def test_of_the_same_change_asked_for_at_once_one_waits(service: Service) -> None:
    maker = service.client("dfsp-maker", "greenbank")

    def send(_: int) -> httpx.Response:
        return maker.post(ALIASES, json={"kind": "ALIAS", "identifier": "at-once"})

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(4)))
    assert sorted(each.status_code for each in answers) == [202, 409, 409, 409]
    (number,) = {each.json()["batchId"] for each in answers if each.status_code == 202}
    details = {each.json()["detail"] for each in answers if each.status_code == 409}
    assert details == {f"Batch {number} already waits for this change"}


@pytest.mark.usefixtures("two_persons")
def test_a_waiting_change_is_repeated_rejected_and_cancelled(
    service: Service, maker: httpx.Client, checker: httpx.Client
) -> None:
    def send() -> httpx.Response:
        body = {"kind": "ALIAS", "identifier": "again"}
        return maker.post(ALIASES, json=body, headers={"Idempotency-Key": "once"})

    first, second = send(), send()
    assert (second.status_code, second.content) == (202, first.content)
    assert second.headers["idempotency-replayed"] == "true"
    path = f"{BATCHES}/{first.json()['batchId']}"
    assert checker.post(f"{path}/reject", json={"reason": "no"}).json()["state"] == "rejected"
    other = ask(maker, "POST", json={"kind": "ALIAS", "identifier": "again"})
    assert maker.post(f"{BATCHES}/{other['batchId']}/cancel", json={}).json()["state"] == "cancelled"
    for batch, code in ((first.json(), "rejected"), (other, "cancelled")):
        assert f"2,cancelled,{code}," in checker.get(f"{BATCHES}/{batch['batchId']}/results").text
    assert service.hub.get("/ALIAS/again").json() == UNANSWERED


# Progress -----------------------------------------------------------------------------------------------------


def test_events_report_the_progress_until_the_end(maker: httpx.Client) -> None:
    batch = upload(maker, rows("told", 20_000))
    states = []
    with maker.stream("GET", f"{BATCHES}/{batch['batchId']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                states.append((event, json.loads(value)["state"]))
    assert states[-1] == ("end", "done")
    assert {event for event, _ in states[:-1]} <= {"progress"}


def test_a_repeated_upload_is_one_batch(service: Service, maker: httpx.Client) -> None:
    parts = "SELECT count(*) AS parts FROM batch_files"
    key = {"Idempotency-Key": "file-1"}
    first = upload(maker, rows("rep", 2), **key)
    before = service.fetch(parts)
    again = upload(maker, rows("rep", 2), **key)
    assert again["batchId"] == first["batchId"]
    other = maker.post(BATCHES, params={"fileName": "a file.csv"}, content=rows("rep", 3), headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert service.fetch(parts) == before
    assert service.fetch("SELECT count(*) AS n FROM batch_uploads")[0]["n"] == 0


def test_the_list_has_filters_and_pages(maker: httpx.Client, operator: httpx.Client) -> None:
    mine = [upload(maker, rows("list", 1))["batchId"] for _ in range(3)]
    theirs = upload(operator, rows("list", 1))
    wait_until_settled(maker, theirs)
    by = maker.get("/me").json()["credentialId"]
    found, cursor = [], None
    while True:
        params = {"uploadedBy": by, "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = maker.get(BATCHES, params=params).json()
        found += [item["batchId"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found[:3] == mine[::-1]
    assert found == sorted(set(found), reverse=True)
    assert theirs["batchId"] not in found
    everything = operator.get("/batches", params={"fspId": "greenbank", "state": "done"}).json()["items"]
    assert theirs["batchId"] in [item["batchId"] for item in everything]
    assert maker.get(BATCHES, params={"from": "2999-01-01T00:00:00Z"}).json()["items"] == []
    assert maker.get(BATCHES, params={"to": "2999-01-01T00:00:00Z", "limit": 1}).json()["items"]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("", {"state": "gone"}), ("", {"from": "yesterday"}), ("", {"limit": "0"}), ("", {"cursor": "x"}),
        ("/99999999999999999999999", {}), ("/x", {}), ("/-1", {}), ("/1/results", {"format": "xml"}),
        ("", {"cursor": "kc__________8"}),
    ],
)  # fmt: skip
def test_bad_questions_are_refused(maker: httpx.Client, path: str, params: dict[str, str]) -> None:
    answer = maker.get(BATCHES + path, params=params)
    assert answer.status_code in (400, 404)
    assert "code" in answer.json()


def test_bad_uploads_are_refused(service: Service, maker: httpx.Client, operator: httpx.Client) -> None:
    assert maker.post(BATCHES, content=b"").json()["code"] == "bad_request"
    assert maker.post(BATCHES, params={"fileName": "a\nb"}, content=b"x").status_code == 400
    assert maker.post(BATCHES, params={"fileName": "x" * 256}, content=b"x").status_code == 400
    assert operator.post("/fsps/nobody/batches", content=b"x").status_code == 404
    assert service.client("dfsp-checker", "greenbank").post(BATCHES, content=b"x").status_code == 403
    failed = wait_until_settled(maker, upload(maker, "kind;number\n"))
    assert (failed["state"], failed["error"]["code"]) == ("failed", "unknown_column")


def add_batches(service: Service, fsp_id: str, count: int, state: str, file_bytes: int, age: str) -> None:
    """So many batches as if they had been uploaded."""
    service.fetch(
        """INSERT INTO batches (fsp_id, state, file_name, file_format, file_bytes, file_sha256, uploaded_by,
                                uploaded_role, uploaded_at, needs_approval)
        SELECT $1, $2::text::batch_state, 'f', 'csv', $3::bigint, '', 'x',
               'dfsp-maker', now() - $4::text::interval, true
        FROM generate_series(1, $5::int)""",
        fsp_id, state, file_bytes, age, count,
    )  # fmt: skip


def test_the_number_of_unfinished_files_of_an_fsp_is_limited(service: Service, operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "busybank"}).raise_for_status()
    maker, path = service.client("dfsp-maker", "busybank"), "/fsps/busybank/batches"
    add_batches(service, "busybank", 200, "rejected", 1, "1 hour")
    add_batches(service, "busybank", 99, "waiting", 1, "3 days")
    operator.patch("/fsps/busybank", json={"twoPersons": True}).raise_for_status()
    key = {"Idempotency-Key": "last"}
    last = upload(maker, rows("last", 1), path, **key)
    refused = maker.post(path, content=rows("more", 1))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_open")
    assert upload(maker, rows("last", 1), path, **key) == last, "what was answered is answered again"
    wait_until_settled(maker, last, path)
    maker.post(f"{path}/{last['batchId']}/cancel", json={}).raise_for_status()
    upload(maker, rows("more", 1), path)


def test_the_bytes_that_an_fsp_uploads_in_a_day_are_limited(service: Service, operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "bigbank"}).raise_for_status()
    maker, path = service.client("dfsp-maker", "bigbank"), "/fsps/bigbank/batches"
    day = 8 * 1024**3
    add_batches(service, "bigbank", 5, "done", day, "25 hours")
    add_batches(service, "bigbank", 1, "failed", day - 1000, "23 hours")
    upload(maker, rows("fits", 1), path)
    for _ in range(2):
        refused = maker.post(path, content=rows("more", 1000))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_bytes")
    upload(maker, rows("fits", 1), path)
    assert service.fetch("SELECT count(*) AS n FROM batch_uploads")[0]["n"] == 0


# Two ways in which a key ends: the whole credential, or only this secret of it.
ENDS = {"revoke": {"reason": "left"}, "rotate": {"graceS": 0}}


@pytest.mark.parametrize("end", ENDS)
def test_a_key_that_ends_during_an_upload_stores_no_file(service: Service, operator: httpx.Client, end: str) -> None:
    key = service.issue("dfsp-maker", "greenbank")
    before = service.fetch("SELECT count(*) AS n FROM batches")

    def pieces() -> Iterator[bytes]:
        yield rows("late", 1).encode()
        until(lambda: service.fetch("SELECT count(*) AS n FROM batch_uploads")[0]["n"] == 1)
        operator.post(f"/credentials/{key.split('_')[1]}/{end}", json=ENDS[end]).raise_for_status()
        yield b"ALIAS,late2,,,,\n"

    refused = service.as_key(key).post(BATCHES, content=pieces())
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert service.fetch("SELECT count(*) AS n FROM batches") == before
    assert service.fetch("SELECT count(*) AS n FROM batch_uploads")[0]["n"] == 0


def test_a_body_that_is_not_the_file_itself_is_not_stored(maker: httpx.Client) -> None:
    """It would fail later for a reason that says nothing, or be taken for the whole."""
    file = rows("form", 1)
    for answer in (
        maker.post(BATCHES, files={"file": ("a.csv", file)}),
        maker.post(BATCHES, content=file, headers={"Content-Encoding": "gzip"}),
        maker.post(BATCHES, content=file, headers={"Content-Range": "bytes 10-70/71"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    as_curl_says = {"Content-Type": "application/x-www-form-urlencoded"}
    assert wait_until_settled(maker, upload(maker, file, **as_curl_says))["state"] == "done"


def test_an_upload_that_breaks_off_leaves_nothing(service: Service, maker: httpx.Client) -> None:
    count = "SELECT (SELECT count(*) FROM batches) AS batches, (SELECT count(*) FROM batch_files) AS parts"
    uploads = "SELECT count(*) AS uploads FROM batch_uploads"
    before = service.fetch(count)
    headers = (
        f"POST /admin/v1{BATCHES} HTTP/1.1\r\nHost: x\r\nAuthorization: {maker.headers['authorization']}\r\n"
        "Content-Length: 9000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.oracle.admin_port)) as connection:
        connection.sendall(headers.encode() + rows("torn", 100_000).encode())
        until(lambda: service.fetch(uploads)[0]["uploads"] == 1)
    until(lambda: service.fetch(uploads)[0]["uploads"] == 0)
    assert service.fetch(count) == before


def test_templates_can_be_downloaded_and_uploaded(maker: httpx.Client) -> None:
    for name in ("import.csv", "import.ndjson"):
        template = maker.get(f"/templates/{name}")
        assert name in template.headers["content-disposition"]
        batch = wait_until_settled(maker, upload(maker, template.text))
        assert (batch["state"], batch["rows"]["read"] > 0) == ("done", True)
        assert batch["rows"]["valid"] == batch["rows"]["read"]
    assert maker.get("/templates/passwd").status_code == 404


@pytest.mark.usefixtures("two_persons")
def test_one_key_with_many_watchers_does_not_block_others(maker: httpx.Client, reader: httpx.Client) -> None:
    batch = wait_until_settled(maker, upload(maker, rows("many", 1)))
    events = f"{BATCHES}/{batch['batchId']}/events"
    listening = []
    with ExitStack() as stack:
        for _ in range(20):
            listening.append(stack.enter_context(maker.stream("GET", events)).iter_lines())
            assert next(listening[-1]) == "event: progress"
        with maker.stream("GET", events) as one_more:
            assert (one_more.status_code, one_more.headers["retry-after"]) == (429, "10")
        with reader.stream("GET", events) as other:
            assert next(other.iter_lines()) == "event: progress"

    def watches_again() -> bool:
        with maker.stream("GET", events) as again:
            return again.status_code == 200

    until(watches_again)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.usefixtures("two_persons")
def test_an_event_stream_ends_with_its_key(
    service: Service, maker: httpx.Client, operator: httpx.Client, end: str
) -> None:
    batch = wait_until_settled(maker, upload(maker, rows(f"ended by {end}", 1)))
    key = service.issue("reader", "greenbank")
    with service.as_key(key).stream("GET", f"{BATCHES}/{batch['batchId']}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: progress"
        operator.post(f"/credentials/{key.split('_')[1]}/{end}", json=ENDS[end]).raise_for_status()
        assert "event: end" not in list(lines)


def test_events_explain_everything_that_files_did(service: Service) -> None:
    """By the files of the tests above, and the keys that were made and revoked meanwhile."""
    assert asyncio.run(list_differences(service.database_url)) == []


# Before an upload, and rows by pages ----------------------------------------------------------------------------


def check(client: httpx.Client, data: bytes, **query: Any) -> Any:
    answer = client.post(f"{BATCHES}/check", params=query, content=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_file_is_checked_before_it_is_uploaded(maker: httpx.Client) -> None:
    before = maker.get(BATCHES).json()
    data = (HEADER + "ALIAS,ok,,,,\nFAX,1,,,,\nMSISDN,55123,,,MX,\n").encode()
    checked = check(maker, data)
    assert checked["rows"] == {"read": 3, "valid": 1, "failed": 2}
    assert [(row["line"], row["code"]) for row in checked["failed"]] == [(3, "unknown_kind"), (4, "bad_identifier")]
    assert (checked["fileFormat"], checked["error"]) == ("csv", None)
    assert [row["line"] for row in check(maker, data, limit=1)["failed"]] == [3]
    assert maker.get(BATCHES).json() == before


def test_the_end_of_a_part_of_a_file_is_no_mistake(maker: httpx.Client) -> None:
    data = (rows("part", 30) + 'ALIAS,"cut').encode()
    assert check(maker, data)["rows"]["failed"] == 1
    checked = check(maker, data, isPart=True)
    assert checked["rows"]["failed"] == 0
    assert 15 <= checked["rows"]["read"] < 30


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"a,b\n1,2\n", "no_header"), (b"PK\x03\x04", "not_text"), (HEADER.encode(), "empty_file"), (b"[]", "not_ndjson")],
)
def test_a_check_says_why_a_file_cannot_be_read(maker: httpx.Client, data: bytes, code: str) -> None:
    checked = check(maker, data)
    assert (checked["error"]["code"], checked["rows"]["read"]) == (code, 0)


def test_a_check_refuses_what_an_upload_refuses(maker: httpx.Client, reader: httpx.Client) -> None:
    assert maker.post(f"{BATCHES}/check").json()["code"] == "bad_request"
    assert maker.post(f"{BATCHES}/check", content=b"x" * (1 << 20 | 1)).status_code == 413
    assert maker.post(f"{BATCHES}/check", params={"country": "XX"}, content=b"x").json()["field"] == "country"
    assert maker.post(f"{BATCHES}/check", files={"file": b"x"}).json()["field"] == "Content-Type"
    assert reader.post(f"{BATCHES}/check", content=b"x").status_code == 403


def test_rows_with_their_results_come_by_pages(maker: httpx.Client, stranger: httpx.Client) -> None:
    data = rows("paged", 5) + "FAX,1,,,,\n" + 'ALIAS,"paged 6",,,,\n' + "FAX,2,,,,\n"
    batch = wait_until_settled(maker, upload(maker, data))
    path = f"{BATCHES}/{batch['batchId']}/rows"
    items: list[Any] = []
    cursor = None
    while cursor is not None or not items:
        page = maker.get(path, params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 3
        items += page["items"]
        cursor = page["next"]
    assert [row["line"] for row in items] == list(range(2, 10))
    assert items[0] == {
        "line": 2, "status": "added", "code": None, "message": None, "kind": "ALIAS", "identifier": "paged0",
        "display": "paged0", "subId": None, "currency": None,
    }  # fmt: skip
    failed = maker.get(path, params={"only": "failed"}).json()
    assert [(row["line"], row["status"], row["code"]) for row in failed["items"]] == [
        (7, "invalid", "unknown_kind"), (8, "invalid", "bad_identifier"), (9, "invalid", "unknown_kind"),
    ]  # fmt: skip
    assert failed["next"] is None
    good = wait_until_settled(maker, upload(maker, rows("paged", 5)))
    assert maker.get(f"{BATCHES}/{good['batchId']}/rows", params={"only": "failed"}).json()["items"] == []
    assert stranger.get(f"/fsps/redbank/batches/{batch['batchId']}/rows").status_code == 404


@pytest.mark.usefixtures("two_persons")
def test_a_list_has_files_or_changes_alone(maker: httpx.Client) -> None:
    file = wait_until_settled(maker, upload(maker, rows("alone", 1)))
    change = maker.post("/fsps/greenbank/aliases", json={"kind": "ALIAS", "identifier": "alone-change"}).json()
    listed = {
        only: [item["batchId"] for item in maker.get(BATCHES, params={"only": only}).json()["items"]]
        for only in ("files", "changes")
    }
    assert file["batchId"] in listed["files"]
    assert change["batchId"] in listed["changes"]
    assert not set(listed["files"]) & set(listed["changes"])
    for batch in (file, change):
        maker.post(f"{BATCHES}/{batch['batchId']}/cancel", json={}).raise_for_status()


# The last one, because it stops the service of this module.


def test_a_stop_does_not_wait_for_watchers(service: Service, maker: httpx.Client, operator: httpx.Client) -> None:
    """Last: it ends the service."""
    operator.patch("/fsps/greenbank", json={"twoPersons": True}).raise_for_status()
    batch = wait_until_settled(maker, upload(maker, rows("watched", 1)))
    with maker.stream("GET", f"{BATCHES}/{batch['batchId']}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: progress"
        assert service.oracle.stop() == 0
    # A worker that waited for the one who watches would have been killed.
    assert service.oracle.find_log_lines("A worker did not stop in time; killing it") == []

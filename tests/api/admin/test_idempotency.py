"""Calls that can be repeated: done once, also if the first call was cut off, and answered the same."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import httpx
import pytest
from listener import list_endpoints
from oracle_process import PATIENCE_S, until
from test_fsp_endpoints import make_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from admin_service import Service

THREADS: Final = 20


def _posts() -> list[str]:
    return sorted(path for method, path in list_endpoints() if method == "POST")


FILE: Final = b"kind,identifier\nMSISDN,525512340002\n"

ENDING: Final = {"actor": "oidc:hub:ana", "reason": "a test"}

# What each POST is called with, at its best: path and body.  A new one needs a line.
Made = tuple[str, Any]
CALLS: Final[dict[str, Callable[[Service], Made]]] = {
    "/admin/v1/me/rotate": lambda _: ("/me/rotate", {"graceS": 3600}),
    "/admin/v1/fsps": lambda _: ("/fsps", {"fspId": "postbank"}),
    "/admin/v1/fsps/{fsp_id}/status": lambda service: (
        f"/fsps/{_new_fsp(service)}/status", {"status": "closed", "reason": "a test"}
    ),
    "/admin/v1/fsps/{fsp_id}/jws-keys": lambda _: ("/fsps/greenbank/jws-keys", {"label": "one", "pem": make_pem()}),
    "/admin/v1/oracles": lambda _: ("/oracles", {"partyIdType": "ALIAS", "url": "http://oracle.example"}),
    "/admin/v1/credentials": lambda _: ("/credentials", {"role": "reader", "label": "post"}),
    "/admin/v1/credentials/{credential_id}/rotate": lambda service: (
        f"/credentials/{_new_id(service)}/rotate", {"graceS": 60}
    ),
    "/admin/v1/credentials/{credential_id}/revoke": lambda service: (
        f"/credentials/{_new_id(service)}/revoke", {"reason": "a test"}
    ),
    "/admin/v1/sessions/{session_id}/end": lambda service: (
        f"/sessions/{_new_session(service)}/end", {"reason": "a test"}
    ),
    "/admin/v1/sessions/end": lambda service: (_new_session(service) and "/sessions/end", ENDING),
    "/admin/v1/fsps/{fsp_id}/aliases": lambda _: (
        "/fsps/greenbank/aliases", {"kind": "MSISDN", "identifier": "525512340001"}
    ),
    "/admin/v1/fsps/{fsp_id}/batches": lambda _: ("/fsps/greenbank/batches", FILE),
    "/admin/v1/routes": lambda _: (
        "/routes", {"kind": "ACCOUNT_ID", "prefix": "7770", "fspId": "greenbank", "reason": "a test"}
    ),
    "/admin/v1/routes/{route_id}/end": lambda service: (f"/routes/{_new_route(service)}/end", {"reason": "a test"}),
    "/admin/v1/routes/import": lambda _: ("/routes/import", b"kind,prefix,fsp_id\nACCOUNT_ID,7771,greenbank\n"),
    "/admin/v1/fsps/{fsp_id}/batches/{batch_id}/approve": lambda service: (_waiting(service, "approve"), {}),
    "/admin/v1/fsps/{fsp_id}/batches/{batch_id}/reject": lambda service: (
        _waiting(service, "reject"), {"reason": "a test"}
    ),
    "/admin/v1/fsps/{fsp_id}/batches/{batch_id}/cancel": lambda service: (_waiting(service, "cancel"), {}),
    "/audit/v1/verifications": lambda service: (f"{service.oracle.admin_url}/audit/v1/verifications", {}),
}  # fmt: skip
# They change no directory, so history has nothing of them.
WITHOUT_EVENTS: Final = {"/audit/v1/verifications"}
# Those that change nothing: there is nothing to repeat.
READING: Final = {
    "/admin/v1/als/registration",  # it creates what is missing at an ALS: a second call finds nothing missing
    "/admin/v1/fsps/{fsp_id}/aliases/check",
    "/admin/v1/fsps/{fsp_id}/batches/check",
    "/admin/v1/aliases/lookup",
    "/admin/v1/routes/what-if",
    "/audit/v1/verifications/{verification_id}/stop",  # one that has ended stays as it is
    "/audit/v1/events/search",
    "/audit/v1/resolve",
    "/audit/v1/timeline",
    "/audit/v1/fsps/{fsp_id}/events/search",
    "/audit/v1/fsps/{fsp_id}/resolve",
    "/audit/v1/fsps/{fsp_id}/timeline",
}


def _new_id(service: Service) -> str:
    return service.issue("reader").split("_")[1]


def _new_session(service: Service) -> str:
    """A session of the console, as an identity provider begins it."""
    made = service.fetch(
        "INSERT INTO console_sessions (token_sha256, actor, role, ends_at) VALUES"
        " (sha256(gen_random_uuid()::text::bytea), 'oidc:hub:ana', 'reader', now() + interval '1 hour')"
        " RETURNING session_id::text"
    )
    session_id: str = made[0]["session_id"]
    return session_id


def _new_fsp(service: Service) -> str:
    service.operator.post("/fsps", json={"fspId": "shutbank"}).raise_for_status()
    return "shutbank"


def _new_route(service: Service, prefix: str = "7772") -> int:
    body = {"kind": "ACCOUNT_ID", "prefix": prefix, "fspId": "greenbank", "reason": "a test"}
    made = service.operator.post("/routes", json=body).raise_for_status().json()
    number: int = made["route"]["routeId"]
    return number


def _waiting(service: Service, what: str) -> str:
    """A file that waits for a second person."""
    service.operator.post("/fsps", json={"fspId": "twobank", "twoPersons": True})
    batch = service.operator.post("/fsps/twobank/batches", content=FILE).json()["batchId"]
    path = f"/fsps/twobank/batches/{batch}"
    until(lambda: service.operator.get(path).json()["state"] == "waiting")
    return f"{path}/{what}"


def _describe_answer(answer: httpx.Response) -> tuple[int, bytes, str | None, str | None]:
    return answer.status_code, answer.content, answer.headers.get("etag"), answer.headers.get("location")


def _calls_in_history(service: Service, caller: httpx.Client) -> int:
    """Events of the calls of this credential, without the rows of its files: these are applied later."""
    actor = _key(caller).split("_")[1]
    count: int = service.fetch("SELECT count(*) FROM events WHERE actor = $1 AND channel <> 'import'", actor)[0][
        "count"
    ]
    return count


# Every POST ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", _posts())
def test_every_post_is_done_once(service: Service, path: str) -> None:
    if path in READING:
        return
    assert path in CALLS, "say in CALLS how it is called"
    target, body = CALLS[path](service)
    caller = service.client("operator")
    key = {"Idempotency-Key": f"post:{path}"}

    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def call(more: bytes = b"") -> httpx.Response:
        return caller.post(target, headers=key, content=content + more)

    first = call()
    assert first.is_success, first.text
    done = _calls_in_history(service, caller)
    assert (done == 0) == (path in WITHOUT_EVENTS)
    again = [call() for _ in range(2)]
    assert {_describe_answer(answer) for answer in again} == {_describe_answer(first)}
    assert [answer.headers.get("idempotency-replayed") for answer in (first, *again)] == [None, "true", "true"]
    other = call(b"\n")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert _calls_in_history(service, caller) == done


ASKED: Final = {"kind": "MSISDN", "identifier": "525512340003"}


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/routes/what-if", ASKED, {**ASKED, "identifier": "525512340004"}),
        ("/aliases/lookup", {"items": [ASKED]}, {"items": [ASKED, ASKED]}),
        ("/fsps/greenbank/aliases/check", {"items": [ASKED]}, {"items": [ASKED, ASKED]}),
    ],
)
def test_a_question_is_answered_anew_and_nothing_of_it_is_kept(
    service: Service, operator: httpx.Client, path: str, body: Any, other: Any
) -> None:
    key = {"Idempotency-Key": f"asked:{path}"}
    before = operator.post(path, json=body, headers=key)
    assert before.status_code == 200
    operator.post("/fsps/greenbank/aliases", json=ASKED).raise_for_status()
    again = operator.post(path, json=body, headers=key)
    operator.delete("/fsps/greenbank/aliases/MSISDN/525512340003", params={"reason": "other"}).raise_for_status()
    assert again.content != before.content
    assert operator.post(path, json=other, headers=key).status_code == 200
    assert operator.post(path, json={}, headers=key).status_code == 400
    assert not _kept(service, key)


DRY_ROUTE: Final = {"kind": "ACCOUNT_ID", "prefix": "7775", "fspId": "greenbank", "reason": "a test"}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/routes", json.dumps(DRY_ROUTE).encode()),
        ("/routes/import", b"kind,prefix,fsp_id\nACCOUNT_ID,7776,greenbank\n"),
    ],
)
def test_nothing_is_kept_of_a_dry_run(service: Service, operator: httpx.Client, path: str, content: bytes) -> None:
    key = {"Idempotency-Key": f"dry:{path}"}
    dry = [operator.post(path, params={"dryRun": "true"}, content=content, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in dry] == [200, 200]
    assert "idempotency-replayed" not in dry[1].headers
    assert not _kept(service, key)
    assert operator.post(path, content=content, headers=key).is_success, "the key is still free"


def _kept(service: Service, key: dict[str, str]) -> list[bytes]:
    rows = service.fetch("SELECT answer FROM idempotency WHERE idempotency_key = $1", key["Idempotency-Key"])
    return [row["answer"] for row in rows]


def test_a_repeated_call_with_a_time_now_in_the_past_gets_its_first_answer(
    service: Service, operator: httpx.Client
) -> None:
    """The time was in the future when the call was made, and its caller repeats it because no answer came."""

    def call(calls: dict[str, Any]) -> list[httpx.Response]:
        keys = ({"Idempotency-Key": f"soon:{path}:{at}"} for path in calls)
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda path, key: operator.post(path, json=calls[path], headers=key), calls, keys))

    for ahead_s in (2, 30):  # on a machine that is busy the calls can arrive after that time
        path = f"/routes/{_new_route(service, f'7774{ahead_s}')}/end"
        soon = datetime.now(UTC) + timedelta(seconds=ahead_s)
        at = soon.isoformat()
        calls = {
            "/credentials": {"role": "reader", "label": "soon", "expiresAt": at},
            "/routes": {"kind": "ACCOUNT_ID", "prefix": f"7773{ahead_s}", "fspId": "greenbank", "validFrom": at},
            path: {"at": at, "reason": "a test"},
        }
        first = call(calls)
        if all(answer.is_success for answer in first):
            break
    assert all(answer.is_success for answer in first), [answer.text for answer in first]
    until(lambda: datetime.now(UTC) > soon)
    assert [_describe_answer(answer) for answer in call(calls)] == [_describe_answer(answer) for answer in first]


# At once ---------------------------------------------------------------------------------------------------------


def test_twenty_at_once_have_one_effect(service: Service, operator: httpx.Client) -> None:
    start = threading.Barrier(THREADS)

    def create(_: int) -> httpx.Response:
        start.wait()
        body = {"role": "reader", "label": "twenty"}
        return operator.post("/credentials", json=body, headers={"Idempotency-Key": "twenty"})

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(create, range(THREADS)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["key"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == THREADS - 1
    assert service.fetch("SELECT count(*) FROM credentials WHERE label = 'twenty'")[0]["count"] == 1


def test_of_different_calls_with_one_key_at_once_one_is_done(service: Service, operator: httpx.Client) -> None:
    start = threading.Barrier(THREADS)

    def create(n: int) -> int:
        start.wait()
        body = {"role": "reader", "label": f"different {n}"}
        return operator.post("/credentials", json=body, headers={"Idempotency-Key": "different"}).status_code

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = sorted(pool.map(create, range(THREADS)))
    assert statuses == [201] + [409] * (THREADS - 1)
    assert service.fetch("SELECT count(*) FROM credentials WHERE label LIKE 'different %'")[0]["count"] == 1


# Killed in the middle --------------------------------------------------------------------------------------------


@pytest.fixture
def blocked(service: Service) -> Iterator[Callable[[], None]]:
    """Locks greenbank's row, so that a call about it waits between its claim and its commit; call it to unlock."""
    released, held = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(service.database_url)
        async with connection.transaction():
            await connection.execute("SELECT FROM fsps WHERE fsp_id = 'greenbank' FOR UPDATE")
            held.set()
            await asyncio.to_thread(released.wait)
        await connection.close()

    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    assert held.wait(PATIENCE_S)

    def release() -> None:
        released.set()
        holder.join()

    yield release
    release()


def test_a_call_whose_process_is_killed_has_not_been_made(service: Service, blocked: Callable[[], None]) -> None:
    body = {"role": "reader", "fspId": "greenbank", "label": "killed"}
    key = {"Idempotency-Key": "killed"}
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    caller = service.as_key(_key(service.operator))

    def call_until_killed() -> None:
        """A call waits for two seconds, gets 503 and is repeated: the test may be slower to kill its process."""
        with suppress(httpx.TransportError):
            while (answer := caller.post("/credentials", json=body, headers=key)).status_code == 503:
                pass
            raise AssertionError(answer)

    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(call_until_killed)

        def is_killed_at_work() -> bool:
            if service.fetch(waiting):  # it has claimed its key, and is not done
                for process in service.oracle.workers("admin"):
                    process.send_signal(signal.SIGKILL)
                wait([cut], timeout=1)
            return cut.done()

        try:
            until(is_killed_at_work)
        finally:
            if not cut.done():
                blocked()  # otherwise it would be repeated forever
        cut.result()
    until(lambda: not service.fetch(waiting))
    blocked()
    until(lambda: _is_served(service))
    assert not service.fetch("SELECT FROM idempotency WHERE idempotency_key = 'killed'")
    assert not service.fetch("SELECT FROM credentials WHERE label = 'killed'")
    # The call that is repeated is the first that is made.
    answers = [service.operator.post("/credentials", json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.content for answer in answers}) == 1
    assert service.fetch("SELECT count(*) FROM credentials WHERE label = 'killed'")[0]["count"] == 1


def _is_served(service: Service) -> bool:
    try:
        return service.operator.get("/me").is_success
    except httpx.TransportError:
        return False


def _key(client: httpx.Client) -> str:
    return client.headers["authorization"].removeprefix("Bearer ")


# Refusals, and whose key it is -----------------------------------------------------------------------------------


def test_a_refusal_stays_the_same_when_it_would_no_longer_be_one(service: Service, operator: httpx.Client) -> None:
    body = {"role": "dfsp-maker", "fspId": "laterbank", "label": "refused"}
    first = operator.post("/credentials", json=body, headers={"Idempotency-Key": "refused"})
    assert first.status_code == 404
    operator.post("/fsps", json={"fspId": "laterbank"}).raise_for_status()
    again = operator.post("/credentials", json=body, headers={"Idempotency-Key": "refused"})
    assert _describe_answer(again) == _describe_answer(first)
    assert not service.fetch("SELECT FROM credentials WHERE label = 'refused'")
    assert operator.post(
        "/credentials", json=body, headers={"Idempotency-Key": "refused 2".replace(" ", "-")}
    ).is_success


def test_an_if_match_that_failed_stays_failed(operator: httpx.Client) -> None:
    body = {"status": "active", "reason": "a test"}
    version = operator.get("/fsps/redbank").headers["etag"]
    failed = {"Idempotency-Key": "if-match", "If-Match": '"0"'}
    assert operator.post("/fsps/redbank/status", json=body, headers=failed).status_code == 412
    assert operator.post("/fsps/redbank/status", json=body, headers=failed).status_code == 412
    passed = {"Idempotency-Key": "if-match-2", "If-Match": version}
    assert operator.post("/fsps/redbank/status", json=body, headers=passed).status_code == 200


def test_idempotency_keys_of_two_callers_are_independent(service: Service, operator: httpx.Client) -> None:
    """Two credentials that took the same key by chance do not see each other's answers."""
    key = {"Idempotency-Key": "shared"}
    answers = [
        caller.post("/credentials", json={"role": "reader", "label": "shared"}, headers=key)
        for caller in (operator, service.client("operator"))
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["key"] != answers[1].json()["key"]


def test_a_call_that_was_cut_by_the_validator_does_not_take_its_key(operator: httpx.Client) -> None:
    key = {"Idempotency-Key": "corrected"}
    assert operator.post("/fsps", json={"fspId": ""}, headers=key).status_code == 400
    assert operator.post("/fsps", json={"fspId": "mendedbank"}, headers=key).status_code == 201


# Time and rotation -----------------------------------------------------------------------------------------------


def test_a_key_is_free_after_a_day(service: Service, operator: httpx.Client) -> None:
    key = {"Idempotency-Key": "aged"}
    age = "UPDATE idempotency SET made_at = made_at - $1::interval WHERE idempotency_key = 'aged'"
    body = {"role": "reader", "label": "aged"}

    def create() -> str:
        issued: str = operator.post("/credentials", json=body, headers=key).json()["key"]
        return issued

    first = create()
    service.fetch(age.replace("$1", "'23 hours 59 minutes'"))
    assert create() == first
    service.fetch(age.replace("$1", "'2 minutes'"))
    second = create()
    assert second != first
    assert create() == second
    assert service.fetch("SELECT count(*) FROM credentials WHERE label = 'aged'")[0]["count"] == 2


def test_after_a_rotation_nothing_is_done_twice_and_the_old_secret_reads_the_answers(service: Service) -> None:
    old = service.client("operator")
    calls = {
        "outlives": ("/fsps", {"fspId": "outlives"}, "succeeded"),
        "is-lost": ("/credentials", {"role": "reader", "label": "lost"}, "succeeded"),
        "refused-once": (
            "/fsps/nobank/status",
            {"status": "closed", "reason": "a test"},
            "refused earlier, with status 404",
        ),
    }

    def call(caller: httpx.Client) -> list[httpx.Response]:
        return [
            caller.post(path, json=body, headers={"Idempotency-Key": key}) for key, (path, body, _) in calls.items()
        ]

    first = call(old)
    new = service.as_key(old.post("/me/rotate", json={"graceS": 3600}).json()["key"])
    for lost, (_, _, outcome) in zip(call(new), calls.values(), strict=True):
        assert (lost.status_code, lost.json()["code"]) == (409, "answer_lost")
        assert outcome in lost.json()["detail"]
    assert [_describe_answer(answer) for answer in call(old)] == [_describe_answer(answer) for answer in first]
    assert service.fetch("SELECT count(*) FROM credentials WHERE label = 'lost'")[0]["count"] == 1


# What a key may be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a", "!", "~" * 128, "'; DROP TABLE idempotency; --".replace(" ", ""), '"{%00}"', "*"])
def test_a_key_is_any_visible_text(operator: httpx.Client, key: str) -> None:
    body = {"role": "reader", "label": "visible"}
    answers = [operator.post("/credentials", json=body, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert len({_describe_answer(answer) for answer in answers}) == 1
    assert answers[1].headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", [b"", b"a b", b"\xc3\xa9", b"x" * 129, b"a\tb"])
def test_an_invalid_idempotency_key_is_refused_before_any_change(
    service: Service, operator: httpx.Client, key: bytes
) -> None:
    before = _calls_in_history(service, operator)
    refused = operator.post("/credentials", json={"role": "reader", "label": "x"}, headers=[(b"Idempotency-Key", key)])
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
    assert _calls_in_history(service, operator) == before


def test_two_idempotency_keys_are_refused(operator: httpx.Client) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    assert operator.post("/credentials", json={"role": "reader", "label": "x"}, headers=headers).status_code == 400


def test_a_repeated_acknowledgement_holds_in_every_process(service: Service, operator: httpx.Client) -> None:
    """The call that repeats may come right after the first has committed, and must not be answered before it."""
    party = "/MSISDN/525511110009"
    redbank = {"fspiop-source": "redbank"}
    assert service.hub.post(party, json={"fspId": "redbank"}, headers=redbank).status_code == 201
    body = {"status": "suspended", "reason": "a test"}
    committed = "SELECT FROM fsps WHERE fsp_id = 'redbank' AND status = 'suspended'"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(operator.post, "/fsps/redbank/status", json=body, headers={"Idempotency-Key": "settles"})
        until(lambda: service.fetch(committed))
        again = service.as_key(_key(operator)).post("/fsps/redbank/status", json=body,
                                                    headers={"Idempotency-Key": "settles"})  # fmt: skip
        assert again.headers["idempotency-replayed"] == "true"
        assert service.hub.get(party).json() == {"partyList": []}
        assert first.result().is_success
    assert operator.post("/fsps/redbank/status", json={"status": "active", "reason": "a test"}).is_success

"""Credentials: how long they are valid, in every process; the limit of failures; and where a secret is stored."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import httpx
import pytest
from admin_service import TIMEOUT_S
from oracle_process import PATIENT, SERVE, OracleProcess, start_oracle, until

from oracle.api.admin.access import FAILURES_MAX, FAILURES_PER_S, _is_valid, hash_of, new_secret
from oracle.identity.addresses import address_of
from oracle.run.bootstrap import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from admin_service import Service

    from oracle.run.embedded import ValkeyServer

WITHOUT_HUB = True  # see admin_service

WRONG: Final = f"aok_aaaaaaaaaaaa_{'0' * 64}"


def _id(key: str) -> str:
    return key.split("_")[1]


def _secret(key: str) -> str:
    return key.split("_")[2]


def _path(key: str, what: str = "") -> str:
    return f"/credentials/{_id(key)}{what}"


_addresses = itertools.count(1)


def _is_let_in(service: Service, key: str) -> bool:
    """Asked from an address from which nobody has failed yet."""
    with _from(service, f"127.0.11.{next(_addresses)}", key) as client:
        status = client.get("/me").status_code
    assert status in (200, 401)
    return status == 200


@contextmanager
def _from(service: Service, address: str, key: str | None = None) -> Iterator[httpx.Client]:
    """A client at an address of its own: failures are counted by address."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.HTTPTransport(local_address=address)
    base_url = f"{service.oracle.admin_url}/admin/v1"
    with httpx.Client(base_url=base_url, headers=headers, transport=transport, timeout=TIMEOUT_S) as client:
        yield client


# Who gets one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "fsp_id", "status"),
    [
        ("dfsp-maker", None, 400),
        ("dfsp-checker", None, 400),
        ("operator", "greenbank", 400),
        ("auditor", "greenbank", 400),
        ("dfsp-maker", "nobank", 404),
        ("reader", "nobank", 404),
        ("reader", None, 201),
        ("reader", "greenbank", 201),
        ("root", None, 400),
    ],
)
def test_some_roles_need_an_fsp_and_some_refuse_one(
    operator: httpx.Client, role: str, fsp_id: str | None, status: int
) -> None:
    body = {"role": role, "fspId": fsp_id, "label": "a test"}
    assert operator.post("/credentials", json=body).status_code == status


@pytest.mark.parametrize("expires_at", ["2020-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"])
def test_no_credential_is_issued_with_an_expiry_in_the_past(operator: httpx.Client, expires_at: str) -> None:
    body = {"role": "reader", "label": "a test", "expiresAt": expires_at}
    refused = operator.post("/credentials", json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize(
    "expires_at", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "2999-01-01T00:00:00+14:00"]
)
def test_an_expiry_far_in_the_future_is_accepted_or_refused_but_never_an_error(
    operator: httpx.Client, expires_at: str
) -> None:
    issued = operator.post("/credentials", json={"role": "reader", "label": "a test", "expiresAt": expires_at})
    assert issued.status_code in (201, 400)


# Until when ------------------------------------------------------------------------------------------------------


def test_an_expired_credential_is_refused_until_it_is_extended(service: Service, operator: httpx.Client) -> None:
    key = service.issue("reader")
    service.fetch("UPDATE credentials SET expires_at = now() WHERE credential_id = $1", _id(key))
    assert not _is_let_in(service, key)
    assert operator.patch(_path(key), json={"expiresAt": None}).json()["expiresAt"] is None
    assert _is_let_in(service, key)


def test_a_secret_is_valid_until_its_grace_is_over(service: Service, operator: httpx.Client) -> None:
    old = service.issue("reader")
    new = operator.post(_path(old, "/rotate"), json={"graceS": 3600}).json()["key"]
    assert _is_let_in(service, old)
    service.fetch(
        "UPDATE credential_secrets SET expires_at = now() WHERE credential_id = $1 AND secret_sha256 = $2",
        _id(old), hash_of(_secret(old)),
    )  # fmt: skip
    assert (_is_let_in(service, old), _is_let_in(service, new)) == (False, True)
    newest = operator.post(_path(old, "/rotate"), json={"graceS": 0}).json()["key"]
    assert (_is_let_in(service, new), _is_let_in(service, newest)) == (False, True)


def test_a_rotation_is_a_change_of_the_credential(service: Service, operator: httpx.Client) -> None:
    key = service.issue("reader")
    version = operator.get(_path(key)).headers["etag"]
    rotate = operator.post(_path(key, "/rotate"), json={}, headers={"If-Match": version})
    assert rotate.is_success
    assert rotate.headers["etag"] != version
    assert operator.post(_path(key, "/rotate"), json={}, headers={"If-Match": version}).status_code == 412
    (event,) = service.fetch(
        "SELECT actor, action FROM events WHERE entity = 'credential' AND before->>'credential_id' = $1", _id(key)
    )
    assert tuple(event) == (_id(operator.headers["authorization"]), "changed")


def test_of_rotations_at_once_the_last_two_secrets_are_valid(service: Service) -> None:
    key = service.issue("reader")

    def rotate(_: int) -> str:
        issued: str = service.operator.post(_path(key, "/rotate"), json={"graceS": 3600}).json()["key"]
        return issued

    with ThreadPoolExecutor(6) as pool:
        keys = [key, *pool.map(rotate, range(6))]
    assert sum(_is_let_in(service, each) for each in keys) == 2
    last = rotate(0)
    assert sum(_is_let_in(service, each) for each in [*keys, last]) == 2
    assert _is_let_in(service, last)


def test_a_revoked_credential_gets_no_secret(service: Service, operator: httpx.Client) -> None:
    key = service.issue("reader")
    for _ in range(2):  # to end what has ended is no mistake
        assert operator.post(_path(key, "/revoke"), json={"reason": "left"}).is_success
    refused = operator.post(_path(key, "/rotate"), json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "revoked")


def test_a_rotation_that_waits_for_a_revocation_gets_no_secret(service: Service) -> None:
    """Its transaction began first, and is decided after that of the revocation."""
    key = service.issue("reader")
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def rotate() -> httpx.Response:
        while (answer := service.operator.post(_path(key, "/rotate"), json={})).status_code == 503:
            pass  # it waits for two seconds, and we may need longer
        return answer

    async def revoke_meanwhile() -> httpx.Response:
        connection = await asyncpg.connect(service.database_url)
        try:
            async with connection.transaction():
                await connection.execute("SELECT FROM credentials WHERE credential_id = $1 FOR UPDATE", _id(key))
                rotating = asyncio.create_task(asyncio.to_thread(rotate))
                await asyncio.to_thread(until, lambda: service.fetch(waiting))
                revoke = "UPDATE credentials SET revoked_at = clock_timestamp() WHERE credential_id = $1"
                await connection.execute(revoke, _id(key))
            return await rotating
        finally:
            await connection.close()

    refused = asyncio.run(revoke_meanwhile())
    assert (refused.status_code, refused.json()["code"]) == (409, "revoked")


def test_the_next_secret_of_an_auditor_is_the_auditors_alone(service: Service, operator: httpx.Client) -> None:
    key = service.issue("auditor")
    refused = operator.post(_path(key, "/rotate"), json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    own = service.as_key(key).post("/me/rotate", json={"graceS": 0}).json()["key"]
    assert (_is_let_in(service, key), _is_let_in(service, own)) == (False, True)
    assert operator.post(_path(own, "/revoke"), json={"reason": "left"}).is_success
    assert not _is_let_in(service, own)


def test_everybody_can_take_another_secret(service: Service) -> None:
    for role, fsp_id in (("dfsp-maker", "greenbank"), ("reader", "redbank"), ("operator", None)):
        old = service.issue(role, fsp_id)
        new = service.as_key(old).post("/me/rotate", json={"graceS": 0}).json()
        assert (new["credential"]["role"], new["credential"]["fspId"]) == (role, fsp_id)
        assert (_is_let_in(service, old), _is_let_in(service, new["key"])) == (False, True)


def test_the_last_use_of_a_credential_is_noted(service: Service, operator: httpx.Client) -> None:
    key = service.issue("reader")
    assert operator.get(_path(key)).json()["lastUsedAt"] is None
    assert _is_let_in(service, key)
    read = operator.get(_path(key))
    assert read.json()["lastUsedAt"] is not None
    # Its version is the same, and it is not answered with "not modified".
    again = operator.get(_path(key), headers={"If-None-Match": read.headers["etag"]})
    assert (again.status_code, again.headers["etag"]) == (200, '"1"')


# In every process ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def second(
    service: Service, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OracleProcess]:
    """Another admin process on the same directory, which has something old in it."""
    service.fetch(
        "INSERT INTO idempotency (credential_id, idempotency_key, call_sha256, answer, made_at)"
        " SELECT 'aaaaaaaaaaaa', 'aged ' || n, '', '', now() - interval '24 hours 1 second'"
        " FROM generate_series(1, 10001) n"
    )
    service.fetch(
        "INSERT INTO access_refusals (at, method, route, status, reason)"
        " SELECT now() - interval '1 year 1 day', 'GET', '/aged', 401, 'unauthorized' FROM generate_series(1, 10001)"
    )
    env = {
        **PATIENT,
        "ORACLE_DATABASE_URL": service.database_url,
        "ORACLE_REDIS_URL": valkey_server.url(),
        "ORACLE_ADMIN_PROXIES": "127.0.10.0/24,::1",
    }
    home: Path = tmp_path_factory.mktemp("second")
    with start_oracle(home, env, command=(*SERVE, "--only", "admin")) as oracle:
        yield oracle


def test_revocation_and_rotation_count_in_every_process_at_once(service: Service, second: OracleProcess) -> None:
    for end in ("revoke", "rotate"):
        key = service.issue("reader")
        headers = {"Authorization": f"Bearer {key}"}
        me = f"{second.admin_url}/admin/v1/me"
        assert httpx.get(me, headers=headers, timeout=TIMEOUT_S).status_code == 200
        body = {"reason": "left"} if end == "revoke" else {"graceS": 0}
        service.operator.post(_path(key, f"/{end}"), json=body).raise_for_status()
        assert httpx.get(me, headers=headers, timeout=TIMEOUT_S).status_code == 401


def test_a_key_cannot_rotate_itself_without_end(service: Service) -> None:
    key = service.issue("reader")
    service.fetch(
        "INSERT INTO credential_secrets (credential_id, secret_sha256, created_at, expires_at)"
        " SELECT $1, sha256(n::text::bytea), now() - interval '2 hours', now() FROM generate_series(1, 48) n",
        key.split("_")[1],
    )
    holder = service.as_key(key)
    new = holder.post("/me/rotate", json={"graceS": 60}).raise_for_status().json()["key"]
    refused = service.as_key(new).post("/me/rotate", json={}, headers={"Idempotency-Key": "again"})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_rotations")
    assert service.as_key(new).get("/me").status_code == 200
    assert not service.fetch("SELECT FROM idempotency WHERE idempotency_key = 'again'"), "it can be tried tomorrow"


def test_expired_rows_are_deleted(service: Service, second: OracleProcess) -> None:
    assert second.pid
    until(lambda: not service.fetch("SELECT FROM idempotency WHERE idempotency_key LIKE 'aged%' LIMIT 1"))
    until(lambda: not service.fetch("SELECT FROM access_refusals WHERE route = '/aged' LIMIT 1"))


def test_an_answer_of_today_and_a_refusal_of_this_year_are_kept(service: Service, second: OracleProcess) -> None:
    assert second.pid
    key = {"Idempotency-Key": "of-today"}
    service.operator.post("/fsps", json={"fspId": "todaybank"}, headers=key).raise_for_status()
    service.fetch(
        "UPDATE idempotency SET made_at = made_at - interval '23 hours 59 minutes' WHERE idempotency_key = 'of-today'"
    )
    again = service.operator.post("/fsps", json={"fspId": "todaybank"}, headers=key)
    assert again.headers["idempotency-replayed"] == "true"


# What failing costs ----------------------------------------------------------------------------------------------


def test_failures_of_an_address_are_limited_and_recorded(service: Service) -> None:
    known, unknown = service.issue("reader"), service.issue("reader")
    address = "127.0.9.1"
    with ExitStack() as stack:
        used, unused, failing = (stack.enter_context(_from(service, address, key)) for key in (known, unknown, WRONG))
        assert used.get("/me").status_code == 200
        statuses = [failing.get("/me").status_code for _ in range(FAILURES_MAX + 20)]
        assert statuses[:FAILURES_MAX] == [401] * FAILURES_MAX
        assert set(statuses[FAILURES_MAX:]) <= {401, 429}  # one more for each two seconds that it takes
        limited = next(answer for answer in iter(lambda: failing.get("/me"), None) if answer.status_code == 429)
        assert limited.json()["code"] == "too_many_failures"
        assert int(limited.headers["retry-after"]) in (1, 2)
        # A valid key is served, whether it has been used before or not.
        assert used.get("/me").status_code == 200
        assert unused.get("/me").status_code == 200
        assert stack.enter_context(_from(service, "127.0.9.2", unknown)).get("/me").status_code == 200
    rows = service.fetch(
        "SELECT credential_id, method, route, status, reason FROM access_refusals WHERE address = $1", address
    )
    assert {tuple(row) for row in rows} == {("aaaaaaaaaaaa", "GET", "/me", 401, "unauthorized")}
    assert FAILURES_MAX <= len(rows) <= FAILURES_MAX + 20


def test_failures_at_once_are_limited_like_failures_in_sequence(service: Service) -> None:
    """Each of them had asked before any of them had failed."""
    address = "127.0.9.3"
    # More than the limit of failures, and few enough for a directory on a busy machine: otherwise some would get 503.
    with _from(service, address, WRONG) as failing, ThreadPoolExecutor(2 * FAILURES_MAX) as pool:
        began = time.monotonic()
        statuses = Counter(answer.status_code for answer in pool.map(lambda _: failing.get("/me"), range(160)))
        took_s = time.monotonic() - began
    assert set(statuses) == {401, 429}
    assert FAILURES_MAX <= statuses[401] <= FAILURES_MAX + 1 + took_s * FAILURES_PER_S
    rows = service.fetch("SELECT count(*) FROM access_refusals WHERE address = $1", address)
    assert rows[0]["count"] == statuses[401]


@pytest.mark.parametrize(
    "wrong", ["", "Bearer x", f"Bearer {WRONG}", "Basic YTpi"], ids=["none", "word", "key", "basic"]
)
def test_an_address_that_fails_all_the_time_cannot_lock_out_a_new_key(service: Service, wrong: str) -> None:
    """All clients of a proxy that is not listed have one address, and one of them can fail on purpose."""
    address = f"127.0.11.{len(wrong) + 1}"
    key = service.issue("reader")
    with _from(service, address, WRONG) as failing, ThreadPoolExecutor(8) as pool:

        def fail(_: int) -> int:
            return failing.get("/me", headers={"Authorization": wrong}).status_code

        until(lambda: fail(0) == 429)
        answers = pool.map(fail, range(200))  # while the key is used for the first time
        with _from(service, address, key) as holder:
            assert [holder.get("/me").status_code for _ in range(5)] == [200] * 5
        assert set(answers) <= {401, 429}
        assert service.operator.post(_path(key, "/revoke"), json={"reason": "left"}).is_success
        with _from(service, address, key) as holder:
            assert holder.get("/me").status_code in (401, 429)


def test_failures_behind_a_listed_proxy_count_for_its_client(service: Service, second: OracleProcess) -> None:
    proxy, stranger = "127.0.10.1", "127.0.9.4"
    with ExitStack() as stack:
        clients = {
            peer: stack.enter_context(
                httpx.Client(transport=httpx.HTTPTransport(local_address=peer), timeout=TIMEOUT_S)
            )
            for peer in (proxy, stranger)
        }

        def ask(key: str, forwarded: str, peer: str = proxy) -> int:
            headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": forwarded}
            return clients[peer].get(f"{second.admin_url}/admin/v1/me", headers=headers).status_code

        # There is room for another failure after two seconds at most.  A machine can be slower than that, so the test
        # shows that another client gets in between two refusals: then there was no room for the first one.
        def are_distinguished() -> bool:
            until(lambda: ask(WRONG, "192.0.2.1, 198.51.100.7") == 429)
            assert ask(WRONG, "192.0.2.1, 198.51.100.8") == 401
            # An address that the caller wrote into the header itself does not make it another client.
            return ask(WRONG, "192.0.2.2, 198.51.100.7") == 429

        def is_not_believed() -> bool:
            until(lambda: ask(WRONG, "192.0.2.1", stranger) == 429)
            return ask(WRONG, "192.0.2.9", stranger) == 429

        until(are_distinguished)
        until(is_not_believed)
    recorded = {row["address"] for row in service.fetch("SELECT DISTINCT address FROM access_refusals")}
    assert {"198.51.100.7", "127.0.9.4"} <= recorded
    assert not {"192.0.2.1", "127.0.10.1"} & recorded


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("127.0.0.1", "", "127.0.0.1"),
        ("203.0.113.5", "192.0.2.1", "203.0.113.5"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "192.0.2.1, 10.0.0.2 ,10.0.0.3", "192.0.2.1"),
        ("10.0.0.1", "192.0.2.9,192.0.2.1,10.0.0.2", "192.0.2.1"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "192.0.2.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "192.0.2.1,", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1:4711", "192.0.2.1"),
        ("10.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fd00::1%eth0", "::ffff:192.0.2.1", "192.0.2.1"),
        ("", "192.0.2.1", ""),
    ],
)
def test_the_address_is_the_first_from_the_right_that_is_not_a_listed_proxy(
    peer: str, forwarded: str, address: str
) -> None:
    proxies = [ipaddress.ip_network(network) for network in ("10.0.0.0/8", "fd00::/8")]
    assert address_of(peer, forwarded, proxies) == address


def test_refusals_of_a_valid_credential_do_not_fill_the_directory(service: Service) -> None:
    key = service.issue("dfsp-maker", "greenbank")
    holder = service.as_key(key)
    began = time.monotonic()
    assert {holder.get("/fsps/redbank").status_code for _ in range(3 * FAILURES_MAX)} == {403}
    took_s = time.monotonic() - began
    rows = service.fetch("SELECT route, reason FROM access_refusals WHERE credential_id = $1", _id(key))
    assert {tuple(row) for row in rows} == {("/fsps/{fsp_id}", "foreign")}
    assert FAILURES_MAX <= len(rows) <= FAILURES_MAX + 1 + took_s * FAILURES_PER_S
    listed = service.operator.get("/refusals", params={"limit": 1000}).json()["items"]
    assert _id(key) in {item["credentialId"] for item in listed}


def test_a_credential_is_compared_with_as_many_hashes_whether_it_is_there_or_not() -> None:
    """And with nothing that stops at the first byte that differs."""
    secret = new_secret()
    digest = hash_of(secret)
    hashes: list[list[bytes]] = [[], [digest], [digest, hash_of("other")], [hash_of("other"), digest]]
    rows: list[Any] = [None, *({"hashes": each, "valid": True} for each in hashes)]
    reported = [_count_comparisons(row, candidate) for row in rows for candidate in (digest, hash_of("third"), b"")]
    assert {compared for _, compared in reported} == {2}
    valid = [row is not None and digest in row["hashes"] and candidate == digest
             for row in rows for candidate in (digest, hash_of("third"), b"")]  # fmt: skip
    assert [is_valid for is_valid, _ in reported] == valid


def _count_comparisons(row: Any, digest: bytes) -> tuple[bool, int]:
    """Whether it is valid, and how many comparisons in constant time that took."""
    calls = 0

    def count(_: object, event: str, function: object) -> None:
        nonlocal calls
        calls += event == "c_call" and getattr(function, "__name__", "") in ("compare_digest", "_compare_digest")

    sys.setprofile(count)
    try:
        is_valid = _is_valid(row, digest)
    finally:
        sys.setprofile(None)
    return is_valid, calls


# Where a secret is stored -----------------------------------------------------------------------------------------


def test_a_secret_is_stored_nowhere(service: Service, operator: httpx.Client) -> None:
    """Not in a table, not in the history, not in an answer kept for a repetition, not in the log."""
    body = {"role": "operator", "label": "a test"}
    key = operator.post("/credentials", json=body, headers={"Idempotency-Key": "kept"}).json()["key"]
    new = service.as_key(key).post("/me/rotate", json={}, headers={"Idempotency-Key": "kept"}).json()["key"]
    assert service.as_key(new).post("/fsps", json={"fspId": new}).status_code == 400
    assert service.as_key(new + "0").get("/me").status_code == 401
    secrets = [_secret(each) for each in (key, new, service.operator.headers["authorization"])]
    wanted = [form for secret in secrets for form in (secret, secret.encode().hex())]
    tables = service.fetch("SELECT oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'p')"
                           " AND relnamespace = 'public'::regnamespace")  # fmt: skip
    assert {"credentials", "credential_secrets", "events", "idempotency"} <= {table["name"] for table in tables}
    for table in tables:
        rows = service.fetch(f"SELECT row::text FROM {table['name']} row")  # noqa: S608 - names of our own tables
        assert not [table["name"] for row in rows for form in wanted if form in row[0]]
    assert not [form for form in wanted if form in service.oracle.output]


# When nobody is left to let anybody in ---------------------------------------------------------------------------


def test_a_first_key_is_made_only_when_there_is_no_operator(service: Service) -> None:
    """Operators can lock themselves out; a person with access to the database can make a new key."""
    assert asyncio.run(bootstrap(service.database_url)) is None
    operators = "UPDATE credentials SET revoked_at = now() WHERE role = 'operator' RETURNING credential_id"
    ended = [row["credential_id"] for row in service.fetch(operators)]

    async def many() -> list[str | None]:
        return await asyncio.gather(*(bootstrap(service.database_url) for _ in range(10)))

    try:
        (key,) = [made for made in asyncio.run(many()) if made is not None]
        recovered = service.as_key(key)
        assert recovered.get("/me").json()["role"] == "operator"
        assert recovered.get(_path(key)).json()["createdBy"] == "bootstrap"
        (event,) = service.fetch(
            "SELECT actor, channel, reason FROM events WHERE entity = 'credential' AND action = 'registered'"
            " AND after->>'credential_id' = $1", _id(key)
        )  # fmt: skip
        assert tuple(event) == ("bootstrap", "admin", "the first key")
        # One without a valid secret is nobody, and neither is one that has expired.
        service.fetch("UPDATE credential_secrets SET expires_at = now() WHERE credential_id = $1", _id(key))
        second = asyncio.run(bootstrap(service.database_url))
        assert second is not None
        service.fetch("UPDATE credentials SET expires_at = now() WHERE credential_id = $1", _id(second))
        assert asyncio.run(bootstrap(service.database_url)) is not None
    finally:
        service.fetch("UPDATE credentials SET revoked_at = 'infinity' WHERE credential_id = ANY ($1)", ended)

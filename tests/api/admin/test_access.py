"""Every endpoint, every role, the own FSP and another one: which calls are permitted.

The endpoints come from the route table; the expected roles are written here, by hand.  A new endpoint without a line
here fails, and so does a guard that differs from its line.
"""

from __future__ import annotations

import itertools
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
import pytest
from listener import list_endpoints

from oracle.identity.identity import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from admin_service import Service

WITHOUT_HUB = True  # see admin_service

# Who: staff have no FSP; `own ...` are bound to the one in the path (or to any, where there is none in the path).
OPERATOR: Final = frozenset({"operator"})
STAFF: Final = frozenset({"operator", "auditor", "reader"})
OWN: Final = frozenset({"own maker", "own checker", "own reader"})
EVERYBODY: Final = STAFF | OWN
NARROWED: Final = STAFF | {"own reader"}  # a list: of an FSP's reader it has what is of this FSP
PUBLIC: Final = EVERYBODY | {"nobody"}
HISTORY: Final = frozenset({"operator", "auditor"})
OWN_HISTORY: Final = HISTORY | {"own maker", "own checker"}
DIRECTORY: Final = EVERYBODY - {"auditor"}  # who reads history, of which each reading is recorded

EXPECTED: Final = {
    "GET /health": PUBLIC,
    "GET /live": PUBLIC,
    "GET /ready": PUBLIC,
    "GET /metrics": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /.authz/openapi": PUBLIC,
    "GET /": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/errors": PUBLIC,
    "GET /docs/hub.openapi.json": PUBLIC,
    "GET /docs/assets/{name}": PUBLIC,
    "GET /admin/v1/me": EVERYBODY,
    "POST /admin/v1/me/rotate": EVERYBODY,
    "GET /admin/v1/fsps": NARROWED,
    "POST /admin/v1/fsps": OPERATOR,
    "GET /admin/v1/fsps/{fsp_id}": EVERYBODY,
    "PATCH /admin/v1/fsps/{fsp_id}": OPERATOR,
    "GET /admin/v1/fsps/{fsp_id}/impact": OPERATOR,
    "POST /admin/v1/fsps/{fsp_id}/status": OPERATOR,
    "GET /admin/v1/fsps/{fsp_id}/logo": EVERYBODY,
    "PUT /admin/v1/fsps/{fsp_id}/logo": OPERATOR,
    "DELETE /admin/v1/fsps/{fsp_id}/logo": OPERATOR,
    "GET /admin/v1/fsps/{fsp_id}/endpoints": EVERYBODY,
    "PUT /admin/v1/fsps/{fsp_id}/endpoints": OPERATOR,
    "GET /admin/v1/fsps/{fsp_id}/jws-keys": EVERYBODY,
    "POST /admin/v1/fsps/{fsp_id}/jws-keys": OPERATOR,
    "DELETE /admin/v1/fsps/{fsp_id}/jws-keys/{key_id}": OPERATOR,
    "GET /admin/v1/oracles": STAFF,
    "POST /admin/v1/oracles": OPERATOR,
    "DELETE /admin/v1/oracles/{oracle_id}": OPERATOR,
    "GET /admin/v1/als/registration": STAFF,
    "POST /admin/v1/als/registration": OPERATOR,
    "GET /admin/v1/budgets": EVERYBODY,
    "GET /admin/v1/service": STAFF,
    "GET /admin/v1/service/samples": STAFF,
    "GET /admin/v1/credentials": OPERATOR,
    "POST /admin/v1/credentials": OPERATOR,
    "GET /admin/v1/credentials/{credential_id}": OPERATOR,
    "PATCH /admin/v1/credentials/{credential_id}": OPERATOR,
    "POST /admin/v1/credentials/{credential_id}/rotate": OPERATOR,
    "POST /admin/v1/credentials/{credential_id}/revoke": OPERATOR,
    "GET /admin/v1/sessions": OPERATOR,
    "GET /admin/v1/sessions/{session_id}": OPERATOR,
    "POST /admin/v1/sessions/{session_id}/end": OPERATOR,
    "POST /admin/v1/sessions/end": OPERATOR,
    "GET /admin/v1/refusals": OPERATOR,
    "GET /admin/v1/routes": NARROWED,
    "GET /admin/v1/routes/doubtful": STAFF,
    "POST /admin/v1/routes": OPERATOR,
    "GET /admin/v1/routes/{route_id}": STAFF,
    "PATCH /admin/v1/routes/{route_id}": OPERATOR,
    "POST /admin/v1/routes/{route_id}/end": OPERATOR,
    "POST /admin/v1/routes/import": OPERATOR,
    "POST /admin/v1/routes/what-if": STAFF,
    "GET /admin/v1/fsps/{fsp_id}/routes": EVERYBODY,
    "GET /admin-api/prefixes": PUBLIC,
    "GET /admin-api/prefixesByUseCase/{use_case}": PUBLIC,
    "GET /admin/v1/fsps/{fsp_id}/aliases": DIRECTORY,
    "POST /admin/v1/fsps/{fsp_id}/aliases": OPERATOR | {"own maker"},
    "POST /admin/v1/fsps/{fsp_id}/aliases/check": DIRECTORY,
    "GET /admin/v1/fsps/{fsp_id}/aliases/doubtful": DIRECTORY,
    "GET /admin/v1/fsps/{fsp_id}/aliases/export": DIRECTORY,
    "GET /admin/v1/fsps/{fsp_id}/aliases/{kind}/{identifier}": DIRECTORY,
    "PATCH /admin/v1/fsps/{fsp_id}/aliases/{kind}/{identifier}": OPERATOR | {"own maker"},
    "DELETE /admin/v1/fsps/{fsp_id}/aliases/{kind}/{identifier}": OPERATOR | {"own maker"},
    "POST /admin/v1/aliases/lookup": OPERATOR,
    "GET /admin/v1/batches": NARROWED,
    "GET /admin/v1/batches/waiting": EVERYBODY,
    "GET /admin/v1/batches/decided": EVERYBODY,
    "GET /admin/v1/templates/{name}": EVERYBODY,
    "GET /admin/v1/fsps/{fsp_id}/batches": EVERYBODY,
    "POST /admin/v1/fsps/{fsp_id}/batches": OPERATOR | {"own maker"},
    "POST /admin/v1/fsps/{fsp_id}/batches/check": OPERATOR | {"own maker"},
    "GET /admin/v1/fsps/{fsp_id}/batches/{batch_id}": EVERYBODY,
    "GET /admin/v1/fsps/{fsp_id}/batches/{batch_id}/rows": EVERYBODY,
    "GET /admin/v1/fsps/{fsp_id}/batches/{batch_id}/sample": EVERYBODY,
    "GET /admin/v1/fsps/{fsp_id}/batches/{batch_id}/decision": OPERATOR | {"own checker"},
    "GET /admin/v1/fsps/{fsp_id}/batches/{batch_id}/events": EVERYBODY,
    "GET /admin/v1/fsps/{fsp_id}/batches/{batch_id}/file": EVERYBODY,
    "GET /admin/v1/fsps/{fsp_id}/batches/{batch_id}/results": EVERYBODY,
    "POST /admin/v1/fsps/{fsp_id}/batches/{batch_id}/approve": OPERATOR | {"own checker"},
    "POST /admin/v1/fsps/{fsp_id}/batches/{batch_id}/reject": OPERATOR | {"own checker"},
    "POST /admin/v1/fsps/{fsp_id}/batches/{batch_id}/cancel": OPERATOR | {"own maker", "own checker"},
    "GET /audit/v1/events": HISTORY,
    "POST /audit/v1/events/search": HISTORY,
    "GET /audit/v1/events/{event_id}": HISTORY,
    "GET /audit/v1/fsps/{fsp_id}/events/{event_id}": OWN_HISTORY,
    "GET /audit/v1/resolve": HISTORY,
    "POST /audit/v1/resolve": HISTORY,
    "GET /audit/v1/timeline": HISTORY,
    "POST /audit/v1/timeline": HISTORY,
    "GET /audit/v1/reads": frozenset({"auditor"}),
    "GET /audit/v1/fsps/{fsp_id}/events": OWN_HISTORY,
    "POST /audit/v1/fsps/{fsp_id}/events/search": OWN_HISTORY,
    "POST /audit/v1/fsps/{fsp_id}/resolve": OWN_HISTORY,
    "POST /audit/v1/fsps/{fsp_id}/timeline": OWN_HISTORY,
    "GET /audit/v1/fsps/{fsp_id}/diff": OWN_HISTORY,
    "GET /audit/v1/fsps/{fsp_id}/log/entries/{event_id}": OWN_HISTORY,
    "GET /audit/v1/log/entries/{event_id}": HISTORY,
    "GET /audit/v1/log/checkpoint": OWN_HISTORY,
    "GET /audit/v1/log/checkpoints": OWN_HISTORY,
    "GET /audit/v1/log/consistency": OWN_HISTORY,
    "GET /audit/v1/log/keys": OWN_HISTORY,
    "GET /audit/v1/log/status": OWN_HISTORY,
    "POST /audit/v1/verifications": HISTORY,
    "GET /audit/v1/verifications": HISTORY,
    "GET /audit/v1/verifications/{verification_id}": HISTORY,
    "POST /audit/v1/verifications/{verification_id}/stop": HISTORY,
    "GET /audit/v1/export/manifest.json": HISTORY,
    "GET /audit/v1/export/events.ndjson": HISTORY,
    "GET /audit/v1/export/events.csv": HISTORY,
    "GET /audit/v1/export/hashes.bin": HISTORY,
    "GET /audit/v1/export/filtered.ndjson": HISTORY,
}
# Values for the other parameters of a path: things that do not exist.
PARAMETERS: Final = {"credential_id": "aaaaaaaaaaaa"}


class Endpoint(NamedTuple):
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_of_an_fsp(self) -> bool:
        return "{fsp_id}" in self.path

    def target(self, fsp_id: str) -> str:
        parameters = {"fsp_id": fsp_id}
        return re.sub(r"\{(\w+)\}", lambda found: parameters.get(found[1], PARAMETERS.get(found[1], "1")), self.path)


def _endpoints() -> list[Endpoint]:
    return sorted(Endpoint(*each) for each in list_endpoints())


ENDPOINTS: Final = _endpoints()


class Callers:
    """A key for each kind of caller, and one client for all of them: `ask(endpoint, fsp_id, key)`."""

    def __init__(self, service: Service, stack: ExitStack) -> None:
        self._service, self._stack = service, stack
        self._addresses = itertools.count(1)
        self.valid = {
            "operator": service.issue("operator"),
            "auditor": service.issue("auditor"),
            "reader": service.issue("reader"),
            "own maker": service.issue("dfsp-maker", "greenbank"),
            "own checker": service.issue("dfsp-checker", "greenbank"),
            "own reader": service.issue("reader", "greenbank"),
        }
        self.invalid = {"no key": None, "garbage": "garbage", **_make_ended_keys(service)}

    def ask(self, endpoint: Endpoint, key: str | None, fsp_id: str = "greenbank") -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body: dict[str, str] | None = None if endpoint.method in ("GET", "DELETE") else {}
        with self._client.stream(endpoint.method, endpoint.target(fsp_id), headers=headers, json=body) as response:
            if response.status_code >= 400:
                response.read()
            return response

    def move(self) -> None:
        """To an address from which nobody has failed yet."""
        n = next(self._addresses)
        transport = httpx.HTTPTransport(local_address=f"127.0.{n >> 8}.{(n & 0xFF) or 1}")
        self._client = self._stack.enter_context(
            httpx.Client(base_url=self._service.oracle.admin_url, transport=transport, timeout=30)
        )


def _make_ended_keys(service: Service) -> dict[str, str]:
    """Keys that were valid, or nearly are."""
    expired, revoked, rotated = (service.issue("operator") for _ in range(3))
    ids = {key: key.split("_")[1] for key in (expired, revoked, rotated)}
    service.fetch("UPDATE credentials SET expires_at = now() WHERE credential_id = $1", ids[expired])
    service.operator.post(f"/credentials/{ids[revoked]}/revoke", json={"reason": "a test"}).raise_for_status()
    service.operator.post(f"/credentials/{ids[rotated]}/rotate", json={"graceS": 0}).raise_for_status()
    service.operator.post("/fsps", json={"fspId": "shutbank"}).raise_for_status()
    shut = {role: service.issue(role, "shutbank") for role in ("dfsp-maker", "dfsp-checker", "reader")}
    service.operator.post("/fsps/shutbank/status", json={"status": "closed", "reason": "a test"}).raise_for_status()
    operator = service.issue("operator")
    return {
        "expired": expired,
        "revoked": revoked,
        "rotated": rotated,
        "another's secret": f"aok_{operator.split('_')[1]}_{revoked.split('_')[2]}",
        "no such credential": f"aok_aaaaaaaaaaaa_{operator.split('_')[2]}",
        **{f"{role} of a closed FSP": key for role, key in shut.items()},
    }


@pytest.fixture(scope="module")
def callers(service: Service) -> Iterator[Callers]:
    with ExitStack() as stack:
        callers = Callers(service, stack)
        callers.move()
        yield callers


def test_every_line_is_of_an_endpoint() -> None:
    assert set(EXPECTED) <= {str(endpoint) for endpoint in ENDPOINTS}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_each_role_may_call_its_operations_only(endpoint: Endpoint, callers: Callers) -> None:
    expected = EXPECTED.get(str(endpoint))
    assert expected is not None, "say in EXPECTED who may call it"
    got_in = {name for name, key in callers.valid.items() if _is_in(callers.ask(endpoint, key))}
    assert got_in == expected - {"nobody"}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_a_call_without_a_valid_key_is_refused(endpoint: Endpoint, callers: Callers) -> None:
    """All of them get the same answer."""
    callers.move()
    answers = {name: callers.ask(endpoint, key) for name, key in callers.invalid.items()}
    if "nobody" in EXPECTED[str(endpoint)]:
        assert {answer.status_code for answer in answers.values()} <= {200, 302, 404, 503}
        return
    assert {(answer.status_code, answer.headers["www-authenticate"]) for answer in answers.values()} == {
        (401, "Bearer")
    }
    assert len({answer.content for answer in answers.values()}) == 1


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.is_of_an_fsp], ids=str)
def test_a_key_of_one_fsp_cannot_act_for_another(endpoint: Endpoint, callers: Callers) -> None:
    """The refusal is the same, byte for byte, for an existing, a closed and a missing FSP."""
    for name in OWN:
        key = callers.valid[name]
        there, shut, none, slash = (
            callers.ask(endpoint, key, fsp_id) for fsp_id in ("redbank", "shutbank", "nobank", "greenbank%2F")
        )
        assert there.status_code == 403
        assert _describe_answer(there) == _describe_answer(shut) == _describe_answer(none) == _describe_answer(slash)
        if name in EXPECTED[str(endpoint)]:
            assert there.json()["code"] == "foreign"


def test_every_guard_names_a_role() -> None:
    """A new role cannot be missing in the guards."""
    assert {caller.removeprefix("own ") for caller in EVERYBODY} == {role.value.removeprefix("dfsp-") for role in Role}


def _is_in(answer: httpx.Response) -> bool:
    if answer.status_code == 403:
        assert answer.json()["code"] in ("forbidden", "foreign")
    assert answer.status_code != 401
    assert answer.status_code < 500 or answer.status_code == 503
    return answer.status_code != 403


def _describe_answer(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    return answer.status_code, answer.content, headers

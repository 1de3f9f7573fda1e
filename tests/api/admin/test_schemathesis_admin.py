"""Requests made from the published description, right and wrong ones, by each role: it lists every answer.

No key of greenbank gets anything of redbank: everything of redbank carries a mark, and no such answer holds it. The
roles take turns at the dozens of requests that are made for each operation; with TEST_EXAMPLES in the environment
each of them makes them all, and as many more.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import described
import httpx
import pytest
import schemathesis
from oracle_process import until
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

if TYPE_CHECKING:
    from admin_service import Service

WITHOUT_HUB = True  # see admin_service

EXAMPLES: Final = int(os.environ.get("TEST_EXAMPLES", "2"))
MARK: Final = "zqxjk"  # in all that redbank has
NUMBER: Final = "5255377731"  # how its telephone numbers begin

# As published: test_description.py compares it with the handlers.
CONTRACT: Final = Path(__file__).parents[3] / "schemas" / "admin.openapi.json"

ROLES: Final = ("operator", "dfsp-maker", "dfsp-checker", "auditor", "reader", "reader of greenbank", "nobody")
_TURNS: Final = itertools.cycle(ROLES)
BOUND: Final = ("dfsp-maker", "dfsp-checker", "reader of greenbank", "nobody")


@pytest.fixture(scope="module")
def keys(service: Service) -> dict[str, str | None]:
    """One of every role, and none."""
    _fill(service)
    return {
        role: service.issue(role.partition(" ")[0], "greenbank" if role in BOUND else None)
        for role in ROLES
        if role != "nobody"
    } | {"nobody": None}


def _fill(service: Service) -> None:
    """Give redbank one thing of every kind."""
    operator = service.operator
    mine = {
        "name": MARK,
        "localeName": MARK,
        "additionalInfo": MARK,
        "contact": {"name": MARK, "email": f"{MARK}@x.mx"},
    }
    operator.patch("/fsps/redbank", json={**mine, "useCases": [MARK]}).raise_for_status()
    operator.put("/fsps/redbank/logo", content=b"\x89PNG\r\n\x1a\n" + MARK.encode()).raise_for_status()
    redbank = service.as_key(service.issue("dfsp-maker", "redbank", label=MARK))
    for n in range(3):
        body = {"kind": "MSISDN", "identifier": f"{NUMBER}{n:02}", "reason": MARK}
        redbank.post("/fsps/redbank/aliases", json=body).raise_for_status()
    operator.patch("/fsps/redbank", json={"twoPersons": True}).raise_for_status()
    lines = "".join(f"MSISDN,{NUMBER}{n:02}\n" for n in range(50, 60))
    batch = redbank.post(
        "/fsps/redbank/batches", params={"fileName": f"{MARK}.csv", "note": MARK}, content=f"kind,identifier\n{lines}"
    )
    path = f"/fsps/redbank/batches/{batch.json()['batchId']}"
    until(lambda: operator.get(path).json()["state"] == "waiting")
    route = {"kind": "ACCOUNT_ID", "prefix": "99", "fspId": "redbank", "note": MARK, "reason": MARK}
    operator.post("/routes", json=route).raise_for_status()


def _aim(case: schemathesis.Case[Any]) -> None:
    """At FSPs that there are, else nearly every request would end at "no such FSP"; but redbank is not changed."""
    parameters = case.path_parameters or {}
    if "fsp_id" in parameters:
        other = "redbank" if case.method == "GET" else "nobank"
        parameters["fsp_id"] = ("greenbank", other)[len(str(parameters["fsp_id"])) % 2]


OPERATIONS: Final = described.list_operations(CONTRACT)
# Of so many operations one is tried at its bounds in a usual run; test_admin_hostile.py tries all with bad values.
SAMPLE: Final = 9


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_one_that_the_description_names(
    operation: str, service: Service, keys: dict[str, str | None], complete: bool
) -> None:
    bounds = complete or OPERATIONS.index(operation) % SAMPLE == 0
    described.run(check, CONTRACT, operation, EXAMPLES, bounds=bounds, service=service, keys=keys)


def check(case: schemathesis.Case[Any], service: Service, keys: dict[str, str | None]) -> None:
    if case.operation.path.endswith("/me/rotate"):
        return  # this test still needs its keys
    _aim(case)
    for role in ROLES if "TEST_EXAMPLES" in os.environ else [next(_TURNS)]:
        key = keys[role]
        case.headers.pop("Authorization", None)
        if key is not None:
            case.headers["Authorization"] = f"Bearer {key}"
        response = case.call_and_validate(
            base_url=service.oracle.admin_url,
            checks=[not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance],
        )
        if role in BOUND and not case.operation.path.startswith("/admin-api"):  # which tells everybody the same
            said = response.content + str(response.headers).encode()
            assert not [word for word in (MARK, NUMBER, "redbank") if word.encode() in said], role


def test_the_marks_are_there_to_be_found(service: Service, keys: dict[str, str | None]) -> None:
    """Roles that may read the marks find them: otherwise the test above would test nothing."""
    assert keys
    found = [
        httpx.Response.read(service.operator.get(path)).count(MARK.encode())
        for path in ("/fsps", "/credentials", "/batches", "/routes", "/fsps/redbank/logo")
    ]
    assert all(found)
    assert NUMBER.encode() in service.operator.get("/fsps/redbank/aliases").content

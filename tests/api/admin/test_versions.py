"""ETag and If-Match: of two writers who have read the same version, one succeeds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest
from listener import DESCRIPTION
from test_fsp_endpoints import make_pem

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from admin_service import Service

WITHOUT_HUB = True  # see admin_service

THREADS: Final = 8
PNG: Final = b"\x89PNG\r\n\x1a\n"
ALIAS: Final = "/fsps/greenbank/aliases/MSISDN/525512349999"

# A resource that has versions: where it is read, and a change of it that always is one (method, path, body).
Change = tuple[str, str, Any]


def _fsp(_: Service) -> tuple[str, Callable[[int], Change]]:
    return "/fsps/greenbank", lambda n: ("PATCH", "/fsps/greenbank", {"name": f"name {n}"})


def _status(_: Service) -> tuple[str, Callable[[int], Change]]:
    states = ("suspended", "active")
    return "/fsps/redbank", lambda n: ("POST", "/fsps/redbank/status", {"status": states[n % 2], "reason": "a test"})


def _logo(service: Service) -> tuple[str, Callable[[int], Change]]:
    service.operator.put("/fsps/redbank/logo", content=PNG).raise_for_status()
    return "/fsps/redbank/logo", lambda n: ("PUT", "/fsps/redbank/logo", PNG + b"%d" % n)


def _credential(service: Service) -> tuple[str, Callable[[int], Change]]:
    path = f"/credentials/{service.issue('reader').split('_')[1]}"
    return path, lambda n: ("PATCH", path, {"label": f"label {n}"})


def _rotation(service: Service) -> tuple[str, Callable[[int], Change]]:
    path = f"/credentials/{service.issue('reader').split('_')[1]}"
    return path, lambda _: ("POST", f"{path}/rotate", {"graceS": 60})


def _route(service: Service) -> tuple[str, Callable[[int], Change]]:
    body = {"kind": "ACCOUNT_ID", "prefix": "888", "fspId": "greenbank", "reason": "a test"}
    made = service.operator.post("/routes", json=body).raise_for_status().json()
    path = f"/routes/{made['route']['routeId']}"
    return path, lambda n: ("PATCH", path, {"note": f"note {n}", "reason": "a test"})


def _alias(service: Service) -> tuple[str, Callable[[int], Change]]:
    body = {"kind": "MSISDN", "identifier": "525512349999"}
    service.operator.post("/fsps/greenbank/aliases", json=body).raise_for_status()
    currencies = ("MXN", "USD", "EUR", "MMK", "GBP", "CAD", "CHF", "JPY")
    return ALIAS, lambda n: ("PATCH", ALIAS, {"currency": currencies[n % 8], "reason": "a test"})


RESOURCES: Final = (_fsp, _status, _logo, _credential, _rotation, _route, _alias)


def _send_change(client: httpx.Client, change: Change, tag: str | None) -> httpx.Response:
    method, path, body = change
    headers = {} if tag is None else {"If-Match": tag}
    if isinstance(body, bytes):
        return client.request(method, path, content=body, headers=headers)
    return client.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each.__name__.strip("_"))
def test_of_writers_at_once_exactly_one_wins(
    service: Service, resource: Callable[[Service], tuple[str, Callable[[int], Change]]]
) -> None:
    path, change = resource(service)
    operator = service.operator
    tag = operator.get(path).headers["etag"]
    if resource is _status:  # each of them the same change, or it would be none
        change = _same(change(0))
    start = threading.Barrier(THREADS)

    def write(n: int) -> httpx.Response:
        start.wait()
        return _send_change(operator, change(n), tag)

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(write, range(THREADS)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * (THREADS - 1)
    lost = {answer.json()["code"] for answer in answers if answer.status_code == 412}
    assert lost == {"version_mismatch"}
    assert operator.get(path).headers["etag"] != tag


def _same(change: Change) -> Callable[[int], Change]:
    return lambda _: change


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each.__name__.strip("_"))
def test_valid_forms_of_if_match(
    service: Service, resource: Callable[[Service], tuple[str, Callable[[int], Change]]]
) -> None:
    if resource in (_route, _alias):
        return  # tested above; every resource reads the header in the same way
    path, change = resource(service)
    operator = service.operator

    def write_as(n: int, shape: str) -> int:
        tag = operator.get(path).headers["etag"]
        return _send_change(operator, change(n), shape.replace("{}", tag)).status_code

    for n, shape in enumerate(('"0", {}', "{} , W/{}", "*", '{},"x"', '"a,b", {}')):
        assert write_as(n, shape) == 200, shape
    for shape in ("W/{}", '"0"', 'W/"0"', '""', '"x", W/{}'):
        assert write_as(9, shape) == 412, shape
    for shape in ("1", "{}{}", "{},", '"', "", "* , {}", 'w/"1"', "{} {}", '"a" "b"', "'1'", "{};"):
        assert write_as(9, shape) == 400, shape


def test_if_match_is_described_where_it_is_compared(service: Service) -> None:
    """And nowhere else: it would be taken for a protection."""
    change = {
        "PATCH /admin/v1/fsps/{fsp_id}": {},
        "POST /admin/v1/fsps/{fsp_id}/status": {"status": "active", "reason": "a test"},
        "PUT /admin/v1/fsps/{fsp_id}/logo": PNG,
        "DELETE /admin/v1/fsps/{fsp_id}/logo": None,
        "PUT /admin/v1/fsps/{fsp_id}/endpoints": {},
        "DELETE /admin/v1/fsps/{fsp_id}/jws-keys/{key_id}": None,
        "DELETE /admin/v1/oracles/{oracle_id}": None,
        "PATCH /admin/v1/credentials/{credential_id}": {},
        "POST /admin/v1/credentials/{credential_id}/rotate": {},
        "POST /admin/v1/credentials/{credential_id}/revoke": {"reason": "a test"},
        "PATCH /admin/v1/routes/{route_id}": {},
        "POST /admin/v1/routes/{route_id}/end": {"reason": "a test"},
        "PATCH /admin/v1/fsps/{fsp_id}/aliases/{kind}/{identifier}": {"currency": "MXN", "reason": "a test"},
        "DELETE /admin/v1/fsps/{fsp_id}/aliases/{kind}/{identifier}": None,
        "POST /admin/v1/fsps/{fsp_id}/batches/{batch_id}/approve": {},
        "POST /admin/v1/fsps/{fsp_id}/batches/{batch_id}/reject": {"reason": "a test"},
        "POST /admin/v1/fsps/{fsp_id}/batches/{batch_id}/cancel": {},
    }
    described = {
        f"{method.upper()} {path}"
        for path, methods in DESCRIPTION["paths"].items()
        for method, operation in methods.items()
        if "If-Match" in {parameter["name"] for parameter in operation.get("parameters", [])}
    }
    assert described == set(change)
    operator = service.operator
    operator.post("/fsps/greenbank/aliases", json={"kind": "ALIAS", "identifier": "versioned"}).raise_for_status()
    route = {"kind": "ALIAS", "prefix": "versioned", "fspId": "greenbank"}
    batch = operator.post("/fsps/greenbank/batches", content=b"kind,identifier\nALIAS,versioned\n")
    names = {
        "fsp_id": "greenbank", "kind": "ALIAS", "identifier": "versioned", "batch_id": batch.json()["batchId"],
        "credential_id": service.issue("reader").split("_")[1],
        "route_id": operator.post("/routes", json=route).json()["route"]["routeId"],
        "oracle_id": operator.post("/oracles", json={"partyIdType": "IBAN", "url": "http://x"}).json()["oracleId"],
        "key_id": operator.post("/fsps/greenbank/jws-keys", json={"label": "one", "pem": make_pem()}).json()["keyId"],
    }  # fmt: skip
    for endpoint, body in change.items():
        method, path = endpoint.replace("/admin/v1", "").split()
        content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        params = {"reason": "other"} if path.endswith("/{identifier}") and method == "DELETE" else None
        answer = operator.request(
            method, path.format_map(names), params=params, headers={"If-Match": '"99"'}, **content
        )
        assert (answer.status_code, answer.json()["code"]) == (412, "version_mismatch"), endpoint


def test_two_headers_are_one_list(operator: httpx.Client) -> None:
    tag = operator.get("/fsps/greenbank").headers["etag"]
    for headers, status in ((['"0"', tag], 200), (['"0"', '"1x"'], 412)):
        sent = [("If-Match", each) for each in headers]
        assert operator.patch("/fsps/greenbank", json={}, headers=sent).status_code == status


@pytest.mark.parametrize("path", ["/fsps/greenbank", "/fsps/redbank/logo"])
def test_an_unchanged_resource_is_not_sent_again(service: Service, path: str) -> None:
    operator = service.operator
    operator.put("/fsps/redbank/logo", content=PNG).raise_for_status()
    tag = operator.get(path).headers["etag"]
    for shape in ("{}", "W/{}", '"0", {}', "*"):
        answer = operator.get(path, headers={"If-None-Match": shape.format(tag)})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag), shape
    for shape in ('"0"', 'W/"0"'):
        assert operator.get(path, headers={"If-None-Match": shape}).status_code == 200


def test_a_change_without_effect_keeps_the_version(operator: httpx.Client) -> None:
    tag = operator.get("/fsps/greenbank").headers["etag"]
    assert operator.patch("/fsps/greenbank", json={}, headers={"If-Match": tag}).headers["etag"] == tag
    assert operator.get("/fsps/greenbank").headers["etag"] == tag


def test_no_proxy_or_browser_stores_an_answer(operator: httpx.Client) -> None:
    for answer in (operator.get("/fsps/greenbank"), operator.get("/fsps/nobank"), operator.get("/fsps")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers

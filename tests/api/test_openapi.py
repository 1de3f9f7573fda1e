"""The published contract is valid and complete, and the running oracle does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hub import captured, error_texts
from hub.messages import PARTICIPANTS, get, post, request
from hub.process import Hub, run_oracle
from hub.wire import Answer, Wire, ask
from jsonschema import Draft202012Validator, FormatChecker

from oracle.api import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer, ValkeyServer

FILE: Final = Path(__file__).parents[2] / "schemas" / "hub.openapi.json"
PAGE: Final = FILE.parents[1] / "oracle" / "api" / "hub" / "page.html"
CONTRACT: Final[dict[str, Any]] = json.loads(FILE.read_bytes())
METHODS: Final = ("get", "post", "put", "delete")
OPERATIONS: Final = [
    (method, path, item[method]) for path, item in CONTRACT["paths"].items() for method in METHODS if method in item
]


def resolve(thing: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in thing:
        return thing
    target: Any = CONTRACT
    for name in thing["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return {**target, **{name: value for name, value in thing.items() if name != "$ref"}}


def make_validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Make a validator for a schema of the contract; its references point into the contract."""
    return Draft202012Validator({**schema, "components": CONTRACT["components"]}, format_checker=FormatChecker())


def walk(thing: object, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(thing, dict):
        yield path, thing
        for name, value in thing.items():
            yield from walk(value, f"{path}/{name}")
    elif isinstance(thing, list):
        for at, value in enumerate(thing):
            yield from walk(value, f"{path}/{at}")


# The document -------------------------------------------------------------------------------------------------


def test_the_contract_is_openapi_3_1() -> None:
    """Checked by the OpenAPI initiative's own schema, which schemathesis brings."""
    from schemathesis.specs.openapi.definitions import OPENAPI_31

    assert not list(Draft202012Validator(OPENAPI_31).iter_errors(CONTRACT))
    for name, schema in CONTRACT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema), name


def test_every_reference_resolves_and_every_component_is_used() -> None:
    references = {node["$ref"] for _, node in walk(CONTRACT) if isinstance(node.get("$ref"), str)}
    for reference in references:
        resolve({"$ref": reference})
    for kind, members in CONTRACT["components"].items():
        for name in members:
            assert f"#/components/{kind}/{name}" in references


def test_every_string_and_list_has_its_limits() -> None:
    """All that a client sends has limits; answers that repeat a request have none."""
    for name, schema in CONTRACT["components"]["schemas"].items():
        if name.startswith(("BulkResult", "Health")):
            continue
        for path, node in walk(schema, name):
            if node.get("type") == "string":
                assert {"enum", "pattern", "maxLength", "const"} & node.keys(), path
            if node.get("type") == "array":
                assert "maxItems" in node, path


def test_operation_ids_are_unique() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert all(operation["summary"] for _, _, operation in OPERATIONS)


def find_examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    for path, node in walk(CONTRACT):
        if "schema" in node and "examples" in node:
            for name, example in node["examples"].items():
                yield f"{path}/examples/{name}", node["schema"], example["value"]


def test_every_example_is_valid() -> None:
    found = list(find_examples())
    assert len(found) > 40
    for path, schema, value in found:
        assert not [error.message for error in make_validator(schema).iter_errors(value)], path


def test_the_examples_show_every_kind_of_alias() -> None:
    shown = json.dumps([value for _, _, value in find_examples()])
    for alias in ("525512345678", "032180000118359719", "0098-7761-22", "12-OUKAMA-N-123456", "12/OUKAMA(N)123456"):
        assert alias in shown


def test_the_schemas_refuse_invalid_values() -> None:
    schemas = CONTRACT["components"]["schemas"]
    for name, value in (
        ("PartyList", {"partyList": [{"fspId": "a", "partySubIdOrType": ""}]}),
        ("PartyList", {"partyList": [{"fspId": "a", "partySubIdOrType": None}]}),
        ("PartyList", {"partyList": [{"fspId": "a"}, {"fspId": "b"}]}),
        ("PartyList", {}),
        ("ErrorBody", {"errorInformation": {"errorCode": "3100", "errorDescription": ""}}),
        ("ErrorBody", {"errorInformation": {"errorCode": 3100, "errorDescription": "x"}}),
        (
            "ErrorBody",
            {"errorInformation": {"errorCode": "3100", "errorDescription": "x", "extensionList": {}}},
        ),
        ("BulkResult", {"partyList": [{"partyIdType": "MSISDN", "partyIdentifier": "525512345678"}]}),
        ("PartyIdentifier", "12&"),
        ("PartyIdentifier", ""),
        ("PartyIdentifier", "x" * 129),
        ("PartyIdType", "CLABE"),
    ):
        assert not make_validator(schemas[name]).is_valid(value), (name, value)


def test_every_error_of_the_oracle_is_in_the_contract() -> None:
    codes = {one["const"] for one in CONTRACT["components"]["schemas"]["ErrorCode"]["oneOf"]}
    assert codes == {code for _, code in faults.FAULTS.values()}
    documented = {
        (status, example["value"]["errorInformation"]["errorCode"])
        for _, _, operation in OPERATIONS
        for status, response in operation["responses"].items()
        for media in resolve(response).get("content", {}).values()
        for example in media.get("examples", {}).values()
        if "errorInformation" in example["value"]
    }
    assert {(str(status), code) for status, code in faults.FAULTS.values()} <= documented


def test_every_error_text_of_the_examples_is_one_that_the_oracle_writes() -> None:
    shown = {node["errorDescription"] for _, node in walk(CONTRACT) if isinstance(node.get("errorDescription"), str)}
    written = {text for _, text in error_texts.raise_sites()} | {kind.default for kind in error_texts.kinds()}
    assert len(shown) > 15
    assert {text for text in shown if not text.startswith("MSISDN: ")} <= written


def test_the_page_needs_nothing_but_itself_and_names_what_people_look_for() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(page) < 2000
    assert not re.search(r"https?://|@import|url\(|<script|<style|<link|<img|style=|onclick", page)
    assert all(name in page for name in ("hub listener", "/openapi.json", "/docs", "admin listener"))


# The running oracle -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with run_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        yield hub


def check_promise(raw: bytes, answer: Answer) -> None:
    """Check that the contract names this answer for this request."""
    method, target = raw.split(b" ", 2)[:2]
    path = re.sub(rb"^/+", b"/", target.partition(b"?")[0]).decode()
    (operation,) = (
        operation
        for known, name, operation in OPERATIONS
        if known == method.decode().lower() and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", name), path)
    )
    assert str(answer.status) in operation["responses"], (path, answer)
    response = resolve(operation["responses"][str(answer.status)])
    if "content" not in response:
        assert not answer.body
        return
    media = response["content"][answer.headers["content-type"].split(";")[0]]
    if answer.headers["content-type"] == "application/json":
        assert not [error.message for error in make_validator(media["schema"]).iter_errors(answer.json())]


def test_the_contract_names_the_answer_to_every_captured_request(hub: Hub) -> None:
    count = 0
    with Wire(hub.port) as wire:
        for case in captured.CASES:
            if case.status == 404 and case.codes == ("3002",):
                continue
            for raw in (*case.given, case.raw, *(raw for raw, _ in case.then)):
                check_promise(raw, wire.ask(raw))
                count += 1
    assert count > 500


@pytest.mark.parametrize("path", ["/health", "/live", "/ready", "/openapi.json", "/.authz/openapi", "/"])
def test_the_contract_names_the_answers_to_probes_and_people(hub: Hub, path: str) -> None:
    raw = get(path.encode())
    answer = ask(hub.port, raw)
    assert answer.status == 200
    check_promise(raw, answer)


def test_the_answers_to_the_example_bulks_are_as_the_contract_says(hub: Hub) -> None:
    media = CONTRACT["paths"]["/participants"]["post"]["requestBody"]["content"]["application/json"]
    for example in media["examples"].values():
        body = json.dumps(example["value"], ensure_ascii=False).encode()
        body = body.replace(b"032180000118359719", b"014027000005555558")  # a captured case registers that one
        for source in (b"cajaoaxaca", b"strangerfsp"):
            headers = PARTICIPANTS.replace(b"source: payerfsp", b"source: " + source)
            raw = post(b"/participants", body, headers)
            answer = ask(hub.port, raw)
            check_promise(raw, answer)
            refused = ["errorInformation" in entry for entry in answer.json()["partyList"]]
            assert refused == [source != b"cajaoaxaca"] * 4


def test_the_oracle_publishes_this_contract(hub: Hub) -> None:
    assert ask(hub.port, get(b"/openapi.json")).json() == CONTRACT
    page = ask(hub.port, get(b"/"))
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none';")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.body == PAGE.read_bytes()
    assert ask(hub.port, request(b"POST /", PARTICIPANTS, b"{}")).status == 405
    assert ask(hub.port, get(b"/docs")).status == 404


def test_gateways_find_this_contract_and_whether_it_is_new(hub: Hub) -> None:
    target = b"/.authz/openapi"
    found = ask(hub.port, get(target))
    assert (found.status, found.json()) == (200, CONTRACT)
    tag = found.headers["etag"]
    known = ask(hub.port, get(target, b'%bif-none-match: "other", %b\r\n' % (PARTICIPANTS, tag.encode())))
    assert (known.status, known.body, known.headers["etag"]) == (304, b"", tag)
    other = ask(hub.port, get(target, PARTICIPANTS + b'if-none-match: "other"\r\n'))
    assert (other.status, other.body) == (200, found.body)
    head = ask(hub.port, request(b"HEAD " + target, PARTICIPANTS))
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", tag)
    refused = ask(hub.port, request(b"POST " + target, PARTICIPANTS, b"{}"))
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert all(operation["x-authz"] == {"scopedBy": []} for _, _, operation in OPERATIONS)

"""The published description of the admin listener: that of its handlers, with stable names and valid examples."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, get_args

from jsonschema import Draft202012Validator
from listener import DESCRIPTION, PUBLISHED

from oracle.api.admin.access import PUBLIC
from oracle.api.admin.app import description, routers
from oracle.api.admin.codes import Code
from oracle.identity.identity import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT: Final = DESCRIPTION  # a test below compares it with the handlers
METHODS: Final = ("get", "post", "put", "patch", "delete")
OPERATIONS: Final = [
    (method, path, item[method]) for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item
]
# Gateways make permissions of these names: a permission that was granted is lost when its name changes.
NAMES: Final = {
    "listFsps",
    "createFsp",
    "getFsp",
    "changeFsp",
    "getFspImpact",
    "setFspStatus",
    "getLogo",
    "setLogo",
    "removeLogo",
    "getFspEndpoints",
    "setFspEndpoints",
    "listJwsKeys",
    "addJwsKey",
    "removeJwsKey",
    "listOracles",
    "addOracle",
    "removeOracle",
    "getAlsRegistration",
    "registerAtAls",
    "listBudgets",
    "getServiceState",
    "listServiceSamples",
    "getOwnCredential",
    "rotateOwnCredential",
    "listCredentials",
    "createCredential",
    "getCredential",
    "changeCredential",
    "rotateCredential",
    "revokeCredential",
    "listRefusedCalls",
    "listSessions",
    "getSession",
    "endSession",
    "endSessions",
    "listAliases",
    "registerAlias",
    "getAlias",
    "changeAlias",
    "removeAlias",
    "checkAliases",
    "exportAliases",
    "listDoubtfulAliases",
    "lookUpAliases",
    "listAllBatches",
    "listWaitingBatches",
    "listDecidedBatches",
    "sampleBatch",
    "checkDecision",
    "listBatches",
    "uploadBatch",
    "checkFile",
    "getBatch",
    "approveBatch",
    "rejectBatch",
    "cancelBatch",
    "followBatch",
    "listBatchRows",
    "downloadBatchResults",
    "downloadBatchFile",
    "getTemplate",
    "listRoutes",
    "listDoubtfulRoutes",
    "listFspRoutes",
    "createRoute",
    "getRoute",
    "changeRoute",
    "endRoute",
    "importRoutes",
    "explainLookup",
    "listEvents",
    "searchEvents",
    "listFspEvents",
    "searchFspEvents",
    "resolveAt",
    "resolveAtByBody",
    "resolveFspAliasAt",
    "getEvent",
    "getFspEvent",
    "getTimeline",
    "getTimelineByBody",
    "getFspAliasTimeline",
    "compareAliases",
    "listHistoryReads",
    "getLatestCheckpoint",
    "listCheckpoints",
    "listLogKeys",
    "proveConsistency",
    "getLogStatus",
    "getLogEntry",
    "getFspLogEntry",
    "startVerification",
    "listVerifications",
    "getVerification",
    "stopVerification",
    "exportManifest",
    "exportEvents",
    "exportEventTable",
    "exportHashes",
    "exportFilteredEvents",
    "listPrefixes",
    "listPrefixesByUseCase",
}
# Bytes that no text shows.
NO_EXAMPLE: Final = {"getLogo.image/*", "setLogo.image/*", "exportHashes.application/octet-stream"}


def test_it_is_made_from_the_handlers() -> None:
    """When this fails: `make contract`."""
    assert description() == PUBLISHED


def test_operations_have_stable_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert set(names) == NAMES


def test_every_summary_is_a_short_sentence_of_its_own() -> None:
    summaries = [operation["summary"] for _, _, operation in OPERATIONS]
    assert len(summaries) == len(set(summaries))
    for summary in summaries:
        assert re.fullmatch(r"[A-Z].{5,89}[^.]", summary), summary


def test_every_operation_says_which_roles_may_call_it() -> None:
    described = {operation["operationId"]: operation["description"] for _, _, operation in OPERATIONS}
    guards = {
        handler.operation_id: handler.opt["access"]
        for router in routers()
        for route in router.routes
        for handler in getattr(route, "route_handlers", [])
        if handler.http_methods != {"OPTIONS"}
    }
    assert set(guards) >= NAMES
    for name in NAMES:
        last = described[name].rpartition("\n")[2]
        if guards[name] == PUBLIC:
            assert last == "No key is needed."
        else:
            assert last.startswith("Roles: ")
            assert set(last.removeprefix("Roles: ").rstrip(".").split(", ")) == set(guards[name].roles)
            assert guards[name].roles <= set(Role)


def test_components_have_short_names() -> None:
    for name in DOCUMENT["components"]["schemas"]:
        assert re.fullmatch("[A-Z][A-Za-z]{1,31}", name), name


def test_the_description_lists_every_error_code() -> None:
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(get_args(Code))


def test_kinds_states_and_reasons_are_lists_of_values() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for component, member in (
        ("NewFsp", "kinds"),
        ("Fsp", "kinds"),
        ("Fsp", "status"),
        ("Alias", "kind"),
        ("Alias", "state"),
        ("Batch", "state"),
        ("NewRoute", "kind"),
        ("LookupQuestion", "kind"),
        ("PastAnswer", "reason"),
        ("EventSearch", "channel"),
    ):
        assert '"enum"' in json.dumps(schemas[component]["properties"][member]), (component, member)
    (removal,) = (operation for _, _, operation in OPERATIONS if operation["operationId"] == "removeAlias")
    (reason,) = (parameter for parameter in removal["parameters"] if parameter["name"] == "reason")
    assert '"enum"' in json.dumps(reason["schema"])


def _bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    for _, _, operation in OPERATIONS:
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in contents:
            for media_type, media in content.get("content", {}).items():
                yield f"{operation['operationId']}.{media_type}", media


def test_every_request_and_every_answer_has_an_example() -> None:
    bodies = list(_bodies())
    assert len(bodies) > 300
    without = {name for name, media in bodies if "examples" not in media}
    assert without <= NO_EXAMPLE, without - NO_EXAMPLE


def test_every_example_is_valid() -> None:
    examples = DOCUMENT["components"]["examples"]
    shown = set()
    for name, media in _bodies():
        for example in media.get("examples", {}).values():
            named = example["$ref"].rpartition("/")[2]
            shown.add(named)
            schema = {**media["schema"], "components": DOCUMENT["components"]}
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(examples[named]["value"])]
            assert not errors, (name, named, errors)
    assert shown == set(examples)


def test_no_example_is_left_over() -> None:
    known = json.loads(files("oracle.schemas").joinpath("admin.examples.json").read_bytes())
    published = DOCUMENT["components"]["examples"]
    assert [name for name in known if name.replace("/", "-").replace("+", "-") not in published] == []

"""The collection of deploy/ttk for Mojaloop's Testing Toolkit: played request by request against a real oracle.

The Toolkit is a program of its own (`make ttk` runs the collection with it).  This player knows the few forms that the
collection uses, and refuses all others: so an assertion that it cannot check is a failure.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from hub.process import run_oracle

if TYPE_CHECKING:
    from oracle.run.embedded import PostgresServer, ValkeyServer

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "ttk"
COLLECTIONS: Final = sorted(FOLDER.glob("[0-9]*.json"))
INPUTS: Final[dict[str, str]] = json.loads((FOLDER / "environment.json").read_text())["inputValues"]

_ASSERTION: Final = re.compile(r"expect\(response\.([\w.\[\]]+)\)\.to\.(equal|have\.lengthOf|be\.oneOf)\((.+)\)")
_VARIABLE: Final = re.compile(r"\{\$([\w.]+)\}")


def fill(text: str, host: str) -> str:
    """Replace the variables of the Toolkit."""

    def find(found: re.Match[str]) -> str:
        name = found[1]
        if name == "function.generic.curDate":
            return formatdate(usegmt=True)
        if name == "function.generic.generateUUID":
            return str(uuid.uuid4())
        return host if name == "inputs.HOST_ORACLE" else INPUTS[name.removeprefix("inputs.")]

    return _VARIABLE.sub(find, text)


def read_member(response: httpx.Response, path: str) -> Any:
    """Read `status` or `body.partyList[0].fspId`; None for what is not there."""
    if path == "status":
        return response.status_code
    value: Any = response.json()
    for part in re.findall(r"\w+", path)[1:]:
        value = value[int(part)] if isinstance(value, list) else (value or {}).get(part)
    return value


def check(response: httpx.Response, assertion: str) -> bool:
    found = _ASSERTION.fullmatch(assertion)
    assert found is not None, f"the player does not know this form: {assertion}"
    value = read_member(response, found[1])
    text = found[3]
    expected: Any = None if text == "undefined" else json.loads(text.replace("'", '"'))
    if found[2] == "have.lengthOf":
        return bool(len(value) == expected)
    return bool(value in expected if found[2] == "be.oneOf" else value == expected)


@pytest.fixture(scope="module")
def host(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with run_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("ttk")) as hub:
        yield f"http://127.0.0.1:{hub.port}"


def play(collection: Path, host: str) -> list[str]:
    """Play it; return what failed."""
    failed = []
    content = json.loads(fill(collection.read_text(), host))
    with httpx.Client(timeout=60) as client:
        for case in content["test_cases"]:
            for request in case["requests"]:
                path = request["operationPath"]
                for name, value in request.get("params", {}).items():
                    path = path.replace(f"{{{name}}}", value)
                response = client.request(
                    request["method"], f"{request['url']}{path}", params=request.get("queryParams"),
                    headers=request["headers"], json=request.get("body"),
                )  # fmt: skip
                failed += [
                    f"{case['name']}: {request['description']}: {assertion['exec'][0]}: {response.status_code}"
                    f" {response.text}"
                    for assertion in request["tests"]["assertions"]
                    if not check(response, assertion["exec"][0])
                ]
    return failed


@pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda path: path.stem)
def test_the_collection_passes_twice(host: str, collection: Path) -> None:
    """The second time shows that it leaves nothing behind."""
    assert play(collection, host) == []
    assert play(collection, host) == []


def test_the_collection_has_each_part_and_the_form_of_the_toolkit() -> None:
    order = json.loads((FOLDER / "master.json").read_text())["order"]
    assert [each["name"] for each in order] == [path.name for path in COLLECTIONS]
    types, codes = set(), set()
    for collection in COLLECTIONS:
        for case in json.loads(collection.read_text())["test_cases"]:
            assert [request["id"] for request in case["requests"]] == list(range(1, len(case["requests"]) + 1))
            for request in case["requests"]:
                assert request["apiVersion"]["type"] == "fspiop"
                assert request["ignoreCallbacks"] is True
                assert request["tests"]["assertions"]
                types.add(request.get("params", {}).get("Type"))
                codes |= set(re.findall(r"errorCode\)\.to\.equal\('(\d+)'", json.dumps(request["tests"])))
    assert types >= {"MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"}
    assert codes >= {"3000", "3002", "3003", "3040", "3100", "3101", "3102", "3204"}

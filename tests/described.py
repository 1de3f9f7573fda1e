"""Tests made by schemathesis from a published contract, one for each operation: `run(check, path, operation, ...)`.

`schema.parametrize()` makes all requests of a contract while pytest collects, which takes half a minute of CPU, and
every process of a run collects every file.  Here the requests of an operation are made when its test runs.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import schemathesis
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def list_operations(contract: Path) -> list[str]:
    """Name each operation of a contract: "GET /participants/{Type}/{ID}"."""
    paths = json.loads(contract.read_bytes())["paths"]
    return [f"{method.upper()} {path}" for path, item in paths.items() for method in METHODS if method in item]


@cache
def _load(contract: Path, examples: int, bounds: bool) -> Any:
    schema = schemathesis.openapi.from_path(contract)
    schema.config.generation.update(max_examples=examples, deterministic=True, database="none")
    schema.config.phases.coverage.enabled = bounds
    return schema


def run(
    check: Callable[..., None], contract: Path, operation: str, examples: int, *, bounds: bool = True, **arguments: Any
) -> None:
    """Call `check(case, **arguments)` with requests for one operation.  `examples` of them are random.

    `bounds` adds requests at and past each bound of the contract: dozens, most of them slow to make.
    """
    schema = _load(contract, examples, bounds).include(name=operation)
    (made,) = get_all_tests(schema=schema, test_func=check, settings=None, given_kwargs=None)
    assert isinstance(made, Ok), made
    _, test = made.ok()
    test(**arguments)

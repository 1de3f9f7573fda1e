"""Valid and invalid requests made from the published contract: the contract names every answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import described
import pytest
import schemathesis
from hub.process import Hub, run_oracle
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer, ValkeyServer

EXAMPLES: Final = (10, 200)  # random ones for each of the operations: in a usual run, with --complete

CONTRACT: Final = Path(__file__).parents[3] / "schemas" / "hub.openapi.json"


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with run_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        yield hub


OPERATIONS: Final = described.list_operations(CONTRACT)
# Of so many operations one is tried at its bounds in a usual run.
SAMPLE: Final = 3


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_one_that_the_contract_names(operation: str, hub: Hub, complete: bool) -> None:
    bounds = complete or OPERATIONS.index(operation) % SAMPLE == 0
    described.run(check, CONTRACT, operation, EXAMPLES[complete], bounds=bounds, hub=hub)


def check(case: schemathesis.Case[Any], hub: Hub) -> None:
    if isinstance(case.body, dict) and isinstance(fsp_id := case.body.get("fspId"), str) and len(fsp_id) % 4:
        # Else nearly every write would fail at the first rule: an FSP can only act for itself.
        case.headers["fspiop-source"] = "".join(c for c in fsp_id if "!" <= c <= "~") or "a"
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{hub.port}",
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )

"""Ten thousand hostile requests: nothing falls over, nothing is said that ALS cannot pass on, nothing is changed."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

import pytest
import shots
import storm
from hub_process import Hub, running_oracle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.store.embedded import PostgresServer, ValkeyServer

COUNT: Final = 10_000
SEED: Final = 20_261_121


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with running_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        yield hub


def test_a_storm_of_hostile_requests(hub: Hub) -> None:
    report = storm.run(hub.port, hub.database_url, COUNT, SEED)
    print(report)
    assert not report.problems, report
    assert report.asked >= COUNT
    assert {family for family, _ in report.outcomes} == {
        *("path", "odd path", "query", "headers", "body", "bulk", "theft", "method"),
        *("framing", "mutated", "large"),
    }


def test_the_same_seed_is_the_same_storm() -> None:
    assert list(shots.stream(Random(7), 500)) == list(shots.stream(Random(7), 500))

"""Thousands of hostile requests: nothing fails, and only allowed changes happen."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

import pytest
import shots
import storm
from hub.messages import get, post
from hub.process import Hub, run_oracle
from hub.wire import Answer
from shots import Shot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer, ValkeyServer

COUNT: Final = 3_000
SEED: Final = 20_261_121
JSON: Final = {"content-type": "application/json"}
REFUSAL: Final = b'{"errorInformation":{"errorCode":"3101","errorDescription":"%s"}}'


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with run_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        yield hub


def test_a_storm_of_hostile_requests(hub: Hub) -> None:
    report = storm.run(hub.port, hub.database_url, COUNT, SEED)
    print(report)
    assert not report.problems, report
    assert report.asked >= COUNT
    # No error in the log, and no identifier in it.
    output = hub.process.output
    assert not [line for line in output.splitlines() if '"level": "error"' in line or "Traceback" in line]
    assert not [victim.identifier for victim in shots.VICTIMS if victim.identifier in output]
    assert {family for family, _ in report.outcomes} == {
        *("path", "odd path", "query", "headers", "body", "bulk", "theft", "method"),
        *("framing", "mutated", "large"),
    }


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (get(b"/participants/ALIAS/a"), Answer(500, JSON, b"{}")),
        (get(b"/participants/ALIAS/a"), Answer(400, JSON)),
        (get(b"/participants/ALIAS/a"), Answer(404, {}, REFUSAL % b"x")),
        (get(b"/participants/ALIAS/a"), Answer(400, JSON, REFUSAL % (b"x" * 129))),
        (get(b"/participants/ALIAS/a"), Answer(400, JSON, REFUSAL % b'","extensionList":"')),
        (get(b"/participants/ALIAS/%73ecret"), Answer(400, JSON, REFUSAL % b"no secret here")),
        (get(b"/participants/ALIAS/a"), Answer(200, JSON, b'{"partyList":[{"fspId":"a"},{"fspId":"b"}]}')),
    ],
)
def test_a_bad_answer_is_noticed(raw: bytes, answer: Answer) -> None:
    report = storm.Report()
    storm.settle(Shot("test", raw), answer, report)
    assert len(report.problems) == 1


def test_a_change_that_no_request_asked_for_is_noticed() -> None:
    report = storm.Report()
    raw = post(b"/participants/ALIAS/a", b"{}").replace(b"payerfsp", b"mallory")
    storm.settle(Shot("test", raw), Answer(201, JSON, b"{}"), report)
    accepted = ("aliases", "ALIAS", "a", "mallory", "", "", "")
    storm.explain(set(), {accepted, ("fsps", "mallory", "active")}, report)
    assert not report.problems
    for row in (
        ("aliases", "ALIAS", "b", "mallory", "", "", ""),
        ("aliases", "ALIAS", "a", "strangerfsp", "", "", ""),
        ("aliases", "ALIAS", "a", shots.VICTIM, "", "", ""),
        ("fsps", "strangerfsp", "active"),
    ):
        report.problems.clear()
        storm.explain({accepted, row}, {accepted}, report)
        assert len(report.problems) == 1, row


def test_the_same_seed_is_the_same_storm() -> None:
    assert list(shots.stream(Random(7), 500)) == list(shots.stream(Random(7), 500))

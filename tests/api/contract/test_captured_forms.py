"""The oracle answers each captured request of an ALS in the one form that ALS understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import pytest
from hub import als, captured, shapes
from hub.messages import PartyList
from hub.process import Hub, running_oracle
from hub.wire import Answer, Wire, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oracle.run.embedded import PostgresServer, ValkeyServer

READ: Final[dict[bytes, Callable[[Answer], object]]] = {
    b"GET": als.lookup,
    b"POST": als.registered,
    b"PUT": als.replaced,
    b"DELETE": als.removed,
}


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    directory: Path = tmp_path_factory.mktemp("oracle")
    with running_oracle(postgres_template, valkey_server, directory) as hub:
        yield hub


def read_as_als(raw: bytes) -> Callable[[Answer], object]:
    return READ[raw.split(b" ", 1)[0]]


@pytest.mark.parametrize("case", captured.CASES, ids=lambda case: case.name)
def test_a_captured_request_gets_the_answer_that_als_needs(hub: Hub, case: captured.Case) -> None:
    with Wire(hub.port) as wire:
        for raw in case.given:
            read_as_als(raw)(wire.ask(raw))
        answer = wire.ask(case.raw)
        if case.codes:
            shapes.refused(answer, case.status, case.codes, read_as_als(case.raw))
        else:
            assert answer.status == case.status, answer
            if case.party_list is None:
                read_as_als(case.raw)(answer)
            else:
                assert shapes.party_list(answer, case.sub_id) == case.party_list
        assert answer.closes <= case.closes, "ALS keeps its connections"
        for raw, expected in case.then:
            assert answered(wire.ask(raw), raw) == expected, raw


def answered(answer: Answer, raw: bytes) -> PartyList:
    query = raw.split(b" ", 2)[1].partition(b"?")[2].decode()
    sub_id = next((member[17:] for member in query.split("&") if member.startswith("partySubIdOrType=")), None)
    return shapes.party_list(answer, None if sub_id is None else unquote(sub_id))


@pytest.mark.parametrize("case", [case for case in captured.PATHS if case.codes], ids=lambda case: case.name)
def test_a_refusal_names_no_identifier(hub: Hub, case: captured.Case) -> None:
    answer = ask(hub.port, case.raw)
    description = answer.json()["errorInformation"]["errorDescription"]
    segment = case.raw.split(b" ", 2)[1].rsplit(b"/", 1)[-1].decode()
    assert segment not in description
    assert len(segment) < 3 or unquote(segment, errors="replace") not in description


def test_each_case_stands_alone() -> None:
    """No two cases share an alias, so their order does not matter."""
    owner: dict[bytes, str] = {}
    for case in captured.CASES:
        writes = [raw for raw in (case.raw, *case.given) if not raw.startswith(b"GET")]
        for raw in writes:
            alias = raw.split(b" ", 2)[1].partition(b"?")[0].replace(b"+", b"").replace(b"//", b"/")
            assert owner.setdefault(alias, case.name) == case.name or case.codes, alias


def test_als_as_modelled_knows_a_bad_answer() -> None:
    """The model refuses what the real ALS was seen to refuse."""
    ok = Answer(200, {}, b'{"partyList":[{"fspId":"a","partySubIdOrType":""}]}')
    assert als.lookup(ok) == "a"
    with pytest.raises(als.Callback):
        als.forward(ok)  # "" is not absent
    with pytest.raises(als.Callback):
        als.registered(Answer(200, {}, b"{}"))
    with pytest.raises(als.Callback):
        als.replaced(Answer(204))
    als.replaced(Answer(200, {}, b"{}"))
    als.removed(Answer(204))
    with pytest.raises(als.Callback) as extensions:
        als.lookup(
            Answer(
                400,
                {},
                b'{"errorInformation":{"errorCode":"3100","errorDescription":"x","extensionList":{}}}',
            )
        )
    assert not extensions.value.ours
    with pytest.raises(als.Callback) as empty:
        als.lookup(Answer(400, {}, b'{"errorInformation":{"errorCode":"3100","errorDescription":""}}'))
    assert not empty.value.ours
    with pytest.raises(als.Callback) as flat:
        als.bulk(Answer(201, {}, b'{"partyList":[{"partyIdType":"MSISDN"}]}'), [{}])
    assert flat.value.code == "2001"

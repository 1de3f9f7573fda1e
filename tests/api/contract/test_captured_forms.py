"""The oracle answers each captured request in the one form that ALS understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import pytest
from hub import als, captured, shapes
from hub.messages import PartyList
from hub.process import Hub, run_oracle
from hub.wire import Answer, Wire, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oracle.run.embedded import PostgresServer, ValkeyServer

READ: Final[dict[bytes, Callable[[Answer], object]]] = {
    b"GET": als.read_lookup,
    b"POST": als.read_post,
    b"PUT": als.read_put,
    b"DELETE": als.read_delete,
}


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    directory: Path = tmp_path_factory.mktemp("oracle")
    with run_oracle(postgres_template, valkey_server, directory) as hub:
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
            shapes.expect_refusal(answer, case.status, case.codes, read_as_als(case.raw))
        else:
            assert answer.status == case.status, answer
            if case.party_list is None:
                read_as_als(case.raw)(answer)
            else:
                assert shapes.expect_party_list(answer, case.sub_id) == case.party_list
        assert answer.closes <= case.closes, "ALS keeps its connections"
        for raw, expected in case.then:
            assert read_lookup(wire.ask(raw), raw) == expected, raw


def read_lookup(answer: Answer, raw: bytes) -> PartyList:
    query = raw.split(b" ", 2)[1].partition(b"?")[2].decode()
    sub_id = next((member[17:] for member in query.split("&") if member.startswith("partySubIdOrType=")), None)
    return shapes.expect_party_list(answer, None if sub_id is None else unquote(sub_id))


@pytest.mark.parametrize("case", [case for case in captured.PATHS if case.codes], ids=lambda case: case.name)
def test_a_refusal_names_no_identifier(hub: Hub, case: captured.Case) -> None:
    answer = ask(hub.port, case.raw)
    description = answer.json()["errorInformation"]["errorDescription"]
    segment = case.raw.split(b" ", 2)[1].rsplit(b"/", 1)[-1].decode()
    assert segment not in description
    assert len(segment) < 3 or unquote(segment, errors="replace") not in description


def test_no_two_cases_share_an_alias() -> None:
    """So the order of the cases does not matter."""
    owner: dict[bytes, str] = {}
    for case in captured.CASES:
        writes = [raw for raw in (case.raw, *case.given) if not raw.startswith(b"GET")]
        for raw in writes:
            alias = raw.split(b" ", 2)[1].partition(b"?")[0].replace(b"+", b"").replace(b"//", b"/")
            assert owner.setdefault(alias, case.name) == case.name or case.codes, alias


def test_the_model_of_als_refuses_a_bad_answer() -> None:
    """The model refuses the answers that the real ALS refused."""
    ok = Answer(200, {}, b'{"partyList":[{"fspId":"a","partySubIdOrType":""}]}')
    assert als.read_lookup(ok) == "a"
    with pytest.raises(als.Callback):
        als.read_parties(ok)  # "" is not absent
    with pytest.raises(als.Callback):
        als.read_post(Answer(200, {}, b"{}"))
    with pytest.raises(als.Callback):
        als.read_put(Answer(204))
    als.read_put(Answer(200, {}, b"{}"))
    als.read_delete(Answer(204))
    with pytest.raises(als.Callback) as extensions:
        als.read_lookup(
            Answer(
                400,
                {},
                b'{"errorInformation":{"errorCode":"3100","errorDescription":"x","extensionList":{}}}',
            )
        )
    assert not extensions.value.ours
    with pytest.raises(als.Callback) as empty:
        als.read_lookup(Answer(400, {}, b'{"errorInformation":{"errorCode":"3100","errorDescription":""}}'))
    assert not empty.value.ours
    with pytest.raises(als.Callback) as flat:
        als.read_bulk(Answer(201, {}, b'{"partyList":[{"partyIdType":"MSISDN"}]}'), [{}])
    assert flat.value.code == "2001"

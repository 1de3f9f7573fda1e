"""Calls of ALS that belong together, and calls on one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hub import als, shapes
from hub.messages import INTER_SCHEME, ISO, MINE, PARTICIPANTS, PARTIES, PAYER, STRANGER, SUB, delete, get, post, put
from hub.process import FSPS, Hub, run_oracle
from hub.wire import Wire, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer, ValkeyServer


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with run_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        yield hub


def test_one_connection_serves_any_number_of_requests(hub: Hub) -> None:
    """Lookups, writes, refusals and unwanted removals in turn: ALS never needs another socket."""
    with Wire(hub.port) as wire:
        for n in range(250):
            target = b"/participants/MSISDN/5255124%05d" % n
            als.read_post(wire.ask(post(target, PAYER)))
            assert shapes.expect_party_list(wire.ask(get(target, PARTIES))) == MINE
            assert wire.ask(get(b"/participants/ALIAS/d&")).status == 400
            assert wire.ask(post(target, b"not json")).status == 400
            als.read_delete(wire.ask(delete(target, PARTIES)))
            als.read_delete(wire.ask(delete(target)))
            assert shapes.expect_party_list(wire.ask(get(target))) == []
        assert wire.opened == 1


def test_pipelined_requests_are_answered_in_their_order(hub: Hub) -> None:
    targets = [b"/participants/MSISDN/5255125%05d" % n for n in range(100)]
    with Wire(hub.port) as wire:
        for target in targets[::2]:
            als.read_post(wire.ask(post(target, PAYER)))
        wire.send(b"".join(map(get, targets)))
        assert [shapes.expect_party_list(wire.receive()) for _ in targets] == [MINE, []] * 50


def test_a_registration_is_seen_by_the_next_lookup(hub: Hub) -> None:
    """Also on another connection, and just after a lookup that found nothing."""
    with Wire(hub.port) as writer, Wire(hub.port) as reader:
        for n in range(100):
            target = b"/participants/MSISDN/5255126%05d" % n
            assert shapes.expect_party_list(reader.ask(get(target))) == []
            als.read_post(writer.ask(post(target, PAYER)))
            assert shapes.expect_party_list(reader.ask(get(target))) == MINE
            als.read_put(writer.ask(put(target, b'{"fspId":"payerfsp","currency":"MXN"}')))
            assert shapes.expect_party_list(reader.ask(get(target))) == [{"fspId": "payerfsp", "currency": "MXN"}]
            als.read_delete(writer.ask(delete(target)))
            assert shapes.expect_party_list(reader.ask(get(target))) == []


@pytest.mark.parametrize("sub_id", ["", "NATIONAL_REGISTRATION"])
def test_validated_removal_by_the_owner(hub: Hub, sub_id: str) -> None:
    """DELETE_PARTICIPANT_VALIDATION_ENABLED: GET, always without a SubId, then DELETE."""
    target = b"/participants/PERSONAL_ID/12-OUKAMA-N-70000%d" % bool(sub_id)
    with Wire(hub.port) as wire:
        body = SUB % sub_id.encode() if sub_id else PAYER
        als.read_post(wire.ask(post(target, body)))
        als.check_removal(wire.ask(get(target)), "payerfsp")
        als.read_delete(wire.ask(delete(target)))
        assert shapes.expect_party_list(wire.ask(get(target))) == []


def test_validated_removal_by_a_stranger(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512370001"
    with Wire(hub.port) as wire:
        als.read_post(wire.ask(post(target, PAYER)))
        with pytest.raises(als.Callback) as callback:
            als.check_removal(wire.ask(get(target, STRANGER)), "strangerfsp")
        assert callback.value.code == "3040"
        # Without the validation ALS sends the DELETE at once.
        shapes.expect_refusal(wire.ask(delete(target, STRANGER)), 403, {"3040"}, als.read_delete)
        assert shapes.expect_party_list(wire.ask(get(target))) == MINE


def test_a_proxy_remembers_an_fsp_that_the_directory_does_not_know(hub: Hub) -> None:
    """With registration `auto` it becomes a provisional FSP, as with a registration."""
    target = b"/participants/MSISDN/525512370002"
    headers = INTER_SCHEME.replace(b"source: remotefsp", b"source: newremotefsp")
    with Wire(hub.port) as wire:
        remembered = post(target, b'{"fspId":"newremotefsp"}', headers)
        als.read_proxy_post(wire.ask(remembered))
        als.read_proxy_post(wire.ask(remembered))
        assert als.read_parties(wire.ask(get(target, PARTIES))) == ["newremotefsp"]


def test_a_lookup_has_the_same_answer_for_every_source(hub: Hub) -> None:
    """The URL is the key of ALS's cache of lookups: DFSPs share the answers."""
    targets = [b"/participants/MSISDN/525512370003", b"/participants/MSISDN/525512370004"]
    sources = [*(fsp.encode() for fsp in FSPS), b"nosuchfsp", b"Hub", b"", b"x" * 33, b"a b"]
    with Wire(hub.port) as wire:
        als.read_post(wire.ask(post(targets[0], PAYER)))
        for target in targets:
            bodies = {
                wire.ask(get(target, headers.replace(b"fspiop-source: payerfsp", b"fspiop-source: " + source))).body
                for source in sources
                for headers in (PARTICIPANTS, PARTIES, ISO)
            }
            assert len(bodies) == 1


def test_the_first_registration_of_an_fsp_creates_it(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512370006"
    headers = PARTICIPANTS.replace(b"source: payerfsp", b"source: brandnewfsp")
    with Wire(hub.port) as wire:
        als.read_post(wire.ask(post(target, b'{"fspId":"brandnewfsp"}', headers)))
        assert shapes.expect_party_list(wire.ask(get(target))) == [{"fspId": "brandnewfsp"}]


def test_pieces_of_a_request_may_arrive_one_by_one(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512370005"
    raw = post(target, PAYER)
    with Wire(hub.port) as wire:
        for at in range(len(raw)):
            wire.send(raw[at : at + 1])
        als.read_post(wire.receive())
        assert shapes.expect_party_list(wire.ask(get(target))) == MINE


def test_health_as_a_hub_expects_it(hub: Hub) -> None:
    answer = ask(hub.port, get(b"/health"))
    assert answer.status == 200
    health = answer.json()
    assert health["status"] == "OK"
    assert health["uptime"] >= 0
    assert health["versionNumber"]
    assert health["compiled"] in (True, False)
    assert {service["name"]: service["status"] for service in health["services"]} == {
        "datastore": "OK",
        "cache": "OK",
    }
    assert ask(hub.port, get(b"/live")).status == 200
    assert ask(hub.port, get(b"/ready")).status == 200

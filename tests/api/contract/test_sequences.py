"""What ALS does in several calls, and on one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hub import als, shapes
from hub.messages import INTER_SCHEME, ISO, MINE, PARTICIPANTS, PARTIES, PAYER, STRANGER, SUB, delete, get, post, put
from hub.process import FSPS, Hub, running_oracle
from hub.wire import Wire, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer, ValkeyServer


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with running_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        yield hub


def test_one_connection_serves_any_number_of_requests(hub: Hub) -> None:
    """Lookups, writes, refusals and unwanted removals in turn: ALS never has to open another socket."""
    with Wire(hub.port) as wire:
        for n in range(250):
            target = b"/participants/MSISDN/5255124%05d" % n
            als.registered(wire.ask(post(target, PAYER)))
            assert shapes.party_list(wire.ask(get(target, PARTIES))) == MINE
            assert wire.ask(get(b"/participants/ALIAS/d&")).status == 400
            assert wire.ask(post(target, b"not json")).status == 400
            als.removed(wire.ask(delete(target, PARTIES)))
            als.removed(wire.ask(delete(target)))
            assert shapes.party_list(wire.ask(get(target))) == []
        assert wire.opened == 1


def test_pipelined_requests_are_answered_in_their_order(hub: Hub) -> None:
    targets = [b"/participants/MSISDN/5255125%05d" % n for n in range(100)]
    with Wire(hub.port) as wire:
        for target in targets[::2]:
            als.registered(wire.ask(post(target, PAYER)))
        wire.send(b"".join(map(get, targets)))
        assert [shapes.party_list(wire.receive()) for _ in targets] == [MINE, []] * 50


def test_a_registration_is_seen_by_the_next_lookup(hub: Hub) -> None:
    """On another connection, and where the alias was just looked up in vain."""
    with Wire(hub.port) as writer, Wire(hub.port) as reader:
        for n in range(100):
            target = b"/participants/MSISDN/5255126%05d" % n
            assert shapes.party_list(reader.ask(get(target))) == []
            als.registered(writer.ask(post(target, PAYER)))
            assert shapes.party_list(reader.ask(get(target))) == MINE
            als.replaced(writer.ask(put(target, b'{"fspId":"payerfsp","currency":"MXN"}')))
            assert shapes.party_list(reader.ask(get(target))) == [{"fspId": "payerfsp", "currency": "MXN"}]
            als.removed(writer.ask(delete(target)))
            assert shapes.party_list(reader.ask(get(target))) == []


@pytest.mark.parametrize("sub_id", ["", "NATIONAL_REGISTRATION"])
def test_validated_removal_by_the_owner(hub: Hub, sub_id: str) -> None:
    """DELETE_PARTICIPANT_VALIDATION_ENABLED: GET, without SubId whatever the DFSP said, then DELETE."""
    target = b"/participants/PERSONAL_ID/12-OUKAMA-N-70000%d" % bool(sub_id)
    with Wire(hub.port) as wire:
        body = SUB % sub_id.encode() if sub_id else PAYER
        als.registered(wire.ask(post(target, body)))
        als.may_remove(wire.ask(get(target)), "payerfsp")
        als.removed(wire.ask(delete(target)))
        assert shapes.party_list(wire.ask(get(target))) == []


def test_validated_removal_by_a_stranger(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512370001"
    with Wire(hub.port) as wire:
        als.registered(wire.ask(post(target, PAYER)))
        with pytest.raises(als.Callback) as callback:
            als.may_remove(wire.ask(get(target, STRANGER)), "strangerfsp")
        assert callback.value.code == "3040"
        # Without the validation ALS asks straight away.
        shapes.refused(wire.ask(delete(target, STRANGER)), 403, {"3040"}, als.removed)
        assert shapes.party_list(wire.ask(get(target))) == MINE


def test_what_a_proxy_remembered_gives_way_to_nobody_but_its_fsp(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512370002"
    with Wire(hub.port) as wire:
        remembered = post(target, b'{"fspId":"remotefsp"}', INTER_SCHEME)
        als.cached(wire.ask(remembered))
        als.cached(wire.ask(remembered))
        shapes.refused(wire.ask(post(target, PAYER)), 409, {"3003"}, als.registered)
        assert als.forward(wire.ask(get(target, PARTIES))) == ["remotefsp"]


def test_a_lookup_is_the_same_whoever_asks(hub: Hub) -> None:
    """ALS's cache of lookups has the URL as its key: one DFSP gets what was answered to another."""
    targets = [b"/participants/MSISDN/525512370003", b"/participants/MSISDN/525512370004"]
    sources = [*(fsp.encode() for fsp in FSPS), b"nosuchfsp", b"Hub", b"", b"x" * 33, b"a b"]
    with Wire(hub.port) as wire:
        als.registered(wire.ask(post(targets[0], PAYER)))
        for target in targets:
            bodies = {
                wire.ask(get(target, headers.replace(b"fspiop-source: payerfsp", b"fspiop-source: " + source))).body
                for source in sources
                for headers in (PARTICIPANTS, PARTIES, ISO)
            }
            assert len(bodies) == 1


def test_an_fsp_that_the_hub_knows_needs_no_other_introduction(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512370006"
    headers = PARTICIPANTS.replace(b"source: payerfsp", b"source: brandnewfsp")
    with Wire(hub.port) as wire:
        als.registered(wire.ask(post(target, b'{"fspId":"brandnewfsp"}', headers)))
        assert shapes.party_list(wire.ask(get(target))) == [{"fspId": "brandnewfsp"}]


def test_pieces_of_a_request_may_arrive_one_by_one(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512370005"
    raw = post(target, PAYER)
    with Wire(hub.port) as wire:
        for at in range(len(raw)):
            wire.send(raw[at : at + 1])
        als.registered(wire.receive())
        assert shapes.party_list(wire.ask(get(target))) == MINE


def test_health_as_a_hub_expects_it(hub: Hub) -> None:
    answer = ask(hub.port, get(b"/health"))
    assert answer.status == 200
    health = answer.json()
    assert health["status"] == "OK"
    assert health["uptime"] >= 0
    assert health["versionNumber"]
    assert {service["name"]: service["status"] for service in health["services"]} == {
        "datastore": "OK",
        "cache": "OK",
    }
    assert ask(hub.port, get(b"/live")).status == 200
    assert ask(hub.port, get(b"/ready")).status == 200

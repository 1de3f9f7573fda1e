"""Participants after the sync answer: what the directory does, and what FSPs are told (sections 3 to 5)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import pytest_asyncio
import servers
from harness import row
from msgspec.structs import replace
from recorder import Fsp, Message, Scheme, open_fsps

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.callbacks import Callbacks
from oracle.api.dfsp.directory import BulkItem, Directory, Entry, OwnDirectory
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.participants import ParticipantRequests
from oracle.api.hub.slices import Slices
from oracle.calls import Calls
from oracle.identifiers import Reading
from oracle.run.wiring import open_store
from oracle.scheme import base
from oracle.settings import Settings
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from oracle.run.embedded import PostgresServer, ValkeyServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST_ID = "b51ec534-ee48-4575-b6a9-ead2955b8069"


class Own:
    """All types are answered by one directory."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def choose(self, _party_id_type: str, _currency: str | None) -> Directory:
        return self.directory


@dataclass
class Service:
    """A directory, two FSPs, and an MSISDN that nobody else uses."""

    requests: ParticipantRequests
    directory: OwnDirectory
    scheme: Scheme
    payer: Fsp
    payee: Fsp
    own: Own
    database_url: str
    party: Party

    @property
    def path(self) -> str:
        return f"/cb/participants/MSISDN/{self.party.identifier}"

    def ask(self, method: str, party: Party | None = None, **parts: Any) -> Asked:
        known: dict[str, Any] = {"source": "payerfsp", "headers": [], "party": party or self.party}
        return Asked(method=method, resource="participants", **(known | parts))

    async def find(self, party: Party | None = None, currency: str | None = None) -> list[Entry]:
        party = party or self.party
        return list(await self.directory.find(self.ask("GET", party), party, currency))

    async def register(self, party: Party | None = None, fsp_id: str = "payeefsp", **content: Any) -> Message:
        await self.requests.post(self.ask("POST", party, source=fsp_id, content={"fspId": fsp_id, **content}))
        fsp = self.payee if fsp_id == "payeefsp" else self.payer
        return await fsp.take()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(postgres_template: PostgresServer, valkey_server: ValkeyServer) -> AsyncIterator[Service]:
    name = await servers.make_database(postgres_template)
    url = postgres_template.url(name)
    async with open_service(url, valkey_server.url()) as opened:
        yield opened
    await servers.drop_database(postgres_template, name)


NUMBERS = count(1000)


@pytest_asyncio.fixture(loop_scope="module")
async def service(shared: Service) -> Service:
    for fsp in (shared.payer, shared.payee):
        fsp.answer, fsp.messages = (lambda _: 200), []
    shared.scheme.missing.clear()
    shared.scheme.away = False
    party = Party("MSISDN", f"52551234{next(NUMBERS)}")
    return dataclasses.replace(shared, party=party)


@asynccontextmanager
async def open_service(database_url: str, redis_url: str) -> AsyncIterator[Service]:
    metrics = Metrics.open(None, "hub", 0)
    settings = Settings(database_url=database_url, redis_url=redis_url, fsp_registration="auto")
    async with AsyncExitStack() as stack:
        stack.callback(metrics.close)
        store = await stack.enter_async_context(open_store(settings, metrics))
        payer, payee = await stack.enter_async_context(open_fsps("payerfsp", "payeefsp"))
        calls = Calls(metrics)
        stack.push_async_callback(calls.close)
        scheme = Scheme([payer, payee])
        callbacks = Callbacks(scheme, calls, hub_name="Hub", signer=None, iso20022=False, metrics=metrics)
        slices = Slices()
        directory = OwnDirectory(
            store.lookups, store.changes, store.routes, metrics, reading=Reading(), change_timeout_s=20, slices=slices
        )
        stack.push_async_callback(directory.close)
        own = Own(directory)
        requests = ParticipantRequests(own, callbacks, scheme, slices=slices)
        yield Service(requests, directory, scheme, payer, payee, own, database_url, Party("MSISDN", ""))


def read_error(message: Message) -> tuple[str, str]:
    information = json.loads(message.body)["errorInformation"]
    return information["errorCode"], information["errorDescription"]


async def fetch(database_url: str, query: str, *parameters: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database_url)
    try:
        return list(await connection.fetch(query, *parameters))
    finally:
        await connection.close()


# GET --------------------------------------------------------------------------------------------------------------


async def test_a_lookup_is_answered_with_the_fsp_alone(service: Service) -> None:
    await service.register(currency="MXN")
    await service.requests.get(service.ask("GET"))
    message = await service.payer.take()
    assert (message.method, message.target) == ("PUT", service.path)
    assert message.body == b'{"fspId":"payeefsp"}'
    assert message.header("fspiop-destination") == "payerfsp"


async def test_a_lookup_with_a_sub_id_is_answered_at_the_endpoint_for_it(service: Service) -> None:
    party = Party("BUSINESS", "corner", "till+7,a")
    await service.register(party)
    await service.requests.get(service.ask("GET", party))
    message = await service.payer.take()
    assert message.target == "/cb/participants/BUSINESS/corner/till+7,a"
    assert message.body == b'{"fspId":"payeefsp"}'
    await service.requests.get(service.ask("GET", Party("BUSINESS", "corner")))
    assert read_error(await service.payer.take()) == ("3204", "Party not found")


async def test_the_currency_of_a_lookup_is_honoured(service: Service) -> None:
    await service.register(currency="MXN")
    for currency, found in (("MXN", True), ("USD", False), (None, True)):
        await service.requests.get(service.ask("GET", currency=currency))
        message = await service.payer.take()
        assert message.target.endswith("/error") is not found


async def test_the_answer_goes_to_the_source_also_if_the_request_names_a_destination(service: Service) -> None:
    await service.register()
    await service.requests.get(service.ask("GET", destination="payeefsp"))
    message = await service.payer.take()
    assert message.header("fspiop-destination") == "payerfsp"


@pytest.mark.parametrize(
    ("party", "detail"),
    [
        (Party("MSISDN", "abc"), "Invalid MSISDN identifier"),
        (Party("EMAIL", "not-an-email"), "Invalid EMAIL identifier"),
        (Party("IBAN", "mx12"), "Invalid IBAN identifier"),
        (Party("ALIAS", "a<b>"), "Invalid ALIAS identifier"),
        (Party("ALIAS", "a\u0007"), "Invalid ALIAS identifier"),
        (Party("ALIAS", "a", "x" * 129), "Invalid partySubIdOrType"),
        (Party("ALIAS", "a", "{x}"), "Invalid partySubIdOrType"),
    ],
)
async def test_an_invalid_identifier_is_told_for_every_method(service: Service, party: Party, detail: str) -> None:
    work = service.requests
    content = {"fspId": "payerfsp"}
    for call, method in ((work.get, "GET"), (work.post, "POST"), (work.put, "PUT"), (work.delete, "DELETE")):
        await call(service.ask(method, party, content=content))
        message = await service.payer.take()
        assert message.target.endswith("/error")
        assert read_error(message) == ("3101", f"Malformed syntax - {detail}")


async def test_the_directory_says_what_is_wrong_with_an_identifier(service: Service) -> None:
    await service.requests.get(service.ask("GET", Party("MSISDN", "+52")))
    code, description = read_error(await service.payer.take())
    assert code == "3101"
    assert description.startswith("Malformed syntax - MSISDN: ")
    assert "52" not in description


# POST and PUT -----------------------------------------------------------------------------------------------------


async def test_a_registration_is_answered_with_its_echo(service: Service) -> None:
    message = await service.register(currency="MXN", extensionList={"extension": [{"key": "a", "value": "b"}]})
    assert message.target == service.path
    assert message.body == (
        b'{"partyList":[{"partyIdType":"MSISDN","partyIdentifier":"%b","fspId":"payeefsp"}],"currency":"MXN"}'
        % service.party.identifier.encode()
    )
    assert await service.find() == [Entry("payeefsp", None, "MXN")]


async def test_a_registration_with_a_sub_id_in_the_path_or_the_body(service: Service) -> None:
    message = await service.register(Party("BUSINESS", "acme", "till"), partySubIdOrType="ignored")
    assert message.target == "/cb/participants/BUSINESS/acme/till"
    assert message.body == (
        b'{"partyList":[{"partyIdType":"BUSINESS","partyIdentifier":"acme","fspId":"payeefsp",'
        b'"partySubIdOrType":"till"}]}'
    )
    message = await service.register(Party("BUSINESS", "acme"), partySubIdOrType="shop")
    assert message.target == "/cb/participants/BUSINESS/acme"
    assert b'"partySubIdOrType":"shop"' in message.body
    assert await service.find(Party("BUSINESS", "acme", "shop")) == [Entry("payeefsp", "shop", "")]
    assert await service.find(Party("BUSINESS", "acme", "ignored")) == []


async def test_the_answer_to_a_registration_goes_to_the_fsp_that_it_names(service: Service) -> None:
    asked = service.ask("POST", content={"fspId": "payerfsp"}, destination="payeefsp")
    await service.requests.post(asked)
    message = await service.payee.take()
    assert message.header("fspiop-destination") == "payeefsp"
    assert not service.payer.messages
    await service.requests.post(service.ask("POST", content={"fspId": "payerfsp"}, destination="Hub"))
    await service.payer.take()


async def test_the_alias_of_another_fsp_is_refused(service: Service) -> None:
    await service.register()
    await service.requests.post(service.ask("POST", content={"fspId": "payerfsp"}))
    message = await service.payer.take()
    assert message.target == service.path + "/error"
    assert read_error(message) == ("3003", "Add Party information error - Already registered by another FSP")
    await service.requests.put(service.ask("PUT", content={"fspId": "payerfsp", "currency": "MXN"}))
    assert read_error(await service.payer.take())[0] == "3003"
    await service.requests.delete(service.ask("DELETE"))
    assert read_error(await service.payer.take())[0] == "3040"
    assert await service.find() == [Entry("payeefsp")]


async def test_an_fsp_cannot_act_for_another_one(service: Service) -> None:
    for call, method in ((service.requests.post, "POST"), (service.requests.put, "PUT")):
        await call(service.ask(method, content={"fspId": "payeefsp"}))
        assert read_error(await service.payer.take())[0] == "3003"
    assert await service.find() == []


async def test_an_update_changes_the_currency_and_needs_no_fsp_id(service: Service) -> None:
    await service.register(fsp_id="payerfsp", currency="MXN")
    await service.requests.put(service.ask("PUT", content={"currency": "USD"}))
    message = await service.payer.take()
    assert json.loads(message.body) == {
        "partyList": [{"partyIdType": "MSISDN", "partyIdentifier": service.party.identifier, "fspId": "payerfsp"}],
        "currency": "USD",
    }
    await service.requests.put(service.ask("PUT", content={}))
    assert b"currency" not in (await service.payer.take()).body
    assert await service.find() == [Entry("payerfsp", None, "USD")]
    await service.requests.put(service.ask("PUT", Party("MSISDN", "525512345679"), content={}))
    assert read_error(await service.payer.take()) == ("3204", "Party not found")


async def test_two_currencies_of_one_request_must_agree(service: Service) -> None:
    await service.requests.post(service.ask("POST", currency="USD", content={"fspId": "payerfsp", "currency": "MXN"}))
    assert read_error(await service.payer.take())[0] == "3101"
    await service.requests.post(service.ask("POST", currency="USD", content={"fspId": "payerfsp"}))
    await service.payer.take()
    assert await service.find() == [Entry("payerfsp", None, "USD")]


async def test_history_names_the_channel_and_the_fsp(service: Service) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await service.requests.post(service.ask("POST", content={"fspId": "payerfsp"}, traceparent=trace))
    await service.payer.take()
    await service.requests.delete(service.ask("DELETE"))
    await service.payer.take()
    rows = await fetch(
        service.database_url,
        "SELECT action, channel, actor, role, trace_id FROM events WHERE party_identifier = $1 ORDER BY event_id",
        service.party.identifier,
    )
    assert [tuple(row) for row in rows] == [
        ("registered", "account-lookup", "payerfsp", "fsp", trace[3:35]),
        ("removed", "account-lookup", "payerfsp", "fsp", None),
    ]


# DELETE -----------------------------------------------------------------------------------------------------------


async def test_a_removal_is_answered_without_an_fsp(service: Service) -> None:
    await service.register(fsp_id="payerfsp")
    await service.requests.delete(service.ask("DELETE"))
    message = await service.payer.take()
    assert (message.target, message.body) == (service.path, b"{}")
    assert await service.find() == []
    await service.requests.delete(service.ask("DELETE"))
    assert read_error(await service.payer.take()) == ("3204", "Party not found")


async def test_a_removal_keeps_to_its_sub_id_and_its_currency(service: Service) -> None:
    plain, named = Party("BUSINESS", "bakery"), Party("BUSINESS", "bakery", "till")
    await service.register(named, "payerfsp", currency="MXN")
    await service.requests.delete(service.ask("DELETE", plain))  # there is none without a SubId
    assert read_error(await service.payer.take())[0] == "3204"
    await service.requests.delete(service.ask("DELETE", named, currency="USD"))
    assert read_error(await service.payer.take())[0] == "3204"
    assert await service.find(named) == [Entry("payerfsp", "till", "MXN")]
    await service.register(plain, "payerfsp")
    await service.requests.delete(service.ask("DELETE", named, currency="MXN"))
    assert (await service.payer.take()).target == "/cb/participants/BUSINESS/bakery/till"
    assert await service.find(named) == []
    assert await service.find(plain) == [Entry("payerfsp")]


async def test_an_fsp_that_knows_no_callback_for_a_removal_gets_no_error_for_it(service: Service) -> None:
    await service.register(fsp_id="payerfsp")
    service.payer.answer = lambda _: 501
    await service.requests.delete(service.ask("DELETE"))
    assert len(service.payer.messages) == 1
    assert await service.find() == []


# Callbacks that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "word"), [(500, "500"), (404, "404"), (None, "no answer")])
async def test_a_callback_that_fails_becomes_one_error_callback(
    service: Service, status: int | None, word: str
) -> None:
    await service.register()
    service.payer.answer = lambda message: 200 if message.target.endswith("/error") else status
    await service.requests.get(service.ask("GET"))
    first, second = await service.payer.wait(2)
    assert first.body == b'{"fspId":"payeefsp"}'
    assert second.target == service.path + "/error"
    information = json.loads(second.body)["errorInformation"]
    assert information["errorCode"] == "1001"
    assert information["extensionList"] == {"extension": [{"key": "status", "value": word}]}
    assert len(service.payer.messages) == 2


async def test_a_missing_endpoint_is_found_before_anything_is_written(service: Service) -> None:
    service.scheme.missing.add(("payerfsp", base.PARTICIPANT_PUT))
    await service.requests.post(service.ask("POST", content={"fspId": "payerfsp"}))
    message = await service.payer.take()
    assert message.target.endswith("/error")
    assert read_error(message) == (
        "1001",
        "Destination communication error - no FSPIOP_CALLBACK_URL_PARTICIPANT_PUT endpoint for the FSP",
    )
    assert await service.find() == []


async def test_an_answer_for_an_unknown_destination_is_refused_before_anything_is_written(service: Service) -> None:
    await service.requests.post(service.ask("POST", content={"fspId": "payerfsp"}, destination="nosuch"))
    assert read_error(await service.payer.take())[0] == "1001"
    assert await service.find() == []


@pytest.mark.parametrize(
    ("party", "answer_type", "error_type"),
    [
        (Party("MSISDN", "1"), base.PARTICIPANT_PUT, base.PARTICIPANT_PUT_ERROR),
        (Party("MSISDN", "1", "S"), base.PARTICIPANT_SUB_ID_PUT, base.PARTICIPANT_SUB_ID_PUT_ERROR),
        (None, base.PARTICIPANT_BATCH_PUT, base.PARTICIPANT_BATCH_PUT_ERROR),
    ],
)
async def test_a_change_whose_refusal_nobody_could_be_told_is_refused_at_once(
    service: Service, party: Party | None, answer_type: str, error_type: str
) -> None:
    lookup, change = (replace(service.ask(method), party=party) for method in ("GET", "POST"))
    service.scheme.missing.add(("payerfsp", answer_type))
    await service.requests.check_endpoints(change)  # the error can be sent
    service.scheme.missing = {("payerfsp", error_type)}
    await service.requests.check_endpoints(lookup)  # the answer can be sent
    for asked in (change, lookup):
        with pytest.raises(Fault) as caught:
            await service.requests.check_endpoints(asked)
        assert (caught.value.status, caught.value.code) == (400, "1001")
        assert caught.value.description == f"Destination communication error - no {error_type} endpoint for the FSP"
        service.scheme.missing.add(("payerfsp", answer_type))


async def test_a_request_of_an_unknown_fsp_is_refused_at_once(service: Service) -> None:
    with pytest.raises(Fault) as caught:
        await service.requests.check_endpoints(service.ask("GET", source="nosuch"))
    assert caught.value.description == "Generic ID not found - Requester FSP not found"
    service.scheme.away = True
    with pytest.raises(Fault) as caught:
        await service.requests.check_endpoints(service.ask("GET"))
    assert (caught.value.status, caught.value.code) == (503, "2003")


async def test_a_directory_that_fails_is_told_with_2003(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> list[Entry]:
        raise Fault("2003", "The directory is not available; try again later")

    monkeypatch.setattr(service.own, "directory", type("Away", (), {"find": fail})())
    await service.requests.get(service.ask("GET"))
    assert read_error(await service.payer.take())[0] == "2003"


async def test_a_defect_is_told_with_2001_and_nothing_else(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> list[Entry]:
        raise RuntimeError("525512345678 at 10.0.0.1")

    monkeypatch.setattr(service.own, "directory", type("Broken", (), {"find": fail})())
    await service.requests.get(service.ask("GET"))
    assert read_error(await service.payer.take()) == ("2001", "Internal server error")


# Errors of FSPs ---------------------------------------------------------------------------------------------------

ERROR = b'{ "errorInformation" : {"errorCode":"3204", "errorDescription":"no\\u00f1"}}'


async def test_an_error_of_an_fsp_is_forwarded_byte_for_byte(service: Service) -> None:
    headers = [(b"FSPIOP-Signature", b"{}"), (b"Content-Type", b"application/x;version=1.0"), (b"Cookie", b"x")]
    asked = service.ask("PUT", is_error=True, destination="payeefsp", body=ERROR, headers=headers)
    await service.requests.put_error(asked)
    message = await service.payee.take()
    assert (message.target, message.body) == (service.path + "/error", ERROR)
    assert message.header("fspiop-signature") == "{}"
    assert message.header("content-type") == "application/x;version=1.0"
    assert "cookie" not in message.names
    await service.requests.put_error(replace(asked, party=service.party._replace(sub_id="S")))
    assert (await service.payee.take()).target == service.path + "/S/error"


@pytest.mark.parametrize("destination", [None, "nosuch"])
async def test_an_error_for_nobody_comes_back(service: Service, destination: str | None) -> None:
    await service.requests.put_error(service.ask("PUT", is_error=True, destination=destination, body=ERROR))
    message = await service.payer.take()
    assert message.target == service.path + "/error"
    assert read_error(message) == ("3201", "Destination FSP Error - Destination FSP not found")


# Bulks ------------------------------------------------------------------------------------------------------------


def make_item(party_id_type: str, identifier: str, **members: str) -> dict[str, str]:
    return {"partyIdType": party_id_type, "partyIdentifier": identifier, "fspId": "payerfsp"} | members


def ask_bulk(service: Service, items: list[dict[str, str]], **members: Any) -> Asked:
    return replace(service.ask("POST"), party=None, content={"requestId": REQUEST_ID, "partyList": items} | members)


async def test_a_bulk_has_refused_items_first_and_the_rest_type_by_type(service: Service) -> None:
    await service.register()
    items = [
        make_item("EMAIL", "a@b.mx"),
        make_item("MSISDN", "525512345670"),
        make_item("MSISDN", "525512345671", fspId="payeefsp"),
        make_item("EMAIL", "not-an-email"),
        make_item("MSISDN", service.party.identifier),
        {"partyIdType": "MSISDN", "partyIdentifier": "525512345672", "partySubIdOrType": "S"},
    ]
    await service.requests.bulk(ask_bulk(service, items, currency="MXN"))
    message = await service.payer.take()
    assert message.target == f"/cb/participants/{REQUEST_ID}"
    answer = json.loads(message.body)
    assert answer["currency"] == "MXN"
    found = [
        (item["partyId"]["partyIdentifier"], item.get("errorInformation", {}).get("errorCode"))
        for item in answer["partyList"]
    ]
    assert found == [
        ("525512345671", "3204"),
        ("a@b.mx", None),
        ("not-an-email", "3101"),
        ("525512345670", None),
        (service.party.identifier, "3003"),
        ("525512345672", None),
    ]
    refused, *_, last = answer["partyList"]
    assert refused == {
        "partyId": {"partyIdType": "MSISDN", "partyIdentifier": "525512345671", "fspId": "payeefsp"},
        "errorInformation": {
            "errorCode": "3204",
            "errorDescription": "Party not found",
            "extensionList": {"extension": [{"key": "MSISDN", "value": "525512345671"}]},
        },
    }
    assert last == {
        "partyId": {
            "partyIdType": "MSISDN",
            "partyIdentifier": "525512345672",
            "fspId": "payerfsp",
            "partySubIdOrType": "S",
        }
    }
    assert await service.find(Party("EMAIL", "a@b.mx")) == [Entry("payerfsp", None, "MXN")]
    assert await service.find(Party("MSISDN", "525512345671")) == []


async def test_a_bulk_goes_to_the_fsp_that_it_names(service: Service) -> None:
    asked = replace(ask_bulk(service, [make_item("MSISDN", service.party.identifier)]), destination="payeefsp")
    await service.requests.bulk(asked)
    assert (await service.payee.take()).target == f"/cb/participants/{REQUEST_ID}"


async def test_a_bulk_that_cannot_be_registered_at_all_is_one_error(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Own):
        async def register_many(self, *_: object) -> list[Fault | None]:
            raise Fault("2003", "The directory is not available; try again later")

    monkeypatch.setattr(service.own, "directory", Away(service.directory))
    items = [make_item("MSISDN", service.party.identifier), make_item("EMAIL", "a@b.mx")]
    await service.requests.bulk(ask_bulk(service, items))
    message = await service.payer.take()
    assert message.target == f"/cb/participants/{REQUEST_ID}/error"
    assert read_error(message)[0] == "2003"


@row("D409")
async def test_a_type_that_fails_does_not_hide_what_the_others_did(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Own):
        async def register_many(self, *_: object) -> list[Fault | None]:
            raise Fault("2003")

    def choose(party_id_type: str, _: str | None) -> object:
        return Away(service.directory) if party_id_type == "EMAIL" else service.directory

    monkeypatch.setattr(service.own, "choose", choose)
    items = [make_item("MSISDN", service.party.identifier), make_item("EMAIL", "a@b.mx")]
    await service.requests.bulk(ask_bulk(service, items))
    first, second = json.loads((await service.payer.take()).body)["partyList"]
    assert "errorInformation" not in first
    assert second["errorInformation"]["errorCode"] == "2003"


@row("B35")
async def test_bulks_beyond_the_bounds_are_refused_and_those_within_them_done(service: Service) -> None:
    requests = ParticipantRequests(
        service.own, service.requests._callbacks, service.scheme, items_max=5, items_of_source_max=3
    )
    name = service.party.identifier

    def make_bulk(source: str, number: int, count: int) -> Asked:
        items = [make_item("ALIAS", f"{name}-{number}-{at}", fspId=source) for at in range(count)]
        return replace(ask_bulk(service, items), source=source)

    bulks = [make_bulk("payerfsp", 0, 2), make_bulk("payerfsp", 1, 2), make_bulk("payeefsp", 2, 3)]
    await asyncio.gather(*map(requests.bulk, bulks), requests.bulk(make_bulk("payeefsp", 3, 1)))
    for fsp in (service.payer, service.payee):
        done, refused = sorted(fsp.messages, key=lambda message: message.target)
        assert b"errorInformation" not in done.body
        assert read_error(refused) == ("2005", "Server busy - Too many bulks are at work; try again later")
        fsp.messages.clear()
    await requests.bulk(bulks[1])
    assert b"errorInformation" not in (await service.payer.take()).body


async def test_a_bulk_of_10000_items_does_not_hold_up_lookups(service: Service) -> None:
    await service.register()
    await service.find()
    items = [make_item("ACCOUNT_ID", f"ACCOUNT-{number}") for number in range(10_000)]
    bulk = asyncio.create_task(service.requests.bulk(ask_bulk(service, items)))
    looked_up = 0
    while not bulk.done():
        await service.find()
        looked_up += 1
    await bulk
    answer = json.loads((await service.payer.take()).body)
    assert len(answer["partyList"]) == 10_000
    assert not any("errorInformation" in item for item in answer["partyList"])
    assert looked_up > 50  # of lookups one after the other, while the bulk ran
    assert await service.find(Party("ACCOUNT_ID", "ACCOUNT-9999")) == [Entry("payerfsp")]


# The directory ----------------------------------------------------------------------------------------------------


async def test_a_hint_answers_until_it_is_forgotten(service: Service) -> None:
    await service.directory.put_hint(service.ask("PUT", source="remotefsp"), service.party, "remotefsp")
    assert await service.find() == [Entry("remotefsp")]
    await service.directory.put_hint(service.ask("PUT", source="remotefsp"), service.party, "remotefsp")
    await service.directory.forget_hints(service.ask("PUT", source="remotefsp"), service.party)
    assert await service.find() == []
    await service.register()
    await service.directory.forget_hints(service.ask("PUT", source="remotefsp"), service.party)
    assert await service.find() == [Entry("payeefsp")]
    with pytest.raises(Fault) as caught:
        await service.directory.put_hint(service.ask("PUT", source="remotefsp"), service.party, "remotefsp")
    assert caught.value.code == "3003"
    rows = await fetch(
        service.database_url,
        "SELECT actor, reason FROM events WHERE action = 'ignored' AND party_identifier = $1 AND channel = 'self-heal'",
        service.party.identifier,
    )
    assert [tuple(row) for row in rows] == [("remotefsp", "hint not stored: held elsewhere")]


async def test_an_item_of_another_fsp_is_refused_also_by_the_directory(service: Service) -> None:
    asked = ask_bulk(service, [])
    (fault,) = await service.directory.register_many(asked, REQUEST_ID, [BulkItem(service.party, "payeefsp")], None)
    assert fault is not None
    assert fault.code == "3003"
    assert await service.find() == []


@row("B33")
async def test_a_directory_without_postgres_answers_2003(
    postgres_template: PostgresServer, valkey_server: ValkeyServer
) -> None:
    name = await servers.make_database(postgres_template)
    async with open_service(postgres_template.url(name), valkey_server.url()) as service:
        await service.register(Party("ALIAS", "x"))
        await servers.drop_database(postgres_template, name)
        await service.requests.post(service.ask("POST", Party("ALIAS", "y"), content={"fspId": "payerfsp"}))
        assert read_error(await service.payer.take())[0] == "2003"
        await service.requests.get(service.ask("GET", Party("ALIAS", "y")))
        assert read_error(await service.payer.take())[0] == "2003"
        await service.requests.bulk(ask_bulk(service, [make_item("ALIAS", "z")]))
        message = await service.payer.take()
        assert message.target.endswith("/error")
        assert read_error(message)[0] == "2003"

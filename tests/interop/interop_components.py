"""Mojaloop's client of FSPIOP 2.0 as payer and payee through the listener, signed and verified both ways."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dfsps import NodeDfsp, start_dfsp
from harness import Bench, open_bench
from keys import Keys

PARTY = {
    "partyIdInfo": {"partyIdType": "MSISDN", "partyIdentifier": "525512345678", "fspId": "payeefsp"},
    "name": "Juana Pérez",
    "personalInfo": {"complexName": {"firstName": "Juana", "lastName": "Pérez"}},
    "supportedCurrencies": ["MXN"],
}
PARTIES = {"MSISDN/525512345678": PARTY, "MSISDN/525599999999": "3204", "PERSONAL_ID/AAPM800101HDFRRL09": PARTY}


class Lab:
    def __init__(self, bench: Bench, payer: NodeDfsp, payee: NodeDfsp) -> None:
        self.bench = bench
        self.payer = payer
        self.payee = payee


@pytest.fixture(params=["fspiop", "iso20022"])
async def lab(request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(request.param, database_url, redis_url, tmp_path) as made:
        yield made


@asynccontextmanager
async def open_lab(api_type: str, database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Lab]:
    keys = {name: Keys() for name in ("Hub", "payerfsp", "payeefsp")}
    public = {name: pair.public for name, pair in keys.items()}
    for name in ("payerfsp", "payeefsp"):
        (tmp_path / f"{name}.pem").write_text(public[name])
    hub_key = tmp_path / "hub.key"
    hub_key.write_text(keys["Hub"].private)
    hub_key.chmod(0o600)
    settings = {
        "account_lookup_api_type": api_type,
        "jws_sign": "on",
        "jws_signing_key_file": hub_key,
        "jws_validate": "on",
        "jws_validate_put_parties": "on",
        "jws_verification_keys_dir": tmp_path,
    }
    common: dict[str, Any] = {"apiType": api_type, "keys": public}
    async with (
        open_bench(database_url, redis_url, **settings) as bench,
        start_dfsp("payerfsp", bench.port, key=keys["payerfsp"].private, **common) as payer,
        start_dfsp("payeefsp", bench.port, key=keys["payeefsp"].private, parties=PARTIES, **common) as payee,
    ):
        for dfsp in (payer, payee):
            bench.ledger.endpoints[dfsp.name] = dfsp.list_endpoints()
        yield Lab(bench, payer, payee)


def read_code(lab: Lab, body: Any) -> str:
    if lab.bench.settings.account_lookup_api_type == "iso20022":
        return str(body["Rpt"]["Rsn"]["Cd"])
    return str(body["errorInformation"]["errorCode"])


async def test_a_lookup_from_registration_to_party(lab: Lab) -> None:
    """Participants and parties, every message signed by its sender and verified by its receiver."""
    registration = {"fspId": "payeefsp", "currency": "MXN"}
    assert await lab.payee.call("postParticipant", "MSISDN", "525512345678", registration) is None
    callback = await lab.payee.receive()
    assert (callback.method, callback.url, callback.jws) == ("PUT", "/participants/MSISDN/525512345678", None)
    assert callback.json == {
        "currency": "MXN",
        "partyList": [{"fspId": "payeefsp", "partyIdType": "MSISDN", "partyIdentifier": "525512345678"}],
    }

    assert await lab.payer.call("getParticipants", "MSISDN", "525512345678") is None
    callback = await lab.payer.receive()
    assert (callback.url, callback.json, callback.jws) == (
        "/participants/MSISDN/525512345678",
        {"fspId": "payeefsp"},
        None,
    )

    assert await lab.payer.call("getParties", "MSISDN", "525512345678") is None
    forwarded = await lab.payee.receive()
    assert (forwarded.method, forwarded.headers["fspiop-destination"]) == ("GET", "payeefsp")
    answer = await lab.payer.receive()
    assert (answer.method, answer.url, answer.jws) == ("PUT", "/parties/MSISDN/525512345678", None)
    assert answer.headers["fspiop-source"] == "payeefsp", "the signature is that of the payee"
    if lab.bench.settings.account_lookup_api_type == "fspiop":
        assert answer.json == {"party": PARTY}
    else:
        assert answer.json["Rpt"]["UpdtdPtyAndAcctId"]["Acct"]["Ccy"] == "MXN"


async def test_errors_reach_the_payer_signed(lab: Lab) -> None:
    """Of the hub for an unknown party, with and without a SubId; of the payee for its own."""
    for sub_id in (None, "NATIONAL_REGISTRATION"):
        assert await lab.payer.call("getParties", "MSISDN", "525500000000", sub_id) is None
        error = await lab.payer.receive()
        place = f"/parties/MSISDN/525500000000{f'/{sub_id}' if sub_id else ''}/error"
        assert (error.url, error.headers["fspiop-uri"], error.jws) == (place, place, None)
        assert error.headers["fspiop-source"] == "Hub"
        assert read_code(lab, error.json) == "3204"

    assert await lab.payee.call("postParticipant", "MSISDN", "525599999999", {"fspId": "payeefsp"}) is None
    assert (await lab.payee.receive()).jws is None
    assert await lab.payer.call("getParties", "MSISDN", "525599999999") is None
    assert (await lab.payee.receive()).method == "GET"
    error = await lab.payer.receive()
    assert (error.url, error.headers["fspiop-source"]) == ("/parties/MSISDN/525599999999/error", "payeefsp")
    assert (read_code(lab, error.json), error.jws) == ("3204", None)


async def test_a_bulk_of_ten_thousand_accounts(lab: Lab) -> None:
    request_id = str(uuid.uuid4())
    items = [
        {"partyIdType": "MSISDN", "partyIdentifier": f"5255{number:08}", "fspId": "payeefsp"}
        for number in range(10_000_000, 10_010_000)
    ]
    assert (
        await lab.payee.call("postParticipants", {"requestId": request_id, "partyList": items, "currency": "MXN"})
        is None
    )
    answer = await lab.payee.receive()
    assert (answer.method, answer.url, answer.jws) == ("PUT", f"/participants/{request_id}", None)
    assert answer.json == {"currency": "MXN", "partyList": [{"partyId": item} for item in items]}


async def test_a_message_that_the_library_did_not_sign_is_refused(lab: Lab) -> None:
    """The library signs nothing that has no body, so its DELETE is refused, as an ALS refuses it."""
    error = await lab.payee.call("deleteParticipants", "MSISDN", "525512345678")
    assert error is not None
    assert "400" in error
    reply = await lab.bench.ask("POST", "/participants/MSISDN/525512345678", {"fspId": "payeefsp"}, source="payeefsp")
    assert (reply.status, reply.error[0]) == (400, "3105")
    assert json.loads(reply.body)["errorInformation"].keys() == {"errorCode", "errorDescription"}

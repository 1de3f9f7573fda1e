"""Mojaloop's own library verifies what we sign, we verify what it signs, and it reads our ISO 20022 errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packages import COMPONENTS, ask_library, find_package

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.faults import TEXTS, Extension, Fault, encode
from oracle.api.dfsp.iso20022 import encode_error
from oracle.api.dfsp.signatures import KeyDirectory, Signer, Validator, arrange

MADE = json.loads((Path(__file__).parents[1] / "account_lookup" / "data" / "jws.json").read_text())
KEYS = {"Hub": MADE["public key"]}
ASKED = Asked("GET", "parties", "payerfsp", [], party=Party("MSISDN", "525512345678"))


def list_bodies() -> dict[str, bytes]:
    """List bodies that the hub originates, of each kind."""
    items = [
        {"partyId": {"partyIdType": "MSISDN", "partyIdentifier": f"5255{number:08}", "fspId": "payerfsp"}}
        for number in range(10_000)
    ]
    extended = Fault("1001", "the FSP refused the message", extensions=(Extension("status", "500"),))
    return {
        "fspId": b'{"fspId":"payeefsp"}',
        "list": b'{"partyList":[{"partyIdType":"ALIAS","partyIdentifier":"d\xc3\xadas \xe2\x80\xa8","fspId":"f"}]}',
        "bulk": json.dumps({"partyList": items, "currency": "MXN"}).encode(),
        "error": encode(Fault("3204")),
        "error with extensions": encode(extended),
        "report": encode_error(ASKED, "payerfsp", Fault("3204"), "Hub"),
    }


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    file = tmp_path / "hub.key"
    file.write_text(MADE["private key"])
    file.chmod(0o600)
    return Signer(file)


async def test_the_library_verifies_what_we_sign_and_refuses_what_was_changed(signer: Signer) -> None:
    requests: list[dict[str, Any]] = []
    for body in list_bodies().values():
        headers = [
            (b"fspiop-source", b"Hub"),
            (b"fspiop-destination", b"payerfsp"),
            (b"date", b"Sat, 28 Nov 2026 10:00:00 GMT"),
        ]
        sent = await signer.sign_message("PUT", "/parties/PERSONAL_ID/12%2FOUKAMA(N)1/NRC/error", headers, body)
        named = {name.decode(): value.decode() for name, value in headers}
        good = {"do": "verify", "keys": KEYS, "headers": named, "body": json.loads(sent)}
        requests += [
            good,
            good | {"body": {**json.loads(sent), "more": 1}},
            good | {"headers": named | {"fspiop-uri": "/parties/MSISDN/1/error"}},
            good | {"headers": named | {"fspiop-destination": "payeefsp"}},
        ]
    errors = [answer["error"] for answer in ask_library(requests)]
    assert errors[::4] == [None] * len(list_bodies())
    assert None not in errors[1::4] + errors[2::4] + errors[3::4]


def test_we_verify_what_the_library_signs(tmp_path: Path) -> None:
    """And the signed messages in data/jws.json are what the library makes today."""
    requests = [
        {
            "do": "sign",
            "key": MADE["private key"],
            "method": message["method"],
            "url": f"http://dfsp.example/fsp/1.0{message['uri']}",
            **message["sent"],
        }
        for message in MADE["messages"]
    ]
    answers = ask_library(requests)
    assert answers == [message["signed"] for message in MADE["messages"]]
    for fsp_id in ("Hub", "payerfsp"):
        (tmp_path / f"{fsp_id}.pem").write_text(MADE["public key"])
    validator = Validator(KeyDirectory(tmp_path), put_parties=True)
    for message, answer in zip(MADE["messages"], answers, strict=True):
        headers = [(name.encode(), value.encode()) for name, value in answer["headers"].items()]
        assert validator.check(message["method"], message["uri"].encode(), headers, answer["body"].encode())


def test_the_library_reads_the_code_of_our_reports() -> None:
    reports = [json.loads(encode_error(ASKED, "payerfsp", Fault(code), "Hub")) for code in TEXTS]
    answers = ask_library([{"do": "read", "body": report} for report in reports])
    assert [answer["body"]["errorInformation"]["errorCode"] for answer in answers] == list(TEXTS)


def test_our_reports_fit_the_published_schema() -> None:
    """The schema closes an object whose members are all in its branches: `additionalProperties: false` beside `anyOf`.
    Read literally, it refuses every report, also those of Mojaloop.  JSON Schema has another word for what is meant.
    """
    place = find_package(COMPONENTS) / "node_modules/@mojaloop/api-snippets/lib/fspiop/v2_0_ISO20022"
    schemas = json.loads((place / "json-schemas.json").read_text())
    schema = schemas["GetPartiesError_IdentificationVerificationReportV03"]

    def mend(part: Any) -> Any:
        if isinstance(part, list):
            return [mend(each) for each in part]
        if not isinstance(part, dict):
            return part
        mended = {name: mend(each) for name, each in part.items() if name != "example"}
        if "anyOf" in mended and mended.get("additionalProperties") is False:
            mended["unevaluatedProperties"] = mended.pop("additionalProperties")
        return mended

    validator = jsonschema.Draft202012Validator(mend(schema))
    for code in TEXTS:
        report = json.loads(encode_error(ASKED, "payerfsp", Fault(code, "a detail"), "Hub"))
        validator.validate(report)
        report["Rpt"]["Rsn"]["Text"] = "no such member"
        assert not validator.is_valid(report)


def test_arranging_is_what_the_library_does() -> None:
    bodies = list_bodies().values()
    answers = ask_library(
        [
            {"do": "sign", "key": MADE["private key"], "method": "PUT", "url": "http://h/participants/1",
             "headers": {"fspiop-source": "Hub"}, "body": json.loads(body)}
            for body in bodies
        ]
    )  # fmt: skip
    assert [answer["body"].encode() for answer in answers] == [arrange(body) for body in bodies]

"""ISO 20022: errors of ours are reports that Mojaloop's schema allows, and name the request that they are about."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import jsonschema
import pytest
from harness import open_bench, row

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.faults import TEXTS, Fault
from oracle.api.dfsp.iso20022 import check_report, encode_error, make_ulid
from oracle.api.dfsp.signatures import arrange

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TEXT = {"type": "string", "minLength": 1, "maxLength": 35}


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


AGENT = closed("Agt", Agt=closed("FinInstnId", FinInstnId=closed("Othr", Othr=closed("Id", Id=TEXT))))
# What Mojaloop's FSPIOP 2.0 for ISO 20022 says about the members that we send.  tests/interop reads its own schema.
SCHEMA = closed(
    "Assgnmt",
    "Rpt",
    Assgnmt=closed(
        "MsgId",
        "CreDtTm",
        "Assgnr",
        "Assgne",
        MsgId=TEXT,
        CreDtTm={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        Assgnr=AGENT,
        Assgne=AGENT,
    ),
    Rpt=closed(
        "OrgnlId",
        "Vrfctn",
        OrgnlId=TEXT,
        Vrfctn={"type": "boolean"},
        Rsn=closed("Cd", "Prtry", Cd={"type": "string", "minLength": 1, "maxLength": 4}, Prtry=TEXT),
    ),
)


def ask(**more: Any) -> Asked:
    return Asked("GET", "parties", "payerfsp", [], party=Party("MSISDN", "525512345678"), **more)


def make_report(**changes: Any) -> dict[str, Any]:
    agent = {"Agt": {"FinInstnId": {"Othr": {"Id": "payeefsp"}}}}
    report: dict[str, dict[str, Any]] = {
        "Assgnmt": {"MsgId": "M1", "CreDtTm": "2026-11-28T04:54:43.542Z", "Assgnr": agent, "Assgne": agent},
        "Rpt": {"OrgnlId": "O1", "Vrfctn": True},
    }
    for path, value in changes.items():
        place, _, name = path.partition("__")
        if not name:
            report[place] = value
        elif value is ...:
            del report[place][name]
        else:
            report[place][name] = value
    return report


@row("J30", "D806")
@pytest.mark.parametrize("code", TEXTS)
@pytest.mark.parametrize("detail", ["", "No proxy", "a detail that is longer than thirty-five characters"])
def test_an_error_is_a_report_that_the_schema_allows(code: str, detail: str) -> None:
    body = encode_error(ask(), "payerfsp", Fault(code, detail), "Hub")
    report = json.loads(body)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report["Rpt"]["Rsn"] == {"Cd": code, "Prtry": detail if detail == "No proxy" else TEXTS[code]}
    assert report["Rpt"]["Vrfctn"] is False
    agents = [report["Assgnmt"][name]["Agt"]["FinInstnId"]["Othr"]["Id"] for name in ("Assgnr", "Assgne")]
    assert agents == ["Hub", "payerfsp"]
    created = dt.datetime.fromisoformat(report["Assgnmt"]["CreDtTm"])
    assert abs((dt.datetime.now(dt.UTC) - created).total_seconds()) < 60
    assert body == arrange(body), "a signature over it can be verified"
    check_report(report)


@row("J31", "D806")
@pytest.mark.parametrize(
    ("asked", "identification"),
    [
        (ask(traceparent=f"00-{TRACE_ID}-b7ad6b7169203331-01"), TRACE_ID),
        (ask(content=make_report(), traceparent=f"00-{TRACE_ID}-b7ad6b7169203331-01"), "O1"),
        (ask(content=make_report(Rpt__OrgnlId=...)), "M1"),
        (ask(content=make_report(Rpt__OrgnlId="x" * 36, Assgnmt__MsgId="")), None),
        (ask(content={"Rpt": [], "Assgnmt": {"MsgId": {}}}), None),
        (ask(), None),
    ],
    ids=["trace", "report", "message", "unusable", "shapes", "nothing"],
)
def test_an_error_names_the_request_that_it_is_about(asked: Asked, identification: str | None) -> None:
    found = json.loads(encode_error(asked, "payerfsp", Fault("3204"), "Hub"))["Rpt"]["OrgnlId"]
    if identification is None:
        assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", found)
    else:
        assert found == identification


def test_identifications_are_never_the_same_and_begin_with_the_time() -> None:
    made = [make_ulid() for _ in range(1_000)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"0[0-9A-HJKMNP-TV-Z]{25}", one) for one in made)
    times = [one[:10] for one in made]
    assert times == sorted(times)


@row("J32")
@pytest.mark.parametrize(
    ("report", "code", "text"),
    [
        ({"party": {}}, "3102", "/requestBody must have required property 'Assgnmt'"),
        ({"errorInformation": {}}, "3102", "/requestBody must have required property 'Assgnmt'"),
        ({"Assgnmt": {}}, "3102", "/requestBody must have required property 'Rpt'"),
        (make_report(Assgnmt=[]), "3101", "/requestBody/Assgnmt must be object"),
        (make_report(Rpt="x"), "3101", "/requestBody/Rpt must be object"),
        (make_report(Assgnmt__MsgId=...), "3102", "/requestBody/Assgnmt must have required property 'MsgId'"),
        (make_report(Assgnmt__CreDtTm=...), "3102", "/requestBody/Assgnmt must have required property 'CreDtTm'"),
        (make_report(Assgnmt__Assgnr=...), "3102", "/requestBody/Assgnmt must have required property 'Assgnr'"),
        (make_report(Assgnmt__Assgne=...), "3102", "/requestBody/Assgnmt must have required property 'Assgne'"),
        (make_report(Assgnmt__Assgne={}), "3102", "/requestBody/Assgnmt/Assgne must have required property 'Pty'"),
        (make_report(Assgnmt__Assgnr="x"), "3101", "/requestBody/Assgnmt/Assgnr must be object"),
        (make_report(Assgnmt__MsgId=""), "3100", "/requestBody/Assgnmt/MsgId must NOT have fewer than 1 characters"),
        (make_report(Assgnmt__MsgId=None), "3100", "/requestBody/Assgnmt/MsgId must NOT have fewer than 1 characters"),
        (make_report(Assgnmt__MsgId={}), "3101", "/requestBody/Assgnmt/MsgId must be string"),
        (
            make_report(Assgnmt__CreDtTm="2026-11-28T04:54:43Z"),
            "3100",
            "/requestBody/Assgnmt/CreDtTm must match pattern YYYY-MM-DDThh:mm:ss.sssZ",
        ),
        (make_report(Rpt__OrgnlId=...), "3102", "/requestBody/Rpt must have required property 'OrgnlId'"),
        (make_report(Rpt__Vrfctn=...), "3102", "/requestBody/Rpt must have required property 'Vrfctn'"),
        (make_report(Rpt__OrgnlId="x" * 36), "3100", "/requestBody/Rpt/OrgnlId must NOT have more than 35 characters"),
        (make_report(Rpt__Vrfctn="yes"), "3101", "/requestBody/Rpt/Vrfctn must be boolean"),
        (make_report(Rpt__Vrfctn=[]), "3101", "/requestBody/Rpt/Vrfctn must be boolean"),
    ],
)
def test_a_message_that_is_no_report_is_refused(report: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(Fault) as raised:
        check_report(report)
    assert (raised.value.status, raised.value.code, raised.value.detail) == (400, code, text)


def test_a_report_passes_with_members_that_we_do_not_know() -> None:
    check_report(make_report(SplmtryData={"Envlp": {}}, Rpt__OrgnlId=5, Rpt__Vrfctn="true"))
    party = {"Pty": {"Nm": "Juana"}}
    check_report(make_report(Assgnmt__Assgnr=party, Assgnmt__CreDtTm="2026-11-28T04:54:43.542+06:30"))


@row("J30", "J32", "J33", "J34", "J35")
async def test_the_listener_in_this_mode(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url, account_lookup_api_type="iso20022", hub_name="Switch") as bench:
        await bench.ask("GET", "/participants/MSISDN/525500000000", headers={"fspiop-source": "thirdfsp"})
        await bench.ask("GET", "/parties/MSISDN/525500000000")
        (participants,) = await bench.dfsps["thirdfsp"].received(1)
        assert participants.error == ("3204", "Party not found")
        assert participants.headers["content-type"] == (
            "application/vnd.interoperability.iso20022.participants+json;version=2.0"
        )
        (parties,) = await bench.payer.received(1)
        assert (parties.json["Rpt"]["Rsn"]["Cd"], parties.json["Rpt"]["Vrfctn"]) == ("3204", False)
        assert parties.json["Assgnmt"]["Assgnr"] == {"Agt": {"FinInstnId": {"Othr": {"Id": "Switch"}}}}
        assert parties.headers["content-type"] == ("application/vnd.interoperability.iso20022.parties+json;version=2.0")

        refused = await bench.ask("PUT", "/parties/MSISDN/525512345678", {"party": {}}, source="payeefsp")
        assert (refused.status, refused.error) == (
            400, ("3102", "Missing mandatory element - /requestBody must have required property 'Assgnmt'"),
        )  # fmt: skip
        bench.payer.forget()
        body = json.dumps(make_report(), indent=1).encode()
        to_payer = {"fspiop-destination": "payerfsp"}
        put = await bench.ask("PUT", "/parties/MSISDN/525512345678", body, source="payeefsp", headers=to_payer)
        assert put.status == 200
        (forwarded,) = await bench.payer.received(1)
        assert forwarded.body == body

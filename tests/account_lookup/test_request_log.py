"""The audit of requests: who asked, for whom, and how it ended, without an identifier."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from harness import open_bench, row
from oracle_process import run_oracle

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.request_log import RequestLog, make_digest
from oracle.identifiers import Reading
from oracle.settings import SettingsError, load

KEYS = tuple("".join(f"{(number * 37 + shift) % 256:02x}" for number in range(32)) for shift in (1, 2))
NUMBER = "525512345678"


def list_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """List the lines of the audit, without their times."""
    lines = [record.__dict__["fields"] for record in caplog.records if record.name == "oracle.api.dfsp.request_log"]
    return [{name: value for name, value in line.items() if value is not None and name != "ms"} for line in lines]


def ask(identifier: str = NUMBER, **more: Any) -> Asked:
    return Asked("GET", "parties", "payerfsp", [], party=Party("MSISDN", identifier), **more)


@row("M20", "M21")
async def test_each_request_has_a_line_without_the_identifier(
    database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oracle")
    settings = {"account_lookup_audit": "on", "audit_digest_key": KEYS}
    async with open_bench(database_url, redis_url, **settings) as bench:
        await bench.register("MSISDN", NUMBER)
        await bench.ask("GET", f"/participants/MSISDN/%2B{NUMBER}")
        await bench.ask("GET", "/participants/MSISDN/525500000000")
        items = [{"partyIdType": "MSISDN", "partyIdentifier": NUMBER, "fspId": "payerfsp"}]
        bulk = {"requestId": "b51ec534-ee48-4575-b6a9-ead2955b8069", "partyList": items}
        await bench.ask("POST", "/participants", bulk)
        await bench.ask("GET", f"/participants/MSISDN/{NUMBER}", headers={"accept": None})
        await bench.settle()
    digest = make_digest(KEYS[0], "MSISDN", NUMBER, "")
    lines = list_lines(caplog)
    assert lines[0] == {"source": "payeefsp", "operation": "post_participant", "party": digest, "result": "done"}
    by_operation = [line for line in lines if line.get("operation") == "get_participant"]
    assert {(line["party"] == digest, line["result"]) for line in by_operation} == {(True, "done"), (False, "3204")}
    assert {"source": "payerfsp", "operation": "post_participants", "items": 1, "result": "done"} in lines
    assert {"claimed_source": "payerfsp", "method": "GET", "result": "3102"} in lines
    text = "\n".join(f"{record.getMessage()} {record.__dict__.get('fields')}" for record in caplog.records)
    assert NUMBER not in text
    assert "525500000000" not in text


@row("M22")
def test_lines_a_second_are_bounded_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "oracle")
    now = [0.0]
    audit = RequestLog(KEYS[0], Reading(), lines_second_max=2, clock=lambda: now[0])
    for _ in range(5):
        audit.refuse(b"payerfsp", "GET", Fault("3102"))
    now[0] = 1.0
    audit.refuse(b"two\nlines", "GET", Fault("3102"))
    assert list_lines(caplog) == [
        {"claimed_source": "payerfsp", "method": "GET", "result": "3102"},
        {"claimed_source": "payerfsp", "method": "GET", "result": "3102"},
        {"requests": 3},
        {"method": "GET", "result": "3102"},
    ]


def test_an_error_that_comes_after_the_work_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "oracle")
    audit = RequestLog(KEYS[0], Reading())
    asked = ask("no number", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    audit.begin(asked)
    audit.note_error(asked, Fault("3101"))
    audit.end("get_party", asked, 0.0)
    audit.note_error(asked, Fault("3303"))
    assert audit._codes == {}
    (line,) = list_lines(caplog)
    assert line["party"] == make_digest(KEYS[0], "MSISDN", "no number", "")
    assert (line["result"], line["trace"]) == ("3101", "0af7651916cd43dd8448eb211c80319c")


@row("M23")
def test_a_command_prints_the_digest_of_any_spelling(tmp_path: Path) -> None:
    env = {"ORACLE_AUDIT_DIGEST_KEY": ",".join(KEYS)}
    done = run_oracle(tmp_path, "audit", "digest", "MSISDN", "+52 55 1234 5678", env=env)
    assert done.stdout.split() == [make_digest(key, "MSISDN", NUMBER, "") for key in KEYS]
    without = run_oracle(tmp_path, "audit", "digest", "MSISDN", NUMBER)
    assert without.returncode == 2
    assert "ORACLE_AUDIT_DIGEST_KEY is not set" in without.stderr


def test_a_digest_depends_on_each_part_and_on_the_key() -> None:
    parts = [("MSISDN", "1", ""), ("ALIAS", "1", ""), ("MSISDN", "2", ""), ("MSISDN", "1", "x")]
    assert len({make_digest(key, *part) for key in KEYS for part in parts}) == 8


def test_the_audit_needs_a_key_and_a_log_level_that_shows_it() -> None:
    with pytest.raises(SettingsError) as raised:
        load({"ORACLE_ACCOUNT_LOOKUP_AUDIT": "on", "ORACLE_LOG_LEVEL": "warning"})
    assert raised.value.problems == [
        "ORACLE_ACCOUNT_LOOKUP_AUDIT is on, but ORACLE_AUDIT_DIGEST_KEY is not set: set it",
        "ORACLE_ACCOUNT_LOOKUP_AUDIT is on, but ORACLE_LOG_LEVEL hides its lines: use info",
    ]

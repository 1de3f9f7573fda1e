"""`oracle canon` and `oracle lookup` read identifiers as the server does, with the settings of the deployment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from oracle.cli import main
from oracle.commands.words import explain_fault
from oracle.identifiers import BadIdentifier, PartyKey, Reading
from oracle.settings import load

CHOICES: list[dict[str, str]] = [
    {},
    {"ORACLE_HOME_COUNTRIES": "US"},
    {"ORACLE_HOME_COUNTRIES": "ZM,MX"},
    {"ORACLE_HOME_COUNTRIES": "MM", "ORACLE_ACCOUNT_ID_FORMAT": "clabe"},
    {"ORACLE_ACCOUNT_ID_FORMAT": "clabe"},
    {"ORACLE_MSISDN_NATIONAL": "accept"},
    {"ORACLE_NRC_TOWNSHIPS": "townships.csv"},
]
TOWNSHIPS = "state,township_mm,township_en\n6,ဟဟဟ,HAHAHA\n"
IDENTIFIERS = [
    ("MSISDN", "52155123456"),  # a valid number nowhere: refused at home alone
    ("MSISDN", "5215512345678"),
    ("MSISDN", "2600000000"),
    ("MSISDN", "10000000000"),
    ("MSISDN", "5588887777"),  # a national number of Mexico, and no valid one of Brazil
    ("MSISDN", "+9250000012"),
    ("MSISDN", "၉၅၉၂၅၀၀၀၀၀၁၂"),
    ("MSISDN", "00525512345678"),
    ("NRC", "6/MATANA(N)123456"),
    ("NRC", "6/HAHAHA(N)123456"),  # a township in no list
    ("PERSONAL_ID", "6-HAHAHA-N-123456"),
    ("ACCOUNT_ID", "646-180-11040000000-7"),
    ("ACCOUNT_ID", "646180110400000008"),  # a wrong check digit
    ("CLABE", "646 180 11040000000 7"),
    ("PERSONAL_ID", "12-oukama-n-123456"),
    ("PERSONAL_ID", "12-OUKAMA-F-123456"),  # no such type of citizenship
    ("NRC", "12/OUKAMA(N)123456"),
    ("NRC", "MA123456"),
]


@pytest.fixture(params=CHOICES, ids=lambda choice: " ".join(choice.values()) or "default")
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reading:
    """The server's reading of these settings; the environment is that of the commands, too."""
    for name in [name for name in os.environ if name.startswith("ORACLE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "townships.csv").write_text(TOWNSHIPS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    return Reading.of(load(os.environ, None).settings)


def read_by_hub(server: Reading, kind: str, text: str) -> PartyKey | str:
    """The key, or the beginning of what is printed about a bad identifier."""
    party_id_type, sub_id = {"CLABE": ("ACCOUNT_ID", "CLABE"), "NRC": ("PERSONAL_ID", "NRC")}.get(kind, (kind, None))
    try:
        return server.read_hub_key(party_id_type, text, sub_id)
    except BadIdentifier as exc:
        return explain_fault(str(exc), exc.reason, {"identifier": text})


@pytest.mark.parametrize(("kind", "text"), IDENTIFIERS)
def test_canon_reads_as_the_server_does(server: Reading, kind: str, text: str, capsys: Any) -> None:
    expected = read_by_hub(server, kind, text)
    code = main(["canon", kind, text])
    output = capsys.readouterr()
    if isinstance(expected, PartyKey):
        assert (code, output.out, output.err) == (0, f"{expected.identifier}\n", "")
    else:
        assert (code, output.out) == (2, "")
        assert output.err.startswith(f"oracle: {expected}")


def is_of_two_parties(server: Reading, text: str, home: str) -> bool:
    try:
        return server.read_key("MSISDN", text, country=home).identifier != text
    except BadIdentifier as exc:
        return exc.reason == "ambiguous_national_or_international"


@pytest.mark.parametrize("text", ["9512345678", "6562281731", "15512345678"])
def test_canon_refuses_a_number_of_two_parties_until_the_country_is_known(
    server: Reading, text: str, capsys: Any
) -> None:
    """The hub reads them as international numbers.  At the desk it depends on the home countries and the setting."""
    assert isinstance(read_by_hub(server, "MSISDN", text), PartyKey)
    is_refused = server.msisdn_national == "refuse" and any(
        is_of_two_parties(server, text, home) for home in server.home_countries
    )
    assert main(["canon", "MSISDN", text]) == (2 if is_refused else 0)
    assert ("name the country" in capsys.readouterr().err) == is_refused
    assert main(["canon", "MSISDN", f"+{text}"]) == 0
    assert capsys.readouterr().out == f"{text}\n"


def test_a_fault_in_the_file_of_townships_is_one_line_of_every_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "own.csv"
    monkeypatch.setenv("ORACLE_NRC_TOWNSHIPS", str(file))
    for content, fault in (
        (None, "cannot read the file"),
        ("", "line 1 must be"),
        ("a,b,c\n", "line 1 must be"),
        ("state,township_mm,township_en\n15,ဟဟဟ,\n", "line 2: the state"),
        ("state,township_mm,township_en\n6,မတန,\n6,ဟဟ,\n", "line 3: township_mm"),
        ("state,township_mm,township_en\n6,ဟဟဟ,MATANA\n", "line 2: township_en"),
        ("state,township_mm,township_en\n6,ဟဟဟ,HAHAHA,a\n", "line 2: 4 cells"),
    ):
        if content is not None:
            file.write_text(content, encoding="utf-8")
        for command in (["check-config"], ["canon", "NRC", "6/MATANA(N)123456"], ["serve"]):
            assert main(command) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"oracle: ORACLE_NRC_TOWNSHIPS: {file}: ")
            assert fault in line


def test_lookup_asks_for_the_key_that_the_server_asks_for(
    server: Reading, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("ORACLE_DATABASE_URL", database_url)
    for kind, text in IDENTIFIERS:
        expected = read_by_hub(server, kind, text)
        code = main(["lookup", kind, text, "--json"])
        output = capsys.readouterr()
        if isinstance(expected, PartyKey):
            asked = json.loads(output.out)
            assert (asked["partyIdType"], asked["partyIdentifier"], asked["partySubIdOrType"] or "") == expected
            assert code == 3  # nobody has registered it
        else:
            assert (code, output.out) == (2, "")
            assert json.loads(output.err)["message"] == expected


def test_the_home_countries_change_what_canon_accepts(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert main(["canon", "MSISDN", "52155123456"]) == 2
    monkeypatch.setenv("ORACLE_HOME_COUNTRIES", "US")
    assert main(["canon", "MSISDN", "52155123456"]) == 0
    assert capsys.readouterr().out == "52155123456\n"


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("ALIAS", "NULL", "missing_value_mark"),
        ("ACCOUNT_ID", "#N/A", "missing_value_mark"),
        ("ACCOUNT_ID", "1.23457e17", "scientific_notation"),
        ("MSISDN", "525512345678.0", "decimal_number"),
        ("MSISDN", "5,255,123", "thousands_separator"),
    ],
)
def test_canon_refuses_what_no_person_can_register(kind: str, text: str, reason: str, capsys: Any) -> None:
    assert main(["canon", kind, text]) == 2
    output = capsys.readouterr()
    assert (output.out, f"({reason})" in output.err, text in output.err) == ("", True, text == "NULL")


def test_lookup_reads_a_national_number_in_a_country(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("ORACLE_DATABASE_URL", database_url)
    assert main(["lookup", "MSISDN", "09250000001", "--country", "mm", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["partyIdentifier"] == "959250000001"

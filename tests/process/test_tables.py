"""What lists look like to people: names, identifiers as people write them, times with a zone, narrow terminals."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from oracle.commands import batches
from oracle.commands.output import explain_nrc, shorten_time, show_pages
from oracle.identifiers import Reading, display
from oracle.identifiers.townships import load_table
from oracle.settings import Settings

if TYPE_CHECKING:
    from oracle.commands.client import Client

COLUMNS = ("at", "uploadedBy", "decidedBy", "actor", "credential", "identifier", "note")
ITEMS: list[dict[str, Any]] = [
    {
        "at": "2026-11-28T19:05:15.123456Z",
        "uploadedBy": "abcdefghijkl", "uploadedByName": "Ana (maker of bluebank)",
        "decidedBy": None, "decidedByName": None,
        "actor": "bluebank", "actorName": None,
        "credentialId": "zzzzzzzzzzzz", "credentialName": "Rosa (auditor)",
        "identifier": "12-250019-N-123456", "display": "12/OUKAMA(N)123456", "note": "a note of several words",
    },
    {
        "at": "2026-11-28T13:05:15-06:00", "uploadedBy": "root", "actor": "abcdefghijkl",
        "actorName": "Luis (checker of bluebank)", "credentialId": "yyyyyyyyyyyy", "credentialName": None,
        "identifier": "525512345678", "display": {"text": "+52 55 1234 5678"},
    },
]  # fmt: skip


def print_lists(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_pages([ITEMS], COLUMNS, as_json=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def test_lists_name_people_and_elsewhere_keep_the_forms_that_programs_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_pages([ITEMS], COLUMNS, as_json=False)
    first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert first == ["2026-11-28T19:05:15.123456Z", "Ana (maker of bluebank)", "", "bluebank", "Rosa (auditor)",
                     "12-250019-N-123456", "a note of several words"]  # fmt: skip
    assert second[1:5] == ["root", "", "Luis (checker of bluebank)", "yyyyyyyyyyyy"]
    shown = print_lists(monkeypatch, capsys, 220)
    for text in ("2026-11-28 19:05:15Z", "2026-11-28 13:05:15-06:00", "Ana (maker of bluebank)", "Rosa (auditor)",
                 "Luis (checker of bluebank)", "12/OUKAMA(N)123456", "+52 55 1234 5678", "yyyyyyyyyyyy"):  # fmt: skip
        assert text in shown, (text, shown)
    for text in ("abcdefghijkl", "zzzzzzzzzzzz", "12-250019", "19:05:15 "):
        assert text not in shown, (text, shown)


def test_an_empty_list_is_named_to_people_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_terminal, as_json, note in (
        (True, False, "Nothing found.\n"), (True, True, ""), (False, False, ""),
    ):  # fmt: skip
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        no_items: list[Any] = []
        for pages in ([], [no_items]):
            show_pages(pages, COLUMNS, as_json=as_json)
            assert capsys.readouterr() == ("", note)


class Batches:
    """A service that has one waiting change of an NRC."""

    me: Final = {"fspId": "bluebank"}

    def fetch_pages(self, *_: Any, **__: Any) -> list[list[dict[str, Any]]]:
        change = {
            "action": "add", "kind": "NRC", "identifier": "12-250019-N-123456", "display": "12/OUKAMA(N)123456",
            "subId": None, "currency": None,
        }  # fmt: skip
        return [
            [{"batchId": 7, "fspId": "bluebank", "state": "waiting", "fileName": "one alias: add", "change": change}]
        ]


def test_a_waiting_change_has_its_identifier_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    arguments = argparse.Namespace(
        state=None, uploaded_by=None, by=None, since=None, until=None, fsp=None, limit=100, json=False
    )
    for is_terminal, identifier in ((True, "12/OUKAMA(N)123456"), (False, "12-250019-N-123456")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        batches._list(cast("Client", Batches()), arguments)
        assert f"one alias: add NRC {identifier}" in capsys.readouterr().out


def test_no_width_of_a_terminal_cuts_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table where it fits, also with words on several lines; else key and value."""
    forms = set()
    for width in range(20, 201, 5):
        shown = print_lists(monkeypatch, capsys, width)
        is_table = "─" in shown
        forms.add(is_table)
        assert not is_table or max(map(len, shown.splitlines())) <= width
        for whole in ("2026-11-28 19:05:15Z", "12/OUKAMA(N)123456", "+52 55 1234 5678", "yyyyyyyyyyyy", "bluebank)"):
            assert whole in shown, (width, shown)
        if not is_table:
            assert "uploaded by  Ana (maker of bluebank)\n" in shown
            assert "note         a note of several words\n" in shown
    assert forms == {True, False}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2026-11-28T19:05:15Z", "2026-11-28 19:05:15Z"),
        ("2026-11-28T19:05:15.5+00:00", "2026-11-28 19:05:15Z"),
        ("2026-11-28T13:05:15-06:00", "2026-11-28 13:05:15-06:00"),
        ("2026-11-28T19:05:15", "2026-11-28T19:05:15"),  # no zone is known
        ("a note 2026-11-28T19:05:15Z", "a note 2026-11-28T19:05:15Z"),
    ],
)
def test_times_keep_their_zone(sent: str, shown: str) -> None:
    assert shorten_time(sent) == shown


def test_lines_of_the_text_log_say_their_zone() -> None:
    from oracle.telemetry.logs import _Text

    line = _Text({}).format(logging.makeLogRecord({"msg": "x", "levelname": "INFO", "name": "oracle"}))
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3}Z info", line), line


def test_a_shown_nrc_names_one_person(complete: bool) -> None:
    """The canonical form is beside a Latin one of another township, or of none that the tables know."""
    reading = Reading.of(Settings())
    codes = sorted(load_table().popular)
    alone = 0
    for state, code in codes if complete else codes[::5]:
        canonical = f"{state}-{''.join(f'{ord(letter) - 0x1000:02X}' for letter in code)}-N-123456"
        text = display("NRC", canonical).text
        for shown in (explain_nrc(canonical, text), explain_nrc(canonical)):
            name, _, behind = shown.partition(" = ")
            assert name == text
            assert reading.read_key("NRC", behind or name).identifier == canonical
        alone += not behind
    assert alone > len(codes) / 10
    assert explain_nrc("13-191A14-N-000123") == "13/MAYANA(N)000123 = 13-191A14-N-000123"
    assert explain_nrc("525512345678", "+52 55 1234 5678") == "+52 55 1234 5678"
    assert explain_nrc("525512345678") == "525512345678"

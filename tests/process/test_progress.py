"""What an import prints without a terminal: a line now and then, and one at the end of each phase."""

from __future__ import annotations

import re
from typing import Any

import pytest

from oracle.commands.progress import Progress


def make_batch(state: str, read: int, applied: int = 0, **more: Any) -> dict[str, Any]:
    rows = {"read": read, "valid": read - 1, "applied": applied, "failed": 1}
    return {"state": state, "rows": rows, "rowsPerS": 5_000.0, "secondsLeft": 12.0, "change": None, **more}


def test_each_phase_is_reported_while_it_goes_on_and_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(line_every_s=0.0) as progress:
        assert list(progress.count_upload(iter([b"abc", b"de"]), 5)) == [b"abc", b"de"]
        for batch in (
            make_batch("validating", 1_000), make_batch("waiting", 3_000), make_batch("applying", 3_000, 1_500),
            make_batch("done", 3_000, 2_999),
        ):  # fmt: skip
            progress.report(batch)
    lines = re.sub(r"[0-9.]+ s\b( \([0-9,]+ rows/s\))?$", "TIME", capsys.readouterr().err, flags=re.MULTILINE)
    assert lines.splitlines() == [
        "uploading: 3 of 5 bytes",
        "uploading: 5 of 5 bytes",
        "uploaded 5 bytes in TIME",
        "checking rows: 1,000, 5,000 rows/s, 12 s left",
        "checked 3,000 rows, 1 not valid, in TIME",
        "applying rows: 1,500 of 2,999, 5,000 rows/s, 12 s left",
        "applied 2,999 rows, 1 failed, in TIME",
    ]


def test_a_short_import_prints_the_ends_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for state in ("validating", "validating", "applying", "done"):
            progress.report(make_batch(state, 10))
    assert re.findall(r"^\w+", capsys.readouterr().err, re.MULTILINE) == ["checked", "applied"]


def test_a_change_of_one_alias_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for state in ("applying", "done"):
            progress.report(make_batch(state, 1, 1, change={"action": "add"}))
    assert capsys.readouterr().err == ""

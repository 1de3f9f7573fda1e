"""What `oracle batch show` prints for a person: few lines, and every fact of the batch in one of them."""

from __future__ import annotations

from typing import Any

import pytest

from oracle.commands.batch_words import summarise

FILE: dict[str, Any] = {
    "batchId": 12, "fspId": "bluebank", "state": "done", "fileName": "march.csv", "fileFormat": "csv",
    "fileBytes": 12345, "fileSha256": "ab" * 32, "note": "of march", "country": "MX", "uploadedBy": "abcdefghijkl",
    "uploadedByName": "Ana (maker of bluebank)", "uploadedRole": "dfsp-maker", "uploadedAt": "2026-11-28T19:05:15Z",
    "needsApproval": True, "decidedBy": "bbcdefghijkl", "decidedByName": "Ben (checker of bluebank)",
    "decidedAt": "2026-11-28T19:06:15Z", "decisionReason": "looks right", "cancelledBy": None, "cancelledByName": None,
    "rows": {"read": 1000, "valid": 998, "applied": 997, "changed": 990, "failed": 3}, "bytesRead": 12345,
    "rowsPerS": None, "secondsLeft": None, "validatedAt": "2026-11-28T19:05:16Z", "startedAt": "2026-11-28T19:06:15Z",
    "finishedAt": "2026-11-28T19:06:17Z", "fileDeletedAt": None, "error": None, "change": None,
}  # fmt: skip
CHANGE: dict[str, Any] = {
    "action": "update", "kind": "MSISDN", "identifier": "525598765432", "display": "+52 55 9876 5432", "subId": None,
    "currency": "USD", "present": ["MXN"], "ifMatch": False,
}  # fmt: skip


def test_a_file_has_a_line_for_each_step() -> None:
    assert summarise(FILE) == {
        "batch": "12 of bluebank",
        "state": "done",
        "file": "march.csv (csv, 12,345 bytes)",
        "SHA-256": "ab" * 32,
        "country": "MX",
        "note": "of march",
        "uploaded": "2026-11-28 19:05:15Z by Ana (maker of bluebank)",
        "rows": "1,000 read, 998 valid, 997 applied (990 changed something), 3 failed",
        "checked": "2026-11-28 19:05:16Z",
        "approved": "2026-11-28 19:06:15Z by Ben (checker of bluebank)",
        "decision reason": "looks right",
        "applied from": "2026-11-28 19:06:15Z",
        "finished": "2026-11-28 19:06:17Z",
    }


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({"state": "rejected"}, ("rejected", "2026-11-28 19:06:15Z by Ben (checker of bluebank)")),
        ({"cancelledBy": "cbcdefghijkl"}, ("cancelled", "2026-11-28 19:06:17Z by cbcdefghijkl")),
        ({"rowsPerS": 21000.4, "secondsLeft": 12.2}, ("speed", "21,000 rows/s, 12 s left")),
        ({"error": {"code": "no_header", "message": "No header"}}, ("error", "No header (no_header)")),
        ({"fileDeletedAt": "2026-12-28T00:00:00Z"}, ("file deleted", "2026-12-28 00:00:00Z")),
    ],
)
def test_what_happened_has_a_line(members: dict[str, Any], line: tuple[str, str]) -> None:
    assert line in summarise({**FILE, **members}).items()


def test_a_change_of_one_alias_shows_what_it_is_now() -> None:
    waiting = {
        **FILE, "state": "waiting", "change": CHANGE, "decidedAt": None, "decisionReason": None, "finishedAt": None,
    }  # fmt: skip
    shown = summarise(waiting)
    assert list(shown) == ["batch", "state", "change", "reason", "asked for"]
    assert shown["change"] == "update MSISDN +52 55 9876 5432, new currency: USD (now: MXN)"
    named = summarise({**waiting, "change": {**CHANGE, "ifMatch": True}})
    assert named["change"].endswith("(now: MXN), only of the version that its maker saw")

"""What an auditor reads at a terminal, and no comfort where there is no history."""

from __future__ import annotations

import pytest

from oracle.commands.audit_questions import REASONS, describe_change
from oracle.store.resolution import Reason

ENTRY = {"fsp_id": "greenbank", "default": True, "currency": "MXN"}
FSP = {"name": "Green Bank", "status": "active", "version": 1, "changed_at": "2026-11-28T20:39:40+00:00"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, ENTRY, "FSP greenbank, default yes, currency MXN"),
        (ENTRY, None, "nothing; before: FSP greenbank, default yes, currency MXN"),
        (FSP, {**FSP, "status": "suspended", "version": 2}, "status suspended (before: active)"),
        (None, {"file_sha256": "\\x84ab", "expires_at": "infinity"}, "file sha256 84ab, expires at never"),
        (ENTRY, {**ENTRY, "default": False, "currency": ""}, "default no (before: yes), currency none (before: MXN)"),
        (None, None, ""),
    ],
)
def test_people_read_what_a_change_did_in_words(before: object, after: object, words: str) -> None:
    assert describe_change({"before": before, "after": after}) == words


def test_each_reason_of_an_answer_has_words() -> None:
    assert set(REASONS) == set(Reason.__args__)  # type: ignore[attr-defined]
    assert not any("_" in words for words in REASONS.values())

"""An auditor needs no database: what docs/audit.md and the README of oracle-verify show them calls the admin API."""

from __future__ import annotations

import re
from pathlib import Path

from walks.texts import list_help

TOP = Path(__file__).resolve().parents[2]


def test_what_an_auditor_types_needs_no_database() -> None:
    with_database = {place.split()[2] for place, text in list_help() if "This command reads the database" in text}
    assert with_database == {"verify", "export", "checkpoint", "keys"}
    whole = (TOP / "docs" / "audit.md").read_text(encoding="utf-8")
    for text in (
        whole.partition("## What to do on a finding")[0],
        (TOP / "oracle" / "verifier" / "README.md").read_text(encoding="utf-8"),
    ):
        assert "ORACLE_DATABASE" not in text
        # This one reads the files of an export.
        verbs = set(re.findall(r"oracle audit ([a-z-]+)", text.replace("oracle audit verify --offline", "")))
        assert verbs
        assert not verbs & with_database

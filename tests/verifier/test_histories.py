"""Exports are checked as parts of one history: nothing missing, nothing rewritten, and confirmed from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_log import Log

from oracle.verifier.exports import verify_exports
from oracle.verifier.verdict import Verdict

COUNT = 300


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(COUNT)


def check(log: Log, *directories: Path, kept: tuple[int, ...] = (), key: bool = True) -> Verdict:
    return verify_exports(directories, [log.vkey] if key else [], [log.sign(size) for size in kept])


def kinds(verdict: Verdict) -> list[str]:
    return [finding.kind for finding in verdict.findings]


def test_months_of_one_history_are_verified_together(log: Log, tmp_path: Path) -> None:
    months = [
        log.export(tmp_path / "march", 0, 100, size=100),
        log.export(tmp_path / "april", 100, 230, size=230),
        log.export(tmp_path / "may", 220, 300),
    ]
    verdict = check(log, *months, kept=(37, 100, 229, 300))
    assert verdict.findings == []
    assert (verdict.vouchers, verdict.is_verified, verdict.leaves) == (("key", "checkpoint"), True, 310)
    assert verdict.notes == ()
    (note,) = check(log, *months[1:]).notes
    assert note == "the files begin with leaf 100: earlier events are not in them"
    assert "the later events are not in them" in check(log, log.export(tmp_path / "part", 0, 10)).notes[0]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (((0, 100, 300, None), (101, 300, 300, None)), "gap: leaf 100 is in none of these exports"),
        (((0, 90, 300, None), (250, 300, 300, None)), "gap: leaves 90 to 249 are in none of these exports"),
        (((0, 101, 101, None), (201, 300, 300, None)), "gap: leaves 101 to 200 are in none of these exports"),
    ],
)
def test_a_gap_is_named(
    log: Log, tmp_path: Path, ranges: tuple[tuple[int, int, int, int | None], ...], expected: str
) -> None:
    parts = [log.export(tmp_path / str(number), *each) for number, each in enumerate(ranges)]
    verdict = check(log, *parts)
    assert expected in list(map(str, verdict.findings))
    assert not verdict.is_verified


def test_a_history_that_was_rewritten_between_two_exports_is_found(log: Log, tmp_path: Path) -> None:
    other = Log(COUNT, log.signer, fsp_id="redbank")
    march = log.export(tmp_path / "march", 0, 100, size=100)
    for number, (begin, since) in enumerate(((0, None), (60, None), (100, None), (200, 100))):
        again = other.export(tmp_path / str(number), begin, since=since)
        assert check(log, again).is_verified, "alone, it is a signed history"
        found = check(log, march, again)
        assert "rewritten" in kinds(found), begin
        assert "rewritten" in kinds(verify_exports([again], [log.vkey], [log.sign(100)])), begin
        assert not found.is_verified


def test_exports_that_nothing_connects_are_not_called_one_history(log: Log, tmp_path: Path) -> None:
    early = log.export(tmp_path / "early", 0, 100, size=133)
    late = log.export(tmp_path / "late", 200, 300)
    assert kinds(check(log, early, late)) == ["gap", "unproved"]
    connected = log.export(tmp_path / "connected", 100, 300, since=133)
    assert check(log, early, connected).is_verified
    # Two checkpoints that were kept at different times, and an export between: each is the beginning of the next.
    assert check(log, connected, kept=(133, 222)).is_verified
    assert kinds(check(log, late, kept=(133, 222))) == ["unproved"]


def test_a_log_that_became_shorter_is_found(log: Log, tmp_path: Path) -> None:
    cut = log.export(tmp_path / "cut", 0, 200, size=200)
    found = check(log, cut, kept=(250,))
    assert kinds(found) == ["shorter"]
    assert "the end of the log was cut off" in found.findings[0].where
    assert check(log, cut, log.export(tmp_path / "whole"), kept=(250,)).is_verified


def test_exports_of_two_directories_are_not_mixed(log: Log, tmp_path: Path) -> None:
    from oracle.audit.signer import Signer

    other = Log(10, Signer.new("alias-oracle/other"))
    parts = [log.export(tmp_path / "a"), other.export(tmp_path / "b")]
    assert kinds(verify_exports(parts, [log.vkey, other.vkey])) == ["mixed"]
    assert "checkpoint" in kinds(verify_exports(parts))


def test_files_that_only_confirm_themselves_are_not_verified(log: Log, tmp_path: Path) -> None:
    """A forger signs other events with a key of their own, and appends them to the true beginning."""
    forger = Log(COUNT)
    forger.lines = log.lines[:200] + Log(COUNT, fsp_id="redbank").lines[200:]
    forged = forger.export(tmp_path / "forged", since=200)
    alone = check(log, forged, key=False)
    assert (alone.findings, alone.vouchers, alone.is_verified) == ([], (), False)
    assert kinds(check(log, forged)) == ["checkpoint"]
    # Their key signs none of the checkpoints that an auditor kept.
    assert kinds(check(log, forged, kept=(200,), key=False)) == ["checkpoint"]
    # The key that signed the kept checkpoint is in the files, but it does not introduce the forger's key.
    manifest = json.loads((forged / "manifest.json").read_text())
    manifest["keys"] = [{"vkey": log.vkey, "from_size": 0}, {"vkey": forger.vkey, "from_size": 200}]
    for keys in (manifest["keys"], manifest["keys"][::-1]):
        (forged / "manifest.json").write_text(json.dumps({**manifest, "keys": keys}))
        assert kinds(check(log, forged, kept=(200,), key=False)) == ["checkpoint"]
    true = log.export(tmp_path / "true", 100, 250, since=200)
    assert check(log, true, kept=(200,), key=False).vouchers == ("checkpoint",)

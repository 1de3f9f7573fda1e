"""`oracle-verify` as an auditor types it: what it says, its exit codes, and what hostile files do to it."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made_log import PHONE, Log

from oracle.verifier.cli import main
from oracle.verifier.difference import Windows
from oracle.verifier.exports import verify_exports
from oracle.verifier.files import Malformed
from oracle.verifier.proof import read_proof, verify_proof

PROOF_OF = 41  # the event 42


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Verify = Callable[..., Result]


@pytest.fixture
def verify() -> Verify:
    """Run it at a console of Windows: cp1252, which lacks most letters."""

    def run(*words: object) -> Result:
        out, err = io.BytesIO(), io.BytesIO()
        with (
            redirect_stdout(io.TextIOWrapper(out, encoding="cp1252", newline="\r\n", write_through=True)),
            redirect_stderr(io.TextIOWrapper(err, encoding="cp1252", newline="\r\n", write_through=True)),
        ):
            code = main([str(word) for word in words])
            return Result(code, *(each.getvalue().decode("cp1252").replace("\r\n", "\n") for each in (out, err)))

    return run


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(120, reason="ဖုန်း\u202e\x1b[2J")


@pytest.fixture
def files(log: Log, tmp_path: Path) -> Path:
    """Hold the directory `export`, `proof.json`, and what the auditor kept: `kept`, `log.vkey`."""
    log.export(tmp_path / "export", since=50)
    log.write_proof(tmp_path / "proof.json", PROOF_OF)
    (tmp_path / "kept").write_text(log.sign(120), encoding="utf-8")
    (tmp_path / "log.vkey").write_text(log.vkey + "\n", encoding="utf-8")
    return tmp_path


def test_an_auditor_learns_what_is_proven_and_by_what(verify: Verify, files: Path, log: Log) -> None:
    key_id = log.signer.verifier.key_id.hex()
    key, kept = ("--key", files / "log.vkey"), ("--checkpoint", files / "kept")
    for words, subject in (
        (("export", files / "export"), "VERIFIED: 120 events are exactly as sealed."),
        (("proof", files / "proof.json"), "VERIFIED: event 42 is leaf 41 of a history of 120 leaves."),
    ):
        both = verify(*words, *key, *kept)
        assert both.code == 0, both
        assert both.err == ""
        assert subject in both.out
        assert f"A key that you gave confirms the signature (key id {key_id})." in both.out
        assert "that of the checkpoint that you kept" in both.out
        one = verify(*words, "--key", log.vkey)
        assert one.code == 0
        assert "No checkpoint was given: the owner of the key could show another history to others." in one.out
        other = verify(*words, *kept)
        assert other.code == 0
        assert f"(key id {key_id}) comes from the same owner as the checkpoint that you kept" in other.out
        # Anybody can make such files.
        neither = verify(*words)
        assert neither.code == 1
        assert neither.out.count("NOT VERIFIED: no error was found, but nothing confirms who made ") == 1
        assert log.vkey in neither.out
        wrong = verify(*words, "--key", Log(1).vkey, *kept)
        assert wrong.code == 1
        assert wrong.out.startswith("checkpoint: ") or "\ncheckpoint: " in wrong.out
        parsed = verify(*words, *key, *kept, "--json").json
        assert (parsed["verified"], parsed["confirmedBy"]) == (True, ["key", "checkpoint"])
        assert parsed["keys"] == [log.vkey]
        assert verify(*words, "--json").json["verified"] is False


def test_no_identifier_is_shown_unless_somebody_asks_for_it(verify: Verify, files: Path, log: Log) -> None:
    key = ("--key", files / "log.vkey")
    lines = (files / "export" / "events.ndjson").read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b"greenbank", b"redbank")
    (files / "export" / "events.ndjson").write_bytes(b"".join(lines[:50] + lines[60:]))
    for words in (("export", files / "export", *key), ("proof", files / "proof.json", *key)):
        for mode in ((), ("--json",)):
            shown = verify(*words, *mode)
            assert PHONE not in shown.out + shown.err
            assert "greenbank" not in shown.out + shown.err
    brief = verify("proof", files / "proof.json", *key).out
    assert brief.startswith("event 42: alias registered on 2026-03-03 at 10:00:00 UTC, through import\nVERIFIED: ")
    whole = verify("proof", files / "proof.json", *key, "--show")
    assert f"party_identifier  {PHONE}{PROOF_OF}\n" in whole.out
    assert "\\u202e\\x1b[2J" in whole.out, "what moves the cursor is an escape"
    assert "\\u1016" in whole.out, "and so is what the console lacks"
    assert verify("proof", files / "proof.json", *key, "--show", "--json").json["line"] == log.lines[PROOF_OF].decode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "missing: COMMAND. To see"),
        (("export",), "missing: DIR. To see"),
        (("export", "export", "--chekpoint", "x"), "not known: --chekpoint x"),
        (("export", "export", "--key"), "--key needs a value"),
        (("prove", "x"), "no such command: 'prove'. To see"),
        (("export", "nowhere"), "nowhere: there is no such directory"),
        (("export", "no*"), "no*: no file has such a name"),
        (("export", "."), "manifest.json is missing"),
        (("export", "proof.json"), "not a file of an export"),
        (("export", "\0"), "there is no such directory"),
        (("proof", "nowhere"), "nowhere: cannot be opened: there is no such file"),
        (("proof", "export"), "export: not a plain file"),
        (("proof", "loop"), "loop: cannot be opened"),
        (("proof", "proof.json", "--key", "nowhere"), "nowhere: cannot be opened: there is no such file"),
        (("proof", "proof.json", "--key", "a+b+c"), "A public key looks like"),
        (("proof", "proof.json", "--key", "kept"), "kept: not a public key"),
        (("proof", "proof.json", "--checkpoint", "key"), "key: not a checkpoint, or damaged"),
        (("export", "export", "--checkpoint", "key"), "key: not a checkpoint, or damaged"),
        (("proof", "proof.json", "--key", "empty"), "empty: there is no key in the file"),
        (("proof", "proof.json", "--checkpoint", "latin"), "latin: not a text in UTF-8"),
        (("proof", "proof.json", "--checkpoint", "long"), "long is longer than"),
        (("export", "export", "--checkpoint", "."), "manifest.json is missing"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    verify: Verify, files: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(files)
    (files / "loop").symlink_to("loop")
    (files / "empty").touch()
    (files / "key").write_text("log+1a2b3c4d+AbCd\n", encoding="utf-8")
    (files / "latin").write_bytes(b"caf\xe9\n")
    (files / "long").write_bytes(b"x" * 500_000)
    ran = verify(*words)
    assert (ran.code, ran.out) == (2, ""), ran
    assert ran.err.startswith("oracle-verify: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err
    as_json = verify(*words, "--json")
    assert (as_json.code, as_json.err) == (2, "")
    assert said in as_json.json["error"]["message"]


def test_files_that_a_windows_program_saved_are_still_verified(verify: Verify, files: Path, log: Log) -> None:
    events = files / "export" / "events.ndjson"
    events.write_bytes(b"\xef\xbb\xbf" + events.read_bytes().replace(b"\n", b"\r\n"))
    for name in ("manifest.json",):
        made = (files / "export" / name).read_bytes()
        (files / "export" / name).write_bytes(made.replace(b"\n", b"\r\n"))
    (files / "proof.json").write_bytes(b"\xef\xbb\xbf" + (files / "proof.json").read_bytes().replace(b"\n", b"\r\n"))
    for encoding in ("utf-8-sig", "utf-16"):
        (files / "kept").write_text(log.sign(120).rstrip("\n"), encoding=encoding, newline="\r\n")
        (files / "log.vkey").write_text(log.vkey, encoding=encoding)
        options = ("--key", files / "log.vkey", "--checkpoint", files / "kept")
        whole = verify("export", files / "export", *options)
        assert whole.code == 0, whole
        assert "note: events.ndjson has Windows line ends (CR LF): they were ignored" in whole.out
        assert verify("proof", files / "proof.json", *options).code == 0
    # The shell of Windows leaves wildcards to the program; a file of the export names it as well.
    assert verify("export", files / "exp*", "--key", log.vkey).code == 0
    assert verify("export", files / "export" / "manifest.json", "--key", log.vkey).code == 0


def test_a_raw_answer_of_the_api_is_a_proof(verify: Verify, files: Path, log: Log) -> None:
    (files / "answer.json").write_text(json.dumps(log.answer(PROOF_OF)), encoding="utf-8")
    assert verify("proof", files / "answer.json", "--key", log.vkey).code == 0
    assert verify("proof", files / "answer.json", "--checkpoint", files / "kept").code == 0
    assert verify("proof", files / "answer.json").code == 1
    assert verify("proof", files / "answer.json", "--key", Log(1).vkey).code == 1


# Hostile files ----------------------------------------------------------------------------------------------------


def spoil(path: Path, *, complete: bool) -> Iterator[bytes]:
    """Flip each bit, or one of some bytes; cut it at each place, or at some.  At the end it is whole again."""
    chosen, good = random.Random(20261128), path.read_bytes()
    for at in range(0, len(good), 1 if complete else 11):
        for bit in range(8) if complete else [chosen.randrange(8)]:
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            yield path.read_bytes()
    for at in range(0, len(good) - 1, 1 if complete else 37):
        path.write_bytes(good[:at])
        yield path.read_bytes()
    path.write_bytes(good)


def test_no_spoiled_proof_is_verified(files: Path, log: Log, *, complete: bool) -> None:
    for data in spoil(files / "proof.json", complete=complete):
        with suppress(Malformed):
            assert not verify_proof(read_proof(files / "proof.json"), (), [log.sign(120)]).is_verified, data


def test_no_spoiled_export_is_verified(files: Path, *, complete: bool) -> None:
    small = Log(3)
    directory = small.export(files / "small", 1)
    for path in sorted(directory.iterdir()):
        good = path.read_bytes()
        for data in spoil(path, complete=complete):
            is_verified = verify_exports([directory], [small.vkey]).is_verified
            # Other bits in the padding of Base64 are the same hash.
            assert not is_verified or (path.name == "manifest.json" and data.count(b"=") == good.count(b"=")), data
    assert verify_exports([directory], [small.vkey]).is_verified


STRANGE = [
    "1" + "0" * 4000, "1" + "0" * 5000, "-1", "1e999", "null", "{}", "[" * 200_000, '{"a":' * 200_000, '[["x"]]',
    '"\\ud800"', '"\\u0000"',
]  # fmt: skip


def put_strange(path: Path, *, complete: bool) -> Iterator[tuple[str, str]]:
    """Put these values in place of each member, and add one; at the end the file is whole again."""
    good = path.read_bytes()
    for number, member in enumerate((*json.loads(good), "new")):
        for value in STRANGE if complete else STRANGE[number % 3 :: 3]:
            path.write_text(json.dumps({**json.loads(good), member: "@"}).replace('"@"', value), encoding="utf-8")
            yield member, value
    path.write_bytes(good)


def test_strange_values_are_findings_of_one_line(verify: Verify, files: Path, *, complete: bool) -> None:
    key = ("--key", files / "log.vkey")
    for member, value in put_strange(files / "proof.json", complete=complete):
        ran = verify("proof", files / "proof.json", *key)
        assert (ran.code, ran.err) == (1, ""), (member, value[:20])
        assert "NOT VERIFIED: 1 finding." in ran.out
        assert len(ran.out) < 2_000
    for member, value in put_strange(files / "export" / "manifest.json", complete=complete):
        ran = verify("export", files / "export", *key)
        # An export without the optional proof is still the same export.
        assert (ran.code, ran.err) == (int((member, value) != ("since", "null")), ""), (member, value[:20])
        assert len(ran.out) < 2_000


@pytest.mark.parametrize("name", ["events.ndjson", "hashes.bin", "events.csv", "manifest.json"])
def test_a_file_without_an_end_costs_neither_time_nor_memory(
    verify: Verify, files: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A terabyte of zero bytes, and more lines than the log can have."""
    read = 0
    path = files / "export" / name
    with path.open("ab") as file:
        file.truncate(1 << 40)
    ran = verify("export", files / "export", "--key", files / "log.vkey")
    assert ran.code == 1
    assert len(ran.out) < 2_000
    if name != "events.ndjson":
        return
    assert "is longer than 16,777,216 bytes" in ran.out
    path.write_bytes(b"\n" * 200_000)
    feed = Windows.feed

    def count(self: Windows, sealed: list[bytes], found: list[bytes]) -> Any:
        nonlocal read
        read += len(found)
        return feed(self, sealed, found)

    monkeypatch.setattr(Windows, "feed", count)
    ran = verify("export", files / "export", "--key", files / "log.vkey")
    assert ran.code == 1
    assert "events.ndjson has far more lines than 120; the rest was not read" in ran.out
    assert read < 20_000


def test_archives_links_and_missing_files_are_named(verify: Verify, files: Path) -> None:
    key = ("--key", files / "log.vkey")
    (files / "proof.json").write_bytes(b"PK\x03\x04 and so on")
    assert "proof.json is a ZIP archive: unpack it" in verify("proof", files / "proof.json", *key).out
    shutil.copytree(files / "export", files / "linked")
    (files / "linked" / "events.ndjson").unlink()
    missing = verify("export", files / "linked", *key)
    assert (missing.code, missing.out.splitlines()[0]) == (1, "file: events.ndjson is missing")
    (files / "linked" / "events.ndjson").symlink_to(files / "export" / "events.ndjson")
    assert verify("export", files / "linked", *key).code == 0, "a link to a plain file is a plain file"
    (files / "linked" / "events.ndjson").unlink()
    (files / "linked" / "events.ndjson").symlink_to("/etc/passwd")
    other = verify("export", files / "linked", *key)
    assert other.code == 1
    assert "root:" not in other.out + other.err, "nothing of it is shown"
    (files / "linked" / "events.ndjson").unlink()
    (files / "linked" / "events.ndjson").mkdir()
    assert "file: events.ndjson is not a plain file" in verify("export", files / "linked", *key).out
    keys = json.loads((files / "export" / "manifest.json").read_bytes())
    keys["keys"] *= 1_001
    (files / "export" / "manifest.json").write_text(json.dumps(keys), encoding="utf-8")
    assert "it lists more than 1,000 keys" in verify("export", files / "export", *key).out

"""An export is checked with its files alone; every change of it is found, in the line where it was made."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import pytest
from oracle_process import run_oracle
from sealing import open_connection, register, seal
from shell import Shell

from oracle.audit import log
from oracle.audit.export import ExportError, export
from oracle.audit.keys import KeyFile, rotate
from oracle.verifier.checkpoint import Checkpoint
from oracle.verifier.exports import verify_exports
from oracle.verifier.files import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Administration

    from oracle.run.embedded import PostgresServer


class Exports:
    def __init__(self, url: str, tmp_path: Path, kept: str, vkey: str) -> None:
        self.url, self._path, self.kept, self.vkey = url, tmp_path, kept, vkey
        self._count = 0

    async def make(self, begin: int = 0, end: int | None = None, **options: object) -> Path:
        self._count += 1
        directory = self._path / f"export-{self._count}"
        connection = await log.connect(self.url, "test")
        try:
            await export(connection, directory, begin, end, **options)  # type: ignore[arg-type]
        finally:
            await connection.close()
        return directory

    def check(self, directory: Path, since: str | None = None, **limits: int) -> list[str]:
        kept = [] if since is None else [since]
        return [str(finding) for finding in verify_exports([directory], [self.vkey], kept, **limits).findings]


class Written(NamedTuple):
    """The name of the database that each test has a copy of, and what belongs to it."""

    name: str
    keys: Path
    kept: str
    vkey: str


@pytest.fixture(scope="module")
def written(
    postgres_template: PostgresServer, administration: Administration, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Written]:
    async def write(url: str) -> tuple[str, str]:
        await register(url, 0, 500)
        await seal(url, keys)
        await register(url, 500, 500)
        async with open_connection(url) as connection:
            kept = await connection.fetchval("SELECT note FROM audit_checkpoints WHERE size = 501")
            vkey = await connection.fetchval("SELECT vkey FROM audit_keys")
        await seal(url, keys)
        return kept, vkey

    name, keys = administration.make_database(), tmp_path_factory.mktemp("written") / "keys"
    yield Written(name, keys, *asyncio.run(write(postgres_template.url(name))))
    administration.drop_database(name)


@pytest.fixture
def exports(
    postgres_template: PostgresServer, administration: Administration, written: Written, tmp_path: Path
) -> Iterator[Exports]:
    """A log of 1,001 leaves, of which somebody kept the checkpoint at 501."""
    shutil.copytree(written.keys.parent, tmp_path, dirs_exist_ok=True)  # with what was signed last
    name = administration.make_database(written.name)
    yield Exports(postgres_template.url(name), tmp_path, written.kept, written.vkey)
    administration.drop_database(name)


def edit_lines(path: Path, edit: Callable[[list[bytes]], object]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    edit(lines)
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(("begin", "end"), [(0, None), (0, 600), (300, 700), (600, 1001), (7, 8), (5, 5), (0, 0)])
async def test_any_range_is_what_was_signed(exports: Exports, begin: int, end: int | None) -> None:
    directory = await exports.make(begin, end, with_csv=True)
    assert exports.check(directory) == []
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700  # identifiers are in it
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}


LINES = {
    "altered": (
        lambda lines: lines.__setitem__(57, lines[57].replace(b"greenbank", b"bluebank")),
        ["altered: line 58 (event 158) differs from what was sealed as leaf 157"],
    ),
    "only respelled": (
        lambda lines: lines.__setitem__(57, lines[57].replace(b'"role":null', b'"role": null')),
        ["altered: line 58 (event 158) differs from what was sealed as leaf 157"],
    ),
    "removed": (lambda lines: lines.pop(57), ["removed: leaf 157 has no line"]),
    "the last removed": (lambda lines: lines.pop(), ["removed: leaf 499 has no line"]),
    "inserted": (
        lambda lines: lines.insert(57, lines[57].replace(b'"event_id":158', b'"event_id":9158')),
        ["inserted: line 58 (event 9158) was not sealed in this range"],
    ),
    "doubled": (
        lambda lines: lines.append(lines[57]),
        ["inserted: line 401 (event 158) was not sealed in this range"],
    ),
    "swapped": (
        lambda lines: lines.insert(90, lines.pop(57)),
        ["moved: line 91 (event 158) was sealed as leaf 157"],
    ),
    "not a line at all": (
        lambda lines: lines.__setitem__(57, b"\xff\x00 what\n"),
        ["altered: line 58 (event unreadable) differs from what was sealed as leaf 157"],
    ),
    "without its end": (
        lambda lines: lines.__setitem__(-1, lines[-1].rstrip(b"\n")),
        ["altered: line 400 (event 500) differs from what was sealed as leaf 499"],
    ),
}


@pytest.mark.parametrize("name", LINES)
async def test_a_changed_line_is_named(exports: Exports, name: str) -> None:
    directory = await exports.make(100, 500)
    edit, expected = LINES[name]
    edit_lines(directory / "events.ndjson", edit)
    assert exports.check(directory) == expected
    assert len(exports.check(directory, window=128)) == len(expected)


async def test_hashes_and_lines_forged_together_do_not_make_what_was_signed(exports: Exports) -> None:
    from oracle.verifier.leaf import leaf_hash

    directory = await exports.make(100, 500)
    edit_lines(directory / "events.ndjson", LINES["altered"][0])
    line = (directory / "events.ndjson").read_bytes().splitlines()[57]
    hashes = bytearray((directory / "hashes.bin").read_bytes())
    hashes[57 * 32 : 58 * 32] = leaf_hash(line)
    (directory / "hashes.bin").write_bytes(hashes)
    assert exports.check(directory) == ["root: neither the lines nor hashes.bin lead to the signed root"]


async def test_damaged_hashes_are_distinguished_from_damaged_lines(exports: Exports) -> None:
    directory = await exports.make(100, 500)
    hashes = bytearray((directory / "hashes.bin").read_bytes())
    hashes[5] ^= 1
    (directory / "hashes.bin").write_bytes(hashes)
    assert exports.check(directory) == ["hashes: hashes.bin differs from what was sealed; the lines do not"]


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda m: m.update(begin=101), "manifest"),
        (lambda m: m.update(begin=101, end=501), "manifest"),
        (lambda m: m.update(begin=101, count=399), "manifest"),
        (lambda m: m.update(begin=112, count=388), "root"),
        (lambda m: m.update(left=m["left"][1:]), "manifest"),
        (lambda m: m.update(right=[]), "manifest"),
        (lambda m: m.update(right=[each[:-4] for each in m["right"]]), "manifest"),
        (lambda m: m.update(right=m["right"][::-1]), "root"),
        (lambda m: m.update(root=m["left"][0]), "manifest"),
        (lambda m: m.update(origin="alias-oracle/another"), "checkpoint"),
        (lambda m: m.update(checkpoint=m["checkpoint"].replace("\n1001\n", "\n1002\n")), "checkpoint"),
        (lambda m: m.update(checkpoint="x"), "checkpoint"),
        (lambda m: m.update(keys=[]), "checkpoint"),
        (lambda m: m.update(format="other"), "manifest"),
        (lambda m: m.update(count="x"), "manifest"),
        (lambda m: m.update(surprise=1), "manifest"),
        (lambda m: m.pop("left"), "manifest"),
    ],
)
async def test_a_changed_manifest_is_found(
    exports: Exports, edit: Callable[[dict[str, object]], object], kind: str
) -> None:
    directory = await exports.make(100, 500)
    made = json.loads((directory / "manifest.json").read_text())
    edit(made)
    (directory / "manifest.json").write_text(json.dumps(made))
    found = exports.check(directory)
    assert found
    assert found[-1].startswith(f"{kind}: ")


@pytest.mark.parametrize("name", ["manifest.json", "events.ndjson", "hashes.bin", "events.csv"])
async def test_an_endless_file_is_not_opened(exports: Exports, name: str) -> None:
    directory = await exports.make(100, 500, with_csv=True)
    (directory / name).unlink()
    (directory / name).symlink_to("/dev/zero")
    for _ in range(2):
        if name == "manifest.json":
            with pytest.raises(Unreadable, match="not a plain file"):
                exports.check(directory)
        else:
            assert exports.check(directory) == [f"file: {name} is not a plain file"]
        (directory / name).unlink()
        os.mkfifo(directory / name)


async def test_a_manifest_is_not_read_into_memory_whatever_its_length(exports: Exports) -> None:
    directory = await exports.make(100, 500)
    with (directory / "manifest.json").open("ab") as file:
        file.truncate(1 << 40)
    assert exports.check(directory) == ["manifest: manifest.json is longer than 16,777,216 bytes"]


async def test_a_table_that_differs_from_the_lines_is_found(exports: Exports) -> None:
    directory = await exports.make(100, 500, with_csv=True)
    edit_lines(directory / "events.csv", lambda rows: rows.__setitem__(58, rows[58].replace(b"greenbank", b"bluebank")))
    assert exports.check(directory) == ["csv: row 58 of events.csv differs from line 58 of events.ndjson"]
    edit_lines(directory / "events.csv", lambda rows: rows.__setitem__(58, rows[58].replace(b"bluebank", b"greenbank")))
    edit_lines(directory / "events.csv", lambda rows: rows.append(rows[-1]))
    assert exports.check(directory) == ["csv: events.csv has more rows than events.ndjson has lines"]


async def test_the_checkpoint_that_was_kept_is_extended_or_not(exports: Exports, tmp_path: Path) -> None:
    whole, part, proved = (
        await exports.make(),
        await exports.make(600, 700),
        await exports.make(600, 700, since=Checkpoint.of_note(exports.kept)),
    )
    assert exports.check(whole, exports.kept) == [], "computed from the lines themselves"
    assert exports.check(part, exports.kept)[0].startswith("unproved: the export has no proof from 501 leaves on")
    assert exports.check(proved, exports.kept) == []
    # Another history with the same key, as a hub that rewrote its past would have it.
    signer = KeyFile(tmp_path / "keys").read()[0]
    from oracle.audit.signer import sign_note

    other = sign_note(Checkpoint.of_note(exports.kept)._replace(root=bytes(32)).text, [signer])
    for directory in (whole, proved):
        assert exports.check(directory, other)[0].startswith("rewritten: ")
    later = sign_note(Checkpoint.of_note(exports.kept)._replace(size=2_000).text, [signer])
    (shorter,) = exports.check(whole, later)
    assert shorter.startswith("shorter: the checkpoint that you kept has 2000 leaves, but this log has only 1001. If ")
    assert exports.check(whole, "nonsense")[0].startswith("checkpoint: the one that you kept: ")


async def test_an_auditor_with_the_first_key_follows_rotations(exports: Exports, tmp_path: Path) -> None:
    async with open_connection(exports.url) as connection:
        await rotate(connection, KeyFile(tmp_path / "keys"))
    await register(exports.url, 5_000, 50)
    await seal(exports.url, tmp_path / "keys")
    assert exports.check(await exports.make(), exports.kept) == []


async def test_what_cannot_be_exported_is_refused(exports: Exports, tmp_path: Path) -> None:
    for bad in ((5, 4), (0, 1_002), (1_002, None)):
        with pytest.raises(ExportError, match="choose a range within them"):
            await exports.make(*bad)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    connection: asyncpg.Connection = await log.connect(exports.url, "test")
    try:
        with pytest.raises(ExportError, match="not empty"):
            await export(connection, tmp_path / "full")
    finally:
        await connection.close()


def test_the_commands_say_what_they_find_and_end_with_it(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORACLE_DATABASE_URL", exports.url)
    monkeypatch.setenv("ORACLE_AUDIT_KEY_FILE", str(tmp_path / "keys"))
    shell = Shell("", monkeypatch, capsys)
    (tmp_path / "kept").write_text(exports.kept)
    (tmp_path / "empty").write_text("")
    exported = str(tmp_path / "out")
    for command, code in (
        (["verify", "--since", "kept"], 0),
        (["verify", "--from", "2020-01-01", "--to", "2021-01-01"], 0),
        (["export", exported, "--from", "600", "--since", "kept", "--csv"], 0),
        (["export", exported], 1),
        (["verify", "--offline", exported, "--since", "kept", "--key", exports.vkey], 0),
        (["verify", "--offline", "nowhere"], 1),
        (["verify", "--key", "nonsense+x"], 1),
        (["verify", "--offline", exported, "--key", "empty"], 1),  # and not the export's own key
        (["keys", "rotate"], 0),
        (["verify", "--from", "yesterday"], 2),
    ):
        ran = shell("audit", *command)
        assert ran.code == code, (command, ran.err)
    (tmp_path / "keys.last").write_text("what was signed last")
    for said in ("the next one signs the log as it is now", "nothing to accept"):
        assert said in shell("audit", "accept").out
    assert Checkpoint.of_note(shell("audit", "checkpoint").out).size == 1001
    assert len(shell("audit", "keys").out.splitlines()) == 2
    # The files alone, with no settings at all.
    moved = tmp_path / "elsewhere"
    shutil.copytree(exported, moved)
    number = random.randrange(400)
    edit_lines(moved / "events.ndjson", lambda lines: lines.__setitem__(number, lines[number].replace(b"reen", b"lue")))
    alone = run_oracle(tmp_path, "audit", "verify", "--offline", str(moved), "--since", "kept", "--key", exports.vkey)
    assert alone.returncode == 7
    assert alone.stdout.startswith(
        f"altered: line {number + 1} (event {number + 601}) differs from what was sealed as leaf "
    ), alone

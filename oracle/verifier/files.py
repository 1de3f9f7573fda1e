"""Reads files that somebody else made: bounded, and with one plain line for each thing that can be wrong.

Texts (keys, checkpoints) are read as Windows programs write them, too: with a byte order mark, with CR LF, or in
UTF-16.  The signature covers neither of these.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from .checkpoint import NOTE_BYTES_MAX, BadNote, Note, Verifier
from .manifest import MANIFEST, Manifest

MANIFEST_BYTES_MAX: Final = 16 * 1024 * 1024
_ZIP: Final = b"PK\x03\x04"
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


_CHECKPOINT: Final = (
    "A checkpoint is the file that `oracle audit fetch-checkpoint` printed: three lines, an empty one, and signatures"
)


class Unreadable(Exception):
    """A file cannot be opened, or an argument cannot be used; one line for the person."""


class Malformed(Exception):
    """A file was read, but it does not have its form; one line for the person."""


def read_bytes(path: Path, bytes_max: int) -> bytes:
    """Read a plain file.  Raises Unreadable, and Malformed when it is longer."""
    try:
        # A pipe or a device could be endless.
        if path.exists() and not path.is_file():
            raise Unreadable(f"{path}: not a plain file. Name a file")
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except (OSError, ValueError) as exc:  # ValueError: a zero byte in the name
        raise Unreadable(f"{path}: cannot be opened: {describe(exc)}") from exc
    if data.startswith(_ZIP):
        raise Malformed(f"{path.name} is a ZIP archive: unpack it, then check the files in it")
    if len(data) > bytes_max:
        raise Malformed(f"{path.name} is longer than {bytes_max:,} bytes")
    return data


def describe(exc: OSError | ValueError) -> str:
    if isinstance(exc, FileNotFoundError):
        return "there is no such file. Check the name"
    if isinstance(exc, PermissionError):
        return "you have no right to read it. Ask its owner"
    return (exc.strerror if isinstance(exc, OSError) else None) or "it is not a name of a file"


def read_text(path: Path) -> str:
    """Read a short text.  Its lines end with a line feed, the last one, too.  Raises Unreadable."""
    try:
        data = read_bytes(path, 4 * NOTE_BYTES_MAX)
        text = data.decode(next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8"))
    except Malformed as exc:
        raise Unreadable(f"{path}: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise Unreadable(f"{path}: not a text in UTF-8. Save it as UTF-8, or get the original file again") from exc
    return text.replace("\r\n", "\n").rstrip("\n") + "\n"


def read_checkpoint(path: Path) -> str:
    """Read a signed note from its file, or from the directory of an export.  Raises Unreadable."""
    if not path.is_dir():
        note = read_text(path)
        try:
            Note.of(note)
        except BadNote as exc:
            raise Unreadable(f"{path}: not a checkpoint, or damaged: {exc}. {_CHECKPOINT}") from exc
        return note
    try:
        return read_manifest(path).checkpoint
    except Malformed as exc:
        raise Unreadable(f"{path}: {exc}") from exc


def read_manifest(directory: Path) -> Manifest:
    """Raises Unreadable, Malformed."""
    if not directory.is_dir():
        raise Unreadable(f"{directory}: there is no such directory. Check the name")
    path = directory / MANIFEST
    if not path.exists():
        raise Unreadable(f"{directory}: {MANIFEST} is missing. Name the directory that holds the files of one export")
    text = read_bytes(path, MANIFEST_BYTES_MAX)
    try:
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Malformed(f"{MANIFEST} cannot be read: {exc}") from exc


def read_keys(given: Sequence[str]) -> list[str]:
    """Return the vkeys among texts that are vkeys or names of files of them.  Raises Unreadable."""
    found: list[str] = []
    for each in given:
        # A vkey holds two plus signs; the name of a file can hold them as well.
        text = each if each.count("+") >= 2 and not _is_file(each) else read_text(Path(each))  # noqa: PLR2004
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:  # without this, another key would be trusted, or none
            raise Unreadable(f"{each}: there is no key in the file. A public key is one line of text")
        try:
            found += [Verifier.of(line).vkey for line in lines]
        except BadNote as exc:
            place = "the key" if text is each else each
            raise Unreadable(f"{place}: {exc}. A public key looks like alias-oracle/…+1a2b3c4d+AbCd…=") from exc
    return found


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False

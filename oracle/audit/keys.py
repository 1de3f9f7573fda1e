"""The private keys of the log.  They are in a file, never in the database: its owner could forge history with them.

File.      <data_dir>/audit-keys/signing.keys, or the file of the setting audit_key_file.  One key a line in the format
           of Go's sumdb/note, the newest last, mode 0600.  The first start with an empty log creates it, or
           `oracle audit keys create` before that.  Every machine that seals needs it; a machine without it leaves
           sealing to the others.
Last.      Beside it, signing.keys.last holds the last checkpoint that was signed here.  If the log in the database does
           not extend that checkpoint, somebody rewrote the log or restored an older backup.  Then nothing is signed
           until a person has checked it and runs `oracle audit accept`.  A read-only directory has no such file.
Lost.      After the loss of a key, `oracle audit keys replace` begins a key that no other key introduces.  Verifiers
           must get both keys.
Rotation.  `rotate` adds a key to the file, then the statement that introduces it to the database.  A sealer that finds
           an unknown key in the database reads the file again.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from oracle.audit import log
from oracle.audit.signer import Signer, sign_note
from oracle.settings import Settings
from oracle.store.queries import QUERIES
from oracle.verifier.checkpoint import BadNote, Checkpoint, Trust, Verifier, VerifierKey, introduction

# Any numbers that nobody else uses: "audit" in ASCII, one for sealing and one for keys.
SEALING_LOCK: Final = 0x6175646974
KEYS_LOCK: Final = 0x6175646975


class KeyFileError(Exception):
    """The key file cannot be used.  The text is one line for the operator, and never holds a part of a key."""


def key_file(settings: Settings) -> Path:
    return settings.audit_key_file or settings.data_dir / "audit-keys" / "signing.keys"


def _explain(exc: OSError | ValueError) -> str:
    reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
    return f"{reason}: check its owner and mode, or restore it from a copy"


class KeyFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_path = path.with_name(path.name + ".last")

    def read(self) -> list[Signer]:
        """Read the keys, the newest last; an empty list when there is no file.  Raises KeyFileError."""
        try:
            mode = self.path.stat().st_mode
            if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
                raise KeyFileError(f"{self.path}: users other than its owner can read or change it: run chmod 600")
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as exc:
            raise KeyFileError(f"{self.path}: cannot be read: {_explain(exc)}") from exc
        try:
            return [Signer.of(line) for line in lines if line.strip()]
        except BadNote as exc:
            raise KeyFileError(f"{self.path}: {exc}: restore the key file from a copy") from exc

    def add(self, signer: Signer) -> None:
        """Add a key as the newest.  Raises KeyFileError."""
        lines = [each.skey for each in (*self.read(), signer)]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self.path, "".join(f"{line}\n" for line in lines))
        except OSError as exc:
            raise KeyFileError(f"{self.path}: cannot be written: {exc.strerror}: check its directory") from exc

    def read_last_note(self) -> str | None:
        """Read the text of the last checkpoint; None when there is none.  Raises KeyFileError."""
        try:
            return self.last_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise KeyFileError(f"{self.last_path}: cannot be read: {_explain(exc)}") from exc

    def read_last(self) -> Checkpoint | None:
        """Read the last checkpoint; None when there is none.  Raises KeyFileError."""
        note = self.read_last_note()
        try:
            return None if note is None else Checkpoint.of_note(note)
        except BadNote as exc:
            raise KeyFileError(f"{self.last_path}: {exc}: restore this file from a copy") from exc

    def write_last(self, note: str) -> None:
        """Keep the last checkpoint, where the directory can be written."""
        with suppress(OSError):  # the secret is mounted read-only: see the module
            _write(self.last_path, note)

    def delete_last(self) -> bool:
        """Delete the last checkpoint; return False when there was none.  Raises KeyFileError."""
        try:
            self.last_path.unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise KeyFileError(f"{self.last_path}: cannot be removed: {exc.strerror}: remove it yourself") from exc
        return True


def _write(path: Path, text: str) -> None:
    """Write the whole file or nothing, also in a power cut: a key that the database knows must not be lost."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # not every file system supports this
            os.fsync(directory)
    finally:
        os.close(directory)


def signers_of(origin: str, keys: list[VerifierKey], have: list[Signer]) -> list[Signer]:
    """Return the signers: the newest key, and the key before if the file still has it.  Raises KeyFileError."""
    by_vkey = {signer.verifier.vkey: signer for signer in have}
    if not keys or keys[-1].vkey not in by_vkey:
        raise KeyFileError(
            "the key file does not hold the key that signs now: copy the file from a machine that seals,"
            " or run `oracle audit keys replace` if the key is lost"
        )
    Trust(origin, keys, [keys[-1].vkey])
    return [by_vkey[key.vkey] for key in reversed(keys[-2:]) if key.vkey in by_vkey]


async def create_first_key(connection: asyncpg.Connection, origin: str, file: KeyFile) -> None:
    """Give a log without a key its first key.  The caller holds the lock of sealing.  Raises KeyFileError."""
    have = file.read()
    if not have:
        file.add(Signer.new(origin))
        have = file.read()
    if have[-1].verifier.name != origin:
        raise KeyFileError(f"{file.path}: its keys are of another log: use the key file of this directory")
    await connection.execute(QUERIES["audit_key_add"], 0, have[-1].verifier.vkey, 0, None)


async def write_first_key(connection: asyncpg.Connection, file: KeyFile) -> Verifier:
    """Write the first key of an empty log to the file; return its public part.  Raises KeyFileError.

    For a file that is a copy everywhere, for example a secret of Kubernetes: no machine that seals can create it.  The
    database learns of the key when the first machine seals with it.
    """
    if await log.fetch_keys(connection):
        raise KeyFileError("the log has a key already: copy the key file from a machine that seals")
    if file.read():
        raise KeyFileError(f"{file.path} holds a key already: use it, or name another file")
    signer = Signer.new(await connection.fetchval(QUERIES["audit_origin"]))
    file.add(signer)
    return signer.verifier


async def require_lost(connection: asyncpg.Connection, file: KeyFile) -> Verifier:
    """Return the public part of the key that signs now, and that this machine has lost.  Raises KeyFileError."""
    keys = await log.fetch_keys(connection)
    if not keys:
        raise KeyFileError(
            "nothing is sealed yet, so no key is lost: start `oracle serve`, which creates the first key"
        )
    if keys[-1].vkey in {signer.verifier.vkey for signer in file.read()}:
        raise KeyFileError(
            f"{file.path} holds the key that signs now, so it is not lost: run `oracle audit keys rotate`."
            " If somebody has stolen the key, move the file away first"
        )
    return Verifier.of(keys[-1].vkey)


async def rotate(
    connection: asyncpg.Connection, file: KeyFile, *, lost: bool = False, actor: str = "oracle"
) -> Verifier:
    """Begin a new key; return its public part.  Raises KeyFileError.

    `lost`: without a statement of the old key, which must not be in the file.  `actor`: who does it, for the event.
    """
    origin = await connection.fetchval(QUERIES["audit_origin"])
    async with connection.transaction():
        await connection.execute(QUERIES["audit_key_lock"], KEYS_LOCK)
        keys = await log.fetch_keys(connection)
        if lost:
            await require_lost(connection, file)
        reason = "the key is lost" if lost else "rotation of the key"
        await connection.execute(QUERIES["transaction_begin"], "admin", actor, "operator", "", "", reason, "", "")
        new = Signer.new(origin)
        size = (await log.fetch_state(connection)).size
        statement = None
        if not lost:
            old = signers_of(origin, keys, file.read())[0]
            statement = sign_note(introduction(origin, old.verifier, new.verifier, size), [old, new])
        file.add(new)
        await connection.execute(QUERIES["audit_key_add"], len(keys), new.verifier.vkey, size, statement)
    return new.verifier

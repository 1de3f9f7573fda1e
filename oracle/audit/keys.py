"""The private keys of the log: in a file, never in the database, whose owner could forge history with them.

File.      <data_dir>/audit-keys/signing.keys, or the one of the setting audit_key_file: a key a line as Go's sumdb/note
           spells them, the newest last, mode 0600.  Made at the first start with an empty log.  Every machine that is
           to seal needs it; one that has not got it leaves sealing to the others.
Memory.    Beside it, signing.keys.last is the last checkpoint that was signed here.  A log in the database that does
           not extend it was rewritten, or restored from before; then nothing is signed until somebody has looked
           and said so (`oracle audit accept`).  In a read-only directory there is no such memory.
Lost.      `oracle audit keys replace` begins a key that no other introduces; whoever verifies has to be given both.
Rotation.  `rotate` adds a key to the file, then the statement that introduces it to the database.  A sealer that finds
           a key there which it does not know reads the file again.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from oracle.audit import log
from oracle.audit.checkpoint import BadNote, Checkpoint, Signer, Trust, Verifier, VerifierKey, introduction, sign_note
from oracle.settings import Settings
from oracle.store.queries import QUERIES

# Any number will do, as long as nobody else takes it: "audit" in ASCII, one for sealing, one for keys.
SEALING_LOCK: Final = 0x6175646974
KEYS_LOCK: Final = 0x6175646975


class KeyFileError(Exception):
    """One line for the operator; never a part of a key."""


def key_file(settings: Settings) -> Path:
    return settings.audit_key_file or settings.data_dir / "audit-keys" / "signing.keys"


class KeyFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_path = path.with_name(path.name + ".last")

    def read(self) -> list[Signer]:
        """The keys, the newest last; none when there is no file.  Raises KeyFileError."""
        try:
            mode = self.path.stat().st_mode
            if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
                raise KeyFileError(f"{self.path}: others than its owner may read or change it: chmod 600")
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as exc:
            raise KeyFileError(f"{self.path}: cannot be read ({type(exc).__name__})") from exc
        try:
            return [Signer.of(line) for line in lines if line.strip()]
        except BadNote as exc:
            raise KeyFileError(f"{self.path}: {exc}") from exc

    def add(self, signer: Signer) -> None:
        """Raises KeyFileError."""
        lines = [each.skey for each in (*self.read(), signer)]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self.path, "".join(f"{line}\n" for line in lines))
        except OSError as exc:
            raise KeyFileError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def last_note(self) -> str | None:
        """Raises KeyFileError."""
        try:
            return self.last_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise KeyFileError(f"{self.last_path}: cannot be read ({type(exc).__name__})") from exc

    def last(self) -> Checkpoint | None:
        """Raises KeyFileError."""
        note = self.last_note()
        try:
            return None if note is None else Checkpoint.of_note(note)
        except BadNote as exc:
            raise KeyFileError(f"{self.last_path}: {exc}") from exc

    def remember(self, note: str) -> None:
        with suppress(OSError):  # a secret that is mounted read-only: see the module
            _write(self.last_path, note)

    def forget(self) -> bool:
        """False where nothing was remembered.  Raises KeyFileError."""
        try:
            self.last_path.unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise KeyFileError(f"{self.last_path}: cannot be removed: {exc.strerror}") from exc
        return True


def _write(path: Path, text: str) -> None:
    """Whole or as before, also after a power cut: a key that the database knows must not be gone then."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(directory)
    finally:
        os.close(directory)


def signers_of(origin: str, keys: list[VerifierKey], have: list[Signer]) -> list[Signer]:
    """Who signs now: the newest key; the one before as well, if it is in the file still.  Raises KeyFileError."""
    by_vkey = {signer.verifier.vkey: signer for signer in have}
    if not keys or keys[-1].vkey not in by_vkey:
        raise KeyFileError("the key file does not hold the key that signs now")
    Trust(origin, keys, [keys[-1].vkey])
    return [by_vkey[key.vkey] for key in reversed(keys[-2:]) if key.vkey in by_vkey]


async def create_first_key(connection: asyncpg.Connection, origin: str, file: KeyFile) -> None:
    """A log without a key gets one.  Under the lock of sealing."""
    have = file.read()
    if not have:
        file.add(Signer.new(origin))
        have = file.read()
    if have[-1].verifier.name != origin:
        raise KeyFileError(f"{file.path}: its keys are of another log")
    await connection.execute(QUERIES["audit_key_add"], 0, have[-1].verifier.vkey, 0, None)


async def rotate(connection: asyncpg.Connection, file: KeyFile, *, lost: bool = False) -> Verifier:
    """A new key from now on; the public part.  Of a lost one nobody introduces the next.  Raises KeyFileError."""
    origin = await connection.fetchval(QUERIES["audit_origin"])
    async with connection.transaction():
        await connection.execute(QUERIES["audit_key_lock"], KEYS_LOCK)
        keys = await log.fetch_keys(connection)
        new = Signer.new(origin)
        size = (await log.fetch_state(connection)).size
        statement = None
        if not lost:
            old = signers_of(origin, keys, file.read())[0]
            statement = sign_note(introduction(origin, old.verifier, new.verifier, size), [old, new])
        file.add(new)
        await connection.execute(QUERIES["audit_key_add"], len(keys), new.verifier.vkey, size, statement)
    return new.verifier

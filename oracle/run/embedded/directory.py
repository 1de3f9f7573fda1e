"""The data directory: which process uses it, where its servers listen, and where their sockets are."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import secrets
import shutil
import struct
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from oracle.run.embedded.errors import POSTGRES_REMEDY, WRITABLE, EmbeddedError, InUseError, add_remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

# sun_path ends at 107 bytes, and PostgreSQL's longest name is "/.s.PGSQL.5432".  Other characters would need
# quoting in a URL, in PostgreSQL's list of directories and in asyncpg's list of hosts, each in its own way.
PLAIN_PATH: Final = re.compile(rf"[A-Za-z0-9_./-]{{1,{107 - len('/.s.PGSQL.5432')}}}")
SHORT_ROOT: Final = Path("/tmp")  # noqa: S108 - not TMPDIR, which can be long itself; mkdtemp makes it private
CACHE_KEY_BYTES: Final = 32
SHORT_PREFIX: Final = "oracle-"


@dataclass(frozen=True)
class ServerUrls:
    """Where the servers listen; None for a server that was not started.  `owner_url` is for migrations."""

    database_url: str | None
    redis_url: str | None
    owner_url: str | None = None


def prepare_home(data_dir: Path) -> Path:
    """Create the data directory, check that it is writable, and return its full path.  Raises EmbeddedError."""
    if platform.system() != "Linux":
        raise EmbeddedError(f"the embedded servers run on Linux only: {POSTGRES_REMEDY.partition(', or ')[2]}")
    home = data_dir.resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        open_private_file(home / "lock").close()
    except (FileExistsError, NotADirectoryError) as exc:
        raise EmbeddedError(
            f"data directory {home}: it or a directory above it is a file: remove that file, or set ORACLE_DATA_DIR to"
            " another directory"
        ) from exc
    except OSError as exc:
        reason = add_remedy(str(exc.strerror), WRITABLE)
        raise EmbeddedError(f"data directory {home} cannot be written: {reason}") from exc
    return home


def find_unwritable(data_dir: Path) -> str:
    """Say why `prepare_home` would refuse the data directory; '' if it would not.  Creates and changes nothing."""
    home = data_dir.resolve()
    place = next(each for each in (home, *home.parents) if os.path.lexists(each))
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return ""
    fault = f"you cannot write to {place}" if place.is_dir() else f"{place} is not a directory"
    return f"data directory {home} cannot be used: {fault}: set ORACLE_DATA_DIR to a directory that you can write to"


def open_private_file(path: Path) -> BinaryIO:
    """Open a file beside the PostgreSQL data for appending, for the owner of the data directory alone.

    Root may serve a directory of another user, who must be able to use it later: hence the owner.  That user
    may have laid a link here: hence no following.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return os.fdopen(descriptor, "r+b")


def keep_cache_key(data_dir: Path) -> str:
    """Return the key for the tags of the cache (`store.cache.tags`), in hexadecimal digits; make it at the first start.

    A file that is damaged is replaced: that costs no more than the copies.  Raises EmbeddedError.
    """
    home = data_dir.resolve()
    path, fresh = home / "cache.key", home / "cache.key.new"
    try:
        with suppress(FileNotFoundError):
            present = path.read_text("ascii", "replace").strip()
            if re.fullmatch(f"[0-9a-f]{{{2 * CACHE_KEY_BYTES}}}", present):
                return present
        key = secrets.token_hex(CACHE_KEY_BYTES)
        fresh.unlink(missing_ok=True)
        with open_private_file(fresh) as file:
            file.write(f"{key}\n".encode())
        fresh.replace(path)
    except OSError as exc:
        raise EmbeddedError(f"{path} cannot be read or written: {add_remedy(str(exc.strerror))}") from exc
    return key


# The lock -------------------------------------------------------------------------------------------------------


@contextmanager
def lock(home: Path) -> Iterator[None]:
    """Hold the data directory's lock.  A server that a dead holder left behind is for its Server to stop.

    The lock belongs to the open file, not to the process.  Workers forked from us keep it held, which is right:
    they still use the servers.  Raises InUseError, EmbeddedError.
    """
    with open_private_file(home / "lock") as file:
        try:
            _take_lock(home, file)
        except OSError as exc:
            raise EmbeddedError(f"data directory {home} cannot be locked: {add_remedy(str(exc.strerror))}") from exc
        yield


def _take_lock(home: Path, file: BinaryIO) -> None:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _pack_flock(fcntl.F_WRLCK))
    except (BlockingIOError, PermissionError) as exc:
        holder = file.read(20).decode("ascii", "replace").strip() or "unknown"
        raise InUseError(
            f"data directory {home} is in use by process {holder}: stop it, or choose another ORACLE_DATA_DIR"
        ) from exc
    (home / "running.json").unlink(missing_ok=True)
    file.truncate(0)
    file.write(f"{os.getpid()}\n".encode())
    file.flush()


def _is_locked(home: Path) -> bool:
    """Ask without taking the lock: a lock taken to look would turn away a `serve` that starts at that moment."""
    with (home / "lock").open("rb") as file:
        kind, *_ = struct.unpack("hhqqi0q", fcntl.fcntl(file, fcntl.F_OFD_GETLK, _pack_flock(fcntl.F_WRLCK)))
    return bool(kind != fcntl.F_UNLCK)


def _pack_flock(kind: int) -> bytes:
    """Make a `struct flock` over the whole file, as 64-bit Linux lays it out."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 0, 0)


# What a running `serve` announces -------------------------------------------------------------------------------


@contextmanager
def announce(home: Path, urls: ServerUrls) -> Iterator[None]:
    """Let commands find the servers while the block runs."""
    path, fresh = home / "running.json", home / "running.json.new"
    try:
        fresh.unlink(missing_ok=True)
        with open_private_file(fresh) as file:
            file.write(json.dumps({"pid": os.getpid(), **asdict(urls)}).encode())
        fresh.replace(path)
    except OSError as exc:
        raise EmbeddedError(f"data directory {home} cannot be written: {add_remedy(str(exc.strerror))}") from exc
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(data_dir: Path) -> ServerUrls | None:
    """Find the servers that a live `serve` announced for this directory, or None.  Takes no lock."""
    home = data_dir.resolve()
    try:
        if not _is_locked(home):
            return None
        state = json.loads((home / "running.json").read_bytes())
        # A holder that took the lock just now can still have the file of a killed one, which it removes next.
        if not Path(f"/proc/{state['pid']}").exists():
            return None
        # An older version announced one URL for both.
        return ServerUrls(state["database_url"], state["redis_url"], state.get("owner_url", state["database_url"]))
    except (OSError, ValueError):
        return None


# The sockets ----------------------------------------------------------------------------------------------------


@contextmanager
def make_socket_directory(home: Path) -> Iterator[Path]:
    """Make <home>/run for the sockets, or a new private directory in /tmp that <home>/run links to.

    The second when the path is too long for a socket or has characters that would need quoting.
    """
    run = home / "run"
    plain = PLAIN_PATH.fullmatch(str(run))
    try:
        if run.is_symlink():  # a killed holder left it
            _remove_short(run)
        if plain:
            run.mkdir(mode=0o700, exist_ok=True)
            run.chmod(0o700)
        else:
            run.symlink_to(tempfile.mkdtemp(prefix=SHORT_PREFIX, dir=SHORT_ROOT))
    except OSError as exc:
        place = run if plain else SHORT_ROOT
        raise EmbeddedError(f"cannot make a directory for sockets: {place}: {add_remedy(str(exc.strerror))}") from exc
    try:
        yield run if plain else run.readlink()
    finally:
        if not plain:
            _remove_short(run)


def _remove_short(link: Path) -> None:
    """Remove the link and its target, if the target can be a directory of ours."""
    target = link.readlink()
    if target.parent == SHORT_ROOT and target.name.startswith(SHORT_PREFIX):
        shutil.rmtree(target, ignore_errors=True)
    link.unlink()

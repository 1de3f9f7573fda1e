"""The keys that `oracle key save` keeps on this machine: one file for each address of an admin API.

Where.     `alias-oracle/keys` in the user's configuration directory: XDG_CONFIG_HOME, else ~/.config.
Names.     The address, quoted: one file belongs to one address, and its key is sent to no other.
Trust.     A key file that group or others can read is refused.  A kept file must be a regular file of this user.
           A named file can be a link, or belong to somebody else: the secrets of Kubernetes and Docker do.  On a
           read-only file system nobody can change its mode, so it is used as it is.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, NoReturn
from urllib.parse import quote, unquote, urlsplit

from oracle.commands.failures import CommandError
from oracle.private_files import create_private_file

DIRECTORY: Final = "alias-oracle"  # the name of the project
KEY_BYTES_MAX: Final = 1_024
SECRET_BYTES_MAX: Final = 16 * 1_024  # the service accepts no longer token

_SUFFIX: Final = ".key"
_PORTS: Final = {"http": 80, "https": 443}
_KEY: Final = re.compile(r"aok_[a-z2-7]{12}_[0-9a-f]{64}")
_KEY_LENGTH: Final = 81
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # a signed one (RFC 7515, section 3.1)


class Kept(NamedTuple):
    """A kept key: the address of its service, and its file."""

    url: str
    path: Path


def normalise_url(url: str) -> str:
    """Return the one spelling of an address: lower case, no default port, no slash at the end, no `localhost`.

    `localhost` and 127.0.0.1 are the same service.  Another name of a host is another address, because no name
    belongs to one machine for good.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = "127.0.0.1" if host == "localhost" else host
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path.rstrip('/')}"


def find_directory() -> Path:
    """Raises CommandError if this user has no home directory."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(configured):  # noqa: PTH117 - as the specification says: a relative one is ignored
        return Path(configured, DIRECTORY, "keys")
    home = Path(os.environ.get("HOME") or _find_home())
    if not home.is_absolute():
        raise CommandError(
            "no place for kept keys: this user has no home directory",
            "Set HOME, or put the key into a file and set ORACLE_KEY_FILE to it",
        )
    return home / ".config" / DIRECTORY / "keys"


def find_path(url: str) -> Path:
    """Return the file in which the key for this address is kept, whether it exists or not.  Raises CommandError."""
    return find_directory() / f"{quote(normalise_url(url), safe='')}{_SUFFIX}"


def holds_other(path: Path, key: str) -> bool:
    """Whether the file can hold a key that is not this one: also if it is refused."""
    try:
        return read_kept(path) != key
    except FileNotFoundError:
        return False
    except CommandError:
        return True


def write_kept(path: Path, key: str) -> None:
    """Replace the file as a whole, also one that is a link.  Raises CommandError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with create_private_file(partial) as file:
            file.write(f"{key}\n".encode())
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise CommandError(
            f"the key cannot be kept: {path}: {exc.strerror}",
            "Put the key into another file, and set ORACLE_KEY_FILE to it",
        ) from exc


def list_kept() -> Iterator[Kept]:
    """Yield the kept keys, sorted by address.  Raises CommandError and OSError."""
    directory = find_directory()
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return
    except OSError as exc:
        refuse_place(directory, exc)
    for path in paths:
        if path.suffix == _SUFFIX and not path.name.startswith("."):
            yield Kept(unquote(path.name.removesuffix(_SUFFIX)), path)


def make_directory() -> None:
    """Create the directory so that only this user can see into it.  Raises CommandError."""
    directory = find_directory()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
    except OSError as exc:
        with suppress(OSError):
            refuse_place(directory, exc)
        raise CommandError(
            f"the key cannot be kept: {exc.filename}: {exc.strerror}",
            "Set XDG_CONFIG_HOME to a directory that you can write to, or put the key into a file and set"
            " ORACLE_KEY_FILE to it",
        ) from exc


def refuse_place(directory: Path, exc: OSError) -> NoReturn:
    """Name what is wrong with the directory of kept keys, or with one above it.  Raises CommandError, or else `exc`."""
    fault = next(filter(None, map(_find_fault, [*reversed(directory.parents), directory])), "")
    if not fault:
        raise exc
    configured = os.path.isabs(os.environ.get("XDG_CONFIG_HOME", ""))  # noqa: PTH117 - as in find_directory
    named = "XDG_CONFIG_HOME" if configured else "HOME"
    raise CommandError(
        f"there is no place for kept keys: {fault}",
        f"Set {named} to a directory that you can write to, or put the key into a file and set ORACLE_KEY_FILE to it",
    ) from exc


def _find_fault(place: Path) -> str:
    """Say what is wrong with a directory; '' if it can be used, or does not exist."""
    try:
        if not stat.S_ISDIR(place.stat().st_mode):
            return f"{place} is not a directory"
    except OSError as exc:
        return f"{place} is a link that leads to itself" if exc.errno == errno.ELOOP else ""
    return "" if os.access(place, os.X_OK) else f"you cannot enter {place}"


# Read -------------------------------------------------------------------------------------------------------------


def read_kept(path: Path) -> str:
    """Raises FileNotFoundError; CommandError for a file that is refused or holds no key."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if isinstance(exc, FileNotFoundError):
            raise
        if not path.is_symlink():
            refuse_place(path.parent, exc)
        raise CommandError(
            f"{path}: it is a link, and a kept key must be a file. Delete the link (rm {quote_word(path)}), then save"
            " your key again: oracle key save"
        ) from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - it is open already
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CommandError(f"{path}: it is not a file. Delete it, then save your key again: oracle key save")
        if status.st_uid != os.geteuid():
            raise CommandError(
                f"{path}: it belongs to {_name_owner(status)} and not to you ({_name_user(os.geteuid())}). Run the"
                f" command as {_name_owner(status)}, or save your own key: set XDG_CONFIG_HOME to a directory of yours"
            )
        _require_private(path, status)
        return parse_key(_decode(file.read(KEY_BYTES_MAX)), str(path))


def read_named(path: Path) -> str:
    """Read the key or the token in the file of --key-file or ORACLE_KEY_FILE.

    Raises OSError; CommandError as `read_kept`.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and not _is_read_only(file.fileno()):  # a pipe belongs to who made it
            _require_private(path, status)
        return parse_secret(_decode(file.read(SECRET_BYTES_MAX)), str(path))


def parse_secret(text: str, source: str) -> str:
    """Read a key, or a token of an identity provider.  Raises CommandError, whose text never repeats it."""
    secret = _strip(text)
    return secret if is_token(secret) else parse_key(text, source)


def is_token(secret: str) -> bool:
    """Whether it is a token of an identity provider, and not a key."""
    return bool(_TOKEN.fullmatch(secret))


def parse_key(text: str, source: str) -> str:
    """Raises CommandError, whose text never repeats the key."""
    key = _strip(text)
    if _KEY.fullmatch(key):
        return key
    if not key.startswith("aok_"):
        raise CommandError(
            f"{source}: not a key: keys start with aok_. It is not a token of an identity provider, either"
        )
    length = "" if len(key) == _KEY_LENGTH else f", and this has {len(key):,}"
    raise CommandError(
        f"{source}: not a whole key: a key has {_KEY_LENGTH} characters{length}. Copy the whole key again, and nothing"
        " else"
    )


def _strip(text: str) -> str:
    return text.removeprefix("\ufeff").strip()  # editors of Windows put this mark in front


def read_id(key: str) -> str:
    """Return the id of the credential, which is part of its key and no secret."""
    return key.split("_")[1]


def quote_word(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _require_private(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others can read.  A group can read the file of another user: so a service gets its key."""
    is_own = status.st_uid == os.geteuid()
    if not status.st_mode & (0o077 if is_own else 0o007):
        return
    mode = stat.S_IMODE(status.st_mode)
    if is_own:
        raise CommandError(
            f"{path}: other users of this machine can read this key (mode {mode:04o})",
            f"Type: chmod 600 {quote_word(path)}. If somebody else can have it now, ask an operator for a new one",
        )
    raise CommandError(
        f"{path}: all users of this machine can read this key (mode {mode:04o})",
        f"Ask its owner, {_name_owner(status)}, to type: chmod o= {quote_word(path)}",
    )


def _is_read_only(descriptor: int) -> bool:
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)


def _decode(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _find_home() -> str:
    """Return the home directory that the machine knows for this user; '' for none."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def _name_owner(status: os.stat_result) -> str:
    return _name_user(status.st_uid)


def _name_user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"

"""Files that only their owner can read: keys, identifiers, history."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import BinaryIO


def create_private_file(path: Path) -> BinaryIO:
    """Create the file with mode 0600 from its first moment.  Raises FileExistsError when the name is taken."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")


def find_exposure(path: Path, status: os.stat_result) -> str:
    """Find who else can read a secret file, and say what to do; an empty text if nobody can.

    Its owner alone can read it, or, where the service runs as another user, the group as well: so a secret is mounted.
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.geteuid():
        forbidden, remedy = 0o077, "chmod 600"
    else:
        forbidden, remedy = 0o007, "chmod o="
    if not mode & forbidden:
        return ""
    return f"other users of this machine can read or change it (mode {mode:04o}): run {remedy} {shlex.quote(str(path))}"

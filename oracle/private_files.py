"""Files that only their owner can read: keys, identifiers, history."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def create_private_file(path: Path) -> BinaryIO:
    """Create the file with mode 0600 from its first moment.  Raises FileExistsError when the name is taken."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")

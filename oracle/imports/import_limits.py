"""The sizes and times of an import, each with its reason.  Tests pass their own."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ImportLimits:
    # Uploads
    part_bytes: int = 1024 * 1024
    file_bytes_max: int = 4 * 1024**3  # 10 million rows that use every column are half of it
    parts_dropped: int = 64  # in one transaction

    # Reading
    block_bytes: int = 256 * 1024
    rows_max: int = 10_000_000
    # A usual part of a file takes half of that.  A part of empty lines or open quotes would delay the files of others.
    read_s: float = 0.3
    # A transaction that applies as many rows takes about 0.2 s of the 2 s that it has.
    rows_per_chunk: int = 5_000

    # The worker
    files_read_max: int = 4  # at once: each has a reader of a few MiB
    look_s: float = 1.0  # between two attempts to become the one that imports
    idle_s: float = 0.3  # between two looks for work


IMPORT_LIMITS: Final = ImportLimits()

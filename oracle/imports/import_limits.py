"""The sizes and times of an import, each with its reason.  Tests pass their own."""

from dataclasses import dataclass
from typing import Final

from oracle.imports.chunks import ROWS_PER_CHUNK
from oracle.imports.reading import BLOCK_BYTES, ROWS_MAX


@dataclass(frozen=True)
class ImportLimits:
    # Uploads
    part_bytes: int = 1024 * 1024
    file_bytes_max: int = 4 * 1024**3  # 10 million rows that use every column need half of it
    parts_dropped: int = 64  # deleted in one transaction

    # Reading
    block_bytes: int = BLOCK_BYTES
    rows_max: int = ROWS_MAX
    # A usual part of a file takes half of that.  A part of empty lines or open quotes would delay the files of others.
    read_s: float = 0.3
    rows_per_chunk: int = ROWS_PER_CHUNK
    # A file with a wrong order of columns has no good row.  Ten million results of such rows help nobody.
    bad_rows_max: int = 10_000  # that are read, if not one row in `bad_rows_per_good` is good
    bad_rows_per_good: int = 100

    # The worker
    files_read_max: int = 4  # at once: each has a reader of a few MiB
    look_s: float = 1.0  # between two attempts to become the one that imports
    idle_s: float = 0.3  # between two looks for work


IMPORT_LIMITS: Final = ImportLimits()

"""From the bytes of an uploaded file to rows that are read, checked and in canonical form.

    reader = Reader(Rules(clabe_only=False, nrc=True))
    for data in upload:
        for chunk in reader.feed(data): ...
    for chunk in reader.finish(): ...

Chunks hold exactly `rows_per_chunk` rows, the last one what is left, and depend on the file alone, not on how it was cut
into `data`: who reads a file again, gets chunk number n again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Format = Literal["csv", "ndjson"]

ROWS_PER_CHUNK: Final = 10_000
ROWS_MAX: Final = 10_000_000


class Row(NamedTuple):
    """One row of the file.  A refused one has a code, and of the rest only its line and, where known, its kind."""

    line: int  # physical, from 1, as an editor counts; where a row begins
    action: str  # add, replace, remove
    kind: str  # as the file says, in upper case: a CLABE stays a CLABE
    party_id_type: str
    identifier: str  # canonical
    sub_id: str  # '' for none
    currency: str  # '' for none
    code: str  # '' for a good row, else one of `refusals.REFUSALS`
    message: str  # for people; never holds an identifier


class Chunk(NamedTuple):
    number: int  # from 0
    rows: list[Row]  # good and refused ones, in the order of the file
    refused: int  # how many of them


class FileRefused(Exception):
    """The file as a whole cannot be read.  Nothing in here is a copy of what the file holds."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


@dataclass(frozen=True)
class Rules:
    """What holds for every row of one file."""

    clabe_only: bool = False  # as in `party_key`
    nrc: bool = True
    kinds: Collection[str] | None = None  # what the FSP may register; None: anything
    currencies: Collection[str] | None = None


class Reader:
    """Push bytes in, take chunks out; holds about a chunk of rows and half a megabyte of text, whatever the file."""

    rows_read: int
    rows_refused: int

    def __init__(
        self,
        rules: Rules,
        *,
        file_format: Format | None = None,  # None: as the first character says, `{` being NDJSON
        rows_per_chunk: int = ROWS_PER_CHUNK,
        rows_max: int = ROWS_MAX,
    ) -> None:
        raise NotImplementedError

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next bytes; may raise FileRefused."""
        raise NotImplementedError

    def finish(self) -> list[Chunk]:
        """Say that the file has ended; may raise FileRefused."""
        raise NotImplementedError

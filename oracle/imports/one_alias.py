"""The change of one alias that a second person must approve: a batch with a file of one row, which waits at once.

The caller has checked the alias as for a change that is made at once.  The file is what a person would upload for it,
so that it is read, downloaded and traced as any other; its row is stored as read, because an alias that older rules let
in cannot be read again.  `applying` applies the row, with the rules of rows, and two more: an update registers nothing,
and an alias that has another version than the caller named is not changed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import zlib
from typing import Any, Final, Literal, NamedTuple

from oracle import errors
from oracle.identifiers import PartyKey
from oracle.imports import chunks
from oracle.imports.rows import COLUMNS, FileRow
from oracle.store.base import Context
from oracle.store.postgres import Transaction
from oracle.verifier.spreadsheet import quote_formula

WAITING_MAX: Final = 10_000  # of one FSP: more than a checker can read, and few enough to count each time

Action = Literal["add", "update", "remove"]

_LINE: Final = 2  # of the row in its file
_FILE_ACTIONS: Final[dict[Action, str]] = {"add": "add", "update": "replace", "remove": "remove"}


class TooManyWaiting(errors.Refused):
    default = "Too many changes of this FSP wait for a second person"


class AlreadyWaiting(errors.Refused):
    """The same person has asked for the same change, and it waits."""

    def __init__(self, batch_id: int) -> None:
        super().__init__(f"Batch {batch_id} already waits for this change")
        self.batch_id = batch_id


class OneChange(NamedTuple):
    """What a caller asks for."""

    action: Action
    kind: str
    key: PartyKey
    currency: str  # '' for none: add and update make an entry for every currency, remove removes all of the key
    reason: str  # '' for none
    version: str | None = None  # that the alias must still have


async def needs_approval(transaction: Transaction, fsp_id: str, *, waiting_max: int = WAITING_MAX) -> bool:
    """Whether a second person must approve changes of this FSP's aliases.  Raises TooManyWaiting."""
    for row in await transaction.rows("changes_waiting", fsp_id, waiting_max):
        if row["two_persons"] and row["waiting"] >= waiting_max:
            raise TooManyWaiting
        return bool(row["two_persons"])
    return False


async def add_batch(
    transaction: Transaction, context: Context, fsp_id: str, change: OneChange, *, person: str | None = None
) -> Any:
    """Make a batch of the change, and return its row.  `person`: who asks, if that is known.  Raises AlreadyWaiting."""
    row = FileRow(_LINE, _FILE_ACTIONS[change.action], change.kind, *change.key, change.currency)
    file = _write_file(row)
    digest = hashlib.sha256(file).digest()
    # Two calls at once: the second one waits here, and then sees the batch of the first.
    await transaction.rows("change_lock", int.from_bytes(digest[:8], signed=True))
    for same in await transaction.rows("change_waiting", fsp_id, digest, context.actor, change.action, change.version):
        raise AlreadyWaiting(same["batch_id"])
    batch_id: int = (await transaction.rows("batch_number"))[0]["batch_id"]
    await transaction.run(
        "change_add", batch_id, fsp_id, f"one alias: {change.action}", len(file), digest, change.reason or None,
        context.actor, context.role,
    )  # fmt: skip
    await transaction.run("change_describe", batch_id, change.action, change.version)
    if person is not None:
        await transaction.run("batch_person", batch_id, person)
    await transaction.run("change_file_add", batch_id, zlib.compress(file, 1))
    await transaction.run("chunks_add", batch_id, [0], [_LINE], [1], [chunks.pack_rows([row])])
    return (await transaction.rows("batch", batch_id, fsp_id))[0]


def _write_file(row: FileRow) -> bytes:
    text = io.StringIO(newline="")
    cells = {**row._asdict(), "country": ""}
    cells |= {name: quote_formula(cells[name]) for name in ("identifier", "sub_id")}
    csv.writer(text).writerows([COLUMNS, [cells[name] for name in COLUMNS]])
    return text.getvalue().encode()

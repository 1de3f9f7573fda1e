"""Decisions of people about a batch: approve, reject, cancel.  Each is made in a transaction that locks its row.

A second person is another credential than the one that uploaded the file, with another label, whatever their roles: a
person who holds two keys, for example of a maker and of a checker, has the same label on both.

A batch can be cancelled at any time before its end: applied rows stay, and the other rows are never applied.
"""

from __future__ import annotations

from typing import Any, Final

from oracle import errors
from oracle.store.postgres import Transaction

FINAL: Final = frozenset({"done", "rejected", "cancelled", "failed"})


class NoSuchBatch(errors.NoSuchResource):
    default = "No such batch"


class NotWaiting(errors.Refused):
    default = "The batch is not waiting for approval"


class SamePerson(errors.Refused):
    default = "You cannot approve or reject your own file or change"


class SameLabel(SamePerson):
    default = "Your key has the same label as the key that sent the file or change: both count as one person"


class AlreadyEnded(errors.Refused):
    default = "The batch has already ended"


async def lock_batch(transaction: Transaction, fsp_id: str, batch_id: int) -> Any:
    """Lock the row of the batch until the transaction ends, and return it.  Raises NoSuchBatch."""
    rows = await transaction.rows("batch_locked", batch_id, fsp_id)
    if not rows:
        raise NoSuchBatch
    return rows[0]


async def decide(transaction: Transaction, batch: Any, *, approve: bool, by: str, reason: str | None) -> Any:
    """Approve or reject the batch, and return its row.  Raises NotWaiting, SamePerson, SameLabel."""
    if batch["state"] != "waiting":
        raise NotWaiting
    if batch["uploaded_by"] == by:
        raise SamePerson
    labels = [_fold(row["label"]) for row in await transaction.rows("credential_labels", [batch["uploaded_by"], by])]
    if len(labels) > len(set(labels)):
        raise SameLabel
    await transaction.run("batch_decide", batch["batch_id"], "applying" if approve else "rejected", by, reason)
    return await lock_batch(transaction, batch["fsp_id"], batch["batch_id"])


def _fold(label: str) -> str:
    return " ".join(label.split()).casefold()


async def cancel(transaction: Transaction, batch: Any, *, by: str) -> Any:
    """Cancel the batch, and return its row.  Raises AlreadyEnded."""
    if batch["state"] in FINAL:
        raise AlreadyEnded
    await transaction.run("batch_cancel", batch["batch_id"], by)
    return await lock_batch(transaction, batch["fsp_id"], batch["batch_id"])

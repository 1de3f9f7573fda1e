"""What people decide about a batch: let it in, reject it, cancel it.  Each in a transaction that holds its row.

A second person is another credential than the one that uploaded the file, whatever its role.  Cancelling ends a batch
wherever it is: rows that are applied stay, the others never are.
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
    default = "The uploader cannot approve or reject their own file"


class AlreadyEnded(errors.Refused):
    default = "The batch has already ended"


async def held(transaction: Transaction, fsp_id: str, batch_id: int) -> Any:
    """The batch's row, until the transaction ends.  Raises NoSuchBatch."""
    rows = await transaction.rows("batch_locked", batch_id, fsp_id)
    if not rows:
        raise NoSuchBatch
    return rows[0]


async def decide(transaction: Transaction, batch: Any, *, approve: bool, by: str, reason: str | None) -> Any:
    """Raises NotWaiting, SamePerson."""
    if batch["state"] != "waiting":
        raise NotWaiting
    if batch["uploaded_by"] == by:
        raise SamePerson
    await transaction.run("batch_decide", batch["batch_id"], "applying" if approve else "rejected", by, reason)
    return await held(transaction, batch["fsp_id"], batch["batch_id"])


async def cancel(transaction: Transaction, batch: Any, *, by: str) -> Any:
    """Raises AlreadyEnded."""
    if batch["state"] in FINAL:
        raise AlreadyEnded
    await transaction.run("batch_cancel", batch["batch_id"], by)
    return await held(transaction, batch["fsp_id"], batch["batch_id"])

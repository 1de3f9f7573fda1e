"""Decisions of people about a batch: approve, reject, cancel.  Each is made in a transaction that locks its row.

A second person decides, whatever their roles and whichever way they came in:

Known.      Where both persons are known, they must be two.
Unknown.    Where one is not, both must have come in the same way (keys, an identity provider, a gateway) with different
            identities: nobody can see that `oidc:hub:4711` and some key are one person.
Labels.     Two keys with the same label are one person: a person who holds two keys, for example of a maker and of a
            checker, has the same label on both.

A batch can be cancelled at any time before its end: applied rows stay, and the other rows are never applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oracle import errors
from oracle.batch_states import FINAL
from oracle.names import find_way, fold_look
from oracle.store.postgres import Rows, Transaction


class NoSuchBatch(errors.NoSuchResource):
    default = "No such batch"


class NotWaiting(errors.Refused):
    default = "The batch is not waiting for approval"


class SamePerson(errors.Refused):
    default = "You cannot approve or reject your own file or change"


class SameLabel(SamePerson):
    default = "Your key has the same label as the key that sent the file or change: both count as one person"


class PersonUnknown(errors.Refused):
    default = "Nobody can tell whether you are another person than the one who sent the file or change"


class AlreadyEnded(errors.Refused):
    default = "The batch has already ended"


async def lock_batch(transaction: Transaction, fsp_id: str, batch_id: int) -> Any:
    """Lock the row of the batch until the transaction ends, and return it.  Raises NoSuchBatch."""
    rows = await transaction.rows("batch_locked", batch_id, fsp_id)
    if not rows:
        raise NoSuchBatch
    return rows[0]


async def decide(
    transaction: Transaction, batch: Any, *, approve: bool, by: str, person: str | None, reason: str | None
) -> Any:
    """Approve or reject the batch, and return its row.  `person`: who decides, if that is known.

    Raises NotWaiting, SamePerson, SameLabel, PersonUnknown.
    """
    require_second(batch, by, person, await fetch_labels(transaction.rows, [batch], by))
    await transaction.run("batch_decide", batch["batch_id"], "applying" if approve else "rejected", by, reason)
    return await lock_batch(transaction, batch["fsp_id"], batch["batch_id"])


async def fetch_labels(rows: Rows, batches: Sequence[Any], by: str) -> Mapping[str, Any]:
    """Fetch the credentials that `require_second` needs, by their ids."""
    found = await rows("credential_labels", sorted({by, *(batch["uploaded_by"] for batch in batches)}))
    return {row["credential_id"]: row for row in found}


def require_second(batch: Any, by: str, person: str | None, labels: Mapping[str, Any]) -> None:
    """Require that the batch waits, and that this is a second person.  `labels`: see `fetch_labels`.

    Raises NotWaiting, SamePerson, SameLabel, PersonUnknown.
    """
    if batch["state"] != "waiting":
        raise NotWaiting
    sender = batch["uploaded_by"]
    # A key can have got its person after it sent the file.
    senders = {batch["uploaded_person"], labels[sender]["person"] if sender in labels else None} - {None}
    if sender == by or person in senders:
        raise SamePerson
    if (person is None or not senders) and find_way(sender) != find_way(by):
        raise PersonUnknown
    if sender in labels and by in labels and len({fold_look(labels[actor]["label"]) for actor in (sender, by)}) == 1:
        raise SameLabel


async def cancel(transaction: Transaction, batch: Any, *, by: str) -> Any:
    """Cancel the batch, and return its row.  Raises AlreadyEnded."""
    if batch["state"] in FINAL:
        raise AlreadyEnded
    await transaction.run("batch_cancel", batch["batch_id"], by)
    return await lock_batch(transaction, batch["fsp_id"], batch["batch_id"])

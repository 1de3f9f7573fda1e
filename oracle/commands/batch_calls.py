"""The calls about one batch that several commands make: read it, follow it to its end, get its results."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from oracle.batch_states import FINAL
from oracle.commands.batch_words import name_batch
from oracle.commands.failures import Refused
from oracle.commands.output import format_count
from oracle.commands.verbs import add_fsp, find_fsp, parse_number

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply
    from oracle.commands.progress import Progress
    from oracle.commands.verbs import Arguments

POLL_EVERY_S: Final = 0.5
SILENCE_MAX_S: Final = 60.0  # of the service while a batch is followed: a restart, a failover of its database


def add_id(parser: argparse.ArgumentParser) -> None:
    """Declare BATCH and --fsp, which `fill_path` reads."""
    parser.add_argument("batch_id", type=parse_number, metavar="BATCH", help="number of the batch, as `list` shows it")
    add_fsp(parser)


def fill_path(client: Client, arguments: Arguments, batch_id: int | None = None) -> dict[str, Any]:
    """Return the parameters of the paths below a batch; `batch_id`: another one than BATCH names."""
    number = arguments.batch_id if batch_id is None else batch_id
    return {"fsp_id": find_fsp(client, arguments), "batch_id": number}


def read_batch(client: Client, arguments: Arguments) -> Reply:
    return client.call("GET", "/fsps/{fsp_id}/batches/{batch_id}", **fill_path(client, arguments))


def follow(
    client: Client,
    batch: Any,
    progress: Progress,
    *,
    through_approval: bool,
    poll_every_s: float = POLL_EVERY_S,
    silence_max_s: float = SILENCE_MAX_S,
) -> Any:
    """Ask for the batch until it has ended; without `through_approval` also until it waits for a second person."""
    from oracle.commands.client import ClientError  # noqa: PLC0415 - imports as in cli

    answered_at = time.monotonic()
    names = {"fsp_id": batch["fspId"], "batch_id": batch["batchId"]}
    while True:
        progress.report(batch)
        if batch["state"] in FINAL or (batch["state"] == "waiting" and not through_approval):
            return batch
        time.sleep(poll_every_s)
        try:
            batch = client.call("GET", "/fsps/{fsp_id}/batches/{batch_id}", **names).body
            answered_at = time.monotonic()
        except ClientError as exc:
            if exc.is_final or time.monotonic() - answered_at > silence_max_s:
                raise


def require_all(batch: Any, arguments: Arguments) -> None:
    """Raises Refused unless every row is applied or can still be applied."""
    number, state, failed = batch["batchId"], batch["state"], batch["rows"]["failed"]
    if batch["error"] is not None:
        raise Refused(f"batch {number}: {batch['error']['message']}", code=batch["error"]["code"])
    if state in ("rejected", "cancelled"):
        why = f": {batch['decisionReason']}" if state == "rejected" and batch["decisionReason"] else ""
        who = batch["decidedByName"] if state == "rejected" else batch["cancelledByName"]
        fact = f"batch {number} was {state}{f' by {who}' if who else ''}{why}"
        raise Refused(fact, "Correct the file, then import it again: oracle import FILE")
    if state == "done" and failed:
        command = f"oracle batch results {name_batch(batch, arguments)} --failed"
        raise Refused(f"batch {number}: {format_count(failed, 'row')} failed", f"To see why: {command}")


def open_results(
    client: Client, batch: Any, form: str | None, *, only_failed: bool
) -> AbstractContextManager[Iterator[bytes]]:
    """Open the file with the result of each row, or of those that are not applied."""
    query = {"format": form, "only": "failed" if only_failed else None}
    names = {"fsp_id": batch["fspId"], "batch_id": batch["batchId"]}
    return client.download("/fsps/{fsp_id}/batches/{batch_id}/results", query=query, **names)

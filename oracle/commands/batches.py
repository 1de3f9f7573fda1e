"""`oracle import FILE`, and `oracle batch …`: files that are checked, let in by a second person, and applied.

Import.   The file goes up in pieces and is never held; the batch is followed by asking about it twice a second, which
          outlives a restart of the service.  It is over when the batch is done, or waits for a second person: with
          `--wait` that is waited for, too, with `--no-wait` nothing is.
Failed.   A row that is not in force makes the command fail, so that a script notices; the other rows are in force.
Results.  A download that breaks off leaves no file that looks whole.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import note, placed, show, show_pages
from oracle.commands.verbs import (
    Arguments,
    Command,
    CommandError,
    Misused,
    Verbs,
    add_fsp,
    add_if_match,
    add_limit,
    calling,
    fsp_of,
    number,
    past,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply, Upload
    from oracle.commands.progress import Progress

COLUMNS: Final = ("batchId", "fspId", "state", "rows.read", "rows.applied", "rows.failed", "uploadedBy", "uploadedAt",
                  "fileName")  # fmt: skip
STATES: Final = ("validating", "waiting", "applying", "done", "rejected", "cancelled", "failed")
FINAL: Final = frozenset({"done", "rejected", "cancelled", "failed"})
PIECE_BYTES: Final = 256 * 1024
ASK_EVERY_S: Final = 0.5
PATIENCE_S: Final = 60.0  # with a service that does not answer: a restart, a failover of its database


def add(commands: Any, command: Command) -> None:
    upload = calling(commands, command, "import", _import, "register the aliases of a CSV or NDJSON file")
    upload.add_argument("file", metavar="FILE", help="as `oracle batch template` shows; - is stdin")
    upload.add_argument("--note", metavar="TEXT", help="for who approves it")
    add_fsp(upload)
    upload.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, help="wait for the second person, too; or for nothing"
    )
    upload.add_argument("--results", type=Path, metavar="OUT", help="write there what became of each row")

    batches = Verbs(commands, command, "batch", "uploaded files: watch, approve, reject, cancel, results")
    listed = batches.add("list", _list, "list the batches, the newest first")
    listed.add_argument("--fsp", metavar="FSP", help="only its batches")
    listed.add_argument("--state", choices=STATES, help="only these")
    listed.add_argument("--uploaded-by", metavar="ID", help="only by this credential")
    listed.add_argument(
        "--from",
        dest="since",
        type=past,
        metavar="WHEN",
        help="uploaded then or later: 2026-11-30, or 7d for a week ago",
    )
    listed.add_argument("--to", dest="until", type=past, metavar="WHEN", help="uploaded before")
    add_limit(listed)

    for name, work, text in (
        ("show", _show, "show a batch"),
        ("watch", _watch, "follow a batch to its end"),
    ):
        _add_id(batches.add(name, work, text))

    for name, work, text in (
        ("approve", _approve, "let a file in, as another person than uploaded it"),
        ("reject", _reject, "reject a file, as another person than uploaded it"),
        ("cancel", _cancel, "end a batch: rows that are applied stay"),
    ):
        decide = batches.add(name, work, text)
        _add_id(decide)
        decide.add_argument("--reason", required=name == "reject", metavar="WHY", help="stands in the history")
        add_if_match(decide)

    results = batches.add("results", _results, "what became of each row", json=False)
    _add_id(results)
    results.add_argument("--format", choices=("csv", "ndjson"), default="csv")
    results.add_argument("--failed", action="store_true", help="only rows that are not in force")
    _add_out(results)

    file = batches.add("file", _file, "the file as it was uploaded", json=False)
    _add_id(file)
    _add_out(file)

    template = batches.add("template", _template, "an example of such a file", json=False)
    template.add_argument("format", nargs="?", choices=("csv", "ndjson"), default="csv")
    _add_out(template)


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("batch_id", type=number, metavar="BATCH", help="its number")
    add_fsp(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there, not to stdout")


# Import -----------------------------------------------------------------------------------------------------------


def _import(client: Client, arguments: Arguments) -> None:
    if arguments.results is not None and arguments.wait is False:
        raise Misused("--results: there are none without waiting")
    with nullcontext() if arguments.results is None else placed(arguments.results) as results:
        batch = _imported(client, arguments)
        if arguments.json:
            show(batch, as_json=True)
        else:
            _sum_up(batch, arguments)
        if results is not None:
            with _results_of(client, batch, "csv", only_failed=False) as pieces:
                results.writelines(pieces)
    _require_all(batch, arguments)


def _imported(client: Client, arguments: Arguments) -> Any:
    """The batch, as far as it is waited for."""
    from oracle.commands.client import ClientError
    from oracle.commands.progress import Progress

    fsp_id = fsp_of(client, arguments)
    named = "stdin" if arguments.file == "-" else Path(arguments.file).name
    # Not all names of files are text that a URL can hold.
    query = {"fileName": named.encode(errors="replace").decode(), "note": arguments.note}
    with Progress() as progress, _opened(arguments.file) as descriptor:
        upload = _upload(arguments.file, descriptor, progress)
        batch = client.call("POST", "/fsps/{fsp_id}/batches", fsp_id=fsp_id, query=query, upload=upload).body
        if arguments.wait is not False:
            try:
                batch = _followed(client, batch, progress, through_approval=bool(arguments.wait))
            except (KeyboardInterrupt, ClientError):  # also when nobody answers any more
                note(f"It goes on without you: oracle batch watch {_typed(batch, arguments)}")
                raise
    return batch


@contextmanager
def _opened(name: str) -> Iterator[int]:
    if name == "-":
        yield sys.stdin.fileno()
        return
    with open(name, "rb", buffering=0) as file:  # noqa: PTH123 - its descriptor is what is wanted
        yield file.fileno()


def _upload(name: str, descriptor: int, progress: Progress) -> Upload:
    """A pipe has no size, and is read once."""
    from oracle.commands.client import Upload

    media_type = "application/x-ndjson" if name.endswith((".ndjson", ".jsonl")) else "text/csv"
    status = os.fstat(descriptor)
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Upload(
        lambda: progress.uploading(_pieces_of(descriptor, size), size), media_type, size, again=size is not None
    )


def _pieces_of(descriptor: int, size: int | None) -> Iterator[bytes]:
    """From the beginning, and no more than was announced: a file may grow meanwhile."""
    if size is None:
        while piece := os.read(descriptor, PIECE_BYTES):
            yield piece
        return
    at = 0
    while at < size and (piece := os.pread(descriptor, min(PIECE_BYTES, size - at), at)):
        at += len(piece)
        yield piece


def _followed(client: Client, batch: Any, progress: Progress, *, through_approval: bool) -> Any:
    """Until it has ended, or waits for a second person."""
    from oracle.commands.client import ClientError

    answered_at = time.monotonic()
    names = {"fsp_id": batch["fspId"], "batch_id": batch["batchId"]}
    while True:
        progress.tell(batch)
        if batch["state"] in FINAL or (batch["state"] == "waiting" and not through_approval):
            return batch
        time.sleep(ASK_EVERY_S)
        try:
            batch = client.call("GET", "/fsps/{fsp_id}/batches/{batch_id}", **names).body
            answered_at = time.monotonic()
        except ClientError as exc:
            if exc.is_final or time.monotonic() - answered_at > PATIENCE_S:
                raise


def _sum_up(batch: Any, arguments: Arguments) -> None:
    rows = batch["rows"]
    print(  # noqa: T201 - the command's answer
        f"batch {batch['batchId']} {batch['state']}: {rows['read']:,} rows read, {rows['valid']:,} valid,"
        f" {rows['applied']:,} in force, {rows['failed']:,} failed"
    )
    if batch["state"] == "waiting":
        note(f"It waits for another person: oracle batch approve {_typed(batch, arguments)}")


def _require_all(batch: Any, arguments: Arguments) -> None:
    """Raises CommandError unless every row is in force, or can still come into force."""
    number, state, failed = batch["batchId"], batch["state"], batch["rows"]["failed"]
    if batch["error"] is not None:
        raise CommandError(f"batch {number}: {batch['error']['message']} ({batch['error']['code']})")
    if state in ("rejected", "cancelled"):
        why = f": {batch['decisionReason']}" if state == "rejected" and batch["decisionReason"] else ""
        raise CommandError(f"batch {number} was {state}{why}")
    if state == "done" and failed:
        shown = f"oracle batch results {_typed(batch, arguments)} --failed"
        raise CommandError(f"batch {number}: rows that failed: {failed:,}. See {shown}")


def _typed(batch: Any, arguments: Arguments) -> str:
    """How this batch is named in the next command."""
    return f"{batch['batchId']} --fsp {arguments.fsp}" if arguments.fsp else str(batch["batchId"])


# Batches ----------------------------------------------------------------------------------------------------------


def _list(client: Client, arguments: Arguments) -> None:
    query = {
        "state": arguments.state,
        "uploadedBy": arguments.uploaded_by,
        "from": arguments.since,
        "to": arguments.until,
    }
    fsp_id = arguments.fsp or client.me["fspId"]
    if fsp_id is None:
        pages = client.pages("/batches", query=query, limit=arguments.limit)
    else:
        pages = client.pages("/fsps/{fsp_id}/batches", query=query, limit=arguments.limit, fsp_id=fsp_id)
    show_pages(pages, COLUMNS, as_json=arguments.json)


def _read(client: Client, arguments: Arguments) -> Reply:
    return client.call("GET", "/fsps/{fsp_id}/batches/{batch_id}", **_named(client, arguments))


def _show(client: Client, arguments: Arguments) -> None:
    _shown(_read(client, arguments), arguments)


def _watch(client: Client, arguments: Arguments) -> None:
    from oracle.commands.progress import Progress

    with Progress() as progress:
        batch = _followed(client, _read(client, arguments).body, progress, through_approval=True)
    if arguments.json:
        show(batch, as_json=True)
    else:
        _sum_up(batch, arguments)
    _require_all(batch, arguments)


def _approve(client: Client, arguments: Arguments) -> None:
    decided = client.call(
        "POST", "/fsps/{fsp_id}/batches/{batch_id}/approve", body=_reason(arguments), if_match=arguments.if_match,
        **_named(client, arguments),
    )  # fmt: skip
    _shown(decided, arguments)


def _reject(client: Client, arguments: Arguments) -> None:
    decided = client.call(
        "POST", "/fsps/{fsp_id}/batches/{batch_id}/reject", body=_reason(arguments), if_match=arguments.if_match,
        **_named(client, arguments),
    )  # fmt: skip
    _shown(decided, arguments)


def _cancel(client: Client, arguments: Arguments) -> None:
    cancelled = client.call(
        "POST", "/fsps/{fsp_id}/batches/{batch_id}/cancel", body=_reason(arguments), if_match=arguments.if_match,
        **_named(client, arguments),
    )  # fmt: skip
    _shown(cancelled, arguments)


def _reason(arguments: Arguments) -> dict[str, str]:
    return {} if arguments.reason is None else {"reason": arguments.reason}


def _named(client: Client, arguments: Arguments) -> dict[str, Any]:
    return {"fsp_id": fsp_of(client, arguments), "batch_id": arguments.batch_id}


def _shown(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)


# Files that come down ---------------------------------------------------------------------------------------------


def _results(client: Client, arguments: Arguments) -> None:
    batch = {"fspId": fsp_of(client, arguments), "batchId": arguments.batch_id}
    with _results_of(client, batch, arguments.format, only_failed=arguments.failed) as pieces:
        _write(pieces, arguments.out)


def _results_of(client: Client, batch: Any, form: str, *, only_failed: bool) -> AbstractContextManager[Iterator[bytes]]:
    query = {"format": form, "only": "failed" if only_failed else None}
    names = {"fsp_id": batch["fspId"], "batch_id": batch["batchId"]}
    return client.download("/fsps/{fsp_id}/batches/{batch_id}/results", query=query, **names)


def _file(client: Client, arguments: Arguments) -> None:
    with client.download("/fsps/{fsp_id}/batches/{batch_id}/file", **_named(client, arguments)) as pieces:
        _write(pieces, arguments.out)


def _template(client: Client, arguments: Arguments) -> None:
    with client.download("/templates/{name}", name=f"import.{arguments.format}") as pieces:
        _write(pieces, arguments.out)


def _write(pieces: Iterable[bytes], out: Path | None) -> None:
    if out is None or str(out) == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with placed(out) as file:
        file.writelines(pieces)

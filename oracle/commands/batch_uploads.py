"""`oracle import FILE` and `oracle batch check FILE`: files that go to the service.

Import.   The file is sent in pieces and is never in memory as a whole.  Then the command asks for the batch twice a
          second, which survives a restart of the service.  It ends when the batch is done or waits for a second
          person.  With `--wait` it waits for the approval too; with `--no-wait` it ends after the upload.
Failure.  A row that is not applied makes the command fail, so that a script notices; the other rows are applied.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.batch_calls import follow, open_results, require_all
from oracle.commands.batch_words import name_batch, sum_up
from oracle.commands.failures import Misused, Refused
from oracle.commands.output import format_count, open_output, print_note, show, show_pages
from oracle.commands.verbs import Arguments, Verbs, add_call, add_fsp, find_fsp, parse_country

if TYPE_CHECKING:
    from oracle.commands.client import Client, Upload
    from oracle.commands.progress import Progress

PIECE_BYTES: Final = 256 * 1024
CHECKED_BYTES_MAX: Final = 1024 * 1024  # that one check takes
CHECKED_ROWS_MAX: Final = 100


def add_import(commands: Any) -> None:
    upload = add_call(
        commands, "import", _import, "register the aliases of a CSV or NDJSON file",
        "`oracle batch template` prints an example of such a file. Where an FSP needs a second person, rows are applied"
        " after that person has approved the batch.",
    )  # fmt: skip
    upload.add_argument("file", metavar="FILE", help="file with one alias a line; - is stdin (CSV)")
    upload.add_argument("--note", metavar="TEXT", help="a note for the person who approves the file")
    _add_country(upload)
    add_fsp(upload)
    upload.add_argument(
        "--wait", action=argparse.BooleanOptionalAction,
        help="--wait: wait until a second person has approved and all rows are applied; --no-wait: end after the"
        " upload (default: wait until the rows are applied, or approval is needed)",
    )  # fmt: skip
    upload.add_argument("--results", type=Path, metavar="FILE", help="write each row with its result to this file")


def add_check(batches: Verbs) -> None:
    checked = batches.add("check", _check, "check the first MiB of a file as `oracle import` would, and change nothing")
    checked.add_argument("file", metavar="FILE", help="the file; - is stdin")
    _add_country(checked)
    add_fsp(checked)


def _add_country(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--country", type=parse_country, metavar="CC",
        help="country of phone numbers without country code, in rows without a country; for example MX"
        " (default: the country of the FSP)",
    )  # fmt: skip


def _import(client: Client, arguments: Arguments) -> None:
    if arguments.results is not None and arguments.wait is False:
        raise Misused("--results needs the end of the import: remove --no-wait")
    with nullcontext() if arguments.results is None else open_output(arguments.results) as results:
        batch = _upload_and_follow(client, arguments)
        if arguments.json:
            show(batch, as_json=True)
        else:
            sum_up(batch, arguments)
        if results is not None:
            with open_results(client, batch, None, only_failed=False) as pieces:
                results.writelines(pieces)
    require_all(batch, arguments)


def _upload_and_follow(client: Client, arguments: Arguments) -> Any:
    """Upload the file, follow the batch, and return it as it is at the end of the wait."""
    from oracle.commands.client import ClientError
    from oracle.commands.progress import Progress

    fsp_id = find_fsp(client, arguments)
    file_name = "stdin" if arguments.file == "-" else Path(arguments.file).name
    # Replaced: a file name can hold bytes that no URL can carry.
    query = {
        "fileName": file_name.encode(errors="replace").decode(),
        "note": arguments.note,
        "country": arguments.country,
    }
    with Progress() as progress, _open(arguments.file) as descriptor:
        upload = _make_upload(arguments.file, descriptor, progress)
        batch = client.call("POST", "/fsps/{fsp_id}/batches", fsp_id=fsp_id, query=query, upload=upload).body
        if arguments.wait is not False:
            try:
                batch = follow(client, batch, progress, through_approval=bool(arguments.wait))
            except (KeyboardInterrupt, ClientError):  # also when the service does not answer any more
                name = name_batch(batch, arguments)
                print_note(f"The import continues on the server. To follow it: oracle batch watch {name}")
                raise
    return batch


@contextmanager
def _open(name: str) -> Iterator[int]:
    if name == "-":
        yield sys.stdin.fileno()
        return
    with open(name, "rb", buffering=0) as file:  # noqa: PTH123 - its descriptor is what is wanted
        yield file.fileno()


def _make_upload(name: str, descriptor: int, progress: Progress) -> Upload:
    """A pipe has no size and can be read only once."""
    from oracle.commands.client import Upload

    media_type = "application/x-ndjson" if name.endswith((".ndjson", ".jsonl")) else "text/csv"
    status = os.fstat(descriptor)
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Upload(
        lambda: progress.count_upload(_read_pieces(descriptor, size), size),
        media_type,
        size,
        is_repeatable=size is not None,
    )


def _read_pieces(descriptor: int, size: int | None) -> Iterator[bytes]:
    """Read from the beginning, at most the announced size: the file can grow meanwhile."""
    if size is None:
        while piece := os.read(descriptor, PIECE_BYTES):
            yield piece
        return
    at = 0
    while at < size and (piece := os.pread(descriptor, min(PIECE_BYTES, size - at), at)):
        at += len(piece)
        yield piece


def _check(client: Client, arguments: Arguments) -> None:
    """Show the first rows of a file that are not valid.  Raises Refused if there are any."""
    from oracle.commands.client import Upload

    with _open(arguments.file) as descriptor:
        data = bytearray()
        for piece in _read_pieces(descriptor, None):
            data += piece
            if len(data) > CHECKED_BYTES_MAX:
                break
    begin, is_part = bytes(data[:CHECKED_BYTES_MAX]), len(data) > CHECKED_BYTES_MAX
    query = {"country": arguments.country, "isPart": "true" if is_part else None, "limit": CHECKED_ROWS_MAX}
    upload = Upload(lambda: iter((begin,)), "text/csv", len(begin))
    fsp_id = find_fsp(client, arguments)
    checked = client.call("POST", "/fsps/{fsp_id}/batches/check", fsp_id=fsp_id, query=query, upload=upload).body
    if arguments.json:
        show(checked, as_json=True)
    elif checked["error"] is None:
        show_pages([checked["failed"]], ("line", "kind", "code", "message"), as_json=False)
    if checked["error"] is not None:
        raise Refused(checked["error"]["message"], code=checked["error"]["code"])
    rows, of = checked["rows"], "the first " if is_part else ""
    print_note(f"{of}{format_count(rows['read'], 'row')}: {rows['valid']:,} valid, {rows['failed']:,} not valid")
    if rows["failed"]:
        raise Refused(f"{format_count(rows['failed'], 'row')} not valid", "Correct the file, then import it")

"""`oracle alias export`, and all aliases for `oracle alias list --all`: one answer that is read while it arrives.

The bytes of an export go to the file as they come.  A file is complete or does not exist.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oracle.commands.output import format_count, open_output, print_note, write_output
from oracle.commands.verbs import Arguments, Verbs, add_fsp, find_fsp

if TYPE_CHECKING:
    from oracle.commands.client import Client, Pieces


def add(aliases: Verbs) -> argparse.ArgumentParser:
    """Declare the verb; return its parser, for the filters that `list` has too."""
    export = aliases.add(
        "export", _export, "write all aliases of an FSP, as they were at one moment, to a file that can be imported",
        "The file has the columns of `oracle import`, with a line for each currency of an alias, in no order.",
        json=False,
    )  # fmt: skip
    export.add_argument("--format", choices=("csv", "ndjson"), default="csv", help="format of the file (default: csv)")
    export.add_argument("--out", type=Path, metavar="FILE", help="write to this file (default: stdout)")
    add_fsp(export)
    return export


def make_filters(arguments: Arguments) -> dict[str, Any]:
    return {
        "kind": arguments.kind,
        "prefix": arguments.prefix,
        "currency": arguments.currency,
        "state": arguments.state,
        "changedFrom": arguments.changed_from,
        "changedTo": arguments.changed_to,
    }


def _download(client: Client, fsp_id: str, query: Mapping[str, Any]) -> AbstractContextManager[Pieces]:
    return client.download("/fsps/{fsp_id}/aliases/export", query=query, fsp_id=fsp_id)


def fetch_aliases(client: Client, fsp_id: str, filters: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield all aliases as lines of JSON, many at a time."""
    with _download(client, fsp_id, {**filters, "format": "aliases"}) as pieces:
        yield from split_blocks(pieces)


def split_blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, in pieces that end with a line."""
    rest = b""
    for piece in pieces:
        lines, end, rest = (rest + piece).rpartition(b"\n")
        if end:
            yield lines + end


def _export(client: Client, arguments: Arguments) -> None:
    from oracle.commands.progress import Progress

    out: Path | None = None if str(arguments.out) == "-" else arguments.out
    query = {**make_filters(arguments), "format": arguments.format}
    fsp_id, began = find_fsp(client, arguments), time.monotonic()
    # At a terminal that shows the lines, a bar would be between them.
    shows_progress = out is not None or not sys.stdout.isatty()
    with (
        nullcontext() if out is None else open_output(out) as file,
        _download(client, fsp_id, query) as pieces,
        Progress() if shows_progress else nullcontext() as progress,
    ):
        count = _Count(has_header=arguments.format == "csv")
        counted = count.follow(pieces, progress)
        if file is None:
            write_output(counted)
        else:
            file.writelines(counted)
        at = pieces.headers["snapshot-at"]
    took_s = time.monotonic() - began
    where = "" if out is None else f" to {out}"
    print_note(
        f"Wrote {format_count(count.rows, 'row')}{where} in {took_s:.1f} s ({count.rows / took_s:,.0f} rows/s),"
        f" as they were at {at}."
    )


class _Count:
    """Counts the rows of a file.  No cell of ours holds a line break."""

    def __init__(self, *, has_header: bool) -> None:
        self.rows = -1 if has_header else 0

    def follow(self, pieces: Iterable[bytes], progress: Any) -> Iterator[bytes]:
        for piece in pieces:
            self.rows += piece.count(b"\n")
            yield piece
            if progress is not None:
                progress.show_export(self.rows)

"""`oracle batch results`, `file` and `template`: what the service has of a file, or an example of one.

A download that breaks leaves no file that looks complete.
"""

from __future__ import annotations

import argparse
import codecs
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.batch_states import FINAL
from oracle.commands.batch_calls import add_id, fill_path, open_results, read_batch
from oracle.commands.batch_words import name_batch
from oracle.commands.failures import CommandError, Misused
from oracle.commands.output import open_output, print_note, write_output
from oracle.commands.verbs import Arguments, Verbs

if TYPE_CHECKING:
    from oracle.commands.client import Client

_MARKS: Final = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def add(batches: Verbs) -> None:
    results = batches.add("results", _save_results, "download the result of each row", json=False)
    add_id(results)
    results.add_argument("--format", choices=("csv", "ndjson"), help="format of the file (default: that of the upload)")
    results.add_argument(
        "--failed", nargs="?", const=Path("-"), type=Path, metavar="FILE",
        help="only rows that are not applied, as they came, with line and reason: correct them, and import the file"
        " again (default: print them)",
    )  # fmt: skip
    _add_out(results)

    file = batches.add("file", _save_file, "download the file as it was uploaded", json=False)
    add_id(file)
    _add_out(file)


def add_template(batches: Verbs) -> None:
    template = batches.add("template", _save_template, "print an example of a file for `oracle import`", json=False)
    template.add_argument(
        "format", nargs="?", choices=("csv", "ndjson"), default="csv", help="format of the file (default: csv)"
    )
    _add_out(template)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file (default: stdout)")


def _save_results(client: Client, arguments: Arguments) -> None:
    only_failed = arguments.failed is not None
    out = arguments.out
    if only_failed and str(arguments.failed) != "-":
        if out is not None:
            raise Misused("name the file once: after --failed or after --out")
        out = arguments.failed
    if out is not None and str(out) == "-":
        out = None
    batch = read_batch(client, arguments).body
    with open_results(client, batch, arguments.format, only_failed=only_failed) as pieces:
        if out is None:
            write_output(_as_utf8(pieces) if sys.stdout.isatty() else pieces)
        else:
            _write(pieces, out, replace=not only_failed)
    if only_failed:
        _explain_failed(batch, arguments, out)


def _explain_failed(batch: Any, arguments: Arguments, out: Path | None) -> None:
    """Print what a person can do with the file of failed rows."""
    if batch["state"] == "failed":
        print_note(
            f"The file was refused as a whole ({batch['error']['message']}), so rows are missing here."
            f" Correct the whole file, and import it again: oracle batch file {name_batch(batch, arguments)}"
        )
    elif batch["state"] not in FINAL:
        print_note(f"Batch {batch['batchId']} has not ended: more rows can fail.")
    elif out is not None:
        print_note(f"Correct the rows in {out}, then: oracle import {out}. It ignores the columns of results.")


def _as_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Convert results to UTF-8 for a terminal: a file that came in UTF-16 has its results in UTF-16."""
    first = next(pieces, b"")
    found = next((name for mark, name in _MARKS if first.startswith(mark)), None)
    if found is None:
        yield first
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(found)()
    for piece in itertools.chain((first,), pieces):
        yield decoder.decode(piece).encode()


def _save_file(client: Client, arguments: Arguments) -> None:
    with client.download("/fsps/{fsp_id}/batches/{batch_id}/file", **fill_path(client, arguments)) as pieces:
        _write(pieces, arguments.out)


def _save_template(client: Client, arguments: Arguments) -> None:
    with client.download("/templates/{name}", name=f"import.{arguments.format}") as pieces:
        _write(pieces, arguments.out)


def _write(pieces: Iterable[bytes], out: Path | None, *, replace: bool = True) -> None:
    if out is None or str(out) == "-":
        write_output(pieces)
        return
    try:
        with open_output(out, replace=replace) as file:
            file.writelines(pieces)
    except FileExistsError as exc:  # the failed rows of before, perhaps corrected already
        raise CommandError(f"{out} exists already, and was kept", "Name a new file") from exc

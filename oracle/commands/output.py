"""What commands print: a table at a terminal, one item a line with tabs elsewhere, JSON with --json.

Only a terminal gets the table.  Elsewhere there is no heading, so that grep and cut see items alone.  Texts that other
people wrote (names, labels, notes) cannot move the cursor or fake a line: control characters are shown as escapes.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from oracle.private_files import create_private_file
from oracle.verifier.printable import escape_document, escape_text

if TYPE_CHECKING:
    from oracle.commands.client import Pages

# Headings of tables that are not made of their column's name.
_HEADINGS: Final = {"at": "time", "fspId": "FSP", "error.message": "error"}

_TIME: Final = re.compile(r"^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})\S*$")


def show_pages(
    pages: Iterable[Sequence[Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    reshape: Callable[[Any], Any] = lambda item: item,
) -> None:
    """Print each page as it comes; `reshape` prepares an item for the columns, not for JSON.

    At the end it says whether `Pages` were cut at their limit.
    """
    is_terminal = sys.stdout.isatty()
    read = [_make_reader(column) for column in columns]
    for page in pages:
        if as_json:
            _print_lines(map(format_json, page))
            continue
        items = map(reshape, page)
        if is_terminal:
            _print_table(list(items), columns)
        else:
            _print_lines("\t".join([format_value(get(item)) for get in read]) for item in items)
    note_more(pages)


def note_more(pages: Pages | Iterable[Any]) -> None:
    """Say for the person that a list goes on behind what is shown, and how to see the rest."""
    if getattr(pages, "has_more", False):
        limit: int = pages.limit  # type: ignore[union-attr]
        shown = "Only the first is shown" if limit == 1 else f"Only the first {limit:,} are shown"
        print_note(f"{shown}; there are more. To see all, add --all. To see more, add --limit {10 * limit}.")


def print_json_lines(blocks: Iterable[bytes]) -> None:
    """Print lines of JSON that are already encoded, many at a time."""
    for block in blocks:
        print(escape_document(block.decode()), end="")


def _print_lines(lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text:
        print(text)


def show(item: Mapping[str, Any], *, as_json: bool, **more: Any) -> None:
    """Print one item, a member a line; `more` holds what is no member of it, such as its version."""
    if as_json:
        print(format_json(item))
        return
    lines = list(_flatten({**item, **{name: value for name, value in more.items() if value is not None}}))
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        print(f"{name:<{width}}  {value}".rstrip())


def print_note(text: str) -> None:
    """Print it for the person, on stderr: a pipe does not get it."""
    print(escape_text(text), file=sys.stderr)


def print_line(text: str) -> None:
    """Print one line of the answer.  Control characters of its parts show as escapes."""
    print(escape_text(text), flush=True)


def write_output(pieces: Iterable[bytes]) -> None:
    """Write the bytes of a file to stdout: as they are for a program, escaped for a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.flush()
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    for piece in pieces:
        print(escape_document(decoder.decode(piece)), end="")
    sys.stdout.flush()


@contextmanager
def open_output(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Create a file that only its owner can read (keys, identifiers); at the end it is complete or does not exist.

    Open it before the call whose answer it stores: a key that cannot be written would be lost.  A path that is not a
    regular file, such as /dev/stdout, is written as it is: a file must not replace it.
    Without `replace` it raises FileExistsError when there is such a file.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()  # the file behind a link; the link stays
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        opened = create_private_file(partial)
    except OSError as exc:
        exc.filename = str(path)  # as the person typed it
        raise
    is_reserved = False
    try:
        with opened:
            if not replace:
                # The name is taken at once: nobody else can create the file meanwhile.
                create_private_file(target).close()
                is_reserved = True
            yield opened
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        if is_reserved:
            target.unlink(missing_ok=True)
        raise


def format_json(item: Any) -> str:
    import msgspec

    return escape_document(msgspec.json.encode(item).decode())


def format_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.isprintable() else escape_text(value)  # which takes longer
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(format_value, value))
    if isinstance(value, dict):
        return format_json(value)
    return escape_text(str(value))


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Write `1 row` or `2,000 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def _get_member(item: Any, name: str) -> Any:
    for part in name.split("."):
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _make_reader(column: str) -> Callable[[Any], Any]:
    """Make a function that reads a column of an item."""
    if "." in column:
        return lambda item: _get_member(item, column)
    return lambda item: item.get(column)


def _flatten(item: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in item.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            for number, entry in enumerate(value, 1):
                yield from _flatten(entry, f"{prefix}{name}.{number}.")
        else:
            yield prefix + name, format_value(value)


def _print_table(items: Sequence[Any], columns: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*map(_make_heading, columns), box=box.SIMPLE_HEAD, pad_edge=False)
    for item in items:
        # As Text: in a plain string rich would read [brackets] as its own markup.
        table.add_row(
            *(Text(_shorten_time(format_value(_get_member(item, column))), overflow="fold") for column in columns)
        )
    Console().print(table)


def _make_heading(column: str) -> str:
    """Write `rows.applied` and `createdAt` as `rows applied` and `created at`, for people."""
    return _HEADINGS.get(column) or re.sub(r"\.|(?=[A-Z])", " ", column).lower()


def _shorten_time(text: str) -> str:
    """Show a time to the second: a table is narrow."""
    return _TIME.sub(r"\1 \2", text)

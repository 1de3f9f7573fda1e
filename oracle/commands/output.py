"""What commands print: a table at a terminal, one item a line with tabs elsewhere, JSON with --json.

Terminals.  Only a terminal gets the table.  Elsewhere there is no heading, so that grep and cut see items alone.  Where
            a terminal is too narrow for a table, each item is printed as key and value.
People.     Where an answer has the name of a person (`uploadedByName` beside `uploadedBy`), lists print the name.
Forms.      A table shows identifiers as people write them and times to the second, with their zone.  Elsewhere both are
            as programs need them: the canonical form, and RFC 3339.
Safety.     Texts that other people wrote (names, labels, notes) cannot move the cursor or fake a line: control
            characters are shown as escapes.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import codecs
import functools
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
    from oracle.identifiers import Reading

# Headings of tables that are not made of their column's name.
_HEADINGS: Final = {"at": "time", "fspId": "FSP", "error.message": "error", "actor": "who", "credential": "who"}

_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(?:\.\d+)?(Z|[+-]\d{2}:\d{2})")
_NRC: Final = re.compile(r"\d{1,2}-[0-9A-F]{6}-[A-Z]-\d{6}")  # in canonical form
_SHOWN_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})")
_PEOPLE: Final = frozenset({"uploadedBy", "decidedBy", "cancelledBy", "createdBy", "actor", "credential"})
_WRAPPED_MIN: Final = 12  # the width of a column of words: narrower ones are hard to read


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
    is_empty = True
    for page in pages:
        is_empty = is_empty and not page
        if as_json:
            _print_lines(map(format_json, page))
            continue
        items = map(reshape, page)
        if is_terminal:
            if page:
                _print_table(list(items), columns)
        else:
            _print_lines("\t".join([format_value(get(item)) for get in read]) for item in items)
    if is_empty and is_terminal and not as_json:
        print_note("Nothing found.")
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
        if not target.parent.is_dir():
            raise FileNotFoundError(
                exc.errno, "there is no such directory. Create it, or name another one", str(path.parent)
            ) from exc
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
    """Make a function that reads a column of an item: of a person, the name, or the id where there is no name."""
    if column in _PEOPLE:
        names = (f"{column}Name", column, f"{column}Id")
        return lambda item: next((found for name in names if (found := item.get(name)) is not None), None)
    if "." in column:
        return lambda item: _get_member(item, column)
    return lambda item: item.get(column)


def format_identifier(item: Mapping[str, Any]) -> str:
    """Write the identifier of an answer as people write it, and its canonical form behind it where that is needed."""
    identifier, shown = item.get("identifier"), item.get("display")
    text = shown.get("text") if isinstance(shown, dict) else shown
    return format_value(explain_nrc(identifier, text) if text and identifier else identifier)


def explain_nrc(identifier: str, text: str = "") -> str:
    """Return `text`, the form that people write; for an NRC that other people can have in this form, both forms.

    Some Latin spellings belong to two townships, or to none that the tables know.  Without `text`, the form is made
    here, for an NRC alone.
    """
    if not _NRC.fullmatch(identifier):
        return text or identifier
    from oracle.identifiers import BadIdentifier, display

    text = text or display("NRC", identifier).text
    try:
        is_clear = _open_reading().read_key("NRC", text).identifier == identifier
    except BadIdentifier:
        is_clear = False
    return text if is_clear else f"{text} = {identifier}"


@functools.cache
def _open_reading() -> Reading:
    from oracle.identifiers import Reading
    from oracle.settings import Settings

    return Reading.of(Settings())


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

    console = Console()
    headings = list(map(_make_heading, columns))
    cells = list(map(_make_cell, columns))
    rows = [[format_cell(item) for format_cell in cells] for item in items]
    widths = _fit_columns(headings, rows, columns, console.width - 3 * len(columns) + 1)
    if widths is None:
        _print_items(headings, rows)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, width=width)
    for row in rows:
        # As Text: in a plain string rich would read [brackets] as its own markup.
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console.print(table)


def _make_cell(column: str) -> Callable[[Any], str]:
    """Make a function that writes a cell of a table."""
    if column == "identifier":
        return format_identifier
    get = _make_reader(column)
    return lambda item: shorten_time(format_value(get(item)))


def _fit_columns(
    headings: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[str], room: int
) -> list[int] | None:
    """Return the width of each column; None if a word does not fit.

    A column can be narrower than its longest cell where cells are several words.  An identifier or a time is whole.
    """
    from rich.cells import cell_len

    least, wanted = [], []
    for at, (heading, column) in enumerate(zip(headings, columns, strict=True)):
        cells = [row[at] for row in rows]
        longest = max(map(cell_len, [*cells, *heading.split()]), default=0)
        words = [word for cell in cells for word in cell.split()]
        is_whole = column == "identifier" or any(_SHOWN_TIME.fullmatch(cell) for cell in cells)
        shortest = max(map(cell_len, [*words, *heading.split()]), default=0)
        least.append(longest if is_whole else max(shortest, min(longest, _WRAPPED_MIN)))
        wanted.append(longest)
    spare = room - sum(least)
    if spare < 0:
        return None
    lacking = sum(wanted) - sum(least)
    share = min(1.0, spare / lacking) if lacking else 0.0
    return [low + int((high - low) * share) for low, high in zip(least, wanted, strict=True)]


def _print_items(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each item as lines of key and value, with an empty line after it."""
    width = max(map(len, headings))
    for row in rows:
        for heading, cell in zip(headings, row, strict=True):
            if cell:
                print(f"{heading:<{width}}  {cell}")
        print()


def _make_heading(column: str) -> str:
    """Write `rows.applied` and `createdAt` as `rows applied` and `created at`, for people."""
    return _HEADINGS.get(column) or re.sub(r"\.|(?=[A-Z])", " ", column).lower()


def shorten_time(text: str) -> str:
    """Write a time to the second, with its zone: 2026-11-28 19:05:15Z.  Other text stays as it is."""
    found = _TIME.fullmatch(text)
    return text if found is None else f"{found[1]} {found[2]}{found[3].replace('+00:00', 'Z')}"

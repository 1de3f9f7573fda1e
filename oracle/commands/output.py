"""What commands print: a table for people, one item a line with tabs between for scripts, JSON where it is asked for.

Only a terminal gets the table; elsewhere there is no heading, so that grep and cut see items alone.  What others have
written (names, labels, notes) cannot move the cursor or fake a line: control characters are shown as escapes.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

# C0, DEL, C1, and the marks that turn the direction of what follows.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_INSTANT: Final = re.compile(r"^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})\S*$")


def show_pages(
    pages: Iterable[Sequence[Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    shaped: Callable[[Any], Any] = lambda item: item,
) -> None:
    """Print each page as it comes; `shaped` for people and tabs."""
    for page in pages:
        items = page if as_json else [shaped(item) for item in page]
        if as_json:
            for item in items:
                print(json_line(item))
        elif sys.stdout.isatty():
            _table(items, columns)
        else:
            for item in items:
                print("\t".join(text_of(_member(item, column)) for column in columns))


def show(item: Mapping[str, Any], *, as_json: bool, **more: Any) -> None:
    """One thing, a member a line; `more` is what stands beside it, as its version."""
    if as_json:
        print(json_line(item))
        return
    lines = list(_flat({**item, **{name: value for name, value in more.items() if value is not None}}))
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        print(f"{name:<{width}}  {value}".rstrip())


def note(text: str) -> None:
    """For the person, not for the pipe."""
    print(text, file=sys.stderr)


@contextmanager
def placed(path: Path) -> Iterator[BinaryIO]:
    """A file for its owner alone, as keys and identifiers are; whole or not there.

    Opened before what it is for is done: a key that cannot be written would be lost.  What is no file, as /dev/stdout,
    is written as it is: it must not be replaced by one.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    there = path.resolve()  # where a link leads, which stays
    beside = there.with_name(f".{there.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        exc.filename = str(path)  # as it was typed
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        beside.replace(there)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def json_line(item: Any) -> str:
    import msgspec

    return msgspec.json.encode(item).decode()


def text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(text_of, value))
    if isinstance(value, dict):
        return _escaped(json_line(value))
    return _escaped(str(value))


def _escaped(text: str) -> str:
    return _CONTROL.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}", text
    )


def _member(item: Any, name: str) -> Any:
    for part in name.split("."):
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _flat(item: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in item.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            for number, entry in enumerate(value, 1):
                yield from _flat(entry, f"{prefix}{name}.{number}.")
        else:
            yield prefix + name, text_of(value)


def _table(items: Sequence[Any], columns: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for item in items:
        # As Text: in a plain string rich would read [brackets] as its own markup.
        table.add_row(*(Text(_short(text_of(_member(item, column))), overflow="fold") for column in columns))
    Console().print(table)


def _short(text: str) -> str:
    """An instant to the second: a table is narrow."""
    return _INSTANT.sub(r"\1 \2", text)

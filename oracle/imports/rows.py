"""Turns the cells of one row into a checked, canonical entry of the directory, or refuses the row.

Two ways, one answer.  Most rows of a file differ in the identifier alone.  All other cells together are read once, into
a RowChange.  A row needs only `RowChange.read` for its identifier if its other cells are known and its identifier is
written in the ordinary way of its kind.  Every other row takes the careful way, which is the definition.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from phonenumbers import SUPPORTED_REGIONS

from oracle.identifiers import (
    KINDS,
    PARTY_ID_TYPES,
    BadIdentifier,
    Reading,
    Scheme,
    find_scheme,
    list_current_currencies,
)
from oracle.identifiers.characters import name_character
from oracle.identifiers.opaque import check_sub_id
from oracle.imports import cells
from oracle.imports.refusals import FIELD_MAX, RowRefused, describe_value, explain, suggest
from oracle.suggestions import is_synonym

COLUMNS: Final = ("kind", "identifier", "sub_id", "currency", "country", "action")
REQUIRED: Final = ("kind", "identifier")
ACTIONS: Final = ("add", "replace", "remove")

_letters: Final = re.compile(r"[A-Za-z]+").fullmatch
_currency: Final = re.compile(r"[A-Za-z]{3}").fullmatch

# An identifier that needs no repair, and shows no damage.
Ordinary = Callable[[str], object]
# The marks that begin as an ordinary identifier does, with n or u.
_MARKS: Final = "|".join(re.escape(mark) for mark in sorted(cells.MARKS | cells.EXACT_MARKS) if mark[0].isalnum())
_ordinary: Final[Ordinary] = re.compile(
    rf"(?![0-9]+\.[0-9]*(?:[eE]|\Z)|(?=[nuNU])(?i:{_MARKS})\Z)[0-9A-Za-z][0-9A-Za-z@._/()-]{{0,127}}"
).fullmatch


class FileRow(NamedTuple):
    """One row of the file.  A refused row has only its code, its message, its line and, if known, its kind."""

    line: int  # physical, from 1, as an editor counts; where the row begins
    action: str  # add, replace, remove
    kind: str  # as the file says, in upper case: a CLABE stays a CLABE
    party_id_type: str
    identifier: str  # canonical
    sub_id: str  # '' for none
    currency: str  # '' for none
    code: str = ""  # '' for a good row, else one of `refusals.REFUSALS`
    message: str = ""  # for people; never holds an identifier


@dataclass(frozen=True)
class RowChecks:
    """The checks for every row of one file."""

    reading: Reading
    # What the FSP can register; None: everything.  It can remove other entries, too.
    kinds: Collection[str] | None = None
    currencies: Collection[str] | None = None
    # Of phone numbers without a country, in rows without one (ISO 3166 alpha-2).
    default_country: str | None = None


class RowChange(NamedTuple):
    """The content of all cells except the identifier."""

    action: str
    kind: str
    party_id_type: str
    sub_id: str
    currency: str
    ordinary: Ordinary
    read: Callable[[str], str]  # the canonical form, or BadIdentifier
    scheme: Scheme  # that the identifier must fit


def refuse_row(line: int, refusal: RowRefused, kind: str = "") -> FileRow:
    return FileRow(line, "", kind, "", "", "", "", refusal.code, refusal.message)


def check_text(text: str, subject: str = "the line") -> None:
    """Raise RowRefused for text that is damaged.  Bytes that are not UTF-8 arrive as surrogates."""
    if "\0" in text:
        raise RowRefused("nul_character", f"Character {text.index(chr(0)) + 1} of {subject} is a NUL character")
    if text.isascii():
        return
    at = text.find("\ufffd")
    if at >= 0:
        raise RowRefused("bad_encoding", f"Character {at + 1} of {subject} was lost in an earlier conversion")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise RowRefused("bad_encoding", f"Character {exc.start + 1} of {subject} is not UTF-8") from None


def read_change(
    checks: RowChecks, kind_cell: str, sub_id_cell: str, currency_cell: str, country_cell: str, action: str
) -> RowChange:
    """Read all cells except the identifier, or raise RowRefused."""
    kind = _require_kind(kind_cell)
    action = _read_action(action)
    currency = _read_currency(currency_cell, action)
    country = _read_country(country_cell)
    written_sub_id = _read_sub_id(sub_id_cell, action)
    if action != "remove":
        _check_permitted(checks, kind, currency)

    party_id_type = PARTY_ID_TYPES[kind]
    return RowChange(
        action,
        kind,
        party_id_type,
        checks.reading.fold_sub_id(party_id_type, written_sub_id),
        currency,
        find_scheme(kind).ordinary or _ordinary,
        checks.reading.choose_reader(kind, written_sub_id, country, checks.default_country),
        checks.reading.choose_scheme(kind, written_sub_id),
    )


def read_kind(cell: str) -> str:
    """Return the kind that a cell names; '' if it names none."""
    kind = cells.clean(cell).upper() if len(cell) <= FIELD_MAX else ""
    return kind if kind in PARTY_ID_TYPES else ""


def _require_kind(cell: str) -> str:
    kind = read_kind(cell)
    if kind:
        return kind
    text = cells.clean(cell)
    if not text:
        raise RowRefused("missing_kind")
    if cells.is_mark(text):
        raise describe_value("kind", "missing_value_mark", text)
    # A synonym is one of a closed list; any other text can be an identifier, in the wrong column.
    fact = f"{text.upper()} is not a kind" if is_synonym(text) else f"The kind has {_count(text)} and is not known"
    raise RowRefused("unknown_kind", f"{fact}{suggest(text, KINDS)}")


def _read_action(cell: str) -> str:
    text = cells.clean(cell)
    action = text.lower() or "add"
    if action not in ACTIONS:
        if cells.is_mark(text):
            raise describe_value("action", "missing_value_mark", text)
        raise RowRefused("unknown_action", f"The action has {_count(text)} and is not known{suggest(text, ACTIONS)}")
    return action


def _read_currency(cell: str, action: str) -> str:
    """Return the code in capitals, '' for none.

    A row that removes can name any code, `NAN` among them: it names an entry that an earlier version stored.
    """
    text = cells.clean(cell)
    if not text or (action == "remove" and _currency(text)):
        return text.upper()
    if cells.is_mark(text):
        raise describe_value("currency", "missing_value_mark", text)
    if not _currency(text):
        raise RowRefused("bad_currency", _describe_letters("currency", text, 3))
    currency = text.upper()
    if currency not in list_current_currencies():
        raise RowRefused("unknown_currency", f"No currency has the code {currency}")
    return currency


def _read_country(cell: str) -> str:
    text = cells.clean(cell)
    country = text.upper()
    if country and country not in SUPPORTED_REGIONS:
        if cells.is_mark(text):
            raise describe_value("country", "missing_value_mark", text)
        found = f"No country has the code {country}" if _letters(country) and len(country) == 2 else ""  # noqa: PLR2004
        raise RowRefused("bad_country", found or _describe_letters("country", text, 2))
    return country


def _read_sub_id(cell: str, action: str) -> str | None:
    """Read the SubId.  A row that removes can name a mark of a missing value: an earlier version stored it."""
    sub_id = cells.clean(cell)
    if not sub_id:
        return None
    fault = cells.find_fault(sub_id)
    if fault and not (action == "remove" and fault == "missing_value_mark"):
        raise describe_value("sub_id", fault, sub_id)
    try:
        return check_sub_id(sub_id)
    except BadIdentifier as exc:
        raise explain(exc, sub_id) from None


def _count(text: str) -> str:
    return f"{len(text):,} {'character' if len(text) == 1 else 'characters'}"


def _describe_letters(column: str, text: str, needed: int) -> str:
    """Say why a cell is no code of so many letters."""
    if len(text) != needed:
        return f"The {column} has {_count(text)}, and {('two', 'three')[needed - 2]} letters are needed"
    at = next(at for at, character in enumerate(text) if not _letters(character))
    return f"Character {at + 1} of the {column} is {name_character(text[at])}, and a letter from A to Z is needed"


def _check_permitted(checks: RowChecks, kind: str, currency: str) -> None:
    if checks.kinds is not None and not checks.reading.is_permitted(kind, checks.kinds):
        raise RowRefused("kind_not_allowed", f"This FSP cannot register {kind}, only {_list(checks.kinds)}")
    if currency and checks.currencies is not None and currency not in checks.currencies:
        raise RowRefused(
            "currency_not_allowed", f"This FSP cannot register {currency}, only {_list(checks.currencies)}"
        )


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def read_identifier(change: RowChange, cell: str, country: str = "") -> str:
    """Read the identifier, or raise RowRefused.  `country`: the cell, or the default of the file."""
    text = cells.clean(cell)
    if not text:
        raise RowRefused("missing_identifier")
    fault = cells.find_fault(text, change.kind)
    if fault:
        raise describe_value("identifier", fault, text)
    try:
        return change.read(text)
    except BadIdentifier as exc:
        raise refuse_identifier(change, text, exc, country) from None


def refuse_identifier(change: RowChange, text: str, exc: BadIdentifier, country: str = "") -> RowRefused:
    """Return the refusal of a row whose identifier, cleaned, is bad.  `country` as in `read_identifier`."""
    fault = change.scheme.find_damage(text)
    return describe_value("identifier", fault, text) if fault else explain(exc, text, cells.clean(country).upper())

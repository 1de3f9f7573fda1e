"""From the cells of one row to an entry of the directory, checked and canonical, or to a refusal.

Two ways, one answer.  Most rows of a file differ in the identifier alone.  All other cells together are read once, into
a Plan; a row whose other cells are known, and whose identifier is written in the ordinary way of its kind, takes only
the plan's own reading of the identifier.  Every other row takes the careful way, which is the definition.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from phonenumbers import SUPPORTED_REGIONS

from oracle.identifiers import BadIdentifier, clabe, key_of_kind, msisdn, opaque
from oracle.identifiers.characters import LENGTH_MAX
from oracle.identifiers.kinds import PARTY_ID_TYPES, is_permitted
from oracle.imports import cells
from oracle.imports.refusals import FIELD_MAX, RowRefused, explained

COLUMNS: Final = ("kind", "identifier", "sub_id", "currency", "country", "action")
REQUIRED: Final = ("kind", "identifier")
ACTIONS: Final = ("add", "replace", "remove")

_currency: Final = re.compile(r"[A-Za-z]{3}").fullmatch

_GROUPING: Final = str.maketrans("", "", " ().-")

# An identifier that nothing has to be undone for or recognised in.
Ordinary = Callable[[str], object]
_ordinary: Final[Ordinary] = re.compile(
    r"(?![0-9]+\.0{1,2}\Z)[0-9A-Za-z][0-9A-Za-z@._/()-]{0,127}",
).fullmatch
_ORDINARY_BY_KIND: Final[dict[str, Ordinary]] = {
    "MSISDN": re.compile(r"\+?[0-9]{7,15}").fullmatch,
    "CLABE": re.compile(r"[0-9]{18}").fullmatch,
}


class Row(NamedTuple):
    """One row of the file.  A refused one has a code, and of the rest only its line and, where known, its kind."""

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
class Rules:
    """What holds for every row of one file."""

    clabe_only: bool = False  # as in `party_key`
    nrc: bool = True
    # What the FSP may register; None: anything.  What it may not, it may still remove; '' is the currency of none.
    kinds: Collection[str] | None = None
    currencies: Collection[str] | None = None


class Plan(NamedTuple):
    """What all cells but the identifier say."""

    action: str
    kind: str
    party_id_type: str
    sub_id: str
    currency: str
    ordinary: Ordinary
    read: Callable[[str], str]  # the canonical form, or BadIdentifier
    reads_clabe: bool


def refused(line: int, refusal: RowRefused, kind: str = "") -> Row:
    return Row(line, "", kind, "", "", "", "", refusal.code, refusal.message)


def check_text(text: str) -> None:
    """Refuse text that was no text, or is none any more.  Bytes that are not UTF-8 come as surrogates."""
    if "\0" in text:
        raise RowRefused("nul_character")
    if text.isascii():
        return
    if "\ufffd" in text:
        raise RowRefused("bad_encoding")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowRefused("bad_encoding") from None


def planned(rules: Rules, kind_cell: str, sub_id_cell: str, currency_cell: str, country_cell: str, action: str) -> Plan:
    """Read all cells but the identifier, or raise RowRefused."""
    kind = _kind(kind_cell)
    action = cells.cleaned(action).lower() or "add"
    if action not in ACTIONS:
        raise RowRefused("unknown_action")
    currency = cells.cleaned(currency_cell)
    if currency and not _currency(currency):
        raise RowRefused("bad_currency")
    currency = currency.upper()
    country = cells.cleaned(country_cell).upper()
    if country and country not in SUPPORTED_REGIONS:
        raise RowRefused("bad_country")
    written_sub_id = _sub_id(sub_id_cell)
    if action != "remove":
        _check_permitted(rules, kind, currency)

    party_id_type = PARTY_ID_TYPES[kind]
    reads_clabe = party_id_type == "ACCOUNT_ID" and (rules.clabe_only or "CLABE" in {kind, written_sub_id})
    return Plan(
        action,
        kind,
        party_id_type,
        _kept_sub_id(kind, written_sub_id, rules),
        currency,
        _ORDINARY_BY_KIND.get(kind, _ordinary),
        _reading(kind, written_sub_id, country, rules),
        reads_clabe,
    )


def named_kind(cell: str) -> str:
    """Give the kind a cell names, '' where it names none."""
    kind = cells.cleaned(cell).upper() if len(cell) <= FIELD_MAX else ""
    return kind if kind in PARTY_ID_TYPES else ""


def _kind(cell: str) -> str:
    kind = named_kind(cell)
    if kind:
        return kind
    raise RowRefused("unknown_kind" if cells.cleaned(cell) else "missing_kind")


def _sub_id(cell: str) -> str | None:
    sub_id = cells.cleaned(cell)
    if not sub_id:
        return None
    fault = cells.fault(sub_id)
    if fault:
        raise RowRefused(fault)
    try:
        return opaque.check_sub_id(sub_id)
    except BadIdentifier as exc:
        raise explained(exc) from None


def _check_permitted(rules: Rules, kind: str, currency: str) -> None:
    if rules.kinds is not None and not is_permitted(kind, rules.kinds, clabe_only=rules.clabe_only):
        raise RowRefused("kind_not_allowed")
    if currency and rules.currencies is not None and currency not in rules.currencies:
        raise RowRefused("currency_not_allowed")


# A SubId that names the kind is folded; whether it is, does not depend on the identifier.  These are read in its place.
_SAMPLES: Final = {"ACCOUNT_ID": "646180110400000007", "PERSONAL_ID": "12-250019-N-123456"}


def _kept_sub_id(kind: str, sub_id: str | None, rules: Rules) -> str:
    sample = _SAMPLES.get(PARTY_ID_TYPES[kind])
    if sample is None or sub_id is None:
        return sub_id or ""
    return key_of_kind(kind, sample, sub_id=sub_id, clabe_only=rules.clabe_only, nrc=rules.nrc).sub_id


def _reading(kind: str, sub_id: str | None, country: str, rules: Rules) -> Callable[[str], str]:
    if kind == "MSISDN" and not country:
        return msisdn.canonical
    if kind == "CLABE":
        return clabe.canonical

    def read(text: str) -> str:
        return key_of_kind(
            kind, text, sub_id=sub_id, country=country, clabe_only=rules.clabe_only, nrc=rules.nrc
        ).identifier

    return read


def identified(plan: Plan, cell: str) -> str:
    """Read the identifier, or raise RowRefused."""
    text = cells.cleaned(cell)
    if not text:
        raise RowRefused("missing_identifier")
    fault = cells.fault(text, plan.kind)
    if fault:
        raise RowRefused(fault)
    if plan.kind == "MSISDN" and len(text) <= LENGTH_MAX:
        text = text.translate(_GROUPING)  # as `msisdn.read` does, which would go on the long way
    try:
        return plan.read(text)
    except BadIdentifier as exc:
        fault = cells.clabe_fault(text) if plan.reads_clabe else None
        raise (RowRefused(fault) if fault else explained(exc)) from None

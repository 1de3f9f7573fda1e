"""The reasons for refusing a file or a row: closed lists of codes, each with its message and remedy.

A message of a row says what was found and what is needed.  A person who can read it can also read the row: both are in
the results of the batch, and nowhere else.  Still no message holds the content of a cell that can be an identifier, so
that a message alone can be shown or sent.  It names counts, positions, one character, and words of closed lists: the
columns, kinds, countries, currencies.  Messages of a whole file are shown and logged more widely: they name no cell.
"""

from functools import cache, lru_cache
from typing import Final, Literal

from oracle.identifiers import KINDS, find_scheme
from oracle.identifiers.characters import name_character
from oracle.identifiers.errors import EXPLANATIONS, BadIdentifier, Reason
from oracle.identifiers.opaque import describe_sub_id_fault
from oracle.suggestions import find_meant

LINE_MAX: Final = 65_536  # characters, of one line, and of one quoted record that covers several lines
RECORD_LINES_MAX: Final = 10  # of one quoted record: for an open quote, so many lines are read again
FIELD_MAX: Final = 1_000  # characters

FileCode = Literal[
    "bad_header",
    "bad_separator",
    "duplicate_column",
    "empty_file",
    "missing_column",
    "no_header",
    "not_ndjson",
    "not_text",
    "too_many_bad_rows",
    "too_many_rows",
    "unknown_column",
]

RowCode = Literal[
    "bad_country",
    "bad_currency",
    "bad_encoding",
    "bad_identifier",
    "bad_json",
    "bad_quoting",
    "bad_sub_id",
    "currency_not_allowed",
    "decimal_number",
    "digits_lost",
    "duplicate_member",
    "formula",
    "kind_not_allowed",
    "leading_zero_lost",
    "missing_identifier",
    "missing_kind",
    "missing_value_mark",
    "not_text",
    "nul_character",
    "scientific_notation",
    "thousands_separator",
    "too_few_fields",
    "too_long",
    "too_many_fields",
    "unknown_action",
    "unknown_currency",
    "unknown_kind",
    "unknown_member",
]

_AS_TEXT: Final = "Format the column as text, enter the values again, and save the file."

REFUSALS: Final[dict[RowCode, str]] = {
    "bad_country": (
        "The country is not a two-letter ISO 3166 code. Write MX or GB (not UK), for example, or leave it empty."
    ),
    "bad_currency": "The currency is not a three-letter ISO 4217 code. Write MXN, for example, or leave it empty.",
    "bad_encoding": "The line is not UTF-8, or lost characters in an earlier conversion. Save the file as CSV UTF-8.",
    "bad_identifier": "The identifier is not valid for its kind. Correct it.",  # `explain` gives the exact reason
    "bad_json": "The line is not a JSON object. Write one object a line, with names and values in double quotes.",
    "bad_quoting": (
        'A double quote is not closed, or text follows a closing quote. Close it, and write "" for a quote in a value.'
    ),
    "bad_sub_id": "The sub_id is not valid. Correct it, or leave it empty.",  # `explain` gives the exact reason
    "currency_not_allowed": "This FSP cannot register this currency. Ask the operator of the hub to allow it.",
    "decimal_number": f"A spreadsheet changed the value into a decimal number. {_AS_TEXT}",
    "digits_lost": f"The last digits are probably lost: spreadsheets keep only 15 digits of a number. {_AS_TEXT}",
    "duplicate_member": "The object has the same name twice. Write each name once.",
    "formula": "The value is a formula, or begins like one. Write the value itself.",
    "kind_not_allowed": "This FSP cannot register this kind. Ask the operator of the hub to allow it.",
    "leading_zero_lost": f"Leading zeros are probably lost: a CLABE has 18 digits. {_AS_TEXT}",
    "missing_identifier": "The identifier is missing. Fill it in, or delete the row.",
    "missing_kind": "The kind is missing. Write MSISDN, for example.",
    "missing_value_mark": (
        "This is a mark of a missing value (such as nan, NULL or N/A), not a value. Leave the field empty. If the"
        " identifier or the kind is missing, fill it in or delete the row."
    ),
    "not_text": "A value is not text. Write every value in double quotes: numbers lose their leading zeros.",
    "nul_character": "The line has a NUL character. Save the file as CSV UTF-8.",
    "scientific_notation": f"A spreadsheet changed the value into a rounded number, so digits are lost. {_AS_TEXT}",
    "thousands_separator": f"The value is written with thousands separators. {_AS_TEXT}",
    "too_few_fields": (
        "The row ends before all its fields are there. Fields without a value can be left out only at the end. If it is"
        " the last row, check whether the end of the file is missing, and end the file with a line break."
    ),
    "too_long": f"A field is longer than {FIELD_MAX:,} characters, or the line longer than {LINE_MAX:,}. Shorten it.",
    "too_many_fields": (
        "The row has more fields than the first line. Put a value that contains the separator in double quotes."
    ),
    "unknown_action": "The action is not known. Write add, replace or remove, or leave it empty for add.",
    "unknown_currency": "No such currency. Write an ISO 4217 code such as MXN, or leave it empty.",
    "unknown_kind": f"The kind is not known. Write one of {', '.join(KINDS)}.",
    "unknown_member": (
        "The object has an unknown name. Use only kind, identifier, sub_id, currency, country and action."
    ),
}

_REMEDIES: Final[dict[Reason, str]] = {
    "national_without_country": "The country belongs in the column country.",
    "invalid_for_country": "Check the digits; one can be wrong or missing.",
    "bad_check_digit": "Check the digits: one is wrong, or two are swapped.",
    "bad_check_digits": "Check the account number: at least one character is wrong.",
}


# What to do: all after the first sentence, which says what is wrong in general.
_WHAT_TO_DO: Final = {code: text.partition(". ")[2] for code, text in REFUSALS.items()}


class FileRefused(Exception):
    """The whole file cannot be read."""

    def __init__(self, code: FileCode, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code: FileCode = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class RowRefused(Exception):
    """One row cannot be read; the others can."""

    def __init__(self, code: RowCode, found: str = "") -> None:
        """`found`: a sentence without its dot about what is wrong in this row; '' if the code says enough."""
        super().__init__(code, found)
        self.code: RowCode = code
        self.message = f"{found}. {_WHAT_TO_DO[code]}".rstrip() if found else REFUSALS[code]


class BadValue(RowRefused):
    """The identifier or the SubId of a row is bad."""

    def __init__(self, code: RowCode, message: str) -> None:
        super().__init__(code)
        self.message = message


def explain(refusal: BadIdentifier, text: str, country: str = "") -> RowRefused:
    """Return the refusal of a row whose identifier or SubId is this text, in a row that names this country."""
    reason, subject = refusal.reason, refusal.subject
    if reason == "unknown_country":
        return RowRefused("bad_country")
    is_sub_id = reason.startswith("sub_id_")
    if is_sub_id:
        found = describe_sub_id_fault(text, reason)
    else:
        found = find_scheme(subject).describe_fault(text, reason, country) if subject in KINDS else ""
    message = f"{subject}: {found} ({reason}). {_REMEDIES.get(reason, '')}".rstrip() if found else ""
    return BadValue("bad_sub_id" if is_sub_id else "bad_identifier", message or _make_sentence(reason, subject))


def describe_value(column: str, code: RowCode, text: str) -> RowRefused:
    """Return the refusal of a cell that a spreadsheet or a program has damaged."""
    if code == "missing_value_mark":
        return RowRefused(code, f"The column {column} has a mark of a missing value (such as nan, NULL or N/A)")
    if code == "formula":
        return RowRefused(code, f"The {column} begins with {name_character(text[0])}, as a formula does")
    if code == "digits_lost":
        zeros = len(text) - len(text.rstrip("0"))
        return RowRefused(code, f"The last {zeros} digits are 0: spreadsheets keep only 15 digits of a number")
    if code == "leading_zero_lost":
        count = sum(map(str.isdigit, text))
        lost = "a zero is" if count == _CLABE_DIGITS - 1 else "two zeros are"
        return RowRefused(code, f"The CLABE has {count} digits, and {_CLABE_DIGITS} are needed: {lost} lost in front")
    at = _find_sign(code, text)
    return RowRefused(code, f"{_DAMAGES[code]}: character {at + 1} of the {column} is {name_character(text[at])}")


_CLABE_DIGITS: Final = 18
_DAMAGES: Final[dict[RowCode, str]] = {
    "decimal_number": "A spreadsheet changed the value into a decimal number",
    "scientific_notation": "A spreadsheet changed the value into a rounded number, so digits are lost",
    "thousands_separator": "The value is written with thousands separators",
}


def _find_sign(code: RowCode, text: str) -> int:
    """Return the position of the first character that shows this damage to a number."""
    signs = "eE*xX\u00d7\u00b7\u22c5" if code == "scientific_notation" else ",.'\u2019\u02bc`\u00b4 "
    return next((at for at, character in enumerate(text) if character in signs), 0)


def describe_length(what: str, text: str, at_most: int) -> str:
    return f"{what} has {len(text):,} characters, and at most {at_most:,} are allowed"


@lru_cache(1_024)
def suggest(word: str, known: tuple[str, ...]) -> str:
    """Return a question that names the known word that was perhaps meant; '' if none is near."""
    meant = find_meant(word[:FIELD_MAX], known)
    return f" (did you mean {' or '.join(meant)}?)" if meant else ""


@cache
def _make_sentence(reason: Reason, subject: str) -> str:
    """Make each sentence once: ten million bad rows share these few strings."""
    return f"{subject}: {EXPLANATIONS[reason]} ({reason}). {_REMEDIES.get(reason, '')}".rstrip()

"""The reasons for refusing a file or a row: closed lists of codes, each with its message and remedy.

No message contains the content of a cell, because messages can end up in logs.
"""

from functools import cache
from typing import Final, Literal

from oracle.identifiers import KINDS
from oracle.identifiers.errors import EXPLANATIONS, BadIdentifier, Reason

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
    "bad_identifier": "The identifier is not valid for its kind.",  # `explain` gives the exact reason
    "bad_json": "The line is not a JSON object. Write one object a line, with names and values in double quotes.",
    "bad_quoting": (
        'A double quote is not closed, or text follows a closing quote. Close it, and write "" for a quote in a value.'
    ),
    "bad_sub_id": "The sub_id is not valid.",  # `explain` gives the exact reason
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
    "too_long": f"A field is longer than {FIELD_MAX:,} characters, or the line longer than {LINE_MAX:,}.",
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

    def __init__(self, code: RowCode, message: str | None = None) -> None:
        super().__init__(code, message)
        self.code: RowCode = code
        self.message = message or REFUSALS[code]


def explain(refusal: BadIdentifier) -> RowRefused:
    """Return the refusal of a row whose identifier or SubId is bad."""
    if refusal.reason == "unknown_country":
        return RowRefused("bad_country")
    code: RowCode = "bad_sub_id" if refusal.reason.startswith("sub_id_") else "bad_identifier"
    return RowRefused(code, _make_sentence(refusal.reason, refusal.subject))


@cache
def _make_sentence(reason: Reason, subject: str) -> str:
    """Make each sentence once: ten million bad rows share these few strings."""
    return f"{subject}: {EXPLANATIONS[reason]} ({reason}). {_REMEDIES.get(reason, '')}".rstrip()

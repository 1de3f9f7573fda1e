"""The reasons for refusing an identifier, each with its explanation.

An identifier is personal data, so neither the message nor any attribute of `BadIdentifier` contains it: these texts
reach logs and the answers of the hub.  The message is one of a fixed set of sentences.  `reason` is for programs
(import reports, metrics), the message is for people.

A person who uploads a file needs more: what was found, and what is needed.  `Scheme.describe_fault` says it from the
text itself, for the results of a file alone.  It names counts, positions, one character, a country or a check digit.
It never repeats more of the text, so that a message can be shown or sent without its row.
"""

from typing import Final, Literal

Reason = Literal[
    "ambiguous_in_country",
    "ambiguous_national_or_international",
    "ambiguous_township_latin",
    "bad_check_digit",
    "bad_check_digits",
    "bad_length",
    "bad_number_length",
    "bad_state",
    "bad_structure",
    "bad_township",
    "bad_type",
    "bank_code_000",
    "begins_nothing",
    "check_digits_out_of_range",
    "country_contradicts_kind",
    "country_not_in_registry",
    "cut_at_slash",
    "decimal_number",
    "dialling_prefix",
    "empty",
    "forbidden_character",
    "input_too_long",
    "invalid_for_country",
    "leading_zero",
    "missing_type",
    "mixed_digit_scripts",
    "national_prefix",
    "national_without_country",
    "non_digit",
    "not_text",
    "plus_misplaced",
    "stray_separator",
    "sub_id_empty",
    "sub_id_forbidden_character",
    "sub_id_not_nfc",
    "sub_id_not_text",
    "sub_id_too_long",
    "tel_prefix",
    "too_long",
    "too_short",
    "unknown_country",
    "unknown_kind",
    "unknown_township_latin",
]

EXPLANATIONS: Final[dict[Reason, str]] = {
    "ambiguous_in_country": "these digits can be two numbers, with this country too; write + and the calling code",
    "ambiguous_national_or_international": (
        "these digits are a number at home and another one abroad; write + and the calling code, or name the country"
    ),
    "ambiguous_township_latin": "several townships have this Latin spelling; use Burmese letters",
    "bad_check_digit": "the check digit is wrong",
    "bad_check_digits": "the check digits are wrong",
    "bad_length": "the number of characters is wrong",
    "bad_number_length": "the number must have exactly six digits",
    "bad_state": "the state must be 1 to 14, without a leading zero",
    "bad_structure": "it does not have the form of this kind of identifier",
    "bad_township": "the township must be three letters that townships have",
    "bad_type": "the citizenship type must be one of N E P T Y S",
    "bank_code_000": "no bank has the code 000",
    "begins_nothing": "no identifier begins with it",
    "check_digits_out_of_range": "the check digits must be 02 to 98",
    "country_contradicts_kind": "this country has no identifiers of this kind; correct the country or leave it out",
    "country_not_in_registry": "this country has no such account numbers",
    "cut_at_slash": "a slash has cut one registration card in two: its state, and a SubId; write it with hyphens",
    "decimal_number": "it ends like a decimal number; write its digits alone",
    "dialling_prefix": "00 is dialled for calls abroad and is no part of the number; write + in its place",
    "empty": "it is empty",
    "forbidden_character": "it contains a character that is not allowed",
    "input_too_long": "it is longer than 128 characters",
    "invalid_for_country": "it is not a valid number in its country",
    "leading_zero": "it starts with 0, but no calling code does",
    "missing_type": "the citizenship type is missing",
    "mixed_digit_scripts": "it mixes Burmese digits with the digits 0 to 9",
    "national_prefix": "it contains the prefix for calls within the country; identifiers are written without it",
    "national_without_country": (
        "it looks like a national number; write + and the calling code, or name its country and write no +"
    ),
    "non_digit": "only the digits 0 to 9 are allowed",
    "not_text": "it must be text",
    "plus_misplaced": "only one plus sign is allowed, at the beginning",
    "stray_separator": "it has a separator too many; write 12/OUKAMA(N)123456 or 12-OUKAMA-N-123456",
    "sub_id_empty": "it is empty; leave it out instead",
    "sub_id_forbidden_character": "it contains a character that is not allowed",
    "sub_id_not_nfc": "it must be in Unicode normalisation form C",
    "sub_id_not_text": "it must be text",
    "sub_id_too_long": "it is longer than 128 characters",
    "tel_prefix": "write the number without tel in front of it",
    "too_long": "it is too long for this kind of identifier",
    "too_short": "it is too short for this kind of identifier",
    "unknown_country": "the country is not a two-letter ISO 3166 code such as MX or GB (not UK)",
    "unknown_kind": "this kind of identifier is not known",
    "unknown_township_latin": "no township of this state has this Latin spelling; use Burmese letters",
}


class BadIdentifier(ValueError):
    """An identifier that cannot be a key.  Its text never holds what was sent."""

    def __init__(self, reason: Reason, subject: str = "identifier") -> None:
        super().__init__(reason, subject)  # as args, so that it survives pickling
        self.reason: Reason = reason
        self.subject = subject  # a kind, the prefix of a kind, or SubId

    def __str__(self) -> str:
        return f"{self.subject}: {EXPLANATIONS[self.reason]}"


class BadPrefix(BadIdentifier):
    """A route prefix with which no identifier begins."""

    def __init__(self, reason: Reason, subject: str, written: str = "") -> None:
        super().__init__(reason, subject)
        self.args = (reason, subject, written)
        self.written = written  # the prefix to write instead; '' if there is none

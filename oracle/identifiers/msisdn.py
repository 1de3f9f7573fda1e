"""MSISDN: a telephone number as an alias.

Grammar.  ITU-T E.164 international format, "optionally prefixed by a single plus sign" (FSPIOP API
Definition, table 103): `+?[1-9][0-9]{6,14}`.  Spaces, hyphens, dots and parentheses are dropped; nothing
else is.  National forms are read only with a country hint, and refused when the same digits are also another
country's valid international number: Oaxaca's 951 xxx xxxx is a valid +95 number of Myanmar.  On the hub's
wire there is no hint.

Canonical form.  International digits without `+`.
* Home countries (Mexico and Myanmar by default): must be valid by the numbering plan that `phonenumbers`
  carries.  +52 1 was abolished in 2019-20 and `phonenumbers` stopped mapping it in 8.13.38, so `521` + 10 digits
  is mapped here.
* Elsewhere: what `phonenumbers` makes of it when the result is valid (a trunk 0 after the calling code
  goes, Argentina's 15 becomes 9, Italy's 0 stays), else the digits as they are.  Validity is not demanded:
  the scheme's own test data (123456789) would fail it.  A rewriting is repeated until it changes nothing, so
  that a canonical number is its own canonical form.

Two ways, one answer.  `phonenumbers` takes about 40 us a number, too much for every lookup, and for almost
every number it changes nothing.  So `canonicalise` first asks a pattern made from the same metadata whether
*nothing can change*: the national part does not begin with the country's national prefix (or a rule like
Argentina's), and for a home country it is valid.  `_read_national` reads a file of ten million national
numbers in a similar way: one pattern checks that the number is valid in the named country, another that the
same digits, unchanged, are valid in no other country.  Only the rest goes to `read`, which is the definition;
property tests check that both ways give the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final, Self

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberDesc, PhoneNumberFormat

from oracle.identifiers.characters import LENGTH_MAX, screen
from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.scheme import HOME_COUNTRIES, Display, Matcher, PartyIdType, Sample, Scheme

DIGITS_MIN: Final = 7
DIGITS_MAX: Final = 15

_international: Final = re.compile(r"\+?([1-9][0-9]{6,14})").fullmatch
_written: Final = re.compile(r"[0-9+ ().-]+").fullmatch
_SEPARATORS: Final = str.maketrans("", "", " ().-")
_REWRITES_MAX: Final = 4  # no number needs more than one; a cycle must end


_beginning: Final = re.compile(r"[1-9][0-9]{0,14}").fullmatch


class Msisdn(Scheme):
    """Telephone numbers, where those of the home countries must be valid."""

    kind = "MSISDN"
    party_id_type = PartyIdType.MSISDN
    takes_country = True
    samples = (Sample("525512345678", currency="MXN"), Sample("09250000001", currency="MMK", country="MM"))
    prefix_form = "1 to 15 digits, starting with the calling code"
    ordinary = re.compile(r"\+?[0-9]{7,15}").fullmatch
    formula_marks = "=-@"

    def __init__(self, home_countries: Iterable[str] = HOME_COUNTRIES) -> None:
        codes = {phonenumbers.country_code_for_region(country) for country in home_countries}
        self._home_calling_codes = tuple(str(code) for code in sorted(codes) if code)
        self._unchanged = _Unchanged(self._home_calling_codes)

    def with_home(self, countries: Iterable[str]) -> Self:
        return type(self)(countries)

    def canonicalise(self, text: object) -> str:
        match = _international(text) if isinstance(text, str) else None
        if match:
            digits = match[1]
            unchanged = self._unchanged[digits[:3]]
            if unchanged is None or unchanged(digits):
                return digits
        return self._canonicalise_grouped(text) or self.read(text)

    def canonicalise_national(self, text: object, country: str) -> str:
        if isinstance(text, str):
            if text.startswith("+"):
                return self.canonicalise(text)
            found = _read_national(_ungroup(text), country)
            if found:
                return found
        return self.read(text, country)

    def _canonicalise_grouped(self, text: object) -> str | None:
        """Return the canonical form of a number whose digits are in groups, by the fast way; None without groups."""
        compact = _ungroup(text) if isinstance(text, str) else text
        return None if compact == text else self.canonicalise(compact)

    def read(self, text: object, country: str | None = None) -> str:
        """Return the same as `canonicalise`, by the long way: this is the definition."""
        written = screen(text, "MSISDN")
        if not _written(written):
            raise BadIdentifier("forbidden_character", "MSISDN")
        compact = written.translate(_SEPARATORS)
        has_plus = compact.startswith("+")
        digits = compact[has_plus:]
        if "+" in digits:
            raise BadIdentifier("plus_misplaced", "MSISDN")
        if not digits:
            raise BadIdentifier("empty", "MSISDN")
        if country and not has_plus:
            return _read_in_country(digits, country)
        if digits.startswith("0"):
            raise BadIdentifier("leading_zero" if has_plus else "national_without_country", "MSISDN")
        return self._read_international(digits)

    def _read_international(self, digits: str) -> str:
        if len(digits) < DIGITS_MIN:
            raise BadIdentifier("too_short", "MSISDN")
        if len(digits) > DIGITS_MAX:
            raise BadIdentifier("too_long", "MSISDN")
        valid = _find_valid_form(digits)
        if valid:
            return valid
        if digits.startswith(self._home_calling_codes):
            raise BadIdentifier("invalid_for_country", "MSISDN")
        return digits

    def canonicalise_prefix(self, text: str) -> str:
        digits = screen(text, "MSISDN prefix").removeprefix("+").translate(_SEPARATORS)
        if not _beginning(digits):
            raise BadIdentifier("leading_zero" if digits.startswith("0") else "bad_structure", "MSISDN prefix")
        return digits

    def display(self, canonical: str) -> Display:
        international = "+" + canonical
        try:
            number = phonenumbers.parse(international)
        except phonenumbers.NumberParseException:
            return Display(international)
        if not phonenumbers.is_valid_number(number):
            return Display(international)
        shown = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
        return Display(shown, country=phonenumbers.region_code_for_number(number))

    def preload(self) -> None:
        """Load the metadata of every country now, so that no lookup waits for it."""
        for prefix in range(100, 1000):
            self._unchanged[str(prefix)]


def _ungroup(text: str) -> str:
    return text.translate(_SEPARATORS) if len(text) <= LENGTH_MAX and _written(text) else text


def _read_in_country(digits: str, country: str) -> str:
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise BadIdentifier("unknown_country", "MSISDN")
    national = _read_as_national(digits, country)
    international = _find_valid_form(digits)
    if national and international and national != international:
        raise BadIdentifier("ambiguous_national_or_international", "MSISDN")
    reading = national or international
    if not reading:
        # Without the hint the digits might pass by their form alone; with it they are more likely a slip.
        raise BadIdentifier("invalid_for_country", "MSISDN")
    return reading


def _read_national(digits: str, country: str) -> str | None:
    """Read plain national digits if patterns can decide; None if only the long way can."""
    plan = _load_national_plan(country)
    if plan is None or not _plain(digits):
        return None
    calling_code, trunk_prefix, is_valid, goes_abroad = plan
    if digits[0] == "0":
        if trunk_prefix != "0" or goes_abroad(digits):
            return None
        national = digits[1:]  # with its 0 it cannot be an international number
    elif digits.startswith(calling_code) or not _is_nowhere_valid(digits):
        return None
    else:
        national = digits
    international = calling_code + national
    return international if len(international) <= DIGITS_MAX and is_valid(international) else None


_plain: Final = re.compile(r"0?[1-9][0-9]{4,13}").fullmatch


@cache
def _load_national_plan(country: str) -> tuple[str, str, Matcher, Matcher] | None:
    """Return calling code, trunk prefix, a pattern of valid numbers and a pattern of the prefix for calls abroad.

    None for a country that shares its calling code.
    """
    calling_code = str(phonenumbers.country_code_for_region(country))
    if COUNTRY_CODE_TO_REGION_CODE.get(int(calling_code)) != (country,):
        return None
    plan = PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), country)
    if plan is None:
        return None
    # A rule that does more than remove the trunk prefix needs the long way.
    trunk_prefix = "0" if plan.national_prefix == plan.national_prefix_for_parsing == "0" else ""
    is_valid = re.compile(calling_code + _require_unstripped(calling_code, plan) + _write_validity(plan)).match
    return calling_code, trunk_prefix, is_valid, re.compile(plan.international_prefix or "00").match


def _is_nowhere_valid(digits: str) -> bool:
    """Whether it is certain that these are not the digits of an international number."""
    pattern = _SOMEWHERE[digits[:3]]
    return pattern is None or not pattern(digits)


class _Somewhere(dict[str, Matcher | None]):
    """By the first three digits: a pattern of all numbers that might be valid there; None: no calling code."""

    def __missing__(self, prefix: str) -> Matcher | None:
        self[prefix] = matcher = _make_possible_matcher(_find_calling_code(prefix))
        return matcher


_SOMEWHERE: Final = _Somewhere()


@cache
def _make_possible_matcher(calling_code: str) -> Matcher | None:
    if not calling_code:
        return None
    regions = COUNTRY_CODE_TO_REGION_CODE[int(calling_code)]
    plans = [PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region) for region in regions]
    if None in plans:
        return re.compile("").match
    # A number with a national prefix is possible, whatever its other digits; so is an old Mexican number.
    rules = [plan.national_prefix_for_parsing for plan in plans if plan and plan.national_prefix_for_parsing]
    rules += [rf"{numbers}\Z" for plan in plans if plan and (numbers := _write_numbers(plan.general_desc))]
    rules += ["1"] if calling_code == "52" else []
    return re.compile(rf"{calling_code}(?:{'|'.join(rules)})").match


def _read_as_national(digits: str, country: str) -> str | None:
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return None
    international = phonenumbers.format_number(number, PhoneNumberFormat.E164).removeprefix("+")
    # A Mexican number without its 52 but with the abolished 1 counts, too: it must not pass for a number of +1.
    if phonenumbers.is_valid_number(number) or _is_old_mexican(international):
        return _find_valid_form(international)
    return None


def _find_valid_form(digits: str) -> str | None:
    """Return the number that these international digits mean; None if that is not a valid number."""
    if _is_old_mexican(digits):
        digits = "52" + digits[3:]
    for _ in range(_REWRITES_MAX):
        if not _international(digits):
            return None
        try:
            number = phonenumbers.parse("+" + digits)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_valid_number(number):
            return None
        rewritten = phonenumbers.format_number(number, PhoneNumberFormat.E164).removeprefix("+")
        if rewritten == digits:
            return digits
        digits = rewritten
    return None


def _is_old_mexican(digits: str) -> bool:
    return len(digits) == len("5215512345678") and digits.startswith("521")


class _Unchanged(dict[str, Matcher | None]):
    """By the first three digits: a pattern of numbers that nothing can change; None if no number can change.

    Filled as calling codes appear: loading one country's metadata takes up to 4 ms, all of it 100 ms (see
    `preload`).  At most 900 entries: three digits without a leading zero.
    """

    def __init__(self, home_calling_codes: tuple[str, ...]) -> None:
        self._home_calling_codes = home_calling_codes
        self._by_calling_code: dict[str, Matcher | None] = {}

    def __missing__(self, prefix: str) -> Matcher | None:
        calling_code = _find_calling_code(prefix)
        if calling_code not in self._by_calling_code:
            self._by_calling_code[calling_code] = _make_matcher(calling_code, calling_code in self._home_calling_codes)
        self[prefix] = matcher = self._by_calling_code[calling_code]
        return matcher


def _find_calling_code(prefix: str) -> str:
    """Return the calling code at the beginning of these three digits; no calling code begins with another."""
    codes = (prefix[:length] for length in (1, 2, 3))
    return next((code for code in codes if int(code) in COUNTRY_CODE_TO_REGION_CODE), "")


def _never(_: str) -> None:
    return None


def _make_matcher(calling_code: str, is_home: bool) -> Matcher | None:
    if not calling_code:
        return None
    # The first region is the main one: `phonenumbers` parses all its numbers with that one's metadata.
    region = COUNTRY_CODE_TO_REGION_CODE[int(calling_code)][0]
    plan = PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)
    if plan is None:
        return None
    conditions = _require_unstripped(calling_code, plan)
    if is_home:
        if len(COUNTRY_CODE_TO_REGION_CODE[int(calling_code)]) > 1:
            return _never  # valid in one of several countries (+1, +7, +44): only the long way can tell
        conditions += _write_validity(plan)
    return re.compile(calling_code + conditions).match if conditions else None


def _require_unstripped(calling_code: str, plan: PhoneMetadata) -> str:
    """Write a pattern for the national part: no rule removes anything from its beginning."""
    conditions = ""
    if plan.national_prefix_for_parsing:
        # The look-behind accepts a rule that matched no digit at all: Argentina's is optional in every part.
        conditions += rf"(?!(?:{plan.national_prefix_for_parsing})(?<!\A{calling_code}))"
    if calling_code == "52":
        conditions += r"(?!1[0-9]{10}\Z)"  # the abolished form, wherever home is
    return conditions


def _write_validity(plan: PhoneMetadata) -> str:
    """Write `phonenumbers.is_valid_number` of one country as a pattern for the national part."""
    # Mobile first: it is what most numbers are, and the order does not change the answer.
    kinds = (
        plan.mobile,
        plan.fixed_line,
        plan.toll_free,
        plan.premium_rate,
        plan.shared_cost,
        plan.voip,
        plan.personal_number,
        plan.pager,
        plan.uan,
        plan.voicemail,
    )
    numbers = "|".join(filter(None, map(_write_numbers, kinds)))
    return rf"(?={_write_numbers(plan.general_desc)}\Z)(?:{numbers})\Z"


def _write_numbers(kind: PhoneNumberDesc | None) -> str:
    if kind is None or not kind.national_number_pattern:
        return ""
    lengths = "|".join(rf"[0-9]{{{length}}}\Z" for length in kind.possible_length)  # none listed means any
    return f"(?={lengths})(?:{kind.national_number_pattern})"

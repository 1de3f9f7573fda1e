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
every number it changes nothing.  So `canonical` first asks a pattern made from the same metadata whether
*nothing can change*: the national part does not begin with the country's national prefix (or a rule like
Argentina's), and for a home country it is valid.  A file of ten million national numbers is read in the same
spirit (`_hinted`): a pattern says that the number is valid in the country that was named, another that the same
digits are valid in no country as they stand.  Only the rest goes to `read`, which is the definition; property
tests hold the ways together.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberDesc, PhoneNumberFormat

from oracle.identifiers.characters import screened
from oracle.identifiers.errors import BadIdentifier

HOME_COUNTRIES: Final = ("MX", "MM")  # until a deployment names its own: `set_home_countries`

DIGITS_MIN: Final = 7
DIGITS_MAX: Final = 15

Matcher = Callable[[str], object]

_international: Final = re.compile(r"\+?([1-9][0-9]{6,14})").fullmatch
_written: Final = re.compile(r"[0-9+ ().-]+").fullmatch
_SEPARATORS: Final = str.maketrans("", "", " ().-")
_home_calling_codes: tuple[str, ...] = ("52", "95")
_REWRITES_MAX: Final = 4  # one is the most ever seen; a cycle must not hang


def canonical(text: object, country: str | None = None) -> str:
    match = _international(text) if isinstance(text, str) else None
    if match and (not country or match[0][0] == "+"):
        digits = match[1]
        unchanged = _UNCHANGED[digits[:3]]
        if unchanged is None or unchanged(digits):
            return digits
    if country and isinstance(text, str):
        reading = _hinted(text, country)
        if reading:
            return reading
    return read(text, country)


def read(text: object, country: str | None = None) -> str:
    """Do what `canonical` promises, the long way."""
    written = screened(text, "MSISDN")
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
        return _with_hint(digits, country)
    if digits.startswith("0"):
        raise BadIdentifier("leading_zero" if has_plus else "national_without_country", "MSISDN")
    return _without_hint(digits)


def _without_hint(digits: str) -> str:
    if len(digits) < DIGITS_MIN:
        raise BadIdentifier("too_short", "MSISDN")
    if len(digits) > DIGITS_MAX:
        raise BadIdentifier("too_long", "MSISDN")
    valid = _valid_form(digits)
    if valid:
        return valid
    if digits.startswith(_home_calling_codes):
        raise BadIdentifier("invalid_for_country", "MSISDN")
    return digits


def _with_hint(digits: str, country: str) -> str:
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise BadIdentifier("unknown_country", "MSISDN")
    national = _national_reading(digits, country)
    international = _valid_form(digits)
    if national and international and national != international:
        raise BadIdentifier("ambiguous_national_or_international", "MSISDN")
    reading = national or international
    if not reading:
        # Without the hint the digits might pass by their form alone; with it they are more likely a slip.
        raise BadIdentifier("invalid_for_country", "MSISDN")
    return reading


def _hinted(digits: str, country: str) -> str | None:
    """What `read` makes of plain national digits, where patterns can tell; None where only the long way can."""
    plan = _national_plan(country)
    if plan is None or not _plain(digits):
        return None
    calling_code, trunk_prefix, is_valid, goes_abroad = plan
    if digits[0] == "0":
        if trunk_prefix != "0" or goes_abroad(digits):
            return None
        national = digits[1:]  # and with its 0 it can be no international number
    elif digits.startswith(calling_code) or not _is_nowhere_valid(digits):
        return None
    else:
        national = digits
    international = calling_code + national
    return international if len(international) <= DIGITS_MAX and is_valid(international) else None


_plain: Final = re.compile(r"0?[1-9][0-9]{4,13}").fullmatch


@cache
def _national_plan(country: str) -> tuple[str, str, Matcher, Matcher] | None:
    """Calling code, trunk prefix, patterns for what is valid as it stands and for what begins as a call abroad does; of
    a country that has its calling code to itself.
    """
    calling_code = str(phonenumbers.country_code_for_region(country))
    if COUNTRY_CODE_TO_REGION_CODE.get(int(calling_code)) != (country,):
        return None
    plan = PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), country)
    if plan is None:
        return None
    # A rule that does more than take the trunk prefix away is for the long way.
    trunk_prefix = "0" if plan.national_prefix == plan.national_prefix_for_parsing == "0" else ""
    is_valid = re.compile(calling_code + _unstripped(calling_code, plan) + _validity(plan)).match
    return calling_code, trunk_prefix, is_valid, re.compile(plan.international_prefix or "00").match


def _is_nowhere_valid(digits: str) -> bool:
    """Whether it is certain that these are not the digits of an international number."""
    pattern = _SOMEWHERE[digits[:3]]
    return pattern is None or not pattern(digits)


class _Somewhere(dict[str, Matcher | None]):
    """First three digits to a pattern of all that might be a valid number of their country; None: no calling code."""

    def __missing__(self, prefix: str) -> Matcher | None:
        self[prefix] = matcher = _possible(_calling_code(prefix))
        return matcher


_SOMEWHERE: Final = _Somewhere()


@cache
def _possible(calling_code: str) -> Matcher | None:
    if not calling_code:
        return None
    regions = COUNTRY_CODE_TO_REGION_CODE[int(calling_code)]
    plans = [PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region) for region in regions]
    if None in plans:
        return re.compile("").match
    # What a national prefix may be taken from is possible, whatever it looks like; so is an old Mexican number.
    rules = [plan.national_prefix_for_parsing for plan in plans if plan and plan.national_prefix_for_parsing]
    rules += [rf"{numbers}\Z" for plan in plans if plan and (numbers := _numbers(plan.general_desc))]
    rules += ["1"] if calling_code == "52" else []
    return re.compile(rf"{calling_code}(?:{'|'.join(rules)})").match


def _national_reading(digits: str, country: str) -> str | None:
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return None
    international = phonenumbers.format_number(number, PhoneNumberFormat.E164).removeprefix("+")
    # A Mexican number that lost its 52 and kept the abolished 1 counts too: it must not pass for +1 unseen.
    if phonenumbers.is_valid_number(number) or _is_old_mexican(international):
        return _valid_form(international)
    return None


def _valid_form(digits: str) -> str | None:
    """Give the number these international digits stand for, or None where that is no valid number."""
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
    """First three digits to a pattern that proves the rest of the way unnecessary; None where it always is.

    Filled as calling codes appear: loading one country's metadata takes up to 4 ms, all of it 100 ms (see
    `preload`).  Bounded by the 900 ways three digits can be without a leading zero.
    """

    def __missing__(self, prefix: str) -> Matcher | None:
        self[prefix] = matcher = _matcher(_calling_code(prefix))
        return matcher


_UNCHANGED: Final = _Unchanged()


def set_home_countries(countries: Iterable[str]) -> None:
    """Name the countries (ISO 3166 alpha-2) whose numbers must be valid; once, before the first number is read.

    The one thing in here that a deployment chooses.  What was canonical under other home countries stays so, or is
    refused: no choice changes the canonical form of a number.
    """
    global _home_calling_codes  # noqa: PLW0603 - see above
    codes = {phonenumbers.country_code_for_region(country) for country in countries}
    _home_calling_codes = tuple(str(code) for code in sorted(codes) if code)
    _UNCHANGED.clear()
    _matcher.cache_clear()


def preload() -> None:
    """Load the metadata of every country now, so that no lookup waits for it."""
    for prefix in range(100, 1000):
        _UNCHANGED[str(prefix)]


def _calling_code(prefix: str) -> str:
    """Find the calling code these three digits begin with; no calling code is the beginning of another."""
    codes = (prefix[:length] for length in (1, 2, 3))
    return next((code for code in codes if int(code) in COUNTRY_CODE_TO_REGION_CODE), "")


def _never(_: str) -> None:
    return None


@cache
def _matcher(calling_code: str) -> Matcher | None:
    if not calling_code:
        return None
    # The first region is the main one: `phonenumbers` parses all its numbers with that one's metadata.
    region = COUNTRY_CODE_TO_REGION_CODE[int(calling_code)][0]
    plan = PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)
    if plan is None:
        return None
    conditions = _unstripped(calling_code, plan)
    if calling_code in _home_calling_codes:
        if len(COUNTRY_CODE_TO_REGION_CODE[int(calling_code)]) > 1:
            return _never  # valid in one of several countries (+1, +7, +44): only the long way can tell
        conditions += _validity(plan)
    return re.compile(calling_code + conditions).match if conditions else None


def _unstripped(calling_code: str, plan: PhoneMetadata) -> str:
    """Of the national part: that no rule takes anything away from its beginning."""
    conditions = ""
    if plan.national_prefix_for_parsing:
        # The look-behind lets pass a rule that matched nothing at all: Argentina's is optional in every part.
        conditions += rf"(?!(?:{plan.national_prefix_for_parsing})(?<!\A{calling_code}))"
    if calling_code == "52":
        conditions += r"(?!1[0-9]{10}\Z)"  # the abolished form, wherever home is
    return conditions


def _validity(plan: PhoneMetadata) -> str:
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
    numbers = "|".join(filter(None, map(_numbers, kinds)))
    return rf"(?={_numbers(plan.general_desc)}\Z)(?:{numbers})\Z"


def _numbers(kind: PhoneNumberDesc | None) -> str:
    if kind is None or not kind.national_number_pattern:
        return ""
    lengths = "|".join(rf"[0-9]{{{length}}}\Z" for length in kind.possible_length)  # none listed means any
    return f"(?={lengths})(?:{kind.national_number_pattern})"

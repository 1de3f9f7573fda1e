"""MSISDN: a telephone number as an alias.

Grammar.  ITU-T E.164 international format, "optionally prefixed by a single plus sign" (FSPIOP API
Definition, table 103): `+?[1-9][0-9]{6,14}`.  Spaces, hyphens, dots and parentheses are dropped, except the dot of
a decimal number (4930123456.0): with its 0 the digits can be another telephone.  The digits
are all ASCII or all Burmese (with the letter ဝ for the zero that it looks like); nothing else is read.

Canonical form.  International digits without `+`.
* Home countries (Mexico and Myanmar by default): must be valid by the numbering plan that `phonenumbers`
  carries.  +52 1 was abolished in 2019-20 and `phonenumbers` stopped mapping it in 8.13.38, so `521` + 10 digits
  is mapped here.
* Elsewhere: what `phonenumbers` makes of it when the result is valid (a trunk 0 after the calling code
  goes, Argentina's 15 becomes 9, Italy's 0 stays), else the digits as they are.  Validity is not demanded:
  the scheme's own test data (123456789) would fail it.  A rewriting is repeated until it changes nothing, so
  that a canonical number is its own canonical form.

A national number without its country.  5588887777 is a telephone in Mexico City, and by its form alone also an
alias of +55, Brazil.  Stored as that, one telephone would have two owners.
* Everywhere: digits that are no valid international number but a national one of a home country are refused.
  1 and ten digits is no national number of Mexico: the abolished 1 was written after the 52 only.
* At the desk (a file, a command, the admin API), without `+` and without a country: digits that are a valid
  international number and also a national one of a home country, another party's, are refused as ambiguous.
  A hub sends the international form, so there they stay international.
* With a country, the digits are a national number of that country if they are valid as one: the country
  decides.  It cannot decide between two numbers of its own, or where the abolished form is also a number of
  +1: these are refused.  A default country does the same; if there is no such national number, the digits are
  read as if there were no country.
`msisdn_national` "accept" turns the first two rules off, for hubs that run with test numbers.

Two ways, one answer.  `phonenumbers` takes about 40 us a number, too much for every lookup, and for almost
every number it changes nothing.  So `canonicalise` first asks a pattern made from the same metadata whether
*nothing can change*: the national part does not begin with the country's national prefix (or a rule like
Argentina's); for a home country it is valid; for others there are more digits than a national number of a home
country has.  Shorter ones are compared with the national numbers of the home countries by one more pattern.
For home countries the first digits and the length are nearly always enough, by a dictionary (see `number_forms`): that
costs a sixth of the pattern.
`_read_national` reads a file of ten million national numbers in a similar way.  Only the rest goes to `read` and
`read_written`, which are the definition; property tests check that both ways give the same answer.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from typing import Final, NamedTuple, Self

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberDesc, PhoneNumberFormat
from phonenumbers.phonenumber import CountryCodeSource
from phonenumbers.re_util import enable_pattern_cache

from oracle.identifiers import beginnings
from oracle.identifiers.characters import LENGTH_MAX, describe_character, describe_other, screen
from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.number_forms import Form, UnknownPattern, find_certain, list_forms
from oracle.identifiers.scheme import DEFAULTS, Choices, Display, Matcher, PartyIdType, Read, Sample, Scheme

# All countries together have 2,050 patterns.  Those that Python keeps, 512, are compiled again and again for numbers of
# many countries: up to 15 ms a number.
enable_pattern_cache()

DIGITS_MIN: Final = 7
DIGITS_MAX: Final = 15
BEGINNING: Final = 5  # digits; with the calling code.  With 52 that is an area of Mexico.

_BURMESE_ZEROS: Final = "၀ဝ"  # the digit, and the letter that looks like it
_DIGITS: Final = "၁၂၃၄၅၆၇၈၉"
_international: Final = re.compile(r"\+?([1-9][0-9]{6,14})").fullmatch
# Digits that end in `.0` come from a program that took a number for a decimal: the 0 is no digit of it.
_decimal: Final = re.compile(r"[+]?[0-9]+[.]0{1,2}").fullmatch
_written: Final = re.compile(rf"(?![+]?[0-9]+[.]0{{1,2}}\Z)[0-9+ ().-]+|[{_BURMESE_ZEROS}{_DIGITS}+ ().-]+").fullmatch
_written_mixed: Final = re.compile(rf"[0-9{_BURMESE_ZEROS}{_DIGITS}+ ().-]+").fullmatch
_TO_COMPACT: Final = str.maketrans(_BURMESE_ZEROS + _DIGITS, "00123456789", " ().-")
_REWRITES_MAX: Final = 4  # no number needs more than one; a cycle must end

_WRITTEN: Final = f"0123456789{_BURMESE_ZEROS}{_DIGITS}+ ().-"
_beginning: Final = re.compile(r"[1-9][0-9]{0,14}").fullmatch


class Msisdn(Scheme):
    """Telephone numbers, where those of the home countries must be valid."""

    kind = "MSISDN"
    party_id_type = PartyIdType.MSISDN
    takes_country = True
    samples: tuple[Sample, ...] = (
        Sample("525512345678", currency="MXN"),
        Sample("09250000001", currency="MMK", country="MM"),
    )
    prefix_form = "1 to 15 digits, starting with the calling code; no 0 or 1 for national calls after it"
    ordinary: Matcher | None = re.compile(r"\+?[0-9]{7,15}").fullmatch
    formula_marks = "=-@"

    def __init__(self, choices: Choices = DEFAULTS) -> None:
        known = tuple(country for country in choices.home_countries if country in phonenumbers.SUPPORTED_REGIONS)
        self._home_calling_codes = tuple(sorted({str(phonenumbers.country_code_for_region(home)) for home in known}))
        self._refused_countries = () if choices.msisdn_national == "accept" else known
        self._unchanged = _Unchanged(self._home_calling_codes, self._refused_countries)
        self._certain = self._unchanged.certain
        self._unchanged_short = _Unchanged(self._home_calling_codes)
        self._unchanged_valid = _Unchanged(None)

    def with_choices(self, choices: Choices) -> Self:
        return type(self)(choices)

    def canonicalise(self, text: object) -> str:
        """Return the canonical form of a number as a hub sends it."""
        if not isinstance(text, str):
            return self.read(text)
        # Most lookups.  Text with a plus sign or letters begins like no entry, or is no digits.
        lengths = self._certain.get(text[:BEGINNING])
        if lengths is not None and lengths >> len(text) & 1 and text.isdigit() and text.isascii():
            return text
        match = _international(text)
        if match:
            digits = match[1]
            unchanged = self._unchanged[digits[:3]]
            if unchanged is None or unchanged(digits) or self._is_short_and_unchanged(digits):
                return digits
        compact = _compact(text)
        return self.read(text) if compact is text else self.canonicalise(compact)

    def _is_short_and_unchanged(self, digits: str) -> bool:
        """Whether nothing can change in digits that are as few as those of a national number at home."""
        is_national = _make_national_matcher(self._refused_countries)
        table = self._unchanged_valid if is_national(digits) else self._unchanged_short
        unchanged = table[digits[:3]]
        return bool(unchanged(digits)) if unchanged else table is self._unchanged_short

    def choose_written_reader(self, country: str | None = None, default_country: str | None = None) -> Read:
        named = country or default_country
        home_length_max = _find_longest(self._refused_countries)
        is_national_at_home = _make_national_matcher(self._refused_countries)

        def canonicalise_written(text: object) -> str:
            if isinstance(text, str):
                match = None if named else _international(text)
                if match and len(match[1]) > home_length_max:  # most rows of most files: not ambiguous
                    unchanged = self._unchanged[match[1][:3]]
                    if unchanged is not None and unchanged(match[1]):
                        return match[1]
                compact = _compact(text)
                if compact.startswith("+"):
                    return self.canonicalise(compact)
                found = _read_national(compact, named) if named else None
                if found:
                    return found
                is_international = not named or (not country and _is_too_long(compact, named))
                if is_international and _international(compact) and not is_national_at_home(compact):
                    return self.canonicalise(compact)
            return self.read_written(text, country, default_country)

        return canonicalise_written

    def read(self, text: object) -> str:
        """Return the same as `canonicalise`, by the long way: this is the definition."""
        digits, has_plus = _read_digits(text)
        return self._read_international(digits, has_plus)

    def read_written(self, text: object, country: str | None = None, default_country: str | None = None) -> str:
        """Return the same as a reader of `choose_written_reader`, by the long way: this is the definition."""
        digits, has_plus = _read_digits(text)
        if has_plus:
            return self._read_international(digits, has_plus)
        if country:
            return _read_in_country(digits, country)
        found = _read_as_national(digits, default_country) if default_country else None
        if found:
            return found
        international = self._read_international(digits, has_plus)
        readings = [_read_home_number(digits, home) for home in self._refused_countries]
        if _find_valid_form(digits) and any(reading and reading != international for reading in readings):
            raise BadIdentifier("ambiguous_national_or_international", "MSISDN")
        return international

    def _read_international(self, digits: str, has_plus: bool) -> str:
        if digits.startswith("00"):
            raise BadIdentifier("dialling_prefix", "MSISDN")
        if digits.startswith("0"):
            raise BadIdentifier("leading_zero" if has_plus else "national_without_country", "MSISDN")
        if len(digits) < DIGITS_MIN:
            raise BadIdentifier("too_short", "MSISDN")
        if len(digits) > DIGITS_MAX:
            raise BadIdentifier("too_long", "MSISDN")
        valid = _find_valid_form(digits)
        if valid:
            return valid
        if any(_read_home_number(digits, home) for home in self._refused_countries):
            raise BadIdentifier("national_without_country", "MSISDN")
        if digits.startswith(self._home_calling_codes):
            raise BadIdentifier("invalid_for_country", "MSISDN")
        return digits

    def describe_fault(self, text: str, reason: Reason, country: str = "") -> str:
        compact = text.translate(_TO_COMPACT)
        digits = compact.replace("+", "")
        count = f"{len(digits)} {'digit' if len(digits) == 1 else 'digits'}"
        match reason:
            case "forbidden_character":
                return describe_other(text, _WRITTEN, "a digit is needed")
            case "too_short" | "too_long":
                return f"it has {count}, and {DIGITS_MIN} to {DIGITS_MAX} are needed with the calling code"
            case "plus_misplaced":
                at = text.rindex("+")
                return describe_character(text, at, "it is allowed at the beginning only")
            case "national_without_country":
                return (
                    f"it has {count} and looks like a national number; write + and the calling code, or name its"
                    " country and write no +"
                )
            case "invalid_for_country":
                return _describe_invalid(digits, country if not compact.startswith("+") else "")
        return super().describe_fault(text, reason, country)

    def canonicalise_prefix(self, text: str) -> str:
        digits = screen(text, "MSISDN prefix").removeprefix("+").translate(_TO_COMPACT)
        if not _beginning(digits):
            reason: Reason = "leading_zero" if digits.startswith("0") else "bad_structure"
            raise BadIdentifier("dialling_prefix" if digits.startswith("00") else reason, "MSISDN prefix")
        calling_code = _find_calling_code(digits[:3])
        return beginnings.fold(digits, calling_code, is_home=calling_code in self._home_calling_codes)

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


def _compact(text: str) -> str:
    """Return a number without the characters between its digits, in ASCII digits.

    Any other text, and one that is compact already, is returned as the same object.
    """
    compact = text.translate(_TO_COMPACT) if len(text) <= LENGTH_MAX and _written(text) else text
    return text if compact == text else compact


def _read_digits(text: object) -> tuple[str, bool]:
    """Return the ASCII digits of a number, and whether it has a plus sign."""
    written = screen(text, "MSISDN")
    if written[:3].lower() == "tel":
        raise BadIdentifier("tel_prefix", "MSISDN")
    if _decimal(written):
        raise BadIdentifier("decimal_number", "MSISDN")
    if not _written(written):
        raise BadIdentifier("mixed_digit_scripts" if _written_mixed(written) else "forbidden_character", "MSISDN")
    compact = written.translate(_TO_COMPACT)
    has_plus = compact.startswith("+")
    digits = compact[has_plus:]
    if "+" in digits:
        raise BadIdentifier("plus_misplaced", "MSISDN")
    if not digits:
        raise BadIdentifier("empty", "MSISDN")
    return digits, has_plus


def _read_in_country(digits: str, country: str) -> str:
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise BadIdentifier("unknown_country", "MSISDN")
    found = _read_as_national(digits, country) or _find_valid_form(digits)
    if not found:
        # Without the country the digits might pass by their form alone; with it they are more likely a slip.
        raise BadIdentifier("invalid_for_country", "MSISDN")
    return found


def _describe_invalid(digits: str, country: str) -> str:
    """Compare the number of digits with what the country of a number has; `country` is '' for that of its calling code.

    The tables alone are read: to read ten million such numbers again would take minutes.
    """
    calling_code = str(phonenumbers.country_code_for_region(country)) if country else _find_calling_code(digits[:3])
    plan = _find_plan(calling_code)
    possible = plan.general_desc.possible_length if plan and plan.general_desc else ()
    if not plan or not possible or not plan.id.isalpha():  # 001: a calling code of no country
        return ""
    is_international = not country or (digits.startswith(calling_code) and len(digits) > max(possible))
    national = digits[len(calling_code) :] if is_international else digits
    if len(national) not in possible:
        needed = f"and numbers of {country or plan.id} have {_join([str(length) for length in possible])}"
        if is_international:
            return f"{len(national)} digits follow the calling code {calling_code}, {needed}"
        return f"it has {len(national)} digits, {needed}"
    return f"the number of digits is right, but no number of {country or plan.id} begins like this one"


def _join(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def _read_as_national(digits: str, country: str) -> str | None:
    """Read digits as they are dialled in a country; None if they are no number there.

    Raises BadIdentifier where the country does not decide which of two parties is meant.
    """
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return None
    written = _format_digits(number)
    # A Mexican number without its 52 but with the abolished 1 counts, too: it must not pass for a number of +1.
    is_old = _is_old_mexican(written)
    if not is_old and not phonenumbers.is_valid_number(number):
        return None
    national, international = _find_valid_form(written), _find_valid_form(digits)
    if national and international and national != international:
        calling_code = str(phonenumbers.country_code_for_region(country))
        if is_old or international.startswith(calling_code):
            raise BadIdentifier("ambiguous_in_country", "MSISDN")
    return national


def _read_home_number(digits: str, home: str) -> str | None:
    """Read digits as a national number without a prefix for calls abroad or a calling code; None if they are none."""
    try:
        number = phonenumbers.parse(digits, home, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return None
    is_national = number.country_code_source == CountryCodeSource.FROM_DEFAULT_COUNTRY
    return _format_digits(number) if is_national and phonenumbers.is_valid_number(number) else None


def _format_digits(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164).removeprefix("+")


def _read_national(digits: str, country: str) -> str | None:
    """Read plain national digits if patterns can decide; None if only the long way can."""
    plan = _load_national_plan(country)
    if plan is None or not _plain(digits):
        return None
    calling_code, length_max, trunk_prefix, is_valid, goes_abroad = plan
    if goes_abroad(digits):
        return None
    if digits.startswith(calling_code):
        return digits if len(digits) > length_max and is_valid(digits) else None
    national = digits
    if digits[0] == "0":
        if trunk_prefix != "0":
            return None
        national = digits[1:]
    international = calling_code + national
    return international if len(international) <= DIGITS_MAX and is_valid(international) else None


def _is_too_long(digits: str, country: str) -> bool:
    """Whether it is certain that these are more digits than a number has when it is dialled in the country."""
    plan = _load_national_plan(country)
    if plan is None or digits.startswith((plan.calling_code, "0")) or (country == "MX" and digits.startswith("1")):
        return False
    return len(digits) > plan.length_max and not plan.goes_abroad(digits)


_plain: Final = re.compile(r"0?[1-9][0-9]{4,13}").fullmatch


class _NationalPlan(NamedTuple):
    calling_code: str
    length_max: int  # of a national number without its trunk prefix
    trunk_prefix: str
    is_valid: Matcher  # of an international number of this country
    goes_abroad: Matcher  # the prefix for calls abroad


@cache
def _load_national_plan(country: str) -> _NationalPlan | None:
    """Return what the fast way needs of a country's plan.

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
    goes_abroad = re.compile(plan.international_prefix or "00").match
    return _NationalPlan(calling_code, _find_length_max(country), trunk_prefix, is_valid, goes_abroad)


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
        rewritten = _format_digits(number)
        if rewritten == digits:
            return digits
        digits = rewritten
    return None


def _is_old_mexican(digits: str) -> bool:
    return len(digits) == len("5215512345678") and digits.startswith("521")


class _Unchanged(dict[str, Matcher | None]):
    """By the first three digits: a pattern of numbers that nothing can change; None if no number can change.

    Numbers of `valid` calling codes must be valid; None means all calling codes.  Numbers of other calling codes must
    be too long to be a national number of the `longer_than` countries.

    Filled as calling codes appear: loading one country's metadata takes up to 4 ms, all of it 100 ms (see
    `preload`).  At most 900 entries: three digits without a leading zero.
    """

    def __init__(self, valid: tuple[str, ...] | None, longer_than: tuple[str, ...] = ()) -> None:
        self._valid = valid
        self._longer_than = longer_than
        self._by_calling_code: dict[str, Matcher | None] = {}
        # For valid numbers, where the first digits are enough: the lengths of those that nothing can change, as bits.
        self.certain: dict[str, int] = {}

    def __missing__(self, prefix: str) -> Matcher | None:
        calling_code = _find_calling_code(prefix)
        if calling_code not in self._by_calling_code:
            self._by_calling_code[calling_code] = self._make_matcher(calling_code)
        self[prefix] = matcher = self._by_calling_code[calling_code]
        return matcher

    def _make_matcher(self, calling_code: str) -> Matcher | None:
        is_valid_only = self._valid is None or calling_code in self._valid
        if is_valid_only:
            if self._valid is not None:  # all countries together have 19,000 beginnings
                self.certain.update(_find_certain_lengths(calling_code))
            return _make_valid_matcher(calling_code)
        length_min = _find_longest(self._longer_than) + 1
        conditions = f"(?=.{{{length_min}}})" if self._longer_than else ""
        conditions += _write_unchanged(calling_code)
        return re.compile(conditions).match if conditions else None


def _find_calling_code(prefix: str) -> str:
    """Return the calling code at the beginning of these three digits; no calling code begins with another."""
    codes = (prefix[:length] for length in (1, 2, 3))
    return next((code for code in codes if int(code) in COUNTRY_CODE_TO_REGION_CODE), "")


def _never(_: str) -> None:
    return None


def _make_valid_matcher(calling_code: str) -> Matcher:
    plan = _find_plan(calling_code)
    # Valid in one of several countries (+1, +7, +44): only the long way can tell.
    if plan is None or len(COUNTRY_CODE_TO_REGION_CODE[int(calling_code)]) > 1:
        return _never
    return re.compile(calling_code + _require_unstripped(calling_code, plan) + _write_validity(plan)).match


def _find_certain_lengths(calling_code: str) -> dict[str, int]:
    """Return beginnings of numbers that `_make_valid_matcher` matches, each with the lengths of these as bits."""
    plan = _find_plan(calling_code)
    if plan is None or len(COUNTRY_CODE_TO_REGION_CODE[int(calling_code)]) > 1:
        return {}
    if plan.national_prefix_for_parsing not in {None, "0"}:
        return {}
    digits = BEGINNING - len(calling_code)
    possible = find_certain(_list_number_forms(plan.general_desc), digits)
    of_kinds = find_certain(chain.from_iterable(map(_list_number_forms, beginnings.list_kinds(plan))), digits)
    allowed = sum(1 << length for length in range(DIGITS_MIN, DIGITS_MAX + 1))
    lengths = {
        calling_code + beginning: (possible.get(beginning, 0) & of_a_kind) << len(calling_code) & allowed
        for beginning, of_a_kind in of_kinds.items()
        if not (plan.national_prefix_for_parsing and beginning.startswith("0"))
    }
    return {beginning: bits for beginning, bits in lengths.items() if bits}


def _list_number_forms(kind: PhoneNumberDesc | None) -> list[Form]:
    """List the forms of what `_write_numbers` matches."""
    if kind is None or not kind.national_number_pattern:
        return []
    try:
        forms = list_forms(kind.national_number_pattern)
    except UnknownPattern:
        return []
    return [form for form in forms if not kind.possible_length or len(form) in kind.possible_length]


def _write_unchanged(calling_code: str) -> str:
    plan = _find_plan(calling_code)
    conditions = _require_unstripped(calling_code, plan) if plan else ""
    return calling_code + conditions if conditions else ""


def _find_plan(calling_code: str) -> PhoneMetadata | None:
    if not calling_code:
        return None
    # The first region is the main one: `phonenumbers` parses all its numbers with that one's metadata.
    region = COUNTRY_CODE_TO_REGION_CODE[int(calling_code)][0]
    return PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)


@cache
def _make_national_matcher(countries: tuple[str, ...]) -> Matcher:
    """Make a pattern of all digits without a leading 0 that might be a national number of one of these countries."""
    if not countries:
        return _never
    length_max = _find_longest(countries)
    numbers = "|".join(map(_write_national, countries))
    return re.compile(f"(?!.{{{length_max + 1}}})(?:{numbers})").match


def _write_national(country: str) -> str:
    plans, rules = _list_plans(country), _write_prefix(country)
    # A number with a national prefix is possible, whatever its other digits.
    return "|".join([*map(_write_validity, plans), *([rules] if rules else [])])


@cache
def _find_longest(countries: tuple[str, ...]) -> int:
    """Return the length of the longest national number of these countries; 0 without any."""
    return max(map(_find_length_max, countries), default=0)


def _find_length_max(country: str) -> int:
    """Return the length of the longest national number of a country, without a leading 0."""
    if _write_prefix(country):
        return DIGITS_MAX
    plans = (plan.general_desc for plan in _list_plans(country))
    return max(max(plan.possible_length, default=DIGITS_MAX) for plan in plans if plan)


def _list_plans(country: str) -> list[PhoneMetadata]:
    code = phonenumbers.country_code_for_region(country)
    plans = (PhoneMetadata.metadata_for_region_or_calling_code(code, it) for it in COUNTRY_CODE_TO_REGION_CODE[code])
    return [plan for plan in plans if plan]


def _write_prefix(country: str) -> str:
    """Write the rule that removes or rewrites the beginning of national numbers; '' if it concerns a 0 alone."""
    plan = PhoneMetadata.metadata_for_region(country)
    rule = plan.national_prefix_for_parsing if plan else None
    return "" if rule in {None, "0"} else rf"(?:{rule})(?<!\A)"


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
    numbers = "|".join(filter(None, map(_write_numbers, beginnings.list_kinds(plan))))
    return rf"(?={_write_numbers(plan.general_desc)}\Z)(?:{numbers})\Z"


def _write_numbers(kind: PhoneNumberDesc | None) -> str:
    if kind is None or not kind.national_number_pattern:
        return ""
    lengths = "|".join(rf"[0-9]{{{length}}}\Z" for length in kind.possible_length)  # none listed means any
    return f"(?={lengths})(?:{kind.national_number_pattern})"

"""The fast way and the definition give one answer, and a country never makes a guess."""

import random
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneNumberType

from oracle.identifiers import BadIdentifier, Reading, display, msisdn
from oracle.identifiers.msisdn import Msisdn
from oracle.identifiers.number_forms import UnknownPattern, list_forms
from oracle.identifiers.scheme import Choices

# Everything with which a national prefix or a rewriting rule of any country begins, and more.
BEGINNINGS = [
    "",
    "0",
    "00",
    "1",
    "8",
    "80",
    "06",
    "9",
    "15",
    "01",
    "0 11 15",
    "1115",
    "010",
    "180020",
    "0055",
    "1832",
]
CALLING_CODES = sorted(str(code) for code in COUNTRY_CODE_TO_REGION_CODE)

MSISDN = Msisdn()
ACCEPTING = Msisdn(Choices(msisdn_national="accept"))
canonicalise = Reading().canonicalise


def attempt(read: Callable[[str], str], text: str) -> str:
    try:
        return read(text)
    except BadIdentifier as refusal:
        return refusal.reason


def assert_one_answer_on_the_hub(text: str) -> None:
    assert attempt(MSISDN.canonicalise, text) == attempt(MSISDN.read, text)


def assert_one_answer(text: str) -> None:
    assert_one_answer_on_the_hub(text)
    assert attempt(MSISDN.choose_written_reader(), text) == attempt(MSISDN.read_written, text)


def assert_one_answer_in(country: str, text: str) -> None:
    for named in ((country, None), (None, country)):
        long_way = partial(MSISDN.read_written, country=named[0], default_country=named[1])
        assert attempt(MSISDN.choose_written_reader(*named), text) == attempt(long_way, text)


@settings(max_examples=80, deadline=None)
@given(
    plus=st.sampled_from(["", "+"]),
    calling_code=st.one_of(st.sampled_from(CALLING_CODES), st.sampled_from(["52", "95", "54", "55", "81", "1", "210"])),
    beginning=st.sampled_from(BEGINNINGS),
    rest=st.text("0123456789", max_size=12),
)
def test_fast_and_long_way_agree(plus: str, calling_code: str, beginning: str, rest: str) -> None:
    assert_one_answer(plus + calling_code + beginning + rest)


def list_national_numbers(country: str) -> list[str]:
    examples = (phonenumbers.example_number_for_type(country, kind) for kind in PhoneNumberType.values())
    return [phonenumbers.national_significant_number(example) for example in examples if example]


@settings(max_examples=80, deadline=None)
@given(
    country=st.one_of(
        st.sampled_from(["MX", "MM", "DE", "IL"]), st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS))
    ),
    beginning=st.sampled_from([*BEGINNINGS, "52", "95", "521"]),
    data=st.data(),
)
def test_fast_and_long_way_agree_on_national_numbers(country: str, beginning: str, data: st.DataObject) -> None:
    """Numbers near real ones of the country, up to three digits away, with every possible beginning."""
    national = data.draw(st.sampled_from(list_national_numbers(country) or ["5512345678"]))
    kept = data.draw(st.integers(0, len(national)))
    digits = beginning + national[:kept] + data.draw(st.text("0123456789", max_size=len(national) - kept + 1))
    assert_one_answer_in(country, digits)


@pytest.mark.parametrize(("country", "digits"), [("MX", "5512345678"), ("MM", "09420000111"), ("DE", "015112345678")])
def test_national_numbers_of_a_file_take_the_fast_way(country: str, digits: str) -> None:
    assert msisdn._read_national(digits, country) == MSISDN.read_written(digits, country)


def test_fast_and_long_way_agree_around_real_numbers_of_every_country(complete: bool) -> None:
    """An example of every kind in every region, after every beginning, and without its calling code.  A usual run takes
    a mobile number after every beginning, and each other number after one of them."""
    types = [PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, PhoneNumberType.TOLL_FREE]
    seen = 0
    for calling_code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            for number_type in types:
                number = (
                    phonenumbers.example_number_for_type(region, number_type)
                    if region != "001"
                    else phonenumbers.example_number_for_non_geo_entity(calling_code)
                )
                if number is None:
                    continue
                national = phonenumbers.national_significant_number(number)
                is_whole = complete or number_type == PhoneNumberType.MOBILE
                for beginning in BEGINNINGS if is_whole else random.sample(BEGINNINGS, 1):
                    assert_one_answer(f"{calling_code}{beginning.replace(' ', '')}{national}")
                    seen += 1
                assert_one_answer(national)
    assert seen > (11_000 if complete else 4_000)


@pytest.mark.parametrize("calling_code", ["52", "95"])
def test_fast_and_long_way_agree_on_the_whole_numbering_plan_of_a_home_country(
    calling_code: str, complete: bool
) -> None:
    """Each block of four digits, with numbers of each length.  A usual run takes one of each ten blocks, others each
    time: the fast way decides by the first three digits, calling code included."""
    tails = {"52": ["000000", "12345"], "95": ["00", "000", "0000", "00000", "000000"]}[calling_code]
    source = random.Random()
    seed = source.getrandbits(32)
    print("seed", seed)
    source.seed(seed)
    for ten in range(0, 10_000, 10):
        for block in range(ten, ten + 10) if complete else [ten + source.randrange(10)]:
            for tail in tails:
                assert_one_answer_on_the_hub(f"{calling_code}{block:04d}{tail}")


def test_a_certain_beginning_is_followed_by_valid_numbers_only() -> None:
    """In every country that can be at home.  The numbers go on with the same digit, or with any."""
    source = random.Random()
    seed = source.getrandbits(32)
    print("seed", seed)
    source.seed(seed)
    with_beginnings = 0
    for calling_code in CALLING_CODES:
        matches = msisdn._make_valid_matcher(calling_code)
        certain = msisdn._find_certain_lengths(calling_code)
        with_beginnings += bool(certain)
        for beginning, lengths in certain.items():
            for length in (length for length in range(20) if lengths >> length & 1):
                assert msisdn.DIGITS_MIN <= length <= msisdn.DIGITS_MAX
                tails = [digit * (length - len(beginning)) for digit in "09"]
                tails.append("".join(source.choices("0123456789", k=length - len(beginning))))
                for tail in tails:
                    assert matches(beginning + tail), (beginning, tail)
    assert with_beginnings > 100


def test_most_numbers_at_home_have_a_certain_beginning() -> None:
    """Else the dictionary would cost more than it saves."""
    MSISDN.preload()
    for text in ("525512345678", "528112345678", "959250000001", "959790000001"):
        assert MSISDN._certain[text[:5]] >> len(text) & 1


@pytest.mark.parametrize("text", ["52551234567\u0668", "52551234567\u00b2", "52551234567a", "52551 234567"])
def test_a_certain_beginning_does_not_excuse_other_characters(text: str) -> None:
    MSISDN.preload()
    assert MSISDN._certain[text[:5]] >> len(text) & 1
    assert_one_answer_on_the_hub(text)


@pytest.mark.parametrize(
    "pattern", ["1[3-5]", r"[13-58]\d{2}", "(?:1|2[0-9])3?", r"(?:(?:1|2)\d|[4-6]){2}", "7{2,4}", "", "1|22|3{3}"]
)
def test_the_forms_of_a_pattern_are_what_it_matches(pattern: str) -> None:
    texts = {"".join(text) for form in list_forms(pattern) for text in product(*form)}
    every = ("".join(digits) for length in range(5) for digits in product("0123456789", repeat=length))
    assert texts == {text for text in every if re.fullmatch(pattern, text)}


@pytest.mark.parametrize(
    "pattern", ["1+", "1*", "(1)", "[^1]", r"1\D", "1{2", "(?:1", "1)", "(?!1)2", "[1-]", "1.", "A"]
)
def test_other_patterns_have_no_forms(pattern: str) -> None:
    with pytest.raises(UnknownPattern):
        list_forms(pattern)


@settings(max_examples=80, deadline=None)
@given(text=st.from_regex(r"\+?[1-9][0-9]{5,15}", fullmatch=True))
def test_digits_outside_the_home_countries_are_never_refused_for_their_plan(text: str) -> None:
    digits = text.removeprefix("+")
    if 7 <= len(digits) <= 15 and not digits.startswith(("52", "95")):
        accepted = attempt(ACCEPTING.canonicalise, text)
        assert accepted.isdecimal()
        found = attempt(MSISDN.canonicalise, text)
        is_national = any(msisdn._read_home_number(digits, home) for home in ("MX", "MM"))
        is_refused = is_national and not msisdn._find_valid_form(digits)
        assert found == ("national_without_country" if is_refused else accepted)


def test_every_metadata_rule_is_known_to_the_fast_way() -> None:
    """Most numbers of most countries take it; Argentina's optional rule, too."""
    MSISDN.preload()
    for text in (
        "525512345678",
        "959250000001",
        "260971234567",
        "5491123456789",
        "447400123456",
        "390612345678",
        "6561234567",  # ten digits, and no Mexican number
    ):
        unchanged = MSISDN._unchanged[text[:3]]
        assert (unchanged and unchanged(text)) or MSISDN._is_short_and_unchanged(text)


@pytest.mark.parametrize("country", ["XX", "mx", "MEX", "001", "M", "525512345678"])
def test_an_unknown_country_is_refused(country: str) -> None:
    with pytest.raises(BadIdentifier) as refusal:
        canonicalise("MSISDN", "5512345678", country)
    assert refusal.value.reason == "unknown_country"


@pytest.mark.parametrize(
    ("text", "country", "reason"),
    [
        ("95235882", "MM", "ambiguous_in_country"),  # 09 95235882, or +95 235882: both are Myanmar's
        ("15512345678", "MX", "ambiguous_in_country"),  # +1 551, or 52 lost and 1 kept
        ("123456789", "MX", "invalid_for_country"),  # no reading is valid
        ("5215512345678", "XX", "unknown_country"),
    ],
)
def test_a_country_never_makes_a_guess(text: str, country: str, reason: str) -> None:
    with pytest.raises(BadIdentifier) as refusal:
        canonicalise("MSISDN", text, country)
    assert refusal.value.reason == reason


def test_both_readings_can_be_the_same_number() -> None:
    assert canonicalise("MSISDN", "5215512345678", "MX") == "525512345678"
    assert canonicalise("MSISDN", "525512345678", "MX") == "525512345678"
    assert canonicalise("MSISDN", "005215512345678", "MX") == "525512345678"
    assert canonicalise("MSISDN", "12001234567", "MX") == "522001234567"  # +1 200 does not exist


def test_a_number_is_displayed_in_international_format_or_unchanged() -> None:
    assert display("MSISDN", "525512345678").text == "+52 55 1234 5678"
    assert display("MSISDN", "959250000001").text == "+95 9 250 000 001"
    assert display("MSISDN", "123456789").text == "+123456789"
    assert display("MSISDN", "2100000000").text == "+2100000000"


def test_numbers_of_many_countries_compile_each_pattern_once() -> None:
    """Python keeps 512 compiled patterns; to compile one again can take 5 ms, in the time of other lookups."""
    numbers = [f"+{code}{rest}"[:15] for code in CALLING_CODES for rest in ("0404040", "15678904")]

    def read_all() -> None:
        for number in numbers:
            with suppress(BadIdentifier):
                MSISDN.read(number)

    read_all()
    for filling in range(600):
        re.compile(f"other {filling}")
    compiled = []
    compiler = re._compiler.compile  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(re._compiler, "compile", lambda *given: compiled.append(given) or compiler(*given))  # type: ignore[attr-defined, func-returns-value]
        read_all()
    assert not compiled

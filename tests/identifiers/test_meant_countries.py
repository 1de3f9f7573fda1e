"""No text is read as a number of another country than its writer can have meant, on any channel.

Random valid numbers of the home countries and of 20 others are written nationally and internationally, with noise.
ORACLE_TEST_NUMBERS=100000 tries more of them.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import phonenumbers
import pytest
from phonenumbers import PhoneMetadata, PhoneNumberFormat, PhoneNumberType

from oracle.identifiers import BadIdentifier, Reading
from oracle.imports.reading import Reader
from oracle.imports.rows import RowChecks

HOME = ("MX", "MM")
ABROAD = ("US CA BR FR JP PK SG TH LB ID IN DE GB CN PH ZM NG AR IT EG").split()  # noqa: SIM905 - reads better
COUNT = int(os.environ.get("ORACLE_TEST_NUMBERS", "1500"))
TYPES = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, PhoneNumberType.TOLL_FREE)
TO_BURMESE = str.maketrans("0123456789", "၀၁၂၃၄၅၆၇၈၉")

READING = Reading(HOME)


class Written(NamedTuple):
    """One number, and one way to write it."""

    country: str
    meant: str  # canonical
    form: str  # plus, bare, national, trunk
    text: str

    @property
    def digits(self) -> str:
        """The ASCII digits of the text alone."""
        return "".join(str(int(character)) for character in self.text if character.isdecimal())


def parse(digits: str, country: str | None = None) -> str | None:
    """Read by `phonenumbers` alone, as an international number or as one of a country; None for no valid number."""
    try:
        number = phonenumbers.parse(digits if country else "+" + digits, country)
    except phonenumbers.NumberParseException:
        return None
    return format_digits(number) if phonenumbers.is_valid_number(number) else None


def format_digits(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164).removeprefix("+")


def make_numbers(source: random.Random, count: int) -> Iterator[Written]:
    """Half of them are of a home country, so that each way to write them is tried there thousands of times."""
    examples = {
        country: [example for kind in TYPES if (example := phonenumbers.example_number_for_type(country, kind))]
        for country in (*HOME, *ABROAD)
    }
    made = 0
    while made < count:
        country = source.choice(HOME if source.random() < 0.5 else ABROAD)
        example = source.choice(examples[country])
        national = phonenumbers.national_significant_number(example)
        kept = source.randint(0, 4)
        national = national[:kept] + "".join(source.choices("0123456789", k=len(national) - kept))
        meant = parse(f"{example.country_code}{national}")
        if meant != f"{example.country_code}{national}" or parse(national, country) != meant:
            continue
        made += 1
        yield write(source, country, meant, national)


def write(source: random.Random, country: str, meant: str, national: str) -> Written:
    form = source.choice(("plus", "bare", "national", "trunk"))
    plan = PhoneMetadata.metadata_for_region(country)
    trunk = (plan.national_prefix if plan else None) or ""
    digits = {"plus": meant, "bare": meant, "national": national, "trunk": trunk + national}[form]
    if form == "trunk" and not trunk:
        form = "national"
    if source.random() < 0.2:
        digits = digits.translate(TO_BURMESE)
    if source.random() < 0.4:
        cut = source.randrange(1, len(digits))
        # A dot in front of a last 0 makes a decimal number, which is refused.
        separators = (" ", "-", ") ", " (") if digits[cut:] in ("0", "00") else (" ", "-", ".", ") ", " (")
        digits = digits[:cut] + source.choice(separators) + digits[cut:]
    return Written(country, meant, form, ("+" if form == "plus" else "") + digits)


def attempt(text: str, *, hub: bool = False, country: str | None = None, default: str | None = None) -> str | None:
    try:
        if hub:
            return READING.read_hub_key("MSISDN", text, None).identifier
        return READING.read_key("MSISDN", text, country=country, default_country=default).identifier
    except BadIdentifier:
        return None


def assert_canonical(found: str | None) -> None:
    if found is not None:
        assert attempt(found, hub=True) == attempt("+" + found, hub=True) == attempt("+" + found) == found


def check_hub(written: Written) -> str | None:
    found = attempt(written.text, hub=True)
    assert_canonical(found)
    if written.form in {"plus", "bare"}:
        assert found == written.meant
    elif written.country in HOME:
        assert found is None or found == parse(written.digits), "stored as a foreign number that does not exist"
    return found


def check_desk(written: Written) -> str | None:
    found = attempt(written.text)
    assert_canonical(found)
    if written.form == "plus":
        assert found == written.meant
    elif written.form == "bare" or written.country in HOME:
        assert found in {None, written.meant}
    return found


def check_country(written: Written, country: str, *, is_default: bool) -> str | None:
    found = attempt(written.text, default=country) if is_default else attempt(written.text, country=country)
    assert_canonical(found)
    if written.form == "plus":
        assert found == written.meant
    elif written.country == country:
        assert found in {None, written.meant}
    else:
        # The caller named another country than that of the number: its own numbers, or international ones.
        national, international = parse(written.digits, country), parse(written.digits)
        old_mexican = parse("52" + written.digits[1:]) if country == "MX" and written.digits[0] == "1" else None
        allowed = {None, national, international, old_mexican}
        assert found in allowed | ({attempt(written.text)} if is_default else set())
    return found


@pytest.fixture(scope="module")
def numbers() -> list[Written]:
    return list(make_numbers(random.Random(20261128), COUNT))


def test_no_number_is_read_as_one_that_its_writer_cannot_have_meant(numbers: list[Written]) -> None:
    source = random.Random(1)
    seen: Counter[tuple[str, str, bool]] = Counter()
    for written in numbers:
        other = source.choice((*HOME, *ABROAD))
        found = {
            "hub": check_hub(written),
            "desk": check_desk(written),
            "its country": check_country(written, written.country, is_default=False),
            "its default country": check_country(written, written.country, is_default=True),
            "another country": check_country(written, other, is_default=False),
            "another default country": check_country(written, other, is_default=True),
        }
        at_home = "home" if written.country in HOME else "abroad"
        seen.update((f"{channel}, {at_home}", written.form, read is not None) for channel, read in found.items())
    for (channel, form, is_read), count in sorted(seen.items()):
        print(f"{channel:32}{form:10}{'read' if is_read else 'refused':8}{count:7}")
    # Each way was tried, and a country makes national numbers readable.
    assert seen["hub, home", "plus", True] > COUNT // 20
    assert seen["desk, home", "national", False] > COUNT // 20
    assert seen["desk, home", "national", True] == 0
    assert seen["its country, home", "national", True] > seen["its country, home", "national", False] * 20


@pytest.mark.parametrize("default", [None, "MX", "MM", "FR"])
def test_a_file_reads_each_number_as_the_desk_does(numbers: list[Written], default: str | None) -> None:
    source = random.Random(2)
    countries = [source.choice(("", "", written.country, source.choice(ABROAD))) for written in numbers]
    lines = [f"MSISDN,{written.text},{country}" for written, country in zip(numbers, countries, strict=True)]
    reader = Reader(RowChecks(READING, default_country=default))
    data = "\n".join(["kind,identifier,country", *lines, ""]).encode()
    rows = [row for chunk in [*reader.feed(data), *reader.finish()] for row in chunk.rows]
    assert len(rows) == len(numbers)
    for row, written, country in zip(rows, numbers, countries, strict=True):
        found = attempt(written.text, country=country or None, default=default)
        assert row.identifier == (found or "")
        assert (row.code == "") == (found is not None)

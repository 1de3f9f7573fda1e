"""Prefixes of telephone numbers: a cut number is the beginning of its canonical form, or it is refused."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import Any

import phonenumbers
import pytest
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberType

from oracle.identifiers import BadIdentifier, Reading
from oracle.identifiers.beginnings import write_beginnings
from oracle.identifiers.errors import BadPrefix

READING = Reading()


def read_prefix(text: str) -> str:
    return READING.read_prefix("MSISDN", text).prefix


@pytest.mark.parametrize(
    ("written", "prefix"),
    [
        ("52155", "5255"), ("+52 1 55", "5255"), ("5215512345678", "525512345678"), ("9509", "959"),
        ("+95 (0)9", "959"), ("95-09-25", "95925"), ("44020", "4420"), ("+44 (0)20", "4420"), ("4930", "4930"),
        ("49030", "4930"), ("36061", "361"), ("11212", "1212"), ("3706", "3706"), ("37086", "3706"), ("8103", "813"),
        ("550800", "55800"), ("6600", "6600"),
        # These zeros, and these other digits, belong to the numbers.
        ("390", "390"), ("3902", "3902"), ("78", "78"), ("7812", "7812"), ("5491", "5491"), ("541115", "541115"),
        ("54011151", "549111"),
        # Of no length can these be the number of a home country that lacks its calling code.
        ("55", "55"), ("5588", "5588"), ("5588887777", "5588887777"),
        # Numbers abroad need not be valid, and some digits are no calling code.
        ("5", "5"), ("999", "999"), ("123", "123"), ("44999", "44999"),
    ],
)  # fmt: skip
def test_a_prefix_is_folded_as_the_numbers_are(written: str, prefix: str) -> None:
    assert read_prefix(written) == prefix


@pytest.mark.parametrize(
    ("written", "reason", "instead"),
    [
        ("521", "national_prefix", "52"), ("+52 (1)", "national_prefix", "52"), ("950", "national_prefix", "95"),
        ("440", "national_prefix", "44"), ("910", "national_prefix", "91"),
        ("360", "national_prefix", "36"), ("3606", "national_prefix", "36"),
        ("11", "national_prefix", "1"), ("54011", "national_prefix", "5411"), ("540111", "national_prefix", "54111"),
        ("5704", "national_prefix", "574"), ("5201", "begins_nothing", ""), ("52551234567890", "begins_nothing", ""),
        ("95099999999999", "begins_nothing", ""),
    ],
)  # fmt: skip
def test_a_prefix_that_can_never_answer_is_refused_with_how_it_is_written(
    written: str, reason: str, instead: str
) -> None:
    with pytest.raises(BadPrefix) as refused:
        read_prefix(written)
    assert (refused.value.reason, refused.value.written) == (reason, instead)
    if instead:
        assert read_prefix(instead) == instead


# With the national prefix that people write after the calling code.  Not Russia's 8: area codes begin with it, too.
COUNTRIES = {
    "MX": "1", "MM": "0", "GB": "0", "DE": "0", "FR": "0", "IT": "", "ES": "", "US": "1", "HU": "06", "AR": "0",
    "BR": "0", "CO": "", "IN": "0", "TH": "0", "JP": "0", "CN": "0", "ZA": "0", "NG": "0", "AU": "0", "PK": "0",
    "RU": "",
}  # fmt: skip
KINDS = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, PhoneNumberType.TOLL_FREE)


def make_number(rng: random.Random, country: str) -> str:
    """Make the national part of a valid number."""
    while True:
        example = phonenumbers.example_number_for_type(country, rng.choice(KINDS))
        if example is None:
            continue
        national = phonenumbers.national_significant_number(example)
        digits = rng.randrange(1, len(national))
        national = national[:-digits] + "".join(rng.choices("0123456789", k=digits))
        calling_code = phonenumbers.country_code_for_region(country)
        if phonenumbers.is_valid_number(phonenumbers.parse(f"+{calling_code}{national}")):
            return national


def test_what_begins_a_written_number_begins_its_canonical_form() -> None:
    rng = random.Random(11)
    accepted = refused = folded = 0
    for country, trunk_prefix in COUNTRIES.items():
        calling_code = phonenumbers.country_code_for_region(country)
        for _ in range(40):
            national = make_number(rng, country)
            for trunk in {"", trunk_prefix}:
                written = (
                    f"+{calling_code} ({trunk}) {national[:2]}-{national[2:]}"
                    if trunk
                    else f"+{calling_code}{national}"
                )
                if len(re.sub("[^0-9]", "", written)) > 15:
                    continue
                canonical = READING.canonicalise("MSISDN", written)
                for end in range(1, len(written)):
                    try:
                        prefix = read_prefix(written[:end])
                    except BadIdentifier:
                        refused += 1
                        # Only where it ends in the national prefix, or before any digit.
                        assert trunk or end <= len("+"), written[:end]
                        continue
                    accepted += 1
                    folded += not re.sub("[^0-9]", "", written[:end]).startswith(prefix)
                    assert canonical.startswith(prefix), (written, written[:end])
                    assert read_prefix(prefix) == prefix
    assert accepted > 10_000
    assert min(refused, folded) > 1_000


def test_every_beginning_of_a_match_is_matched_and_nothing_else() -> None:
    """Of patterns with each construction that the metadata uses, by trying all short texts."""
    texts = [""]
    for _ in range(5):
        texts += [text + digit for text in texts if len(text) == len(texts[-1]) for digit in "0123"]
    for pattern in (
        "0(?:1|2[13])?",
        "[01]{2}3|2\\d{1,2}",
        "(0|1(?:2|3)){2}",
        "0?(?:(12|3)0)?2",
        "(01{0,2}$)|2",
        "1(?:2{2}|[03])?",
    ):
        wholes = [text for text in texts if re.fullmatch(pattern, text)]
        beginnings = {whole[:end] for whole in wholes for end in range(len(whole) + 1)}
        found = {text for text in texts if re.fullmatch(write_beginnings(pattern), text)}
        longest = max(map(len, wholes))
        assert {text for text in found if len(text) <= longest} == beginnings, pattern


def test_the_metadata_uses_no_other_construction() -> None:
    patterns: set[str] = set()
    for code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            plan: Any = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
            kinds = (plan.general_desc, plan.mobile, plan.fixed_line, plan.toll_free, plan.uan)
            written = (plan.national_prefix_for_parsing, *(kind.national_number_pattern for kind in kinds if kind))
            patterns |= {pattern for pattern in written if pattern}
    assert len(patterns) > 400
    for pattern in patterns:
        rest = re.sub(r"\\d|\[[0-9-]+\]|\(\?:|\{[0-9]+(,[0-9]+)?\}", "", pattern)
        assert re.fullmatch(r"[0-9()|?$]*", rest), pattern
        assert all(a not in "({" or b != "?" for a, b in pairwise(rest)), pattern

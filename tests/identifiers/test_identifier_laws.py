"""Laws for every kind and every text."""

import json
import pickle
import re
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_identifier_vectors import KINDS_WITH_VECTORS, load_rows

from oracle.identifiers import KINDS, PARTY_ID_TYPES, SCHEMES, BadIdentifier, Reading, Scheme, display
from oracle.identifiers.characters import DESTROYED, LENGTH_MAX
from oracle.identifiers.errors import EXPLANATIONS
from oracle.identifiers.townships import SPELLINGS

READING = Reading()
canonicalise = READING.canonicalise

OPAQUE = ["ACCOUNT_ID", "BUSINESS", "DEVICE", "ALIAS", "PERSONAL_ID"]
STRICT = re.compile(r"[A-Z0-9-]+")

anything = st.text(st.characters(exclude_categories=()), max_size=140)
# Letters, digits and separators that the schemes know: these texts pass their first checks more often than `anything`.
familiar = st.text(
    st.sampled_from(
        "0123456789+-/\\()[] .@_NEPTYSCKAMOUnaingpyu၀၁၂၃၄၅၆၇၈၉ဝကမဥဉနိုင်ပြုစသာ\u1037\u1039\u0338\u212a\ufb2c\u1fef<=&"
    ),
    max_size=40,
)
accepted = st.sampled_from([json.loads(f'"{row["input"]}"') for name in KINDS_WITH_VECTORS for row in load_rows(name)])
nrcs = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["1", "13", "14", "15", "၁၂", "၁ဝ", "0"]),
        st.sampled_from(["/", "-", "", " / ", "\\"]),
        st.one_of(
            st.sampled_from(["OuKaMa", "NASANA", "MARANA", "191A14", "250019", "090019", "ဥကမ", "ဉကမ", "၀ကမ", "XX"]),
            st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=3, max_size=3).map("".join),
        ),
        st.sampled_from(["(", "-", "[", "", " "]),
        st.sampled_from(["N", "naing", "C", "e", "PYU", "နိုင်", "ပြု", "ႏိုင္", "V", ""]),
        st.sampled_from([")", "-", "]", "", " "]),
        st.sampled_from(["123456", "၀၀၀၁၂၃", "၁ဝဝ၄၅၆", "12၃456", "12345"]),
    ),
)
texts = st.one_of(anything, familiar, accepted, nrcs)
countries = st.one_of(
    st.none(), st.sampled_from(["MX", "MM", "AR", "IT", "US", "ZM", "", "mx", "XX", "001", "M\x00"]), anything
)
MESSAGES = {f"{kind}: {words}" for kind in [*KINDS, "identifier", "SubId"] for words in EXPLANATIONS.values()}


def attempt(kind: str, text: str, country: str | None = None) -> str | None:
    try:
        return canonicalise(kind, text, country)
    except BadIdentifier as refusal:
        caught = refusal
    assert str(caught) in MESSAGES  # a fixed sentence cannot contain the identifier
    assert caught.args == (caught.reason, caught.subject)
    assert caught.__context__ is None
    return None


@pytest.fixture(scope="module", autouse=True)
def _preload() -> None:
    READING.preload()


def assert_canonical(kind: str, found: str) -> None:
    """A canonical form is its own on the hub and at the desk; there a bare number can also be another country's."""
    assert READING.read_hub_key(PARTY_ID_TYPES[kind], found, None).identifier == found
    if kind == "MSISDN":
        assert canonicalise(kind, "+" + found) == found
        with suppress(BadIdentifier):
            assert canonicalise(kind, found) == found
    else:
        assert canonicalise(kind, found) == found


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=texts, country=countries)
@example(text="\ud800", country=None)
@example(text="\x00", country=None)
@example(text="\ufb2c" * 128, country=None)  # three times as long after normalisation
@example(text="<\u0338", country=None)
@example(text="\u1fef", country=None)
@example(text="7" * 1_000_000, country="MX")
def test_any_text_is_refused_or_becomes_one_lasting_spelling(kind: str, text: str, country: str | None) -> None:
    found = attempt(kind, text, country)
    if found is None:
        return
    assert_canonical(kind, found)
    assert 1 <= len(found) <= LENGTH_MAX
    assert DESTROYED.isdisjoint(found)
    assert not any(character.isspace() for character in found)
    assert unicodedata.is_normalized("NFC", found)
    if kind in {"MSISDN", "CLABE", "NRC", "IBAN"}:
        assert STRICT.fullmatch(found)
    assert display(kind, found).text


@pytest.mark.parametrize("scheme", SCHEMES, ids=KINDS)
@settings(max_examples=50, deadline=None)
@given(text=texts)
def test_a_canonical_form_is_canonical_under_the_type_the_hub_names(scheme: Scheme, text: str) -> None:
    found = attempt(scheme.kind, text)
    if found is not None:
        assert scheme.is_canonical(found)
        assert_canonical(scheme.party_id_type, found)


@pytest.mark.parametrize("kind", OPAQUE)
def test_a_text_that_clients_take_for_a_step_in_a_path_is_refused(kind: str) -> None:
    """Otherwise it could be registered, and then nobody could look it up or remove it."""
    assert [attempt(kind, text) for text in (".", "..", "...", ".a")] == [None, None, "...", ".a"]
    assert READING.read_prefix(kind, ".").prefix == "."


@settings(max_examples=60, deadline=None)
@given(text=texts, country=countries)
def test_an_nrc_has_the_same_key_under_both_names_and_other_text_is_opaque(text: str, country: str | None) -> None:
    person, nrc = attempt("PERSONAL_ID", text, country), attempt("NRC", text, country)
    if nrc is not None:
        assert person == nrc
    elif person is not None:
        assert person == canonicalise("ALIAS", text)


@settings(max_examples=50, deadline=None)
@given(digits=st.text("0123456789", min_size=18, max_size=18))
def test_an_accepted_clabe_has_its_check_digit_and_any_other_last_digit_is_refused(digits: str) -> None:
    right = (10 - sum(int(d) * w % 10 for d, w in zip(digits, [3, 7, 1] * 5 + [3, 7], strict=False)) % 10) % 10
    taken = [d for d in "0123456789" if attempt("CLABE", digits[:17] + d)]
    assert taken == ([] if digits.startswith("000") else [str(right)])


@settings(max_examples=50, deadline=None)
@given(text=accepted, position=st.integers(0, 33), digit=st.sampled_from("0123456789"))
def test_one_wrong_digit_never_makes_another_valid_iban(text: str, position: int, digit: str) -> None:
    iban = attempt("IBAN", text)
    if iban is None or position >= len(iban) or not iban[position].isdigit() or iban[position] == digit:
        return
    assert attempt("IBAN", iban[:position] + digit + iban[position + 1 :]) is None


def list_code_points(step: int, *, complete: bool) -> Iterable[int]:
    """Return every code point, or without `complete` only each 61st of those that no character has: the planes 4 to 13
    and what follows the tags of plane 14.  A law of the categories holds there for all or for none."""
    if complete:
        return range(0, sys.maxunicode + 1, step)
    return chain(
        range(0, 0x4_0000, step),
        range(0x4_0000, 0xE_0000, 61 * step),
        range(0xE_0000, 0xE_0200, step),
        range(0xE_0200, sys.maxunicode + 1, 61 * step),
    )


@pytest.mark.parametrize("plane", [*range(4, 14), 14, 15, 16])
def test_the_code_points_that_are_sampled_have_no_character(plane: int) -> None:
    begin = (plane << 16) + (0x200 if plane == 14 else 0)
    assert {unicodedata.category(chr(code_point)) for code_point in range(begin, (plane + 1) << 16)} <= {"Cn", "Co"}


# Five kinds share one rule, and PERSONAL_ID also reads NRCs.  With --complete one kind sees every code point, and the
# others see a part.
@pytest.mark.parametrize(("kind", "step"), [(k, {"ACCOUNT_ID": 1, "PERSONAL_ID": 5}.get(k, 31)) for k in OPAQUE])
def test_every_single_code_point_is_refused_or_kept_by_law(kind: str, step: int, complete: bool) -> None:
    step = step if complete else max(step, 3)
    refused_categories = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
    normalize, category = unicodedata.normalize, unicodedata.category
    kept = 0
    for code_point in list_code_points(step, complete=complete):
        character = chr(code_point)
        if character == ".":  # alone it is a step in a path
            continue
        try:
            found = canonicalise(kind, character)
        except BadIdentifier:
            composed = normalize("NFC", character)
            assert category(character) in refused_categories or not DESTROYED.isdisjoint(character + composed), hex(
                code_point
            )
            continue
        kept += 1
        if found != character:
            assert found == normalize("NFC", character)
            assert canonicalise(kind, found) == found
        assert DESTROYED.isdisjoint(found)
        assert category(character) not in refused_categories
    assert kept > 130_000 // step  # letters of all languages are accepted


@pytest.mark.parametrize("kind", ["MSISDN", "CLABE", "IBAN", "EMAIL"])
def test_no_single_odd_character_slips_into_a_number(kind: str, complete: bool) -> None:
    """Digits and letters of other scripts, some of which upper() or int() would change into ASCII."""
    valid = {
        "MSISDN": "525512345678",
        "CLABE": "646180110400000007",
        "IBAN": "GB82WEST12345698765432",
        "EMAIL": "a@b.mx",
    }[kind]
    accepted = []
    for code_point in list_code_points(7 if complete else 19, complete=complete):
        if code_point < 128:
            continue
        with suppress(BadIdentifier):  # pytest.raises would take most of the time
            canonicalise(kind, valid[:-1] + chr(code_point))
            accepted.append(hex(code_point))
    assert accepted == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [None, 7, b"525512345678", ["525512345678"], 5.2e11])
def test_a_value_that_is_not_text_is_refused(kind: str, text: str) -> None:
    for read in (READING.choose_reader(kind, None), READING.choose_reader(kind, None, None, "MX")):
        with pytest.raises(BadIdentifier) as refusal:
            read(text)
        assert refusal.value.reason == "not_text"


@pytest.mark.parametrize("kind", ["", "msisdn", "CONSENT", "525512345678"])
def test_an_unknown_kind_is_refused_without_being_named(kind: str) -> None:
    for call in (canonicalise, display):
        with pytest.raises(BadIdentifier) as refusal:
            call(kind, "525512345678")
        assert refusal.value.reason == "unknown_kind"
        assert "5255" not in str(refusal.value) + repr(refusal.value)


def test_a_refusal_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(BadIdentifier("bad_length", "CLABE")))  # noqa: S301 - our own bytes
    assert (again.reason, again.subject, str(again)) == (
        "bad_length",
        "CLABE",
        "CLABE: the number of characters is wrong",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ana.Perez+pago@Ejemplo.MX", "ana.perez+pago@ejemplo.mx"),
        ("a@b.co", "a@b.co"),
        ("ana%perez@ejemplo.mx", None),
        ("ana perez@ejemplo.mx", None),
        (" ana@ejemplo.mx", None),
        ("ana@ejemplo", None),
        ("añа@ejemplo.mx", None),
        ("ana@ejemplo.mx\n", None),
    ],
)
def test_an_e_mail_address_is_lower_case_or_refused(text: str, expected: str | None) -> None:
    assert attempt("EMAIL", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00012", "00012"),
        ("aB", "aB"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u212a", "K"),
        ("\u037e", ";"),
        ("\u1fef", None),  # becomes a backtick
        ("<\u0338", None),  # would become a letter of its own
        ("\u226e", "\u226e"),
        ("\ufb2c" * 43, None),  # 129 code points after normalisation
        ("\ufb2c" * 42, "\u05e9\u05bc\u05c1" * 42),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        ("a b", None),
        ("a\u00a0b", None),
        ("", None),
        *((f"a{destroyed}b", None) for destroyed in sorted(DESTROYED)),
    ],
)
def test_an_opaque_identifier_is_kept_in_form_c_or_refused(text: str, expected: str | None) -> None:
    for kind in OPAQUE:
        assert attempt(kind, text) == expected

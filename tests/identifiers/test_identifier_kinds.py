"""Kinds of identifiers as people name them, and their keys."""

import pytest

from oracle.identifiers import KINDS, PARTY_ID_TYPES, SCHEMES, BadIdentifier, PartyIdType, Reading, find_scheme

CLABE = "646180110400000007"
NRC = "12-250019-N-123456"

READING = Reading()
AWAY_FROM_MYANMAR = Reading(("MX",))
CLABE_ONLY = Reading(account_id_format="clabe")


def get_reason(kind: str, text: str, *, sub_id: str | None = None, country: str | None = None) -> str:
    with pytest.raises(BadIdentifier) as refusal:
        READING.read_key(kind, text, sub_id=sub_id, country=country)
    return refusal.value.reason


def test_the_kinds_are_the_types_of_the_hub_and_those_that_travel_under_them() -> None:
    assert set(KINDS) >= {*PartyIdType, "CLABE", "NRC"}
    assert len(KINDS) == len(set(KINDS)) == len(SCHEMES)
    for scheme in SCHEMES:
        assert scheme.is_plain == (scheme.kind in set(PartyIdType))
        assert scheme.kind in scheme.sub_ids or scheme.is_plain
        assert scheme.samples


def test_no_sub_id_names_two_kinds_of_one_type() -> None:
    named = [(scheme.party_id_type, sub_id) for scheme in SCHEMES for sub_id in scheme.sub_ids]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sub_id", [None, "shop"])
def test_the_hub_finds_a_registered_identifier(kind: str, sub_id: str | None) -> None:
    key = READING.read_key(kind.lower(), find_scheme(kind).samples[0].identifier, sub_id=sub_id)
    assert key == READING.read_hub_key(PARTY_ID_TYPES[kind], key.identifier, sub_id)
    assert key.sub_id == (sub_id or "")


def test_a_clabe_and_an_nrc_travel_under_the_types_of_the_hub() -> None:
    assert (
        READING.read_key("CLABE", CLABE)
        == READING.read_key("CLABE", CLABE, sub_id="CLABE")
        == ("ACCOUNT_ID", CLABE, "")
    )
    assert READING.read_key("NRC", "12/OUKAMA(N)123456") == ("PERSONAL_ID", NRC, "")


def test_a_clabe_with_a_sub_id_is_checked() -> None:
    wrong = CLABE[:-1] + "8"
    assert get_reason("CLABE", wrong) == get_reason("CLABE", wrong, sub_id="savings") == "bad_check_digit"
    assert get_reason("NRC", "MA123456", sub_id="card") == "bad_structure"


def test_away_from_myanmar_an_nrc_is_another_document() -> None:
    assert AWAY_FROM_MYANMAR.read_key("NRC", "123456-78-9") == ("PERSONAL_ID", "123456-78-9", "")


def test_a_country_lets_a_number_be_national() -> None:
    assert READING.read_key("MSISDN", "55 1234 5678", country="mx") == ("MSISDN", "525512345678", "")
    assert READING.read_key("MSISDN", "09 250 000 001", country="MM") == ("MSISDN", "959250000001", "")
    assert get_reason("MSISDN", "09250000001") == "national_without_country"
    assert get_reason("MSISDN", "09250000001", country="XX") == "unknown_country"
    assert get_reason("ALIAS", "@ana", country="XX") == "unknown_country"
    assert READING.read_key("ALIAS", "@ana", country="ZM").identifier == "@ana"


def test_an_unknown_kind_is_refused() -> None:
    assert get_reason("PHONE", "1") == get_reason("", "1") == "unknown_kind"
    assert get_reason("MSISDN", "525512345678", sub_id="") == "sub_id_empty"


def test_permission_is_by_kind_or_by_type() -> None:
    assert READING.is_permitted("CLABE", {"CLABE"})
    assert READING.is_permitted("CLABE", {"ACCOUNT_ID"})
    assert not READING.is_permitted("ACCOUNT_ID", {"CLABE"})
    assert CLABE_ONLY.is_permitted("ACCOUNT_ID", {"CLABE"})
    assert not READING.is_permitted("MSISDN", {"CLABE"})
    assert not READING.is_permitted("FAX", {"MSISDN"})


@pytest.mark.parametrize(
    ("kind", "text", "sub_id", "right", "wrong"),
    [
        ("NRC", "12/OUKAMA(N)123456", None, "MM", "ZM"),
        ("NRC", "12/OUKAMA(N)123456", "card", "MM", "MX"),
        ("PERSONAL_ID", "12-OUKAMA-N-123456", None, "MM", "ZM"),  # recognised without being named
        ("PERSONAL_ID", "12-OUKAMA-N-123456", "NATIONAL_REGISTRATION", "MM", "ZM"),
        ("CLABE", CLABE, None, "MX", "MM"),
        ("CLABE", CLABE, "savings", "MX", "US"),
        ("ACCOUNT_ID", CLABE, "CLABE", "MX", "MM"),
        ("IBAN", "DE89370400440532013000", None, "DE", "MX"),
        ("IBAN", "GB82WEST12345698765432", "x", "JE", "FR"),  # Jersey's accounts have the code of GB
    ],
)
def test_a_country_that_contradicts_the_kind_is_refused(
    kind: str, text: str, sub_id: str | None, right: str, wrong: str
) -> None:
    expected = READING.read_key(kind, text, sub_id=sub_id)
    assert READING.read_key(kind, text, sub_id=sub_id, country=right.lower()) == expected
    assert get_reason(kind, text, sub_id=sub_id, country=wrong) == "country_contradicts_kind"
    assert READING.read_key(kind, text, sub_id=sub_id, default_country=wrong) == expected


def test_a_country_says_nothing_about_other_kinds_and_must_exist() -> None:
    for kind, text in (("EMAIL", "a@b.mx"), ("ALIAS", "ana"), ("PERSONAL_ID", "MA1"), ("ACCOUNT_ID", CLABE)):
        assert READING.read_key(kind, text, country="ZM") == READING.read_key(kind, text)
        assert get_reason(kind, text, country="XX") == get_reason(kind, text, country="UK") == "unknown_country"
    assert get_reason("MSISDN", "+525512345678", country="XX") == "unknown_country"
    assert CLABE_ONLY.read_key("ACCOUNT_ID", CLABE, country="MX").identifier == CLABE
    with pytest.raises(BadIdentifier):
        CLABE_ONLY.read_key("ACCOUNT_ID", CLABE, country="MM")
    # Away from Myanmar, an NRC is any document of any country.
    assert AWAY_FROM_MYANMAR.read_key("NRC", "123456-78-9", country="ZM").identifier == "123456-78-9"


@pytest.mark.parametrize("state", ["1", "9", "14", "၁၄", "၁ဝ"])
@pytest.mark.parametrize(
    "rest", ["OUKAMA(N)654321", "oukama-n-654321", "250019-N-123456", "ဥကမ(နိုင်)၁၂၃၄၅၆", "ဥကမ[N]654321"]
)
def test_an_nrc_that_is_cut_at_its_slash_is_refused_by_both_voices(state: str, rest: str) -> None:
    for read in (READING.read_hub_key, lambda kind, text, sub_id: READING.read_key(kind, text, sub_id=sub_id)):
        with pytest.raises(BadIdentifier) as refusal:
            read("PERSONAL_ID", state, rest)
        assert refusal.value.reason == "cut_at_slash"
    assert AWAY_FROM_MYANMAR.read_hub_key("PERSONAL_ID", state, rest) == ("PERSONAL_ID", state, rest)
    assert READING.read_hub_key("ALIAS", state, rest).sub_id == rest


@pytest.mark.parametrize(
    ("text", "sub_id"),
    [
        ("12", "PASSPORT"),
        ("15", "OUKAMA(N)654321"),
        ("0", "OUKAMA(N)654321"),
        ("MA12", "OUKAMA(N)654321"),
        ("12", "A-B"),
        ("12", "x" * 128),
        ("12", "card-7"),
    ],
)
def test_any_other_sub_id_beside_a_number_is_part_of_the_key(text: str, sub_id: str) -> None:
    assert READING.read_hub_key("PERSONAL_ID", text, sub_id) == ("PERSONAL_ID", text, sub_id)


def test_accepting_national_numbers_turns_both_refusals_off() -> None:
    accepting = Reading(msisdn_national="accept")
    for text in ("5588887777", "+9250000012", "9512345678", "15512345678"):
        digits = text.removeprefix("+")
        assert accepting.read_key("MSISDN", text).identifier == digits
        assert accepting.read_hub_key("MSISDN", text, None).identifier == digits
    assert accepting.read_key("MSISDN", "5588887777", country="MX").identifier == "525588887777"
    with pytest.raises(BadIdentifier):
        accepting.read_key("MSISDN", "520000000000")  # home numbers must still be valid

"""What people call an identifier, and the key it gets."""

import pytest

from oracle.identifiers import BadIdentifier, PartyIdType, party_key
from oracle.identifiers.kinds import KINDS, PARTY_ID_TYPES, is_permitted, key_of_kind

CLABE = "646180110400000007"
NRC = "12-250019-N-123456"
SAMPLES = {
    "MSISDN": "+52 55 1234 5678",
    "EMAIL": "Ana@Example.com",
    "PERSONAL_ID": "MA123456",
    "BUSINESS": "shop-7",
    "DEVICE": "d:1",
    "ACCOUNT_ID": "000000356",
    "IBAN": "GB82 WEST 1234 5698 7654 32",
    "ALIAS": "@ana",
    "CLABE": "646 180 11040000000 7",
    "NRC": "12/OUKAMA(N)123456",
}


def reason(kind: str, text: str, *, sub_id: str | None = None, country: str | None = None, nrc: bool = True) -> str:
    with pytest.raises(BadIdentifier) as refusal:
        key_of_kind(kind, text, sub_id=sub_id, country=country, nrc=nrc)
    return refusal.value.reason


def test_the_kinds_are_the_types_of_the_hub_and_two_more() -> None:
    assert set(KINDS) == {*PartyIdType, "CLABE", "NRC"} == set(SAMPLES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sub_id", [None, "shop"])
def test_the_hub_finds_what_was_registered(kind: str, sub_id: str | None) -> None:
    key = key_of_kind(kind.lower(), SAMPLES[kind], sub_id=sub_id)
    assert key == party_key(PARTY_ID_TYPES[kind], key.identifier, sub_id, clabe_only=False, nrc=True)
    assert key.sub_id == (sub_id or "")


def test_a_clabe_and_an_nrc_travel_under_the_types_of_the_hub() -> None:
    assert key_of_kind("CLABE", CLABE) == key_of_kind("CLABE", CLABE, sub_id="CLABE") == ("ACCOUNT_ID", CLABE, "")
    assert key_of_kind("NRC", SAMPLES["NRC"]) == ("PERSONAL_ID", NRC, "")


def test_a_clabe_is_checked_beside_a_sub_id_too() -> None:
    wrong = CLABE[:-1] + "8"
    assert reason("CLABE", wrong) == reason("CLABE", wrong, sub_id="savings") == "bad_check_digit"
    assert reason("NRC", "MA123456", sub_id="card") == "bad_structure"


def test_away_from_myanmar_an_nrc_is_another_document() -> None:
    assert key_of_kind("NRC", "123456-78-9", nrc=False) == ("PERSONAL_ID", "123456-78-9", "")


def test_a_country_lets_a_number_be_national() -> None:
    assert key_of_kind("MSISDN", "55 1234 5678", country="mx") == ("MSISDN", "525512345678", "")
    assert key_of_kind("MSISDN", "09 250 000 001", country="MM") == ("MSISDN", "959250000001", "")
    assert reason("MSISDN", "09250000001") == "national_without_country"
    assert reason("MSISDN", "09250000001", country="XX") == "unknown_country"
    assert key_of_kind("ALIAS", "@ana", country="XX").identifier == "@ana"


def test_what_is_no_kind_is_refused() -> None:
    assert reason("PHONE", "1") == reason("", "1") == "unknown_kind"
    assert reason("MSISDN", "525512345678", sub_id="") == "sub_id_empty"


def test_permission_is_by_kind_or_by_type() -> None:
    assert is_permitted("CLABE", {"CLABE"})
    assert is_permitted("CLABE", {"ACCOUNT_ID"})
    assert not is_permitted("ACCOUNT_ID", {"CLABE"})
    assert is_permitted("ACCOUNT_ID", {"CLABE"}, clabe_only=True)
    assert not is_permitted("MSISDN", {"CLABE"})
    assert not is_permitted("FAX", {"MSISDN"})

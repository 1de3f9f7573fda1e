"""Equal parties share one key, and an answer can repeat the SubId exactly as it was sent."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_identifier_laws import anything, texts

from oracle.identifiers import BadIdentifier, PartyIdType, PartyKey, Reading, display
from oracle.identifiers.characters import DESTROYED

TYPES = ["MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"]
CLABE = "646180110400000007"
NRC = "12-250019-N-123456"

# By (every ACCOUNT_ID is a CLABE, Myanmar is a home country).
READINGS = {
    (clabe_only, nrc): Reading(("MX", "MM") if nrc else ("MX",), "clabe" if clabe_only else "any")
    for clabe_only in (False, True)
    for nrc in (False, True)
}
canonicalise = Reading().canonicalise

sub_ids = st.one_of(
    st.none(),
    st.sampled_from(["CLABE", "NRC", "NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", "PASSPORT", "clabe", "Tienda-7", ""]),
    anything,
)


def read_key(
    party_id_type: str, text: str, sub_id: str | None = None, *, clabe_only: bool = False, nrc: bool = True
) -> PartyKey:
    return READINGS[clabe_only, nrc].read_hub_key(party_id_type, text, sub_id)


def get_reason(
    party_id_type: str, text: str, sub_id: str | None = None, *, clabe_only: bool = False, nrc: bool = True
) -> str:
    with pytest.raises(BadIdentifier) as refusal:
        read_key(party_id_type, text, sub_id, clabe_only=clabe_only, nrc=nrc)
    return refusal.value.reason


def test_the_types_are_the_eight_of_the_hub() -> None:
    assert [str(member) for member in PartyIdType] == TYPES


@pytest.mark.parametrize("party_id_type", TYPES)
@settings(max_examples=80, deadline=None)
@given(text=texts, sub_id=sub_ids, clabe_only=st.booleans(), nrc=st.booleans())
def test_a_key_is_its_own_key(
    party_id_type: str, text: str, sub_id: str | None, *, clabe_only: bool, nrc: bool
) -> None:
    try:
        found = read_key(party_id_type, text, sub_id, clabe_only=clabe_only, nrc=nrc)
    except BadIdentifier:
        return
    assert found.party_id_type == party_id_type
    assert found.sub_id in {"", sub_id}
    assert DESTROYED.isdisjoint(found.identifier + found.sub_id)
    assert read_key(*found[:2], found.sub_id or None, clabe_only=clabe_only, nrc=nrc) == found
    if found.sub_id:
        # A SubId that names no kind does not change the identifier.
        assert read_key(party_id_type, text, None, clabe_only=clabe_only, nrc=nrc).identifier == found.identifier


@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_a_type_without_kinds_is_keyed_by_its_canonical_form(text: str) -> None:
    for party_id_type in ("MSISDN", "EMAIL", "BUSINESS", "DEVICE", "IBAN", "ALIAS"):
        try:
            identifier = canonicalise(party_id_type, text)
        except BadIdentifier as refusal:
            # On the hub, an ambiguous number is an international one.
            expected = None if refusal.reason == "ambiguous_national_or_international" else refusal.reason
            assert expected is None or get_reason(party_id_type, text) == expected
        else:
            assert read_key(party_id_type, text) == (party_id_type, identifier, "")


def test_a_plus_is_not_part_of_the_key() -> None:
    assert read_key("MSISDN", "+525512345678") == read_key("MSISDN", "5215512345678") == ("MSISDN", "525512345678", "")


def test_a_number_from_a_hub_has_no_country() -> None:
    assert get_reason("MSISDN", "09250000001") == "national_without_country"


@pytest.mark.parametrize("sub_id", ["NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", "NRC", None])
@pytest.mark.parametrize("text", [NRC, "12/OUKAMA(N)123456", "12OUKAMAN123456"])
def test_a_sub_id_that_names_the_nrc_is_folded(text: str, sub_id: str | None) -> None:
    assert read_key("PERSONAL_ID", text, sub_id) == ("PERSONAL_ID", NRC, "")


def test_under_sub_id_nrc_only_an_nrc_is_accepted() -> None:
    assert get_reason("PERSONAL_ID", "MA123456", "NRC") == "bad_structure"
    for sub_id in ("NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", None):
        assert read_key("PERSONAL_ID", "MA123456", sub_id) == ("PERSONAL_ID", "MA123456", "")


def test_a_passport_keeps_its_sub_id() -> None:
    assert read_key("PERSONAL_ID", "MA123456", "PASSPORT") == ("PERSONAL_ID", "MA123456", "PASSPORT")


def test_away_from_myanmar_every_personal_id_is_opaque() -> None:
    assert read_key("PERSONAL_ID", "123456-78-9", "NRC", nrc=False) == ("PERSONAL_ID", "123456-78-9", "")
    assert read_key("PERSONAL_ID", "13-NASANA-N-000123", nrc=False) == ("PERSONAL_ID", "13-NASANA-N-000123", "")
    assert read_key("PERSONAL_ID", "12-oukama-n-123456", nrc=False).identifier == "12-oukama-n-123456"


def test_an_account_is_a_clabe_only_if_a_sub_id_or_the_settings_say_so() -> None:
    wrong = CLABE[:-1] + "8"
    assert read_key("ACCOUNT_ID", CLABE, "CLABE") == read_key("ACCOUNT_ID", CLABE) == ("ACCOUNT_ID", CLABE, "")
    assert get_reason("ACCOUNT_ID", wrong, "CLABE") == "bad_check_digit"
    assert read_key("ACCOUNT_ID", wrong) == ("ACCOUNT_ID", wrong, "")
    assert get_reason("ACCOUNT_ID", wrong, clabe_only=True) == "bad_check_digit"
    assert get_reason("ACCOUNT_ID", wrong, "SAVINGS", clabe_only=True) == "bad_check_digit"
    assert read_key("ACCOUNT_ID", "646-180-11040000000-7", "SAVINGS", clabe_only=True) == (
        "ACCOUNT_ID",
        CLABE,
        "SAVINGS",
    )


@pytest.mark.parametrize(
    ("party_id_type", "text", "sub_id"),
    [
        ("ACCOUNT_ID", CLABE, "clabe"),
        ("ACCOUNT_ID", CLABE, "NRC"),
        ("PERSONAL_ID", NRC, "nrc"),
        ("PERSONAL_ID", NRC, "CLABE"),
        ("MSISDN", "525512345678", "CLABE"),
        ("ALIAS", "ana", "NRC"),
        ("BUSINESS", "acme", "Café"),
        ("IBAN", "GB82WEST12345698765432", "x"),
    ],
)
def test_any_other_sub_id_is_kept_as_sent(party_id_type: str, text: str, sub_id: str) -> None:
    assert read_key(party_id_type, text, sub_id).sub_id == sub_id


@pytest.mark.parametrize(
    ("sub_id", "expected"),
    [
        ("", "sub_id_empty"),
        ("x" * 129, "sub_id_too_long"),
        ("a b", "sub_id_forbidden_character"),
        ("a/b", "sub_id_forbidden_character"),
        ("{PartySubIdOrType}", "sub_id_forbidden_character"),
        ("a\x00", "sub_id_forbidden_character"),
        ("\ud800", "sub_id_forbidden_character"),
        ("\u200bNRC", "sub_id_forbidden_character"),
        ("Cafe\u0301", "sub_id_not_nfc"),
        (7, "sub_id_not_text"),
    ],
)
def test_a_sub_id_that_cannot_be_repeated_is_refused(sub_id: str, expected: str) -> None:
    for party_id_type, text in (
        ("MSISDN", "525512345678"),
        ("ALIAS", "ana"),
        ("ACCOUNT_ID", "1"),
        ("PERSONAL_ID", "MA1"),
    ):
        assert get_reason(party_id_type, text, sub_id) == expected


@pytest.mark.parametrize("party_id_type", ["", "CLABE", "NRC", "msisdn", "CONSENT"])
def test_a_hub_can_send_only_the_eight_types(party_id_type: str) -> None:
    assert get_reason(party_id_type, CLABE) == "unknown_kind"


@pytest.mark.parametrize("member", list(PartyIdType))
def test_a_key_holds_plain_text_also_for_an_enum_member(member: PartyIdType) -> None:
    text = {"MSISDN": "525512345678", "EMAIL": "a@b.mx", "IBAN": "GB82WEST12345698765432"}.get(member.value, "x1")
    found = read_key(member, text)
    assert found == read_key(member.value, text)
    assert type(found.party_id_type) is str


@pytest.mark.parametrize("text", ["12&", "12&amp;x", "12&#x2F;OUKAMA"])
def test_a_cut_or_escaped_identifier_is_refused(text: str) -> None:
    for party_id_type in TYPES:
        assert get_reason(party_id_type, text)


def test_people_see_groups_and_names() -> None:
    shown = display("CLABE", CLABE)
    assert (shown.text, shown.institution) == ("646 180 11040000000 7", "STP")
    assert display("CLABE", "349313962323709749").institution is None
    assert display("IBAN", "GB82WEST12345698765432").text == "GB82 WEST 1234 5698 7654 32"
    for kind in ("ACCOUNT_ID", "BUSINESS", "DEVICE", "ALIAS", "EMAIL"):
        assert display(kind, "x1").text == "x1"

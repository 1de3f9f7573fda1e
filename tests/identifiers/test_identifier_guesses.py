"""What kind of identifier a person has written, guessed from the spelling."""

from __future__ import annotations

import pytest

from oracle.identifiers import Reading, guess_kind, list_meanings

READING = Reading()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("+52 55 1234 5678", "MSISDN"),
        ("525512345678", "MSISDN"),
        ("+1", "MSISDN"),  # broken, and nothing else
        ("09 7912 34567", None),  # a national number
        ("356938035643809", None),  # a device, or a number of Malta
        ("032 180 00011835971 9", "CLABE"),
        ("032180000118359718", "CLABE"),
        ("03218000011835971", None),
        ("GB82 WEST 1234 5698 7654 32", "IBAN"),
        ("GB83WEST12345698765432", "IBAN"),
        ("ana@example.com", "EMAIL"),
        ("@ana", None),
        ("ana@bank", None),
        ("12/OUKAMA(N)123456", "NRC"),
        ("၁၂/ဥကမ(နိုင်)၁၂၃၄၅၆", "NRC"),
        ("12/OUKAMA(N)12345", "NRC"),
        ("12/XXXXX(N)123456", "NRC"),
        ("MA123456", None),
        ("tienda-7", None),
        ("", None),
        ("\0", None),
        ("x" * 10_000, None),
    ],
)
def test_a_kind_is_guessed_only_from_a_clear_spelling(text: str, kind: str | None) -> None:
    assert guess_kind(READING, text) == kind


def test_a_national_number_can_be_of_each_home_country() -> None:
    found = list_meanings(READING, "5512345678")
    assert [(each.kind, each.country) for each in found if each.kind == "MSISDN"] == [("MSISDN", "MX")]
    assert found[0].text == "+52 55 1234 5678"
    assert {each.kind for each in found} >= {"MSISDN", "ACCOUNT_ID", "DEVICE", "ALIAS"}


def test_each_meaning_is_read_as_such() -> None:
    for text in ("5512345678", "MA123456", "@ana", "12-250019-N-123456", "356938035643809"):
        for each in list_meanings(READING, text):
            assert READING.read_key(each.kind, text, country=each.country or None)


def test_a_kind_that_the_deployment_lacks_is_not_guessed() -> None:
    away = Reading(("MX",))
    assert guess_kind(away, "12/OUKAMA(N)123456") is None
    assert "NRC" not in {each.kind for each in list_meanings(away, "12-OUKAMA-N-123456")}


def test_nothing_that_is_empty_or_hostile_means_anything() -> None:
    for text in ("", "\0", "<script>", "a" * 129, "\u202eana"):
        assert list_meanings(READING, text) == []

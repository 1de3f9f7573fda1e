"""Prefixes are canonical like identifiers, and a prefix that no identifier can have is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.identifiers import BadIdentifier, Reading
from oracle.identifiers.prefix import bound_above, list_prefixes

READING = Reading()


@pytest.mark.parametrize(
    ("kind", "text", "prefix"),
    [
        ("CLABE", "002", "002"), ("CLABE", "646-180 15", "64618015"), ("MSISDN", "+52 (55)", "5255"),
        ("IBAN", "de89 37", "DE8937"), ("EMAIL", "Ann@Ex", "ann@ex"), ("ACCOUNT_ID", "012", "012"),
        ("PERSONAL_ID", "AB1", "AB1"), ("NRC", "12/", "12-"), ("NRC", "၁၂", "12-"), ("NRC", "12/OUKAMA", "12-250019-"),
        ("NRC", "၁၂/ဥကမ(နိုင်)", "12-250019-N-"), ("NRC", "12/OUKAMA(N)12", "12-250019-N-12"), ("NRC", "12-250019-n-1",
        "12-250019-N-1"),
    ],
)  # fmt: skip
def test_a_prefix_is_read_like_an_identifier(kind: str, text: str, prefix: str) -> None:
    party_id_type, _, read = READING.read_prefix(kind, text)
    assert read == prefix
    assert party_id_type == {"CLABE": "ACCOUNT_ID", "NRC": "PERSONAL_ID"}.get(kind, kind)
    assert READING.read_prefix(kind, prefix).prefix == prefix


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("CLABE", "64"), ("CLABE", "000"), ("CLABE", "1" * 18), ("CLABE", "٣٤٥"), ("CLABE", " "), ("MSISDN", "0"),
        ("MSISDN", "5" * 16), ("IBAN", "4X"), ("EMAIL", "a@b@"), ("NRC", "15/"), ("NRC", "12/OUKAMA(N)123456"),
        ("NRC", "("), ("ACCOUNT_ID", "a b"), ("ALIAS", "x" * 129), ("ALIAS", ""), ("CLABE", ""), ("SHOE", "1"),
    ],
)  # fmt: skip
def test_a_prefix_of_no_identifier_is_refused(kind: str, text: str) -> None:
    with pytest.raises(BadIdentifier):
        READING.read_prefix(kind, text)


def test_if_every_account_is_a_clabe_its_prefix_is_one_too() -> None:
    with pytest.raises(BadIdentifier):
        Reading(account_id_format="clabe").read_prefix("ACCOUNT_ID", "64")


@given(st.integers(1, 14), st.sampled_from(["OUKAMA", "ဥကမ"]), st.from_regex(r"\A[0-9]{6}\Z"), st.integers(0, 5))
def test_a_written_nrc_that_is_cut_is_the_beginning_of_its_canonical_form(
    state: int, township: str, number: str, digits: int
) -> None:
    written = f"{state}/{township}(N)"
    try:
        whole = READING.canonicalise("NRC", written + number)
    except BadIdentifier:
        return  # no such township in this state
    assert whole.startswith(READING.read_prefix("NRC", written + number[:digits]).prefix)
    assert whole.startswith(READING.read_prefix("NRC", f"{state}/{township}").prefix)


@given(st.text(max_size=200), st.sampled_from(["CLABE", "NRC", "MSISDN", "IBAN", "EMAIL", "ALIAS", "PERSONAL_ID"]))
def test_any_prefix_is_read_or_refused(text: str, kind: str) -> None:
    try:
        prefix = READING.read_prefix(kind, text).prefix
    except BadIdentifier:
        return
    assert 1 <= len(prefix) <= 128
    assert READING.read_prefix(kind, prefix).prefix == prefix


def test_the_bound_is_above_everything_that_begins_with_the_prefix() -> None:
    assert list_prefixes("646") == ["6", "64", "646"]
    begun = ["64", "640", "64\U0010fffd"]
    assert all("64" <= identifier < bound_above("64") < "65" for identifier in begun)

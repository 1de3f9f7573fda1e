"""The two lists of currency codes."""

import re

from oracle.identifiers import list_current_currencies, list_hub_currencies

# What the enum of the Account Lookup Service has and ISO 4217 has retired or never had.
ONLY_FROM_A_HUB = {
    *("ANG", "BGN", "CUC", "HRK", "MRO", "SLL", "STD", "VEF", "ZWD"),
    *("GGP", "IMP", "JEP", "SPL", "TVD"),
}


def test_people_can_write_the_codes_that_iso_4217_has_now() -> None:
    current = list_current_currencies()
    assert len(current) == 178
    assert all(re.fullmatch("[A-Z]{3}", code) for code in current)
    assert current >= {"MXN", "MMK", "USD", "EUR", "XTS", "XXX", "MXV", "UYW", "VED", "SLE", "MRU", "STN", "XCG", "ZWG"}
    assert not current & {*ONLY_FROM_A_HUB, "ZWL", "DEM", "CNH", "ZZZ", "MXX", "NAN", "NUL", ""}


def test_a_hub_can_also_send_what_als_lets_through() -> None:
    assert list_hub_currencies() - list_current_currencies() == ONLY_FROM_A_HUB
    assert len(list_hub_currencies()) == 192


def test_als_knows_no_code_of_the_last_years() -> None:
    """So the hub's list is not the enum of ALS alone: another hub sends them."""
    assert list_hub_currencies() >= {"SLE", "VED", "VES", "MRU", "STN", "XCG", "ZWG"}

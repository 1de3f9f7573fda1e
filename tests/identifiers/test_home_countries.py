"""A deployment chooses the countries whose numbers must be valid."""

import pytest

from oracle.identifiers import BadIdentifier, Reading


@pytest.mark.parametrize(
    ("home", "text", "accepted"),
    [
        (("MX", "MM"), "520000000000", False),
        (("ZM",), "520000000000", True),  # elsewhere only the form counts
        (("MX", "MM"), "2600000000", True),
        (("ZM",), "2600000000", False),
        (("ZM",), "260955123456", True),
        (("US",), "12015550123", True),  # a calling code that several countries share
        (("US",), "14165550123", True),
        (("US",), "10000000000", False),
    ],
)
def test_a_number_of_a_home_country_must_be_valid(home: tuple[str, ...], text: str, accepted: bool) -> None:
    reading = Reading(home)
    if accepted:
        assert reading.canonicalise("MSISDN", text) == text
    else:
        with pytest.raises(BadIdentifier):
            reading.canonicalise("MSISDN", text)


def test_the_abolished_mexican_prefix_is_mapped_with_any_home_country() -> None:
    assert Reading(("ZM",)).canonicalise("MSISDN", "5215512345678") == "525512345678"

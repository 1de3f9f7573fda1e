"""Which countries' numbers must be valid is the deployment's choice."""

from collections.abc import Iterator

import pytest

from oracle.identifiers import BadIdentifier, canonical, set_home_countries
from oracle.identifiers.msisdn import HOME_COUNTRIES


@pytest.fixture(autouse=True)
def _default_again() -> Iterator[None]:
    yield
    set_home_countries(HOME_COUNTRIES)


@pytest.mark.parametrize(
    ("home", "text", "accepted"),
    [
        (("MX", "MM"), "520000000000", False),
        (("ZM",), "520000000000", True),  # form alone, elsewhere
        (("MX", "MM"), "2600000000", True),
        (("ZM",), "2600000000", False),
        (("ZM",), "260955123456", True),
        (("US",), "12015550123", True),  # a calling code that several countries share
        (("US",), "14165550123", True),
        (("US",), "10000000000", False),
    ],
)
def test_a_number_of_a_home_country_must_be_valid(home: tuple[str, ...], text: str, accepted: bool) -> None:
    set_home_countries(home)
    if accepted:
        assert canonical("MSISDN", text) == text
    else:
        with pytest.raises(BadIdentifier):
            canonical("MSISDN", text)


def test_the_abolished_mexican_prefix_is_mapped_wherever_home_is() -> None:
    set_home_countries(("ZM",))
    assert canonical("MSISDN", "5215512345678") == "525512345678"

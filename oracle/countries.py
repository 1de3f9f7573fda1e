"""Country codes that people write, and the ISO 3166 codes that they mean."""

from __future__ import annotations

from typing import Final

# Of the European Union and of everyday use, of countries that have another name today, and of three letters.
_MEANT: Final = {
    "UK": "GB", "EN": "GB", "EL": "GR", "JA": "JP", "SP": "ES", "SW": "SE",
    "BU": "MM", "BUR": "MM", "MMR": "MM", "MYA": "MM", "SU": "RU", "TP": "TL", "YU": "RS", "ZR": "CD",
    "DEU": "DE", "ESP": "ES", "FRA": "FR", "GBR": "GB", "GRC": "GR", "IND": "IN", "KEN": "KE", "MEX": "MX",
    "THA": "TH", "TZA": "TZ", "UGA": "UG", "USA": "US", "ZAF": "ZA", "ZMB": "ZM",
}  # fmt: skip


def find_meant_country(code: str) -> str:
    """Return the code that a person means by one that does not exist; '' if that is not known."""
    return _MEANT.get(code.upper(), "")


def is_country(code: str) -> bool:
    """Return whether phone numbers can have this country, in capitals."""
    from phonenumbers import SUPPORTED_REGIONS  # noqa: PLC0415 - 25 ms, for the few who name a country

    return code in SUPPORTED_REGIONS


def explain_country(code: str) -> str:
    """Explain what to write in place of a code that does not exist."""
    meant = find_meant_country(code)
    return f"Write {meant}" if meant else "Write an ISO 3166 code of two letters, for example MX"

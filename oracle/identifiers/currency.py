"""Currency codes: those that people can write, and those that a hub can send.

People (files, commands, the admin API) write current codes of ISO 4217, among them XTS and XXX, its codes for tests and
for no currency.  A hub can also send every code that the Account Lookup Service lets through: that list has codes which
ISO 4217 has retired (HRK, SLL) or never had (GGP, TVD).  data/currencies.csv names its sources.

An alias that was stored with any other code can be read, changed and removed.
"""

import csv
from functools import cache

from oracle.identifiers.tables import open_table


@cache
def list_current_currencies() -> frozenset[str]:
    """Return the codes that people can write."""
    return frozenset(code for code, in_iso, _ in _read_table() if in_iso)


@cache
def list_hub_currencies() -> frozenset[str]:
    """Return the codes that a hub can send, all of the above among them."""
    return frozenset(code for code, in_iso, in_als in _read_table() if in_iso or in_als)


@cache
def _read_table() -> list[tuple[str, bool, bool]]:
    """Return code, whether ISO 4217 has it now, and whether ALS lets it through."""
    with open_table("currencies.csv") as table:
        rows = csv.DictReader(line for line in table if not line.startswith("#"))
        return [(row["code"], row["iso_4217"] == "yes", row["als"] == "yes") for row in rows]

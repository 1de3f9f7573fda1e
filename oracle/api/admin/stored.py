"""Finds the alias that a caller names, also one that was stored under older rules.

Today's rules can refuse such a key, or read it as another one.  A caller still reaches it, by the text that is stored.

asStored    The key is exactly what is written.
otherwise   Today's reading; but if the FSP holds a key that is exactly what is written, that one.  A text can also mean
            another alias of the FSP (`5588887777` and a Mexican number without its country): then the call is refused,
            so that nobody removes what they did not mean.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from litestar.params import QueryParameter
from msgspec import Meta

from oracle.api.admin.fsps import fetch_default_country
from oracle.api.admin.problems import Refusal
from oracle.identifiers import PARTY_ID_TYPES, BadIdentifier, PartyKey, Reading, find_scheme, make_stored_key
from oracle.store.postgres import Rows

IDENTIFIER_MAX: Final = 128  # characters; the directory stores no longer ones
_AS_STORED: Final = "true: search for the identifier exactly as written, for one that was stored under older rules"
AsStored = Annotated[bool, Meta(description=_AS_STORED)]
AsStoredQuery = Annotated[bool, QueryParameter(name="asStored", description=_AS_STORED)]
# What the table `aliases` can hold, by its constraints.
_STORABLE: Final = re.compile(r"""[^\s\x00-\x1f\x7f&<>"'/=?#%{}\\`]{1,128}""")
_STORABLE_MSISDN: Final = re.compile("[1-9][0-9]{6,14}")


def read_stored_key(kind: str, identifier: str, sub_id: str | None) -> PartyKey:
    """Return the key that is exactly what is written.

    Raises BadIdentifier for an unknown kind, and Refusal for an identifier of impossible length.
    """
    key = make_stored_key(kind, identifier, sub_id)
    if not 1 <= len(identifier) <= IDENTIFIER_MAX or len(sub_id or "") > IDENTIFIER_MAX:
        raise Refusal(
            400, "invalid", "No stored identifier has this length", "Use 1 to 128 characters", field="identifier"
        )
    return key


async def find_key(
    rows: Rows,
    reading: Reading,
    fsp_id: str,
    kind: str,
    identifier: str,
    *,
    sub_id: str | None,
    country: str | None,
    as_stored: bool = False,
) -> PartyKey:
    """Return the key of the alias of this FSP that the caller names; it need not exist.

    Raises BadIdentifier, and Refusal 409 for a text that means two aliases of the FSP.
    """
    if as_stored:
        return read_stored_key(kind, identifier, sub_id)
    default_country = await fetch_default_country(rows, fsp_id)
    read = _try_reading(reading, kind, identifier, sub_id, country, default_country)
    written = None if country else _read_written(reading, kind, identifier, sub_id)
    if written is not None and written != read:
        otherwise = _read_otherwise(reading, kind, identifier, sub_id, default_country)
        candidates = [written, *(otherwise - {written})]
        found = await rows("alias_entries", fsp_id, *zip(*candidates, strict=True))
        held = {candidates[row["ord"] - 1] for row in found}
        if written in held and len(held) > 1:
            raise Refusal(
                409, "ambiguous", "This text means two aliases of the FSP: one is stored exactly so, one is read so",
                "For the first, add asStored=true; for the second, write + and the calling code, or name the country",
                field="identifier",
            )  # fmt: skip
        if written in held:
            return written
    if isinstance(read, BadIdentifier):
        raise read
    return read


def _read_written(reading: Reading, kind: str, identifier: str, sub_id: str | None) -> PartyKey | None:
    """Return the key that is exactly what is written; None if the directory cannot hold it, or not as this kind."""
    party_id_type = PARTY_ID_TYPES.get(kind.upper())
    storable = _STORABLE_MSISDN if party_id_type == "MSISDN" else _STORABLE
    if party_id_type is None or not storable.fullmatch(identifier) or not (sub_id or "x").isprintable():
        return None
    key = make_stored_key(kind, identifier, sub_id)
    return key if kind.upper() in (party_id_type, reading.read_kind(key)) else None


def _read_otherwise(
    reading: Reading, kind: str, identifier: str, sub_id: str | None, default_country: str | None
) -> set[PartyKey]:
    """Return what the text can mean: by today's rules, and as a national form of each home country."""
    takes_country = find_scheme(kind.upper()).takes_country
    countries = (None, *reading.home_countries) if takes_country else (None,)
    read = (_try_reading(reading, kind, identifier, sub_id, country, default_country) for country in countries)
    return {key for key in read if isinstance(key, PartyKey)}


def _try_reading(
    reading: Reading, kind: str, identifier: str, sub_id: str | None, country: str | None, default_country: str | None
) -> PartyKey | BadIdentifier:
    try:
        return reading.read_key(kind, identifier, sub_id=sub_id, country=country, default_country=default_country)
    except BadIdentifier as exc:
        return exc

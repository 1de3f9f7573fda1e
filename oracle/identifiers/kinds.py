"""The kinds that people name in files, commands and the admin API, and the party key each one means.

A kind is a PartyIdType, or CLABE or NRC, which a hub carries as ACCOUNT_ID and PERSONAL_ID.  Whoever says CLABE wants
it checked as one, in every deployment and beside any SubId; what comes out is the key under which the hub asks.
"""

from collections.abc import Collection
from typing import Final

from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.key import PartyIdType, PartyKey, canonical, party_key

PARTY_ID_TYPES: Final[dict[str, str]] = {member.value: member.value for member in PartyIdType} | {
    "CLABE": "ACCOUNT_ID",
    "NRC": "PERSONAL_ID",
}
KINDS: Final = tuple(PARTY_ID_TYPES)


def key_of_kind(
    kind: str,
    identifier: str,
    *,
    sub_id: str | None = None,
    country: str | None = None,
    clabe_only: bool = False,
    nrc: bool = True,
) -> PartyKey:
    """Read what a person wrote, or raise BadIdentifier.

    `kind` in any case.  `country` (ISO 3166 alpha-2, in any case) lets an MSISDN be written in its national form; other
    kinds ignore it.  `clabe_only` and `nrc` are those of `party_key`; a CLABE is checked without `clabe_only`, too.
    """
    kind = kind.upper()
    party_id_type = PARTY_ID_TYPES.get(kind)
    if party_id_type is None:
        raise BadIdentifier("unknown_kind")
    if kind == "MSISDN":
        identifier = canonical(kind, identifier, country.upper() if country else None)
    elif kind == "CLABE" or (kind == "NRC" and nrc):
        identifier = canonical(kind, identifier)
    if sub_id is None and kind != party_id_type:
        sub_id = kind  # which party_key folds away
    return party_key(party_id_type, identifier, sub_id, clabe_only=clabe_only, nrc=nrc)


def is_permitted(kind: str, kinds: Collection[str], *, clabe_only: bool = False) -> bool:
    """Whether one who may register `kinds` may register this one: by its own name or by its PartyIdType."""
    if kind in kinds or PARTY_ID_TYPES.get(kind) in kinds:
        return True
    return clabe_only and kind == "ACCOUNT_ID" and "CLABE" in kinds

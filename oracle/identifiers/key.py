"""The key of a party, as a directory stores it and a hub asks for it: PartyIdType, identifier, SubId.

A hub's types are a closed list, so a CLABE travels as an ACCOUNT_ID and an NRC as a PERSONAL_ID, told apart
by the SubId or by what the deployment holds.  A SubId that only names such a kind is folded to '':
`PERSONAL_ID/x` and `PERSONAL_ID/x/NATIONAL_ID_CARD` are one party.  Any other SubId is part of the key
exactly as sent, case and all (see `opaque`).
"""

from enum import StrEnum
from typing import Final, NamedTuple

from oracle.identifiers import clabe, iban, mail, msisdn, nrc, opaque
from oracle.identifiers.errors import BadIdentifier


class PartyIdType(StrEnum):
    """FSPIOP API Definition 1.1 and the path enum of the Account Lookup Service."""

    MSISDN = "MSISDN"
    EMAIL = "EMAIL"
    PERSONAL_ID = "PERSONAL_ID"
    BUSINESS = "BUSINESS"
    DEVICE = "DEVICE"
    ACCOUNT_ID = "ACCOUNT_ID"
    IBAN = "IBAN"
    ALIAS = "ALIAS"


class PartyKey(NamedTuple):
    party_id_type: str
    identifier: str
    sub_id: str  # '' for none


NRC_SUB_IDS: Final = frozenset({"NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", "NRC"})

_PLAIN_NAMES: Final = {member.value: member.value for member in PartyIdType}  # so that a key holds no enum member


def party_key(party_id_type: str, text: str, sub_id: str | None, *, clabe_only: bool, nrc: bool) -> PartyKey:
    """Read an identifier as it comes over the hub's wire: in international form, without a country hint.

    `clabe_only`: every ACCOUNT_ID of this deployment is a CLABE.
    `nrc`: Myanmar is a home country, so a PERSONAL_ID may be an NRC.
    """
    if party_id_type == "MSISDN" and sub_id is None:  # most lookups
        return PartyKey("MSISDN", msisdn.canonical(text), "")
    if party_id_type == "ACCOUNT_ID":
        return _account_key(text, sub_id, clabe_only)
    if party_id_type == "PERSONAL_ID":
        return _personal_key(text, sub_id, nrc)
    name = _PLAIN_NAMES.get(party_id_type)
    if name is None:
        raise BadIdentifier("unknown_kind")
    return PartyKey(name, canonical(name, text), _kept(sub_id))


def _account_key(text: str, sub_id: str | None, clabe_only: bool) -> PartyKey:
    if sub_id == "CLABE":
        return PartyKey("ACCOUNT_ID", clabe.canonical(text), "")
    identifier = clabe.canonical(text) if clabe_only else opaque.canonical(text, "ACCOUNT_ID")
    return PartyKey("ACCOUNT_ID", identifier, _kept(sub_id))


def _personal_key(text: str, sub_id: str | None, nrc_known: bool) -> PartyKey:
    if not nrc_known:
        identifier = opaque.canonical(text, "PERSONAL_ID")
    elif sub_id == "NRC":
        identifier = nrc.canonical(text)
    else:
        identifier = _personal_id(text)
    return PartyKey("PERSONAL_ID", identifier, "" if sub_id in NRC_SUB_IDS else _kept(sub_id))


def _kept(sub_id: str | None) -> str:
    return "" if sub_id is None else opaque.check_sub_id(sub_id)


def _personal_id(text: str) -> str:
    # A broken NRC is refused, not kept as opaque: it could never be found by its right spelling.
    if nrc.is_canonical(text):
        return text
    return nrc.reading(text) or opaque.canonical(text, "PERSONAL_ID")


def canonical(kind: str, text: str, country: str | None = None) -> str:
    """Give the one spelling under which this identifier is stored and found, or raise BadIdentifier.

    `kind` is a PartyIdType, or CLABE or NRC.  `country` (ISO 3166 alpha-2) lets an MSISDN be written in its
    national form; other kinds need no hint and ignore it.
    """
    if kind == "MSISDN":
        return msisdn.canonical(text, country)
    if kind in _OPAQUE:
        return opaque.canonical(text, kind)
    scheme = _SCHEMES.get(kind)
    if scheme is None:
        raise BadIdentifier("unknown_kind")
    return scheme(text)


_OPAQUE: Final = frozenset({"ACCOUNT_ID", "BUSINESS", "DEVICE", "ALIAS"})
_SCHEMES: Final = {
    "CLABE": clabe.canonical,
    "EMAIL": mail.canonical,
    "IBAN": iban.canonical,
    "NRC": nrc.canonical,
    "PERSONAL_ID": _personal_id,
}

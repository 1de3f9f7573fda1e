"""Every kind of identifier: one line each.  To add a kind, write its file and add its line to SCHEMES.

The order is that of the import templates, the lists in messages and the published contract.
"""

from typing import TYPE_CHECKING, Final, Literal, cast

from oracle.identifiers.clabe import Clabe
from oracle.identifiers.email import Email
from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.iban import Iban
from oracle.identifiers.msisdn import Msisdn
from oracle.identifiers.nrc import Nrc
from oracle.identifiers.opaque import Opaque, describe_sub_id_fault
from oracle.identifiers.scheme import Display, PartyIdType, PartyKey, Sample, Scheme

SCHEMES: Final[tuple[Scheme, ...]] = (
    Msisdn(),
    Clabe(),
    Nrc(),
    Iban(),
    Opaque(PartyIdType.ACCOUNT_ID, Sample("000000356", "savings", "MXN", action="replace")),
    Email(),
    Opaque(PartyIdType.PERSONAL_ID, Sample("MA123456", "PASSPORT")),
    Opaque(PartyIdType.BUSINESS, Sample("tienda-7", currency="MXN")),
    Opaque(PartyIdType.DEVICE, Sample("356938035643809")),
    Opaque(PartyIdType.ALIAS, Sample("@ana", action="remove"), formula_marks="=+-"),
)

KINDS: Final = tuple(scheme.kind for scheme in SCHEMES)
PARTY_ID_TYPES: Final[dict[str, str]] = {scheme.kind: scheme.party_id_type.value for scheme in SCHEMES}

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[KINDS]  # for the published contract: an enum

_BY_KIND: Final = {scheme.kind: scheme for scheme in SCHEMES}


def list_examples() -> list[tuple[str, str]]:
    """Return each kind with an example of it."""
    return [(scheme.kind, scheme.samples[0].identifier) for scheme in SCHEMES]


def find_scheme(kind: str) -> Scheme:
    """Return the scheme of a kind.  Raises BadIdentifier for an unknown kind."""
    scheme = _BY_KIND.get(kind)
    if scheme is None:
        raise BadIdentifier("unknown_kind")
    return scheme


def make_stored_key(kind: str, text: str, sub_id: str | None) -> PartyKey:
    """Return the key that is exactly what is written: it can have been stored under older rules.

    `kind` in any case.  Raises BadIdentifier for an unknown kind.
    """
    return PartyKey(find_scheme(kind.upper()).party_id_type.value, text, sub_id or "")


def display(kind: str, canonical: str) -> Display:
    """Return an identifier as people write it.  Raises BadIdentifier only for an unknown kind."""
    scheme = find_scheme(kind)
    if scheme.is_plain:
        for narrower in _RECOGNISED.get(scheme.party_id_type, ()):
            if narrower.is_canonical(canonical):
                return narrower.display(canonical)
    return scheme.display(canonical)


def describe_fault(message: str, reason: str, text: str, sub_id: str = "", country: str = "") -> str:
    """Say what was found in a refused identifier and what is needed, for the person who wrote it.

    `message` and `reason` are those of the BadIdentifier, which name the rule alone; `country` in any case.
    """
    subject, found = message.partition(": ")[0], ""
    if reason.startswith("sub_id_"):
        found = describe_sub_id_fault(sub_id, cast("Reason", reason))
    elif subject in KINDS and text:
        found = find_scheme(subject).describe_fault(text, cast("Reason", reason), country.upper())
    return f"{subject}: {found}" if found else message


def _list_recognised() -> dict[str, list[Scheme]]:
    found: dict[str, list[Scheme]] = {}
    for scheme in SCHEMES:
        if scheme.is_recognised:
            found.setdefault(scheme.party_id_type, []).append(scheme)
    return found


_RECOGNISED: Final = _list_recognised()

"""Ready-made rules for identity providers that hubs use.  Each set is a list of rules; the first rule that fits wins.

keycloak     realm roles named for this service: oracle-operator, oracle-auditor, oracle-reader, oracle-checker and
             oracle-maker.  Only the last two are of an FSP: the claim `dfsp_id` names it.
hydra        `dfsp:ID` in `roles` is a maker of that FSP, a program whose client id is its subject is a maker of the FSP
             with this id, and `audit` in `roles` is an auditor.  Hydra puts claims below `ext` unless it is told to put
             them at the top.
thitsaworks  the roles of their portals: HUB-Admin, HUB-Manager, HUB-Operator, HUB-User, DFSP-Admin, DFSP-Operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from oracle.identity.identity import Role
from oracle.identity.rules import Rule

_REALM: Final = "realm_access.roles"
_DFSP: Final = "dfsp_id"


def _write_keycloak() -> list[Rule]:
    names = {
        "oracle-operator": Role.OPERATOR, "oracle-auditor": Role.AUDITOR, "oracle-checker": Role.CHECKER,
        "oracle-maker": Role.MAKER, "oracle-reader": Role.READER,
    }  # fmt: skip
    return [_write_rule(_REALM, name, role) for name, role in names.items()]


def _write_hydra() -> list[Rule]:
    places = ("roles", "ext.roles")
    return [
        *(Rule(place, Role.MAKER, pattern="^dfsp:(?P<fsp>.+)$") for place in places),
        Rule("sub", Role.MAKER, machine=True, fsp_from="sub"),
        *(Rule(place, Role.AUDITOR, has="audit") for place in places),
    ]


def _write_thitsaworks() -> list[Rule]:
    names = {
        "HUB-Admin": Role.OPERATOR, "HUB-Manager": Role.OPERATOR, "HUB-Operator": Role.OPERATOR,
        "HUB-User": Role.READER, "DFSP-Admin": Role.CHECKER, "DFSP-Operation": Role.MAKER,
    }  # fmt: skip
    return [_write_rule(place, name, role) for name, role in names.items() for place in (_REALM, "roles")]


def _write_rule(place: str, name: str, role: Role) -> Rule:
    return Rule(place, role, has=name, fsp_from=_DFSP if role in (Role.MAKER, Role.CHECKER) else None)


PRESETS: Final[dict[str, Sequence[Rule]]] = {
    "keycloak": _write_keycloak(),
    "hydra": _write_hydra(),
    "thitsaworks": _write_thitsaworks(),
}

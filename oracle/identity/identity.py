"""Who makes a call, whichever way they came in.

Roles.   The same five for every way in.  They are declared here, because the API is above this folder.
Actor.   What history records: the credential id of a key, `oidc:ALIAS:SUB`, or `gateway:USER`.  Never an e-mail.
Person.  The human behind an actor, if there is one and we know who: `oidc:ALIAS:SUB`.  Two identities with the same
         person are one person.  None: a machine, or nobody knows.
FSPs.    What the caller can act for.  None: every FSP.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, Literal

import msgspec

Way = Literal["key", "oidc", "gateway"]
_FSP_ID: Final = re.compile(r"(?!\.{1,2}\Z)[!-~]{1,32}")


class Role(StrEnum):
    OPERATOR = "operator"
    MAKER = "dfsp-maker"
    CHECKER = "dfsp-checker"
    AUDITOR = "auditor"
    READER = "reader"


class Identity(msgspec.Struct, frozen=True):
    actor: str
    role: Role
    fsp_ids: frozenset[str] | None
    way: Way
    person: str | None


def is_fsp_id(text: str) -> bool:
    """Whether an FSP can have this id.  `api.admin.forms` has the same rule as a pattern of the published contract."""
    return _FSP_ID.fullmatch(text) is not None

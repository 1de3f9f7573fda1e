"""Who makes a call, whichever way they came in.

Roles.   The same five for every way in.  They are declared here, because the API is above this folder.
Actor.   What history records: the credential id of a key, `oidc:ALIAS:SUB`, or `gateway:USER`.  Never an e-mail.
Person.  The human behind an actor, if there is one and we know who: `oidc:ALIAS:SUB`.  Two identities with the same
         person are one person.  None: a machine, or nobody knows.
FSPs.    What the caller can act for.  None: every FSP.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

Way = Literal["key", "oidc", "gateway"]


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

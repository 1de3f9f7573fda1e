"""The errors, named for the caller's next step.  They know neither HTTP nor FSPIOP.

    OracleError
    ├── BadRequest             correct the request
    │   ├── Malformed              a path, query, header or body that cannot be read
    │   ├── BadElement             an element that can be read but is not allowed
    │   ├── MissingElement         a required element is missing
    │   ├── TooManyElements        an element that is not expected, or too many of one
    │   └── TooLarge               a body over the limit
    ├── NoSuchResource         ask another URI
    ├── MethodNotAllowed       ask with another method
    ├── Refused                the request is valid, but the rules of the directory forbid it
    │   ├── PartyNotFound          nobody has registered the alias
    │   ├── AlreadyRegistered      another FSP holds the alias
    │   ├── NotOwner               only the FSP that holds the alias can change it
    │   │   └── ForeignRemoval             or remove it
    │   ├── AmbiguousRemoval       several entries match, and the request names none
    │   ├── UnknownFsp             the FSP cannot register (unknown, suspended or closed)
    │   │   └── TooManyUnknownFsps and no further unknown FSP can today
    │   ├── NotAllowed             the FSP cannot register this type or currency
    │   │   └── HubChangesOff              or change anything through the hub
    │   │       └── HubRemovalsOff             or remove it
    │   └── RouteOverlap           another route has this prefix at that time
    └── Unavailable            try again later
        ├── DirectoryUnavailable   PostgreSQL does not answer, or not in time
        ├── Overloaded             too many requests wait already
        └── OverBudget             the FSP has asked too much (`budgets`)

People at the caller's side read the messages.  A message never holds an identifier (personal data), and nothing of the
inside (SQL, addresses, class names).  `identifiers.BadIdentifier` is not among these: it is a ValueError, so that the
identifier rules can be used without the rest.
"""

from __future__ import annotations


class OracleError(Exception):
    """The root; `str(error)` is the sentence for the caller, 1 to 128 characters."""

    default = "Internal server error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default)


class BadRequest(OracleError):
    default = "The request is not valid"


class Malformed(BadRequest):
    default = "The request cannot be read"


class BadElement(BadRequest):
    default = "The request has an element that is not allowed"


class MissingElement(BadRequest):
    default = "The request lacks a required element"


class TooManyElements(BadRequest):
    default = "The request has an unexpected element"


class TooLarge(BadRequest):
    default = "The request is too large"


class NoSuchResource(OracleError):
    default = "Unknown URI"


class MethodNotAllowed(OracleError):
    default = "This method is not allowed for this URI"

    def __init__(self, message: str | None = None, *, allowed: str = "") -> None:
        super().__init__(message)
        self.allowed = allowed  # the methods that the URI has, as the header Allow names them


class Refused(OracleError):
    default = "The rules of the directory do not allow this"


class PartyNotFound(Refused):
    default = "Party not found"


class AlreadyRegistered(Refused):
    default = "Already registered by another FSP"


class NotOwner(Refused):
    default = "Only the FSP that holds this alias can change it"


class ForeignRemoval(NotOwner):
    default = "Only the FSP that holds this alias can remove it"


class AmbiguousRemoval(Refused):
    default = "Several entries match; name one with partySubIdOrType"


class UnknownFsp(Refused):
    default = "This FSP cannot register parties"


class TooManyUnknownFsps(UnknownFsp):
    default = "Too many unknown FSPs registered today: ask the operator of the oracle to create this FSP"


class NotAllowed(Refused):
    default = "This FSP cannot register this party type, or not in this currency"


class HubChangesOff(NotAllowed):
    default = "This FSP does not change its parties through the hub; change them in the administration of the oracle"


class HubRemovalsOff(HubChangesOff):
    default = "This FSP does not remove its parties through the hub; remove them in the administration of the oracle"


class RouteOverlap(Refused):
    default = "Another route has this prefix at that time"


class Unavailable(OracleError):
    default = "Try again later"


class DirectoryUnavailable(Unavailable):
    default = "The directory is not available; try again later"


class Overloaded(Unavailable):
    default = "Too many requests are waiting; try again later"


class OverBudget(Unavailable):
    default = "This FSP has asked about too many parties; ask fewer, and try again later"

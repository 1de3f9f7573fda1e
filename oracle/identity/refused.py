"""Why a token was not accepted.

Codes.   token_invalid     the token cannot be trusted or read: 401
         token_expired     it was good once: 401
         issuer_unknown    it names an issuer that is not configured: 401
         keys_unavailable  the keys of its issuer cannot be fetched now: 503
The message and the hint hold nothing of the token: nobody knows who wrote it.
"""

from __future__ import annotations

from typing import Final, Literal

RefusedCode = Literal["token_invalid", "token_expired", "issuer_unknown", "keys_unavailable"]

STATUSES: Final[dict[RefusedCode, int]] = {
    "token_invalid": 401,
    "token_expired": 401,
    "issuer_unknown": 401,
    "keys_unavailable": 503,
}
HINT: Final = "Get a new token from your identity provider, and send it unchanged"


class Refused(Exception):
    """A token that opens nothing."""

    def __init__(self, code: RefusedCode, message: str, hint: str = HINT) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def status(self) -> int:
        return STATUSES[self.code]

r"""The forms of texts in the admin API: each pattern, once, with the words that people read in its place.

Patterns end in `$(?!\n)` where a longer text would be stored: `$` alone lets a line break pass behind it.
No error shows a pattern: `problems` writes the words, and a test holds every pattern of the contract against this list.
"""

from __future__ import annotations

from typing import Final

# `.` and `..` are refused: in a path a client takes them for steps, and would ask for something else.
FSP_ID: Final = r"^(?!\.{1,2}$)[!-~]{1,32}$(?!\n)"
CURRENCY: Final = "^[A-Za-z]{3}$"
COUNTRY: Final = "^[A-Za-z]{2}$"
USE_CASE: Final = r"^[A-Za-z0-9._-]{1,64}$(?!\n)"
EMAIL: Final = r"^[^@\s]{1,64}@[^@\s]{1,255}$(?!\n)"
IDEMPOTENCY_KEY: Final = "^[!-~]{1,128}$"
# An actor who signs in with an identity provider, as history names them.
PERSON: Final = r"^oidc:[a-z0-9-]{1,32}:[!-~]{1,255}$(?!\n)"
# One line of text: history is exported as lines, and PostgreSQL keeps no NUL.
LINE: Final = r"^[^\u0000-\u001f\u007f]+$(?!\n)"

FORMS: Final[dict[str, str]] = {
    FSP_ID: "1 to 32 letters A to Z, digits or signs, without spaces",
    CURRENCY: "3 letters A to Z",
    COUNTRY: "2 letters A to Z",
    USE_CASE: "1 to 64 letters A to Z, digits, dots, hyphens or underscores",
    EMAIL: "an email address such as ana@example.com",
    IDEMPOTENCY_KEY: "1 to 128 letters A to Z, digits or signs, without spaces",
    PERSON: "oidc:ALIAS:SUB, with the alias of the issuer and the `sub` of its tokens",
    LINE: "one line of text",
}

"""What a token that was checked says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

_OF_KEYCLOAK: Final = "service-account-"
_OF_SCOPES: Final = ("scope", "scp")  # words with spaces between them (RFC 6749, section 3.3)


class Claims(msgspec.Struct, frozen=True):
    alias: str  # of its issuer
    subject: str
    client_id: str  # of the client that got the token; '' if the token does not say it
    values: Mapping[str, Any]

    @property
    def actor(self) -> str:
        return f"oidc:{self.alias}:{self.subject}"

    @property
    def is_machine(self) -> bool:
        """Whether the token is of a program in its own name."""
        return self.client_id != "" and self.subject == self.client_id

    @property
    def person(self) -> str | None:
        """Keycloak gives a program a subject of its own, and this name."""
        if self.is_machine or self.values.get("preferred_username") == f"{_OF_KEYCLOAK}{self.client_id.lower()}":
            return None
        return self.actor

    def texts(self, path: str | list[str]) -> Iterator[str]:
        """Read the words of a claim: a text, or those of a list.  Anything else has none."""
        names = path.split(".") if isinstance(path, str) else path
        value: Any = self.values
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str):
            yield from value.split() if names[-1] in _OF_SCOPES else (value,)
        elif isinstance(value, list):
            yield from (word for word in value if isinstance(word, str))

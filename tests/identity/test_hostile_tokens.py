"""Hostile tokens are refused, each with its code: the list is in tests/hostile_tokens.py."""

from __future__ import annotations

from typing import Any

import pytest
from hostile_tokens import HOSTILE, UNKNOWN
from issuer import issuing
from test_tokens import reading, refuse

from oracle.identity.refused import Refused


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_token_is_refused_with_its_code(name: str) -> None:
    code, make = HOSTILE[name]
    async with issuing() as issuer, reading(issuer) as tokens:
        token = make(issuer)
        assert await refuse(tokens, token) == code
        if code == UNKNOWN or name in ("kid is a number", "kid is a list", "kid is long"):
            assert issuer.requests == []  # nobody can make us call an issuer by what we know to be wrong
        assert "/attacker" not in issuer.requests


async def test_an_honest_token_is_accepted_where_the_hostile_ones_are_refused() -> None:
    """Otherwise the tests above could all fail for one reason that has nothing to do with the attack."""
    async with issuing() as issuer, reading(issuer) as tokens:
        assert (await tokens.read(issuer.issue(filler="x" * 9_000))).subject == "ana"


async def test_what_a_refusal_says_holds_nothing_of_the_token() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        for code, make in HOSTILE.values():
            with pytest.raises(Refused) as caught:
                await tokens.read(make(issuer))
            texts = f"{caught.value.message} {caught.value.hint}"
            assert caught.value.status == 401, code
            assert not any(word in texts for word in ("root", "evil", "ana", "account", "attacker", "dev/null"))


@pytest.mark.parametrize(
    ("code", "status"),
    [("token_invalid", 401), ("token_expired", 401), ("issuer_unknown", 401), ("keys_unavailable", 503)],
)
def test_each_code_has_its_status(code: Any, status: int) -> None:
    assert Refused(code, "").status == status

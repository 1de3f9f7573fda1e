"""Tokens of a real issuer over HTTP: which are accepted, and what they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from issuer import DISCOVERY, Issuer, issuing, make_key

from oracle.calls.calls import Calls
from oracle.identity.issuers import Issuer as Trusted
from oracle.identity.keys import KeyLimits
from oracle.identity.opening import ISSUER_CALLS
from oracle.identity.refused import Refused
from oracle.identity.tokens import Tokens
from oracle.telemetry.metrics import Metrics

METRICS: Final = Metrics.open(None, "test", 0)
JWKS: Final = "/jwks"


class Clock:
    """A clock that a test moves; it stands still else."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def reading(
    issuer: Issuer, *, clock: Clock | None = None, limits: KeyLimits | None = None, **members: Any
) -> AsyncIterator[Tokens]:
    trusted = Trusted("hub", issuer.url, **{"audience": issuer.audience, **members})
    calls = Calls(METRICS, ISSUER_CALLS)
    tokens = Tokens([trusted], calls, limits or KeyLimits(), key_clock=clock or time.monotonic)
    try:
        yield tokens
    finally:
        await tokens.close()
        await calls.close()


async def refuse(tokens: Tokens, token: str) -> str:
    with pytest.raises(Refused) as caught:
        await tokens.read(token)
    return caught.value.code


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"])
async def test_a_token_of_each_algorithm_is_accepted(algorithm: str) -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        issuer.keys = [make_key(algorithm)]
        claims = await tokens.read(issuer.issue())
        assert (claims.actor, claims.client_id, claims.is_machine) == ("oidc:hub:ana", "portal", False)
        assert claims.person == "oidc:hub:ana"


async def test_keys_are_fetched_once_for_many_tokens() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        token = issuer.issue()
        await asyncio.gather(*(tokens.read(token) for _ in range(20)))
        await tokens.read(token)
        assert issuer.requests == [DISCOVERY, JWKS]


async def test_keys_at_a_given_address_need_no_discovery() -> None:
    async with issuing() as issuer, reading(issuer, jwks=f"{issuer.url}/jwks") as tokens:
        await tokens.read(issuer.issue())
        assert issuer.requests == [JWKS]


async def test_a_new_key_is_found_at_once_but_only_once_in_30_seconds() -> None:
    clock = Clock()
    async with issuing() as issuer, reading(issuer, clock=clock) as tokens:
        await tokens.read(issuer.issue())
        issuer.keys = [make_key("RS256", "2"), *issuer.keys]
        await tokens.read(issuer.issue())
        assert issuer.requests.count(JWKS) == 2
        issuer.keys = [make_key("RS256", "3"), *issuer.keys]
        clock.now += 29
        assert await refuse(tokens, issuer.issue()) == "token_invalid"
        assert issuer.requests.count(JWKS) == 2
        clock.now += 1
        await tokens.read(issuer.issue())
        assert issuer.requests.count(JWKS) == 3


async def test_unknown_key_ids_make_one_request_in_30_seconds() -> None:
    clock = Clock()
    async with issuing() as issuer, reading(issuer, clock=clock) as tokens:
        await tokens.read(issuer.issue())
        for number in range(50):
            assert await refuse(tokens, issuer.issue(header={"kid": f"unknown {number}"})) == "token_invalid"
        assert issuer.requests.count(JWKS) == 2


async def test_a_withdrawn_key_opens_nothing_after_5_minutes() -> None:
    clock = Clock()
    async with issuing() as issuer, reading(issuer, clock=clock) as tokens:
        old = issuer.issue()
        await tokens.read(old)
        issuer.keys = [make_key("RS256", "2")]
        clock.now += 300
        assert await refuse(tokens, old) == "token_invalid"


async def test_an_issuer_without_keys_opens_nothing() -> None:
    clock = Clock()
    async with issuing() as issuer, reading(issuer, clock=clock) as tokens:
        old = issuer.issue()
        await tokens.read(old)
        issuer.keys.clear()
        clock.now += 300
        assert await refuse(tokens, old) == "token_invalid"


async def test_the_last_keys_are_kept_for_24_hours_while_the_issuer_is_away() -> None:
    clock = Clock()
    async with issuing() as issuer, reading(issuer, clock=clock) as tokens:
        token = issuer.issue()
        await tokens.read(token)
        await issuer.stop()
        clock.now += 86_399
        await tokens.read(token)
        assert await refuse(tokens, issuer.issue(header={"kid": "2"})) == "keys_unavailable"
        clock.now += 1
        assert await refuse(tokens, token) == "keys_unavailable"
        await issuer.start(issuer.port)
        clock.now += 5
        await tokens.read(token)


async def test_no_token_waits_for_an_issuer_that_was_away_a_moment_ago() -> None:
    clock = Clock()
    async with issuing() as issuer, reading(issuer, clock=clock) as tokens:
        token = issuer.issue()
        await tokens.read(token)
        issuer.status = 503
        clock.now += 300
        await tokens.read(token)
        issuer.holding = asyncio.Event()  # from now on it does not answer at all
        clock.now += 300
        await asyncio.wait_for(tokens.read(token), 60)
        issuer.holding.set()


async def test_a_caller_that_gives_up_stops_no_fetch_of_others() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        issuer.holding = asyncio.Event()
        token = issuer.issue()
        first, second = (asyncio.create_task(tokens.read(token)) for _ in range(2))
        await issuer.asked.wait()
        first.cancel()
        issuer.holding.set()
        assert (await second).subject == "ana"
        assert issuer.requests == [DISCOVERY, JWKS]


def _break_status(issuer: Issuer) -> None:
    issuer.status = 500


def _redirect(issuer: Issuer) -> None:
    issuer.status = 302


def _name_another_issuer(issuer: Issuer) -> None:
    issuer.documents[DISCOVERY] = {**issuer.describe_itself(), "issuer": "https://evil.example"}


def _leave_https(issuer: Issuer) -> None:
    issuer.documents[DISCOVERY] = {**issuer.describe_itself(), "jwks_uri": "file:///etc/passwd"}


def _leave_out_the_address(issuer: Issuer) -> None:
    issuer.documents[DISCOVERY] = {"issuer": issuer.url}


def _answer_nonsense(issuer: Issuer) -> None:
    issuer.documents[JWKS] = b"<html>"


def _answer_a_list(issuer: Issuer) -> None:
    issuer.documents[JWKS] = [key.publish() for key in issuer.keys]


def _answer_too_much(issuer: Issuer) -> None:
    issuer.documents[JWKS] = b'{"keys": [' + b" " * 600_000 + b"]}"


def _list_too_many(issuer: Issuer) -> None:
    issuer.documents[JWKS] = {"keys": [key.publish() for key in issuer.keys] * 101}


def _name_a_member_twice(issuer: Issuer) -> None:
    issuer.documents[JWKS] = b'{"keys": [], "keys": []}'


@pytest.mark.parametrize(
    "spoil",
    [
        _break_status, _redirect, _name_another_issuer, _leave_https, _leave_out_the_address, _answer_nonsense,
        _answer_a_list, _answer_too_much, _list_too_many, _name_a_member_twice,
    ],
)  # fmt: skip
async def test_an_issuer_whose_keys_cannot_be_used_is_503(spoil: Callable[[Issuer], None]) -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        spoil(issuer)
        assert await refuse(tokens, issuer.issue()) == "keys_unavailable"


async def test_an_issuer_that_does_not_answer_in_time_is_503() -> None:
    async with issuing() as issuer, reading(issuer, limits=KeyLimits(fetch_s=0.05)) as tokens:
        issuer.holding = asyncio.Event()
        assert await refuse(tokens, issuer.issue()) == "keys_unavailable"
        issuer.holding.set()


async def test_keys_that_cannot_be_used_are_left_out() -> None:
    """A key set can hold keys for other purposes, or of kinds that we do not know (RFC 7517, section 5)."""
    good = make_key("RS256")
    published = good.publish()
    others: list[Any] = [
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "1", "pub": "x"},
        {"kty": "oct", "kid": "1", "k": "c2VjcmV0"},
        make_key("ES384", "1").publish(),
        {**published, "use": "enc"},
        {**published, "key_ops": ["encrypt"]},
        {**published, "kid": 7},
        {**published, "n": 7},
        {"kty": "RSA", "kid": "1"},
        {**published, "alg": "RSA-OAEP"},
        {**published, "alg": ["RS256"]},
        make_key("RS256", "1", 1024).publish(),
        "not a key",
    ]
    async with issuing() as issuer, reading(issuer) as tokens:
        issuer.documents[JWKS] = {"keys": others}
        for key in (good, make_key("RS256", "1", 1024)):
            assert await refuse(tokens, issuer.issue(key=key)) == "token_invalid"
    async with issuing() as issuer, reading(issuer) as tokens:
        issuer.documents[JWKS] = {"keys": [*others, {**published, "d": "AQAB"}]}
        await tokens.read(issuer.issue(key=good))


async def test_two_keys_with_one_id_are_both_tried() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        issuer.keys = [make_key("RS256", "1"), make_key("RS256", "1", 2056)]
        for key in issuer.keys:
            await tokens.read(issuer.issue(key=key))


async def test_a_token_without_key_id_needs_an_issuer_with_one_key() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        token = issuer.issue(header={"kid": None})
        await tokens.read(token)
    async with issuing() as issuer, reading(issuer) as tokens:
        issuer.keys = [make_key("RS256", "1"), make_key("RS256", "2")]
        assert await refuse(tokens, issuer.issue(header={"kid": None})) == "token_invalid"


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_types_of_access_tokens_are_accepted(kind: str | None) -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        await tokens.read(issuer.issue(header={"typ": kind}))


async def test_unknown_members_of_the_header_do_not_count() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        await tokens.read(issuer.issue(header={"x5t": "abc", "nonce": "abc"}))


async def test_clocks_can_differ_by_60_seconds() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        now = time.time()
        await tokens.read(issuer.issue(exp=now - 30, iat=now + 30, nbf=now + 30.5))


async def test_without_an_audience_the_client_must_be_listed() -> None:
    async with issuing() as issuer, reading(issuer, audience="", client_ids=("portal", "cli")) as tokens:
        accepted: list[dict[str, Any]] = [{}, {"aud": None}, {"client_id": None, "azp": "cli"}]
        for changes in accepted:
            await tokens.read(issuer.issue(**changes))
        for changes in ({"client_id": "other"}, {"client_id": None}, {"client_id": ["portal"]}, {"azp": "cli"}):
            assert await refuse(tokens, issuer.issue(**changes)) == "token_invalid"


async def test_audience_and_client_must_both_fit() -> None:
    async with issuing() as issuer, reading(issuer, client_ids=("portal",)) as tokens:
        await tokens.read(issuer.issue(aud=["else", "alias-oracle"]))
        assert await refuse(tokens, issuer.issue(client_id="other")) == "token_invalid"
        assert await refuse(tokens, issuer.issue(aud="else")) == "token_invalid"


async def test_a_program_is_whoever_has_its_client_id_as_subject() -> None:
    async with issuing() as issuer, reading(issuer) as tokens:
        program = await tokens.read(issuer.issue(sub="greenbank", client_id="greenbank"))
        assert (program.is_machine, program.person, program.actor) == (True, None, "oidc:hub:greenbank")
        of_keycloak = issuer.issue(sub="0b1c", azp="portal", preferred_username="service-account-portal")
        service = await tokens.read(of_keycloak)
        assert (service.is_machine, service.person) == (False, None)


async def test_two_issuers_have_their_own_keys() -> None:
    async with issuing() as one, issuing() as other:
        other.keys = [make_key("RS256", "other")]
        calls = Calls(METRICS)
        tokens = Tokens([Trusted("one", one.url, "alias-oracle"), Trusted("other", other.url, "alias-oracle")], calls)
        try:
            assert (await tokens.read(one.issue())).actor == "oidc:one:ana"
            assert (await tokens.read(other.issue())).actor == "oidc:other:ana"
            forged = other.issue(iss=one.url)
            assert await refuse(tokens, forged) == "token_invalid"
        finally:
            await tokens.close()
            await calls.close()

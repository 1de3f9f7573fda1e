"""Signing in with a browser at a real issuer: the code flow with PKCE, and what an attacker changes about it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from issuer import DISCOVERY, Issuer, issuing, make_key
from test_tokens import METRICS

from oracle.calls.calls import Calls
from oracle.identity.cookies import LOGIN, SESSION, read_cookie, remove_cookie, write_cookie
from oracle.identity.flow import Client, Flow, LoginFailed, check_back, make_challenge
from oracle.identity.issuers import Issuer as Trusted
from oracle.identity.opening import ISSUER_CALLS
from oracle.identity.tokens import Tokens

REDIRECT = "https://oracle.example/console/signed-in"
Answer = list[tuple[str, str]]


class Clock:
    """The time of day, which a test can move."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@asynccontextmanager
async def signing_in(
    issuer: Issuer, *, secret: str = "", clock: Clock | None = None, others: tuple[Trusted, ...] = ()
) -> AsyncIterator[Flow]:
    calls = Calls(METRICS, ISSUER_CALLS)
    tokens = Tokens([Trusted("hub", issuer.url, issuer.audience), *others], calls)
    try:
        yield Flow(tokens, issuer.url, Client("console", REDIRECT, secret), calls, clock or Clock())
    finally:
        await tokens.close()
        await calls.close()


async def visit(url: str) -> Answer:
    """Go where a browser would go: to the provider, and back to the redirect URL."""
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url)
    assert answer.status_code == 302
    location = answer.headers["location"]
    assert location.startswith(f"{REDIRECT}?")
    return parse_qsl(urlsplit(location).query)


def change(answer: Answer, **changes: str | None) -> Answer:
    changed: dict[str, str | None] = {**dict(answer), **changes}
    return [(name, value) for name, value in changed.items() if value is not None]


async def fail(flow: Flow, answer: Answer, cookie: str) -> str:
    with pytest.raises(LoginFailed) as caught:
        await flow.finish(answer, cookie)
    return str(caught.value)


async def test_a_person_signs_in_and_comes_back_where_they_began() -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        url, cookie = await flow.begin("/console/batches?state=open")
        question = parse_qs(urlsplit(url).query)
        assert question["code_challenge_method"] == ["S256"]
        assert (question["scope"], question["client_id"]) == (["openid"], ["console"])
        signed_in = await flow.finish(await visit(url), cookie)
        assert signed_in.claims.actor == "oidc:hub:ana"
        assert signed_in.back == "/console/batches?state=open"
        (form,) = issuer.forms
        assert make_challenge(form["code_verifier"]) == question["code_challenge"][0]


def test_the_challenge_is_that_of_the_standard() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert make_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_roles_come_from_the_access_token_if_it_is_for_this_service_and_of_the_same_person() -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        issuer.id_claims = {"roles": ["of the ID token"]}
        issuer.access_claims = {"roles": ["of the access token"]}
        for changes, expected in (
            ({}, "of the access token"), ({"aud": "else"}, "of the ID token"), ({"sub": "eve"}, "of the ID token"),
        ):  # fmt: skip
            issuer.access_claims = {"roles": ["of the access token"], **changes}
            url, cookie = await flow.begin("/")
            claims = (await flow.finish(await visit(url), cookie)).claims
            assert (claims.subject, list(claims.texts("roles"))) == ("ana", [expected])


async def test_a_client_with_a_secret_sends_it_in_the_header_alone() -> None:
    async with issuing() as issuer, signing_in(issuer, secret="s/cr t") as flow:
        url, cookie = await flow.begin("/")
        await flow.finish(await visit(url), cookie)
        (authorization,) = issuer.authorizations
        assert base64.b64decode(authorization.removeprefix("Basic ")) == b"console:s%2Fcr+t"
        assert "client_secret" not in issuer.forms[0]


async def test_an_answer_that_somebody_changed_signs_nobody_in() -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        url, cookie = await flow.begin("/")
        answer = await visit(url)
        for changes, expected in (
            ({"state": "other"}, "another sign-in"), ({"state": None}, "another sign-in"), ({"state": "é"}, "another"),
            ({"iss": "https://evil.example"}, "another identity"), ({"iss": None}, "another identity"),
            ({"code": None}, "did not sign you in"), ({"error": "access_denied"}, "did not sign you in"),
            ({"code": "stolen"}, "did not accept the code"), ({"code": "x" * 5_000}, "too long"),
        ):  # fmt: skip
            assert expected in await fail(flow, change(answer, **changes), cookie)
        assert "twice" in await fail(flow, [*answer, ("code", "other")], cookie)
        assert (await flow.finish(answer, cookie)).claims.subject == "ana"


async def test_a_code_works_once() -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        url, cookie = await flow.begin("/")
        answer = await visit(url)
        await flow.finish(answer, cookie)
        assert "did not accept the code" in await fail(flow, answer, cookie)


async def test_a_code_of_somebody_else_does_not_work_in_this_browser() -> None:
    """RFC 9700, section 4.5: the attacker puts the code of a victim into their own sign-in."""
    async with issuing() as issuer, signing_in(issuer) as flow:
        victim_url, _ = await flow.begin("/")
        stolen = dict(await visit(victim_url))["code"]
        url, cookie = await flow.begin("/")
        assert "did not accept the code" in await fail(flow, change(await visit(url), code=stolen), cookie)


@pytest.mark.parametrize("cookie", ["", "x", "e30", "bnVsbA", "A" * 5_000, "é"])
async def test_a_browser_that_did_not_begin_signs_nobody_in(cookie: str) -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        url, _ = await flow.begin("/")
        assert "did not begin" in await fail(flow, await visit(url), cookie)


async def test_a_sign_in_must_end_within_10_minutes() -> None:
    clock = Clock()
    async with issuing() as issuer, signing_in(issuer, clock=clock) as flow:
        url, cookie = await flow.begin("/")
        answer = await visit(url)
        clock.ahead_s = 601
        assert "longer than 10 minutes" in await fail(flow, answer, cookie)
        clock.ahead_s = -10
        assert "longer than 10 minutes" in await fail(flow, answer, cookie)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "other"}, {"nonce": None}, {"aud": "other"}, {"aud": None}, {"aud": ["console", "other"]},
        {"azp": "other"}, {"exp": 0}, {"iss": "https://evil.example"}, {"sub": None},
    ],
)  # fmt: skip
async def test_an_id_token_of_another_sign_in_or_client_signs_nobody_in(claims: dict[str, Any]) -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        issuer.id_claims = claims
        url, cookie = await flow.begin("/")
        assert await fail(flow, await visit(url), cookie)


async def test_an_id_token_of_another_trusted_issuer_signs_nobody_in() -> None:
    async with issuing() as issuer, issuing() as other:
        other.keys = [make_key("RS256", "other")]
        async with signing_in(issuer, others=(Trusted("bank", other.url, "console"),)) as flow:
            url, cookie = await flow.begin("/")
            answer = await visit(url)
            nonce = parse_qs(urlsplit(url).query)["nonce"][0]
            issuer.documents["/token"] = {"id_token": other.issue(aud="console", nonce=nonce, client_id=None)}
            assert "another client" in await fail(flow, answer, cookie)


@pytest.mark.parametrize("document", [b"<html>", b"[]", b"{}", b'{"id_token": 7}', b'{"id_token": "x"}'])
async def test_an_answer_without_a_usable_token_signs_nobody_in(document: bytes) -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        url, cookie = await flow.begin("/")
        answer = await visit(url)
        issuer.documents["/token"] = document
        assert await fail(flow, answer, cookie)


async def test_a_provider_that_is_away_or_has_no_sign_in_is_explained() -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        issuer.documents[DISCOVERY] = {"issuer": issuer.url}
        with pytest.raises(LoginFailed, match="does not offer to sign in"):
            await flow.begin("/")
    async with issuing() as issuer, signing_in(issuer) as flow:
        issuer.status = 500
        with pytest.raises(LoginFailed, match="does not answer"):
            await flow.begin("/")


@pytest.mark.parametrize(
    "address",
    [
        "{}/a\r\nset-cookie: a=b", "{}/a\nx: y", "{}/a b", "{}/é", "{}/a#b", "http://me@127.0.0.1/",
        "javascript:alert(1)", "//evil.example", "", "http://", ["{}"], None,
    ],
)  # fmt: skip
async def test_nobody_is_sent_to_what_is_no_url(address: Any) -> None:
    """The address goes into a header for browsers: a provider of one FSP could else write headers for all people."""
    async with issuing() as issuer, signing_in(issuer) as flow:
        named = address.format(issuer.url) if isinstance(address, str) else address
        issuer.documents[DISCOVERY] = {**issuer.describe_itself(), "authorization_endpoint": named}
        with pytest.raises(LoginFailed, match="does not offer to sign in"):
            await flow.begin("/")


@pytest.mark.parametrize("status", [200, 500])
async def test_people_who_begin_make_no_more_than_one_call_to_the_provider(status: int) -> None:
    async with issuing() as issuer, signing_in(issuer) as flow:
        issuer.status = status
        results = await asyncio.gather(*(flow.begin("/") for _ in range(20)), return_exceptions=True)
        assert {type(result) for result in results} == ({tuple} if status == 200 else {LoginFailed})
        assert issuer.requests == [DISCOVERY]


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "",
        "console", "/a\r\nset-cookie: x=y", "/a b", "/é", "/" + "a" * 600, "/a\\..\\b",
    ],
)  # fmt: skip
async def test_nobody_is_sent_elsewhere_after_signing_in(back: str) -> None:
    assert check_back(back) == "/"
    async with issuing() as issuer, signing_in(issuer) as flow:
        url, cookie = await flow.begin(back)
        answer = await visit(url)
        login = json.loads(base64.urlsafe_b64decode(cookie + "=="))
        forged = base64.urlsafe_b64encode(json.dumps({**login, "back": back}).encode()).decode().rstrip("=")
        assert (await flow.finish(answer, forged)).back == "/"


def test_paths_of_this_service_are_kept() -> None:
    for back in ("/", "/console", "/console/fsps?cursor=a%2Fb&x=[1]", "/~a/b.c"):
        assert check_back(back) == back


def test_cookies_are_for_this_host_alone_and_hidden_from_scripts() -> None:
    written = write_cookie(SESSION, "abc", 600)
    assert written.startswith("__Host-oracle-session=abc; Path=/; ")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Max-Age=600"} <= set(written.split("; "))
    assert "Domain" not in written
    assert "Max-Age=0" in remove_cookie(SESSION)


def test_a_cookie_that_comes_twice_is_none() -> None:
    """A neighbour below the same domain can add one, if the browser does not know the prefix `__Host-`."""
    assert read_cookie(f"a=b; {LOGIN}=mine; c=d", LOGIN) == "mine"
    assert read_cookie(f"{LOGIN}=mine; {LOGIN}=theirs", LOGIN) == ""
    assert read_cookie(f"x{LOGIN}=theirs", LOGIN) == ""
    assert read_cookie("", LOGIN) == ""

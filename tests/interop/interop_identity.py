"""A certified OpenID provider (oidc-provider) issues tokens that are accepted here, and people sign in at it.

Its keys are of each kind in turn: it is started again at the same address, which is a rotation of its keys.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest
import servers
from packages import HERE, PROVIDER, environment, find_package

from oracle.calls.calls import Calls
from oracle.identity.claims import Claims
from oracle.identity.flow import Client, Flow, LoginFailed
from oracle.identity.identity import Identity, Role
from oracle.identity.issuers import Issuer
from oracle.identity.keys import KeyLimits
from oracle.identity.mapping import Mapping
from oracle.identity.opening import ISSUER_CALLS
from oracle.identity.presets import PRESETS
from oracle.identity.refused import Refused
from oracle.identity.tokens import Tokens
from oracle.telemetry.metrics import Metrics

ALGORITHMS = ("RS256", "PS256", "ES256", "Ed25519")
REDIRECT = "https://oracle.example/console/signed-in"
MAPPING = Mapping([*PRESETS["thitsaworks"], *PRESETS["hydra"]])


@asynccontextmanager
async def providing(port: int, algorithm: str) -> AsyncIterator[None]:
    package = find_package(PROVIDER)
    process = await asyncio.create_subprocess_exec(
        "node", HERE / "provider.mjs", package / "node_modules" / "oidc-provider", str(port), algorithm,
        env=environment(package), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert (await process.stdout.readline()).startswith(b"listening")
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def trusting(port: int, audience: str = "alias-oracle") -> AsyncIterator[tuple[Tokens, Calls]]:
    calls = Calls(Metrics.open(None, "test", 0), ISSUER_CALLS)
    tokens = Tokens(
        [Issuer("main", f"http://127.0.0.1:{port}", audience)], calls, KeyLimits(unknown_every_s=0, retry_s=0)
    )
    try:
        yield tokens, calls
    finally:
        await tokens.close()
        await calls.close()


async def fetch_token(port: int) -> str:
    async with httpx.AsyncClient() as program:
        answer = await program.post(
            f"http://127.0.0.1:{port}/token",
            data={"grant_type": "client_credentials"},
            auth=("greenbank", "a%20secret%20of%20greenbank"),
        )
    token: str = answer.raise_for_status().json()["access_token"]
    return token


async def sign_in(url: str) -> list[tuple[str, str]]:
    """Do what a person does in the provider's pages, until it sends the browser back here."""
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url)
        for _ in range(10):
            if answer.is_redirect:
                where = urljoin(str(answer.url), answer.headers["location"])
                if where.startswith(REDIRECT):
                    return parse_qsl(urlsplit(where).query)
                answer = await browser.get(where)
                continue
            form, prompt = re.search('action="([^"]+)"', answer.text), re.search('"prompt" value="(.+?)"', answer.text)
            assert form
            assert prompt
            answer = await browser.post(form[1], data={"prompt": prompt[1], "login": "ana", "password": "any"})
    raise AssertionError("the provider does not send the browser back")


async def test_tokens_of_a_program_are_accepted_over_rotations_of_keys() -> None:
    port = servers.free_port()
    async with trusting(port) as (tokens, _):
        for algorithm in ALGORITHMS:
            async with providing(port, algorithm):
                claims = await tokens.read(await fetch_token(port))
            assert MAPPING.choose(claims) == Identity(
                "oidc:main:greenbank", Role.MAKER, frozenset({"greenbank"}), "oidc", None
            )


async def test_a_token_for_another_service_is_refused() -> None:
    port = servers.free_port()
    async with trusting(port, "another-service") as (tokens, _), providing(port, "ES256"):
        token = await fetch_token(port)
        with pytest.raises(Refused, match="for another service"):
            await tokens.read(token)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_person_signs_in_with_a_browser(algorithm: str) -> None:
    port = servers.free_port()
    async with trusting(port) as (tokens, calls), providing(port, algorithm):
        client = Client("console", REDIRECT, "a secret of the console")
        flow = Flow(tokens, f"http://127.0.0.1:{port}", client, calls)
        url, cookie = await flow.begin("/console")
        answer = await sign_in(url)
        signed_in = await flow.finish(answer, cookie)
        assert signed_in.back == "/console"
        claims: Claims = signed_in.claims
        assert MAPPING.choose(claims) == Identity("oidc:main:ana", Role.OPERATOR, None, "oidc", "oidc:main:ana")
        with pytest.raises(LoginFailed, match="did not accept the code"):
            await flow.finish(answer, cookie)

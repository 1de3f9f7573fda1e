"""Keys over https: the certificate of the issuer is checked, and nothing leaves https."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from certificates import Authority
from issuer import DISCOVERY, Issuer, issuing
from test_tokens import METRICS, refuse

from oracle.identity.mapping import Mapping
from oracle.identity.opening import open_identities
from oracle.identity.tokens import Tokens
from oracle.settings import load


@asynccontextmanager
async def issuing_tls(authority: Authority, host: str = "localhost") -> AsyncIterator[Issuer]:
    identity = authority.make("issuer", host)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    async with issuing(tls=context) as issuer:
        yield issuer


def trusting(issuer: Issuer, authority: Authority | None = None) -> dict[str, str]:
    environ = {"ORACLE_OIDC_ISSUER": issuer.url, "ORACLE_OIDC_AUDIENCE": "alias-oracle"}
    return environ | ({"ORACLE_CALL_CA_FILE": str(authority.file)} if authority else {})


@asynccontextmanager
async def opened(environ: dict[str, str]) -> AsyncIterator[tuple[Tokens, Mapping]]:
    async with open_identities(load(environ).settings, METRICS) as identities:
        yield identities.tokens, identities.mapping


async def test_keys_are_fetched_over_https_from_a_host_that_is_believed(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    async with issuing_tls(authority) as issuer, opened(trusting(issuer, authority)) as (tokens, mapping):
        claims = await tokens.read(issuer.issue())
        found = mapping.choose(claims)
        assert found is not None
        assert found.actor == "oidc:main:ana"


async def test_a_certificate_of_a_stranger_or_for_another_host_gives_no_keys(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    async with issuing_tls(theirs) as issuer, opened(trusting(issuer, ours)) as (tokens, _):
        assert await refuse(tokens, issuer.issue()) == "keys_unavailable"
    async with issuing_tls(ours) as issuer, opened(trusting(issuer)) as (tokens, _):
        assert await refuse(tokens, issuer.issue()) == "keys_unavailable"
    async with issuing_tls(ours, "other.example") as issuer, opened(trusting(issuer, ours)) as (tokens, _):
        assert await refuse(tokens, issuer.issue()) == "keys_unavailable"


async def test_an_issuer_on_https_cannot_send_us_to_plain_http(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    async with issuing() as plain, issuing_tls(authority) as issuer:
        issuer.documents[DISCOVERY] = {**issuer.describe_itself(), "jwks_uri": f"{plain.url}/jwks"}
        async with opened(trusting(issuer, authority)) as (tokens, _):
            assert await refuse(tokens, issuer.issue()) == "keys_unavailable"
        assert plain.requests == []

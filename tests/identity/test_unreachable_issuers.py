"""Issuers that do not answer: `check-config` names them, and the metric counts them while they are away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from issuer import DISCOVERY, issuing

from oracle.identity.opening import find_unreachable, open_identities
from oracle.settings import Settings, load
from oracle.telemetry.metrics import Metrics


def trusting(*issuers: str) -> Settings:
    return load({"ORACLE_OIDC_ISSUER": issuers[0], "ORACLE_OIDC_AUDIENCE": "alias-oracle"}).settings


def make_metrics() -> Metrics:
    return Metrics.open(None, "test", 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another task
            await asyncio.sleep(0.01)


async def test_an_issuer_that_answers_is_no_warning() -> None:
    async with issuing() as issuer:
        assert await find_unreachable(trusting(issuer.url), make_metrics()) == []


async def test_an_issuer_that_cannot_be_used_is_named_with_its_reason() -> None:
    async with issuing() as issuer:
        settings = trusting(issuer.url)
        for documents, status, reason in (
            ({}, 500, "the answer has the status 500"),
            ({DISCOVERY: {"issuer": "https://other.example"}}, 200, "the discovery document names another issuer"),
            ({"/jwks": {"keys": []}}, 200, "it publishes no key that can be used"),
            ({"/jwks": {"keys": 7}}, 200, "the answer cannot be read: "),
        ):
            issuer.documents, issuer.status = documents, status
            (warning,) = await find_unreachable(settings, make_metrics())
            assert warning.startswith(f"the keys of the issuer 'main' cannot be fetched: {reason}")


async def test_an_issuer_that_hangs_takes_a_bounded_time(tmp_path: Path) -> None:
    """Many of them take as long as one."""

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        file = tmp_path / "oidc.toml"
        entry = '[[oidc.issuer]]\nalias = "i{0}"\nissuer = "http://127.0.0.1:{1}/{0}"\naudience = "us"\n'
        rule = 'rules = ["keycloak"]\n'
        file.write_text("".join(entry.format(number, port) + rule for number in range(10)))
        began = time.monotonic()
        warnings = await find_unreachable(load({"ORACLE_OIDC_FILE": str(file)}).settings, make_metrics(), check_s=1)
        assert len(warnings) == 10
        assert time.monotonic() - began < 8  # one after the other: 10
        ended.set()


async def test_the_metric_follows_an_issuer_without_any_token() -> None:
    metrics = make_metrics()

    def count() -> float:
        return metrics.read_gauge("issuers_away")

    async with issuing() as issuer, open_identities(trusting(issuer.url), metrics, watch_s=0.05):
        await until(lambda: count() == 0)
    async with issuing() as issuer:
        issuer.status = 500
        async with open_identities(trusting(issuer.url), metrics, watch_s=0.05):
            await until(lambda: count() == 1)
            issuer.status = 200
            await until(lambda: count() == 0)

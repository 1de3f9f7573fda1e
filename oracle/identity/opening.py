"""Opens what reads tokens in one process, from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from oracle.calls.calls import Calls
from oracle.calls.limits import CallLimits
from oracle.calls.tls import CallFiles, check_files
from oracle.identity.addresses import networks_of
from oracle.identity.gateway import Gateway
from oracle.identity.issuers import Issuer, read_trust
from oracle.identity.keys import FetchFailed, IssuerKeys, KeyLimits
from oracle.identity.mapping import Mapping
from oracle.identity.tokens import Tokens

if TYPE_CHECKING:
    from oracle.settings import Settings
    from oracle.telemetry.metrics import Metrics

# A key set has some KiB.  `keys` decides how often an issuer is asked, so no breaker may refuse it before.
ISSUER_CALLS: Final = CallLimits(
    timeout_s=5, connections_max=4, waiting_max=16, answer_body_bytes_max=512 * 1024, failures_max=1_000_000
)

WATCH_S: Final = 30.0
CHECK_S: Final = 3.0  # for each of two documents


class Identities(NamedTuple):
    tokens: Tokens
    mapping: Mapping
    issuers: Sequence[Issuer] = ()
    calls: Calls | None = None  # to the issuers


def make_gateway(settings: Settings) -> Gateway:
    """Make what reads the headers of the gateway.  Raises SettingsError."""
    trust = read_trust(settings, for_gateway=True)
    names = frozenset(settings.gateway_certificate_names)
    return Gateway(networks_of(settings.admin_proxies), settings.gateway_secret, names, Mapping(trust.rules))


@asynccontextmanager
async def open_identities(
    settings: Settings, metrics: Metrics, *, watch_s: float = WATCH_S
) -> AsyncIterator[Identities]:
    """Open them, and fetch the keys of all issuers in the background.  Raises SettingsError."""
    trust = read_trust(settings)
    check_files(settings)
    calls = Calls(metrics, ISSUER_CALLS, CallFiles.of(settings))
    tokens = Tokens(trust.issuers, calls)
    watching = asyncio.create_task(_watch(tokens, metrics, watch_s))
    try:
        yield Identities(tokens, Mapping(trust.rules), trust.issuers, calls)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await tokens.close()
        await calls.close()


async def _watch(tokens: Tokens, metrics: Metrics, every_s: float) -> None:
    """Keep the keys of all issuers fresh, and count the issuers that give none."""
    issuers = tokens.list_keys()
    while True:
        await asyncio.gather(*(keys.renew_soon() for keys in issuers))
        metrics.set("issuers_away", float(sum(keys.is_away for keys in issuers)))
        await asyncio.sleep(every_s)


async def find_unreachable(settings: Settings, metrics: Metrics, check_s: float = CHECK_S) -> list[str]:
    """List the issuers whose keys cannot be fetched from here, each with its reason.  Raises SettingsError.

    `check_s`: how long each document can take, in seconds.  All issuers are asked at the same time.
    """
    calls = Calls(metrics, ISSUER_CALLS, CallFiles.of(settings))
    limits = KeyLimits(fetch_s=check_s)

    async def check(keys: IssuerKeys) -> str:
        try:
            found = await keys.fetch()
        except FetchFailed as exc:
            reason = str(exc)
        else:
            reason = "" if found else "it publishes no key that can be used"
        alias = keys.issuer.alias
        return reason and (
            f"the keys of the issuer {alias!r} cannot be fetched: {reason}. Until they can, its tokens are refused"
        )

    try:
        issuers = [IssuerKeys(issuer, calls, limits) for issuer in read_trust(settings).issuers]
        return list(filter(None, await asyncio.gather(*map(check, issuers))))
    finally:
        await calls.close()

"""Opens what reads tokens in one process, from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from oracle.calls.calls import Calls
from oracle.calls.limits import CallLimits
from oracle.calls.tls import CallFiles, check_files
from oracle.identity.addresses import networks_of
from oracle.identity.gateway import Gateway
from oracle.identity.issuers import read_trust
from oracle.identity.mapping import Mapping
from oracle.identity.tokens import Tokens

if TYPE_CHECKING:
    from oracle.settings import Settings
    from oracle.telemetry.metrics import Metrics

# A key set has some KiB.  `keys` decides how often an issuer is asked, so no breaker may refuse it before.
ISSUER_CALLS: Final = CallLimits(
    timeout_s=5, connections_max=4, waiting_max=16, answer_body_bytes_max=512 * 1024, failures_max=1_000_000
)


class Identities(NamedTuple):
    tokens: Tokens
    mapping: Mapping


def make_gateway(settings: Settings) -> Gateway:
    """Make what reads the headers of the gateway.  Raises SettingsError."""
    trust = read_trust(settings, for_gateway=True)
    names = frozenset(settings.gateway_certificate_names)
    return Gateway(networks_of(settings.admin_proxies), settings.gateway_secret, names, Mapping(trust.rules))


@asynccontextmanager
async def open_identities(settings: Settings, metrics: Metrics) -> AsyncIterator[Identities]:
    """Open them.  No issuer is called before its first token.  Raises SettingsError."""
    trust = read_trust(settings)
    check_files(settings)
    calls = Calls(metrics, ISSUER_CALLS, CallFiles.of(settings))
    tokens = Tokens(trust.issuers, calls)
    try:
        yield Identities(tokens, Mapping(trust.rules))
    finally:
        await tokens.close()
        await calls.close()

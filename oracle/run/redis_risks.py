"""What an operator must know about the Redis that they have set: who can redirect lookups there, who can read along."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from oracle.store.cache.session import parse_url
from oracle.store.cache.topology import list_hosts

if TYPE_CHECKING:
    from oracle.settings import Settings


def find_risks(settings: Settings) -> list[str]:
    """Return one sentence for each risk, with its remedy.  A Redis of our own has none: its key is made with it."""
    url = settings.redis_url
    if url is None:
        return []
    risks = []
    if not settings.cache_key:
        risks.append(
            "Anyone who can write to this Redis can redirect lookups, because ORACLE_CACHE_KEY is not set. Set it for"
            " all services of this directory; `openssl rand -hex 32` makes one"
        )
    if _is_here(url):
        return risks
    if not url.startswith("rediss"):
        risks.append(
            "The connection to Redis is not encrypted, and Redis is on another machine. Use TLS: ORACLE_REDIS_URL must"
            " begin with rediss"
        )
    if not parse_url(_first_server(url)).password:
        risks.append(
            "Redis is on another machine, and ORACLE_REDIS_URL has no password. Set one in Redis and in the URL"
        )
    return risks


def _is_here(url: str) -> bool:
    """Whether all servers of the URL are on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "unix" or all(_is_loopback(host or "127.0.0.1") for host, _ in list_hosts(parts.netloc)[1])


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _first_server(url: str) -> str:
    """Return the URL of one server: several, separated by commas, are no host and port."""
    parts = urlsplit(url)
    credentials, hosts = list_hosts(parts.netloc)
    host = hosts[0][0]
    return parts._replace(netloc=f"{credentials}{f'[{host}]' if ':' in host else host}").geturl()

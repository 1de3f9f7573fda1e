"""Addresses of callers: who is one of our own proxies, and which client is behind it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_of(proxies: Sequence[str]) -> list[Network]:
    """Raises ValueError for what is no address and no network."""
    return [ipaddress.ip_network(proxy) for proxy in proxies]


def is_proxy(peer: str, proxies: Sequence[Network]) -> bool:
    """Return whether the other end of a connection is one of our own proxies."""
    address = _ip(peer) if proxies else None
    return address is not None and any(address in proxy for proxy in proxies)


def address_of(peer: str, forwarded: str, proxies: Sequence[Network]) -> str:
    """Find the caller's address, by the connection's other end and X-Forwarded-For.  Of IPv6 it is the network: each
    customer has 2**64 addresses.
    """
    hops = forwarded.split(",") if forwarded else []
    address = _ip(peer)
    while address is not None and hops and any(address in proxy for proxy in proxies):
        further = _ip(hops.pop())
        if further is None:  # not an address: nobody knows more than the last proxy
            break
        address = further
    if address is None:
        return peer
    return str(address if address.version == 4 else ipaddress.ip_network((int(address) >> 64 << 64, 64)))  # noqa: PLR2004


def _ip(text: str) -> _Address | None:
    """Read an IP address; some proxies write the port after it."""
    text = text.strip()
    host = text.partition(":")[0] if text.count(":") == 1 else text.removeprefix("[").partition("]")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address

"""Binds the source of a request to its caller (section 2.2).

A gateway in front names the caller in a header.  Or the caller shows a certificate to this listener itself, and then no
header counts.  Without either, or with `off`, nothing but a signature (JWS) binds fspiop-source to a caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from oracle.api.dfsp.faults import Fault
from oracle.api.tls import find_common_name

Demand = Literal["off", "optional", "required", "certificate"]
# The verified certificate of the caller, as `ssl` describes it; None if there is none.
FindCertificate = Callable[[], Mapping[str, Any] | None]


class Clients:
    """One per process."""

    def __init__(self, demand: Demand = "optional", header: str = "x-client-id") -> None:
        self._demand = demand
        self._name = header
        self.header = header.lower().encode()

    def check(self, headers: Mapping[bytes, str], find_certificate: FindCertificate = lambda: None) -> None:
        """Refuse a request in the name of somebody else.  `headers` by their lower-case names.  Raises Fault."""
        if self._demand == "off":
            return
        by_certificate = self._demand == "certificate"
        client = find_common_name(find_certificate()) if by_certificate else headers.get(self.header)
        if not client:
            if by_certificate:
                raise Fault("3102", "a client certificate with one common name is required")
            if self._demand == "required":
                raise Fault("3102", f"{self._name} is required")
            return
        source, proxy = headers.get(b"fspiop-source"), headers.get(b"fspiop-proxy")
        if proxy is not None:
            if proxy != client or proxy == source:
                raise Fault("3100", "Invalid fspiop-proxy header")
        elif source != client:
            raise Fault("3100", "Invalid fspiop-source header")

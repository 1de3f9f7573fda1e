"""An ALS that finds parties in other schemes, as v17.16.1 does it (account lookup, discovery).

It holds what ALS holds beside the oracle: the FSPs of its own ledger, and who heard what.  Every call to the oracle is
a message of `messages`, and every answer is read by `als`: so a refusal ends the flow where it ends ALS's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hub import als
from hub.messages import INTER_SCHEME, PARTIES, delete, get, post, with_headers
from hub.shapes import dump_json

if TYPE_CHECKING:
    from hub.wire import Wire

# What the first step of a lookup led to.
DISCOVERY = "discovery"


def name_source(headers: bytes, source: str, destination: str = "Hub") -> bytes:
    """Headers with another fspiop-source and fspiop-destination."""
    lines = [
        line for line in headers.split(b"\r\n") if not line.startswith((b"fspiop-source:", b"fspiop-destination:"))
    ]
    at = next(n for n, line in enumerate(lines) if line.startswith(b"User-Agent:"))
    named = [f"fspiop-source: {source}".encode(), f"fspiop-destination: {destination}".encode()]
    return b"\r\n".join(lines[:at] + named + lines[at:])


@dataclass
class InterScheme:
    wire: Wire
    ledger: frozenset[str]  # the FSPs of this scheme
    payer: str = "payerfsp"
    heard: list[str] = field(default_factory=list)  # what reached the payer
    proxied: set[str] = field(default_factory=set)  # FSPs of which a proxy has spoken

    def get_party(self, target: bytes, sub_id: str | None = None) -> str:
        """GET /parties of the payer: the FSP that gets the request, or DISCOVERY if all proxies do."""
        asked = target if sub_id is None else target + b"?partySubIdOrType=" + sub_id.encode()
        try:
            fsps = als.read_parties(self.wire.ask(get(asked, name_source(PARTIES, self.payer))), sub_id)
        except als.Callback as callback:
            if callback.code != "3204":
                raise
            return DISCOVERY
        (fsp_id,) = fsps
        assert fsp_id in self.ledger | self.proxied, "ALS would remove an entry that nobody can reach"
        return fsp_id

    def put_party(self, target: bytes, payee: str, sub_id: str | None = None, headers: bytes = INTER_SCHEME) -> None:
        """PUT /parties of a payee in another scheme, through its proxy.

        ALS stores the payee's FSP, and only after a 2xx it forwards the answer.
        """
        self.proxied.add(payee)
        body = {"fspId": payee} | ({} if sub_id is None else {"partySubIdOrType": sub_id})
        headers = with_headers(name_source(headers, payee, self.payer), b"fspiop-proxy: proxyone")
        als.read_proxy_post(self.wire.ask(post(target, dump_json(body), headers)))
        self.heard.append(payee)

    def put_party_error(self, target: bytes, payee: str) -> str:
        """PUT /parties/…/error of that payee: ALS forgets what it stored, and the payer's next lookup begins anew."""
        entries = als.read_parties(self.wire.ask(get(target, name_source(PARTIES, payee, self.payer))))
        if entries[0] not in self.ledger:
            self.clean_up(target, payee)
        return self.get_party(target)

    def clean_up(self, target: bytes, destination: str) -> None:
        """The removal that ALS sends by itself, with source and destination swapped; never with a SubId."""
        als.read_delete(self.wire.ask(delete(target, name_source(PARTIES, self.payer, destination))))

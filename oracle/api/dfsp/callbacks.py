"""All messages to FSPs: PUTs that the hub originates, and messages of one FSP that are forwarded to another.

Hub.      Content-type of the request's resource in the request's version, the time of now, fspiop-source is the hub,
          and fspiop-destination is the FSP that gets the message.  Of the request's headers only these are copied: the
          other `fspiop-` headers, but not those about its body or its signature; `traceparent` with a new span, and
          `tracestate` (docs/account-lookup.md, section 4).
Forward.  The body byte for byte and the headers of the DFSP, so that its signature stays valid.  Not those of its
          connection to us, and none that can be a credential.
Failures. An FSP that has no endpoint, refuses a message or does not answer is a CallbackFailed.  It never holds the
          address or the answer of that FSP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import formatdate
from random import getrandbits
from typing import Final, Literal, Protocol

from oracle import errors
from oracle.api.dfsp import faults, iso20022
from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.faults import Extension, Fault
from oracle.api.dfsp.templates import BadTemplate, Rendered, compile_template
from oracle.api.hub.ignored import Allowance
from oracle.calls import Answer, Call, Caller, CallFailed
from oracle.scheme import base
from oracle.scheme.base import Scheme
from oracle.telemetry import logs
from oracle.telemetry.metrics import CALLBACKS, Metrics
from oracle.telemetry.tracing import trace_id_of

log = logs.Log(__name__)

Header = tuple[bytes, bytes]
Kind = Literal["answer", "error", "forward"]
# What a forwarded message does with a header; list: it names others that are dropped.
Fate = Literal["keep", "drop", "list", "destination", "trace"]

LINES_HOUR_MAX: Final = 600  # log lines about messages that nobody received; metrics count all of them

FATES_MAX: Final = 1024  # names that are kept in mind; a request has no more than some 100

# Errors come all at once when an FSP hangs that many others have asked: then the client of calls refuses some, though
# their FSP is well.  They are sent after these pauses; above so many that wait, at once or not at all.
PAUSES_S: Final = (0.1, 0.4, 1.0)
PAUSED_MAX: Final = 2_000

_VERSIONS: Final = ("1.0", "1.1", "2.0")
_NOT_FOUND: Final = 404
_STATUS: Final = "status"
_NO_ANSWER: Final = "no answer"

# Which errors go where: (resource, shape of the request) -> endpoint type.
_ERROR_TYPES: Final[Mapping[tuple[str, str], str]] = {
    ("participants", "bulk"): base.PARTICIPANT_BATCH_PUT_ERROR,
    ("participants", "party"): base.PARTICIPANT_PUT_ERROR,
    ("participants", "sub_id"): base.PARTICIPANT_SUB_ID_PUT_ERROR,
    ("parties", "party"): base.PARTIES_PUT_ERROR,
    ("parties", "sub_id"): base.PARTIES_SUB_ID_PUT_ERROR,
}

# Headers of a request that the hub sets itself or that are about the body of the request.
_HUB_OWN: Final = frozenset(
    {
        b"fspiop-source",
        b"fspiop-destination",
        b"fspiop-http-method",
        b"fspiop-uri",
        b"fspiop-signature",
        b"fspiop-encryption",
        b"fspiop-proxy",
    }
)

# Headers that are never forwarded.  Of the connection (RFC 9110, section 7.6.1):
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"http2-settings",
        b"host",
        b"content-length",
        b"accept-encoding",  # we read the answer, not the DFSP
        b"via",
        b"forwarded",
        b"x-real-ip",
    }
)
# Credentials, and what a gateway says about the caller:
_CREDENTIALS: Final = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"cookie",
        b"cookie2",
        b"set-cookie",
        b"x-api-key",
        b"api-key",
        b"apikey",
        b"x-access-token",
        b"x-auth-token",
        b"x-csrf-token",
        b"x-id-token",
        b"x-jwt-assertion",
        b"client-cert",
        b"client-cert-chain",
        b"authentication-info",
        b"www-authenticate",
        b"dpop",
        b"x-userinfo",
    }
)
# Words in the names of all others: credentials have no fixed names.
_SECRET_WORDS: Final = (
    b"authoriz", b"x-auth-", b"token", b"jwt", b"secret", b"password", b"cookie", b"credential", b"session",
)  # fmt: skip
# What some servers believe more than the method and the path of the request: the DFSP would choose another one.
_OVERRIDES: Final = frozenset(
    {b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url"}
)
_NEVER_BEGINNINGS: Final = (b"x-client-", b"x-forwarded-", b"x-envoy-", b"x-ssl-", b"x-amzn-", b"x-consumer-")
_NEVER: Final = _HOP_BY_HOP | _CREDENTIALS | _OVERRIDES


class Signer(Protocol):
    """Signs what the hub originates."""

    async def sign_message(self, method: str, uri: str, headers: list[Header], body: bytes) -> bytes:
        """Add fspiop-uri, fspiop-http-method and fspiop-signature; return the body that must be sent."""


class CallbackFailed(Fault):
    """An FSP did not get a message.  `status`: of its answer; None if there is none."""

    def __init__(self, code: str, detail: str, *, status: int | None = None, tried: bool = False) -> None:
        extensions = (Extension(_STATUS, _NO_ANSWER if status is None else str(status)),) if tried else ()
        super().__init__(code, detail, extensions=extensions)
        self.answered = status
        self.tried = tried  # the FSP was called


def choose_error_type(asked: Asked, party: Party | None) -> str:
    """Choose the type of the endpoint that gets the error of a request."""
    shape = "bulk" if party is None else "party" if party.sub_id is None else "sub_id"
    return _ERROR_TYPES[asked.resource, shape]


class Callbacks:
    """One per process."""

    def __init__(
        self,
        scheme: Scheme,
        caller: Caller,
        *,
        hub_name: str,
        signer: Signer | None,
        iso20022: bool,
        metrics: Metrics,
        name: str = "",
    ) -> None:
        """`name`: that of this service in `via`, by which it knows its own messages; default: that of the hub."""
        self.hub_name = hub_name
        self._scheme = scheme
        self._caller = caller
        self._source = hub_name.encode("latin-1", "replace")
        self._via = f"1.1 {name or hub_name}".encode("latin-1", "replace")
        self._signer = signer
        self.on_error: Callable[[Asked, Fault], None] = lambda _asked, _fault: (
            None
        )  # each request that ends in an error
        self._iso20022 = iso20022
        self._metrics = metrics
        self._delivered = {kind: metrics.slot("callbacks_total", kind=kind, result="delivered") for kind in CALLBACKS}
        self._lines = Allowance(LINES_HOUR_MAX, time.monotonic)
        form = f"application/vnd.interoperability{'.iso20022' if iso20022 else ''}"
        self._content_types = {
            (name, version): f"{form}.{name}+json;version={version}".encode()
            for name in ("participants", "parties")
            for version in _VERSIONS
        }
        self._paused = 0
        self._date_s = -1
        self._date = b""

    async def put(
        self,
        asked: Asked,
        fsp_id: str,
        endpoint_type: str,
        body: bytes,
        *,
        party: Party | None = None,
        request_id: str = "",
    ) -> None:
        """Send an answer that the hub originates.  Raises CallbackFailed, Fault.

        `party`: that of the message, if it is not that of the request; `request_id`: of a bulk.
        """
        known = self._scheme.recall_endpoint(fsp_id, endpoint_type)
        template = known or await self._find_endpoint(fsp_id, endpoint_type)
        target = self._render(template, fsp_id, endpoint_type, party or asked.party, request_id, "answer")
        await self._send(asked, fsp_id, target, body, "answer")

    async def put_error(
        self, asked: Asked, fsp_id: str, fault: Fault, *, party: Party | None = None, request_id: str = ""
    ) -> bool:
        """Send the error callback of a request; return whether the FSP has it.  Never raises.

        An FSP of another scheme gets it through the proxy that its question about a party came through.
        """
        self.on_error(asked, fault)
        party = party or asked.party
        called = fsp_id
        if asked.proxy is not None and asked.resource == "parties" and fsp_id == asked.source:
            called = asked.proxy
        try:
            endpoint_type = choose_error_type(asked, party)
            template = await self._find_endpoint(called, endpoint_type)
            target = self._render(template, called, endpoint_type, party, request_id, "error")
            await self._send(asked, fsp_id, target, self._encode_error(asked, fsp_id, fault), "error")
        except Fault as exc:
            self._report(fault, exc)
            return False
        except Exception as exc:  # noqa: BLE001 - nobody else would report it
            log.error("An error callback failed", exc=exc)
            self._count("error", "failed")
            return False
        return True

    async def forward(
        self,
        asked: Asked,
        fsp_id: str,
        endpoint_type: str,
        *,
        destination: str | None = None,
        through: str | None = None,
    ) -> None:
        """Forward the DFSP's own message to another FSP.  Raises CallbackFailed, Fault.

        `destination`: the new fspiop-destination; `through`: the proxy whose endpoint is called instead of the FSP's.
        """
        if self._leads_back(asked.headers):
            self._count("forward", "no_endpoint")
            raise CallbackFailed("1001", "the endpoint of the FSP leads back to this service")
        called = through or fsp_id
        known = self._scheme.recall_endpoint(called, endpoint_type)
        template = known or await self._find_endpoint(called, endpoint_type)
        target = self._render(template, called, endpoint_type, asked.party, "", "forward")
        begins_span = asked.method == "GET" or asked.is_error
        headers = select_forwarded(asked.headers, has_destination=destination is not None, has_trace=begins_span)
        headers.append((b"via", self._via))
        if destination is not None:
            headers.append((b"fspiop-destination", destination.encode("latin-1", "replace")))
        if begins_span:
            headers += _make_trace(asked)
        await self._call(Call(asked.method, target.url, headers, asked.body), "forward")

    async def has_endpoint(self, fsp_id: str, endpoint_type: str) -> bool:
        """Whether the FSP can be called there.  Raises Fault if the scheme cannot say."""
        known = self._scheme.recall_endpoint(fsp_id, endpoint_type)
        return known is not None or await self._find_endpoint(fsp_id, endpoint_type) is not None

    # -- parts ----------------------------------------------------------------------------------------------------

    def _leads_back(self, headers: Sequence[Header]) -> bool:
        """Whether this service has forwarded the message before."""
        for name, value in headers:  # noqa: SIM110 - a generator costs more
            if len(name) == 3 and name.lower() == b"via" and self._via in value:  # noqa: PLR2004 - not to lower all
                return True
        return False

    async def _find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        try:
            return await self._scheme.find_endpoint(fsp_id, endpoint_type)
        except errors.Unavailable:
            raise Fault("2003", "the endpoints of the FSP cannot be read; try again later", status=503) from None

    def _render(
        self, template: str | None, fsp_id: str, endpoint_type: str, party: Party | None, request_id: str, kind: Kind
    ) -> Rendered:
        if template is None:
            self._count(kind, "no_endpoint")
            raise CallbackFailed("1001", f"no {endpoint_type} endpoint for the FSP")
        values = {"fsp": fsp_id, "requestId": request_id}
        if party is not None:
            values["partyIdType"] = party.party_id_type
            values["partyIdentifier"] = party.identifier
            values["partySubIdOrType"] = party.sub_id or ""
        try:
            return compile_template(template).render(values)
        except BadTemplate:
            self._count(kind, "no_endpoint")
            raise CallbackFailed("1001", f"the {endpoint_type} endpoint of the FSP is not valid") from None

    async def _send(self, asked: Asked, fsp_id: str, target: Rendered, body: bytes, kind: Kind) -> None:
        headers: list[Header] = [
            (b"content-type", self._content_types[asked.resource, asked.version]),
            (b"date", self._make_date()),
            (b"fspiop-source", self._source),
            (b"fspiop-destination", fsp_id.encode("latin-1", "replace")),
        ]
        copied, had_uri = _select_copied(asked.headers)
        headers += copied
        headers += _make_trace(asked)
        if self._signer is not None:
            body = await self._signer.sign_message("PUT", target.uri, headers, body)
        elif asked.resource == "parties" or had_uri:
            headers += [(b"fspiop-http-method", b"PUT"), (b"fspiop-uri", target.uri.encode())]
        await self._call(Call("PUT", target.url, headers, body), kind)

    async def _call(self, call: Call, kind: Kind) -> None:
        try:
            answer = await (self._call_patiently(call) if kind == "error" else self._caller.call(call))
        except CallFailed:
            self._count(kind, "no_answer")
            raise CallbackFailed("1001", "the FSP did not answer", tried=True) from None
        status = answer.status
        if 200 <= status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
            self._metrics.cells[self._delivered[kind]] += 1
            return
        self._count(kind, "refused")
        code = "3200" if status == _NOT_FOUND else "1001"
        raise CallbackFailed(code, "the FSP refused the message", status=status, tried=True)

    async def _call_patiently(self, call: Call) -> Answer:
        """Make a call; again after a pause while nothing of it could be sent because there are too many."""
        for pause_s in PAUSES_S:
            try:
                return await self._caller.call(call)
            except CallFailed as exc:
                if exc.reason != "busy" or self._paused >= PAUSED_MAX:
                    raise
            self._paused += 1
            try:
                await asyncio.sleep(pause_s)
            finally:
                self._paused -= 1
        return await self._caller.call(call)

    def _encode_error(self, asked: Asked, fsp_id: str, fault: Fault) -> bytes:
        if self._iso20022 and asked.resource == "parties":
            return iso20022.encode_error(asked, fsp_id, fault, self.hub_name)
        return faults.encode(fault)

    def _count(self, kind: Kind, result: str) -> None:
        self._metrics.add("callbacks_total", kind=kind, result=result)

    def _report(self, fault: Fault, cause: Fault) -> None:
        """Report an error that its FSP did not get."""
        if not isinstance(cause, CallbackFailed):
            self._count("error", "failed")
        if self._lines.take():
            log.warning(
                "An FSP did not get the error of its request", code=fault.code, cause=cause.code, reason=cause.detail
            )

    def _make_date(self) -> bytes:
        now_s = int(time.time())
        if now_s != self._date_s:
            self._date_s = now_s
            self._date = formatdate(now_s, usegmt=True).encode()
        return self._date


def select_forwarded(
    headers: Iterable[Header], *, has_destination: bool = False, has_trace: bool = False
) -> list[Header]:
    """Select the headers of a DFSP that another one can get.

    `has_destination`, `has_trace`: the message gets another destination, another trace.
    """
    kept: list[Header] = []
    named: set[bytes] = set()
    for header in headers:
        fate = _FATES.get(header[0]) or _find_fate(header[0])
        if fate == "keep" or (fate == "destination" and not has_destination) or (fate == "trace" and not has_trace):
            kept.append(header)
        elif fate == "list":
            named.update(token.strip().lower() for token in header[1].split(b","))
    if named and named - _HOP_BY_HOP:
        kept = [header for header in kept if header[0].lower() not in named or _is_fixed(header[0])]
    return kept


# What becomes of the headers that were seen, by their names as they were written: most requests have the same.
_FATES: Final[dict[bytes, Fate]] = {}


def _find_fate(name: bytes) -> Fate:
    lower = name.lower()
    fate: Fate = "drop" if lower in _NEVER or lower.startswith(_NEVER_BEGINNINGS) else "keep"
    if not lower.startswith(b"fspiop-") and any(word in lower for word in _SECRET_WORDS):
        fate = "drop"
    if lower == b"connection":
        fate = "list"
    elif lower == b"fspiop-destination":
        fate = "destination"
    elif lower in (b"traceparent", b"tracestate"):
        fate = "trace"
    if len(_FATES) >= FATES_MAX:
        _FATES.clear()
    _FATES[name] = fate
    return fate


def _is_fixed(name: bytes) -> bool:
    """Whether a header belongs to the message, also if `connection` names it: a DFSP cannot hide who sent it."""
    lower = name.lower()
    return lower.startswith(b"fspiop-") or lower in {b"content-type", b"date", b"accept"}


def _select_copied(headers: Sequence[Header]) -> tuple[list[Header], bool]:
    """Select the headers of a request that its callback repeats; and whether the request has an fspiop-uri."""
    copied: list[Header] = []
    had_uri = False
    for name, value in headers:
        if len(name) < 10 or name[:7].lower() != b"fspiop-":  # noqa: PLR2004 - cheaper than to lower all
            continue
        lower = name.lower()
        if lower == b"fspiop-uri":
            had_uri = True
        elif lower not in _HUB_OWN:
            copied.append((lower, value))
    return copied, had_uri


def _make_trace(asked: Asked) -> list[Header]:
    """Make the trace of a new message: the trace of the request with a new span, or a new trace."""
    parent = asked.traceparent
    trace_id = trace_id_of(parent.encode("latin-1", "replace")) if parent is not None else None
    span_id = f"{getrandbits(64) or 1:016x}".encode()
    if parent is None or trace_id is None:
        return [(b"traceparent", b"00-%032x-%b-00" % (getrandbits(128) or 1, span_id))]
    headers = [(b"traceparent", b"00-%b-%b-%b" % (trace_id.encode(), span_id, parent[53:55].encode()))]
    if asked.tracestate:
        headers.append((b"tracestate", asked.tracestate.encode("latin-1", "replace")))
    return headers

"""TLS of a listener: our end of a connection, between the socket and the HTTP that a listener speaks.

For.        The loop's own TLS has no bound for handshakes, cannot send its end and go on reading (our servers do that
            so that a client reads the last answer), and takes 256 KiB for each connection.
Layers.     The socket's transport calls a `Channel`, and the channel is the transport of the protocol behind it.  So
            the same protocols serve plain connections, where nothing of this module runs.
Handshakes. The protocol behind learns of a client when its handshake is complete.  Until then a client counts in
            `Handshakes`: at most `handshakes_max`, each for `handshake_timeout_s`.  A further client takes the place
            of the one that has waited longest.
Load.       A handshake takes 0.2 to 2 ms of CPU, so only one step of one handshake is done in each turn of the event
            loop.  In a flood of new clients, the others are still served in every turn.
            After it, a client can send messages of TLS itself: a change of keys has 27 bytes, and takes 0.05 ms.  So
            what arrives at once is decrypted in steps.  Where a step brings little data, the next one waits for the
            next turn.
Plain.      The first byte of a client tells whether it uses TLS.  Plain HTTP gets one answer, in plain HTTP.
Refusals.   After a failed handshake the client can still read our alert: we send our end, and drop what it sends.
            Else the kernel would answer with a reset, and the client would not learn the reason.
Closing.    A complete message says its own length, so the end of a connection without a close_notify loses nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from oracle.telemetry import logs

RECORD_BYTES_MAX: Final = 16 * 1024  # of a record, decrypted
STEP_BYTES: Final = RECORD_BYTES_MAX  # decrypted in one step
SMALL_STEP_BYTES: Final = 2 * 1024  # after a step that brought less data than half of its bytes
DONE: Final = "done"
_HANDSHAKE: Final = 0x16  # the first byte of each TLS client
LOG_EVERY_S: Final = 60.0
# Why a certificate of a client is refused (OpenSSL's X509_V_ERR_…).
_VERIFY_REASONS: Final = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    **dict.fromkeys((2, 18, 19, 20, 21, 27), "certificate_of_unknown_authority"),
}
_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "UNSUPPORTED_PROTOCOL": "old_version",
    "VERSION_TOO_LOW": "old_version",
    "NO_SHARED_CIPHER": "no_shared_cipher",
    "HTTP_REQUEST": "no_tls",
    "WRONG_VERSION_NUMBER": "no_tls",
}
_REFUSED_BY_CLIENT: Final = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED")

log = logs.Log(__name__)


class TlsLimits(msgspec.Struct, frozen=True):
    """How long and how many clients can be without a complete handshake."""

    handshake_timeout_s: float = 10  # a handshake takes two round trips
    handshakes_max: int = 1_000  # each takes some 50 KB
    linger_s: float = 2  # after a refusal, for the client to read it
    linger_bytes_max: int = 256 * 1024  # read and dropped during that time


TLS_LIMITS: Final = TlsLimits()


class App(Protocol):
    """What a channel needs of the protocol behind it."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Tls(NamedTuple):
    """What makes a listener speak TLS."""

    context: ssl.SSLContext
    listener: str  # its name in the log
    limits: TlsLimits = TLS_LIMITS
    on_result: Callable[[str], None] = lambda _: None  # for each handshake, a result of `tls_handshakes_total`

    def begin(self, make_app: Callable[[], App], plain_answer: bytes) -> Handshakes:
        """`plain_answer`: a whole answer for a client that sends HTTP without TLS."""
        return Handshakes(self, make_app, plain_answer)


class Handshakes:
    """All clients of one listener in this process whose handshake is not complete, and what all channels share."""

    def __init__(self, tls: Tls, make_app: Callable[[], App], plain_answer: bytes) -> None:
        self.context = tls.context
        self.limits = limits = tls.limits
        self.make_app = make_app
        self.plain_answer = plain_answer
        self.on_gone: Callable[[], None] = lambda: None
        self._listener = tls.listener
        self._on_result = tls.on_result
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Channel, float] = {}  # the longest first; until when each can wait
        self._ready: deque[Channel] = deque()
        self._works = False
        self._failed: Counter[str] = Counter()
        self._logged_at = -LOG_EVERY_S
        self._sweep_s = min(1.0, limits.handshake_timeout_s / 4, limits.linger_s / 4)
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    def __len__(self) -> int:
        return len(self._waiting)

    def make_channel(self) -> Channel:
        """Make the protocol of a new connection."""
        return Channel(self)

    def close(self) -> None:
        """Cut off all that wait."""
        self._sweeper.cancel()
        for channel in tuple(self._waiting):
            channel.drop("closed")

    # From the channels.

    def admit(self, channel: Channel) -> None:
        if len(self._waiting) >= self.limits.handshakes_max:
            next(iter(self._waiting)).drop("crowded")
        self._waiting[channel] = self._loop.time() + self.limits.handshake_timeout_s

    def work_on(self, channel: Channel) -> None:
        """Take the next step of a handshake when its turn comes."""
        self._ready.append(channel)
        if not self._works:
            self._works = True
            self._loop.call_soon(self._work)

    def finish(self, channel: Channel) -> None:
        del self._waiting[channel]
        self._on_result(DONE)

    def fail(self, channel: Channel, reason: str) -> None:
        """Count it, and let the client read why until it closes."""
        self._failed[reason] += 1
        self._on_result(reason)
        if channel in self._waiting:
            del self._waiting[channel]
            self._waiting[channel] = self._loop.time() + self.limits.linger_s

    def forget(self, channel: Channel) -> None:
        if self._waiting.pop(channel, None) is not None:
            self.on_gone()

    def _work(self) -> None:
        self._ready.popleft().take_step()
        self._works = bool(self._ready)
        if self._works:
            self._loop.call_soon(self._work)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
        now = self._loop.time()
        for channel in [one for one, until in self._waiting.items() if until < now]:
            channel.drop("timed_out")
        if self._failed and now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            log.warning("TLS handshakes failed", listener=self._listener, reasons=dict(self._failed))
            self._failed.clear()


class Channel(asyncio.Protocol):
    """One connection: to the socket a protocol, and to the protocol behind it a transport."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._transport: asyncio.Transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls = handshakes.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # Two of each for a request, so their look-up counts.
        self._decrypt, self._encrypt = tls.read, tls.write
        self._app: App | None = None  # from the end of the handshake to the end of the connection
        self._began = False  # the first byte has arrived
        self._refused = False  # no handshake; what arrives is dropped
        self._dropped_bytes = 0
        self._ended = False  # our end is sent
        self._eof = False  # the client's end has come
        self._rest = memoryview(b"")  # what waits for the next turn; meanwhile nothing more is received
        self._step_bytes = STEP_BYTES
        self._app_pauses = False  # the protocol behind wants no data

    # From the socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._handshakes.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        app, self._app = self._app, None
        if app is not None:
            app.connection_lost(exc)
        elif not self._refused:
            self._handshakes.fail(self, "closed")
        self._refused = True
        self._handshakes.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._app is not None:
            if len(data) <= self._step_bytes and not self._rest:
                self._incoming.write(data)
                self._read()
            else:
                self._rest = memoryview(data)
                self._transport.pause_reading()
                self._read_rest()
        elif self._refused:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > self._handshakes.limits.linger_bytes_max:
                self.abort()
        elif self._began or data[0] == _HANDSHAKE:
            self._began = True
            self._incoming.write(data)
            self._transport.pause_reading()  # until the step is taken
            self._handshakes.work_on(self)
        else:
            if 0x41 <= data[0] <= 0x5A:  # noqa: PLR2004 - a capital letter begins the method of an HTTP request
                self._transport.write(self._handshakes.plain_answer)
            self._refuse("no_tls")

    def eof_received(self) -> bool:
        if self._app is None:
            if not self._refused:
                self._handshakes.fail(self, "closed")
                self._refused = True
            self._transport.close()
        elif not self._eof:
            self._take_eof()
        return True  # else the loop would close at once, and not when all is written

    def pause_writing(self) -> None:
        if self._app is not None:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        if self._app is not None:
            self._app.resume_writing()

    # The handshake.

    def take_step(self) -> None:
        """Work on what has arrived of the handshake."""
        if self._refused or self._transport.is_closing():
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            self._transport.resume_reading()
        except ssl.SSLError as exc:
            self._flush()  # the alert
            self._refuse(_name(exc))
        else:
            self._handshakes.finish(self)
            self._flush()
            self._transport.resume_reading()
            app = self._app = self._handshakes.make_app()
            app.connection_made(cast("asyncio.Transport", self))
            if self._app is not None and not self._transport.is_closing():
                self._read()

    def drop(self, reason: str) -> None:
        """End a handshake, or the time to read a refusal, at once."""
        if not self._refused:
            self._handshakes.fail(self, reason)
            self._refused = True
        self.abort()
        self._handshakes.forget(self)

    def _refuse(self, reason: str) -> None:
        self._refused = True
        self._handshakes.fail(self, reason)
        if self._eof:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._transport.resume_reading()

    # Data.

    def _read_rest(self) -> None:
        """Decrypt a long piece in steps, and leave what follows a step with little data to the next turn."""
        while self._rest:
            if self._app is None or self._eof or self._transport.is_closing():
                self._rest = memoryview(b"")
                break
            step, self._rest = self._rest[: self._step_bytes], self._rest[self._step_bytes :]
            self._incoming.write(step)
            has_much = 2 * self._read() >= len(step)
            self._step_bytes = STEP_BYTES if has_much else SMALL_STEP_BYTES
            if self._rest and not has_much:
                asyncio.get_running_loop().call_soon(self._read_rest)
                return
        if not (self._app_pauses or self._transport.is_closing()):
            self._transport.resume_reading()

    def _read(self) -> int:
        """Decrypt all that has arrived, and hand it over in one piece; return its length."""
        parts = []
        closed = False
        try:
            part = self._decrypt(RECORD_BYTES_MAX)
            while part:
                parts.append(part)
                # No read without bytes: the exception would cost more than the read.
                if not (self._incoming.pending or self._tls.pending()):
                    break
                part = self._decrypt(RECORD_BYTES_MAX)
            else:
                closed = True  # by a close_notify
        except ssl.SSLWantReadError:  # a part of a record, or a message of TLS itself
            pass
        except ssl.SSLZeroReturnError:  # a close_notify after our own
            closed = True
        except ssl.SSLError:
            self._flush()  # the alert
            self.abort()
            return 0
        if self._outgoing.pending:
            self._flush()  # the answer to a change of keys
        app = self._app
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if data and app is not None:
            app.data_received(data)
        if closed and not self._eof:
            self._take_eof()
        return len(data)

    def _take_eof(self) -> None:
        self._eof = True
        if self._app is not None and not self._app.eof_received():
            self.close()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._ended:
            self._transport.write(data)

    def _send_end(self) -> None:
        """Send a close_notify, once."""
        if self._app is None or self._ended:
            return
        with suppress(ssl.SSLError):  # the client's has not come yet
            self._tls.unwrap()
        self._flush()
        self._ended = True

    # As the transport of the protocol behind.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ended or self._transport.is_closing():
            return
        try:
            written = self._encrypt(data)
            while written < len(data):
                data = memoryview(data)[written:]
                written = self._encrypt(data)
        except ssl.SSLError:
            self.abort()
            return
        self._transport.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Send our end; what the client sends is still read."""
        if not self._ended:
            self._send_end()
            self._transport.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._transport.is_closing():
            self._send_end()
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._app_pauses = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._app_pauses = False
        if not self._rest:
            self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what asyncio's TLS has: `peercert` is the verified certificate of the client, {} or None without."""
        match name:
            case "sslcontext":
                return self._handshakes.context
            case "ssl_object":
                return self._tls
            case "peercert":
                return self._tls.getpeercert()
        return self._transport.get_extra_info(name, default)


def _name(error: ssl.SSLError) -> str:
    """Name the reason of a failed handshake, in the words of the metric `tls_handshakes_total`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_REASONS.get(error.verify_code, "certificate_refused")
    reason = error.reason or ""
    if reason.endswith(_REFUSED_BY_CLIENT):
        return "refused_by_client"
    return _REASONS.get(reason, "other")


# The certificate of a client -----------------------------------------------------------------------------------------


def list_names(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """List the names in a certificate as `getpeercert` describes it: common names, DNS names and URIs."""
    if not certificate:
        return frozenset()
    names = {value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI")}
    return frozenset(names | set(_list_common_names(certificate)))


def find_common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the one common name of the subject; None if there is none, or more than one."""
    names = _list_common_names(certificate) if certificate else []
    return names[0] if len(names) == 1 else None


def _list_common_names(certificate: Mapping[str, Any]) -> list[str]:
    return [value for parts in certificate.get("subject", ()) for kind, value in parts if kind == "commonName"]

"""The certificates of our listeners: read once by the supervisor, and handed to the workers with their order.

Files.    Certificate, key and the authorities of clients are PEM files of the settings.  The supervisor reads them at
          its start and at SIGHUP.  The workers get what it read, not the paths: so a worker that starts again later
          never meets files that nobody has checked.
Refused.  What cannot be used is a problem of the settings, like a wrong value: `oracle serve` does not start with it,
          and after SIGHUP the old certificates stay in use.  After SIGHUP an expired certificate is refused as well.
Secret.   Only its owner can be able to read the key (private_files).  It travels on the control socket alone, and no
          file of it is written: OpenSSL reads it from memory.
Context.  TLS 1.2 and 1.3, ciphers with forward secrecy and authenticated encryption, no renegotiation, no
          compression.  Where clients show certificates, each handshake verifies them: there is no resumption.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from oracle.api.tls import Tls
from oracle.private_files import find_exposure
from oracle.settings import SETTINGS, Settings, SettingsError

if TYPE_CHECKING:
    from cryptography import x509

    from oracle.telemetry.metrics import Metrics

WARNED_DAYS: Final = 14
BYTES_MAX: Final = 1024 * 1024
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"  # of TLS 1.2; those of TLS 1.3 are all good
_LISTENERS: Final = {
    "hub": "hub",
    "admin": "admin",
    "account-lookup": "account_lookup",
    "oracles": "account_lookup_admin",
}


class Credentials(msgspec.Struct, frozen=True):
    """What one listener needs for TLS: the text of PEM files.  It holds a secret."""

    chain: str
    key: str
    expires_at: float  # in seconds since 1970
    client_ca: str = ""
    require_client: bool = False

    @property
    def expires(self) -> str:
        return _format_day(self.expires_at)

    def __repr__(self) -> str:
        return f"Credentials(expires={self.expires})"


def find_prefix(role: str) -> str:
    """Return how the names of the settings begin that a listener's TLS needs."""
    return f"{_LISTENERS[role]}_tls_"


def uses_tls(settings: Settings, role: str) -> bool:
    return role in _LISTENERS and getattr(settings, f"{_LISTENERS[role]}_tls_certificate") is not None


def read_credentials(
    settings: Settings, roles: Sequence[str], *, refuse_expired: bool = False
) -> dict[str, Credentials]:
    """Read the files of all listeners that use TLS, by their roles.  Raises SettingsError with every problem."""
    found: dict[str, Credentials] = {}
    problems: list[str] = []
    for role, prefix in _LISTENERS.items():
        if role in roles and uses_tls(settings, role):
            try:
                found[role] = _Files(settings, prefix).read(refuse_expired=refuse_expired)
            except SettingsError as exc:
                problems += exc.problems
    if problems:
        raise SettingsError(problems)
    return found


def make_context(credentials: Credentials) -> ssl.SSLContext:
    """Make the context of a listener.  Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    with _open_in_memory(credentials.chain) as chain, _open_in_memory(credentials.key or credentials.chain) as key:
        # Without a password, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(chain, key, password="")
    if credentials.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED if credentials.require_client else ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=credentials.client_ca)
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def make_tls(role: str, credentials: Credentials | None, metrics: Metrics | None = None) -> Tls | None:
    """Make what the listener of this role needs; None without TLS."""
    if credentials is None:
        return None
    context = make_context(credentials)
    if metrics is None:
        return Tls(context, role)
    metrics.set("tls_certificate_expires_timestamp_seconds", credentials.expires_at)
    slots = metrics.slots("tls_handshakes_total", "result")
    cells = metrics.cells

    def count(result: str) -> None:
        cells[slots[result]] += 1

    return Tls(context, role, on_result=count)


def list_tls_warnings(settings: Settings, credentials: Mapping[str, Credentials]) -> list[str]:
    """List what clients will refuse in our certificates, or soon will."""
    from cryptography import x509  # noqa: PLC0415 - 50 ms, for services with TLS alone

    warnings = []
    for role, one in credentials.items():
        file = getattr(settings, f"{_LISTENERS[role]}_tls_certificate")
        label = f"The certificate of the {role} listener ({file})"
        leaf = x509.load_pem_x509_certificates(one.chain.encode())[0]
        left = leaf.not_valid_after_utc - datetime.now(UTC)
        if left < timedelta(0):
            warnings.append(f"{label} expired on {one.expires}: clients refuse it. Replace it")
        elif left < timedelta(days=WARNED_DAYS):
            warnings.append(f"{label} expires on {one.expires}. Replace it, then send SIGHUP to `oracle serve`")
        if leaf.not_valid_before_utc > datetime.now(UTC):
            warnings.append(f"{label} is not valid yet: clients refuse it")
        warnings += [f"{label} {flaw}" for flaw in _find_flaws(leaf)]
    return warnings


def _find_flaws(leaf: x509.Certificate) -> Iterator[str]:
    from cryptography import x509  # noqa: PLC0415 - as above
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    try:
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        yield "names no host (it has no subjectAltName): most clients refuse it"
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        yield "is not made for servers (its extendedKeyUsage has no serverAuth): clients refuse it"


# The files -----------------------------------------------------------------------------------------------------------


class _Files:
    """The files of one listener, each with the setting that names it."""

    def __init__(self, settings: Settings, prefix: str) -> None:
        self._settings = settings
        self._prefix = prefix
        self._problems: list[str] = []

    def read(self, *, refuse_expired: bool) -> Credentials:
        """Read and check them.  Raises SettingsError with every problem."""
        own_key = self._path("key") is not None
        chain = self._read_file("certificate", secret=not own_key)
        key = self._read_file("key", secret=True) if own_key else chain
        client_ca = "" if self._path("client_ca") is None else self._read_file("client_ca")
        leaf = None if chain is None else self._read_leaf(chain)
        if key is not None:
            self._check_key(key, leaf, "key" if own_key else "certificate")
        if client_ca is not None:
            self._check_authorities(client_ca)
        expires_at = 0.0 if leaf is None else leaf.not_valid_after_utc.timestamp()
        if leaf is not None and refuse_expired and leaf.not_valid_after_utc < datetime.now(UTC):
            self._note("certificate", f"the certificate expired on {_format_day(expires_at)}")
        credentials = Credentials(
            chain or "", key or "" if own_key else "", expires_at, client_ca or "", self._get("require_client") == "on"
        )
        if not self._problems:
            self._try(credentials)
        if self._problems:
            raise SettingsError(self._problems)
        return credentials

    def _read_leaf(self, chain: str) -> x509.Certificate | None:
        from cryptography import x509  # noqa: PLC0415 - as above

        try:
            return x509.load_pem_x509_certificates(chain.encode())[0]
        except ValueError:
            self._note("certificate", "the file has no certificate in PEM that can be read")
        return None

    def _check_key(self, text: str, leaf: x509.Certificate | None, name: str) -> None:
        """Check that the key can be read, and that it fits the certificate, if that can be read."""
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        try:
            key = serialization.load_pem_private_key(text.encode(), None)
        except TypeError:
            self._note(name, "the key has a password: write it without one (openssl pkey -in FILE -out NEW)")
            return
        except (ValueError, UnsupportedAlgorithm):
            self._note(name, "the file has no private key in PEM that can be read")
            return
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        if leaf is not None and key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
            self._note(name, f"the key does not fit the first certificate in {self._path('certificate')}")

    def _check_authorities(self, text: str) -> None:
        if self._path("client_ca") is None:
            return
        if not text:
            self._note("client_ca", "the file is empty")
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
        except (OSError, ValueError) as exc:
            self._note("client_ca", f"the file has no certificate in PEM that can be used: {_explain(exc)}")

    def _try(self, credentials: Credentials) -> None:
        """Let OpenSSL judge: it refuses short keys and old digests."""
        try:
            make_context(credentials)
        except (OSError, ValueError) as exc:
            self._note("certificate", f"OpenSSL refuses the certificate or its key: {_explain(exc)}")

    def _read_file(self, name: str, *, secret: bool = False) -> str | None:
        path = self._path(name) or Path()
        try:
            # Without waiting for the writer of a pipe.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                exposure = find_exposure(path, os.fstat(file.fileno())) if secret else ""
                data = file.read(BYTES_MAX + 1)
        except OSError as exc:
            self._note(name, exc.strerror or "the file cannot be read")
            return None
        if exposure:
            self._note(name, exposure)
        if len(data) > BYTES_MAX:
            self._note(name, "the file is too large")
            return None
        # PEM is ASCII; what is around it in other encodings does not count.
        return data.decode("ascii", "replace").replace("\ufffd", "?")

    def _get(self, name: str) -> object:
        return getattr(self._settings, f"{self._prefix}_tls_{name}")

    def _path(self, name: str) -> Path | None:
        path = self._get(name)
        return path if isinstance(path, Path) else None

    def _note(self, name: str, problem: str) -> None:
        setting = SETTINGS[f"{self._prefix}_tls_{name}"]
        self._problems.append(f"{setting.variable}: {self._get(name)}: {problem}")


def _explain(error: Exception) -> str:
    """Return OpenSSL's own words, which hold no part of a key."""
    reason = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if isinstance(reason, str) else type(error).__name__


def _format_day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


@contextmanager
def _open_in_memory(text: str) -> Iterator[str]:
    """Name a file that is in memory alone: OpenSSL's loader takes nothing but a name."""
    with os.fdopen(os.memfd_create("tls", os.MFD_CLOEXEC), "wb") as file:
        file.write(text.encode())
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"

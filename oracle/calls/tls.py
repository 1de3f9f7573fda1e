"""TLS for https hosts: whose certificates we accept, and the certificate that we show."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from oracle.settings import PREFIX, Settings, SettingsError


class CallFiles(msgspec.Struct, frozen=True):
    """PEM files.  Without `ca`, the authorities of the system are believed."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> CallFiles:
        return cls(settings.call_ca_file, settings.call_cert_file, settings.call_key_file)

    def make_context(self) -> ssl.SSLContext:
        """Read the files.  The context verifies certificate and host name.  Raises SettingsError with every problem."""
        problems = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for the certificate, if there are no authorities
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as exc:  # SSLError is one
            problems.append(_describe("CALL_CA_FILE", self.ca, exc, "the file has no certificate in PEM"))
        context.set_alpn_protocols(["http/1.1"])
        if self.certificate is not None:
            try:
                # Without a password, OpenSSL would ask for one at the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
            except OSError as exc:
                problem = "the file has no certificate in PEM that fits its key, or the key has a password"
                problems.append(_describe("CALL_CERT_FILE", self.certificate, exc, problem))
        if problems:
            raise SettingsError(problems)
        return context

    def read_expiry(self) -> float | None:
        """Read when the certificate expires, in seconds since 1970; None without one that can be read."""
        from cryptography import x509  # noqa: PLC0415 - 50 ms, for services with such a certificate alone

        if self.certificate is None:
            return None
        try:
            leaf = x509.load_pem_x509_certificates(self.certificate.read_bytes())[0]
        except (OSError, ValueError):  # `make_context` names the fault
            return None
        return leaf.not_valid_after_utc.timestamp()


def check_files(settings: Settings) -> None:
    """Check the files of the settings for TLS, before a process needs them.  Raises SettingsError."""
    files = CallFiles.of(settings)
    if files != CallFiles():
        files.make_context()


def _describe(name: str, path: Path | None, error: OSError, otherwise: str) -> str:
    problem = otherwise if isinstance(error, ssl.SSLError) else error.strerror
    return f"{PREFIX}{name}: {path}: {problem}"

"""Whose certificates the commands accept from the admin listener, and the certificate that they show to it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from oracle.commands.failures import CommandError

if TYPE_CHECKING:
    from oracle.settings import Settings


def make_context(settings: Settings, ca_file: Path | None = None) -> ssl.SSLContext | None:
    """Make the context of calls to the admin API; None for an address without TLS.  Raises CommandError.

    `ca_file` was named with the command.  The listener on this machine must show the very certificate of its settings,
    under any name: so commands beside it need no other setting.
    """
    if not settings.admin_address.startswith("https:"):
        return None
    own = settings.admin_tls_certificate if settings.admin_url is None else None
    authorities = ca_file or settings.command_ca_file
    if authorities is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(context, authorities, "--ca-file" if ca_file else "ORACLE_COMMAND_CA_FILE")
    elif own is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load(context, own, "ORACLE_ADMIN_TLS_CERTIFICATE")
    else:
        import httpx  # noqa: PLC0415 - as imports in cli

        context = httpx.create_ssl_context()
    show_certificate(context, settings)
    return context


def show_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Let the context show the client certificate of the commands, if there is one.  Raises CommandError."""
    if settings.command_cert_file is None:
        return
    try:
        # Without a password, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(settings.command_cert_file, settings.command_cert_key_file, password="")
    except OSError as exc:
        problem = "no certificate in PEM that fits its key, or the key has a password"
        raise CommandError(
            f"ORACLE_COMMAND_CERT_FILE: {settings.command_cert_file}: {_describe(exc, problem)}. "
            "Name a certificate in PEM, and its key in ORACLE_COMMAND_CERT_KEY_FILE"
        ) from None


def _load(context: ssl.SSLContext, file: Path, name: str) -> None:
    try:
        context.load_verify_locations(file)
    except OSError as exc:
        raise CommandError(f"{name}: {file}: {_describe(exc, 'the file has no certificate in PEM')}") from None


def _describe(error: OSError, otherwise: str) -> str:
    return otherwise if isinstance(error, ssl.SSLError) or error.strerror is None else error.strerror

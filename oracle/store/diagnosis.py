"""Says in plain words why PostgreSQL cannot be used: the same words in the log, in /health and on the command line.

The texts hold no party identifier, no password, and no part of a URL: /health shows them to callers without a key.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final

import asyncpg

from oracle.errors import DirectoryUnavailable
from oracle.store.sessions import UnfitSession

NO_ANSWER: Final = "PostgreSQL does not answer"
NO_ANSWER_IN_TIME: Final = "PostgreSQL does not answer in time"
BROKEN: Final = "the connection to PostgreSQL broke"

# By the beginning of the SQLSTATE, the longest first.
_STATES: Final = {
    "25006": "PostgreSQL is read-only",
    "28P01": "PostgreSQL does not accept the password",
    "28": "PostgreSQL does not accept this user from this machine: check the role, and pg_hba.conf",
    "3D000": "the database does not exist",
    "53100": "the disk of PostgreSQL is full",
    "53200": "PostgreSQL has no memory left",
    "53300": "PostgreSQL has no connection left: raise max_connections, or the limit of the role or the database",
    "53": "PostgreSQL lacks memory, disk or connections",
    "57P01": "PostgreSQL was stopped, or an administrator ended the connection",
    "57P02": "PostgreSQL crashed",
    "57P03": "PostgreSQL does not take connections yet",
    "58": "PostgreSQL cannot read or write its files",
    # "Not now" for one statement.
    "25P03": NO_ANSWER_IN_TIME,
    "55P03": NO_ANSWER_IN_TIME,
    "57014": NO_ANSWER_IN_TIME,
    "40": "changes of the same rows collided",
    "08": BROKEN,
    "57P": "PostgreSQL ended the connection",
}
# 57P03 has one code for all of these; the texts are of the server, and hold no values.
_PHASES: Final = {
    "starting up": "PostgreSQL is starting",
    "shutting down": "PostgreSQL is stopping",
    "recovery": "PostgreSQL is recovering",
    "not accepting": "PostgreSQL is recovering",
    "not yet accepting": "PostgreSQL is recovering",
}
_SYSTEM: Final = {
    errno.ECONNREFUSED: "nothing listens at the address of PostgreSQL",
    errno.ENOENT: "PostgreSQL has no socket in the directory of the URL: it does not run there",
    errno.EHOSTUNREACH: "the host of PostgreSQL cannot be reached",
    errno.ENETUNREACH: "the host of PostgreSQL cannot be reached",
    errno.ECONNRESET: BROKEN,
    errno.EPIPE: BROKEN,
}

# What PostgreSQL answers to a connection that it refuses for good.  The texts of the server hold names.
_AT_CONNECT: Final = {
    "42501": "this user cannot connect to the database: GRANT CONNECT ON DATABASE … TO …",
    "42704": "PostgreSQL does not know a parameter of the URL",
    "55000": "the database takes no connections: somebody drops it, or ALTER DATABASE … ALLOW_CONNECTIONS is false",
    "22023": "PostgreSQL does not accept the value of a parameter of the URL",
}


def explain_connecting(error: asyncpg.PostgresError) -> str:
    """Explain why PostgreSQL refuses a connection, where the same code of a statement means something else; else ''."""
    return _AT_CONNECT.get(str(error.sqlstate), "")


def find_root(error: BaseException) -> BaseException:
    """Return the error of the driver or the system behind "not now"."""
    while isinstance(error, DirectoryUnavailable) and error.__cause__ is not None:
        error = error.__cause__
    return error


def explain(error: BaseException) -> str:
    """Explain in a few words why PostgreSQL cannot be used; '' for an error that says nothing of that."""
    root = find_root(error)
    if isinstance(root, asyncpg.PostgresError):
        return _explain_state(root)
    if isinstance(root, UnfitSession):
        return str(root)
    if isinstance(root, OSError):
        return _explain_system(root)
    if isinstance(root, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return BROKEN
    return "PostgreSQL did not answer a moment ago" if isinstance(root, DirectoryUnavailable) else ""


def _explain_state(error: asyncpg.PostgresError) -> str:
    sqlstate = str(error.sqlstate or "08")
    if sqlstate == "57P03":
        text = str(error)
        return next((phase for word, phase in _PHASES.items() if word in text), _STATES[sqlstate])
    return next((text for start, text in _STATES.items() if sqlstate.startswith(start)), "")


def _explain_system(error: OSError) -> str:
    shown = getattr(error, "shown", "")  # of servers.NotPrimary
    if shown:
        return str(shown)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of PostgreSQL is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "TLS with PostgreSQL failed: it wants a certificate of this service, or another version of TLS"
    if isinstance(error, socket.gaierror):
        return "the host name of PostgreSQL is not known"
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    if "rejected SSL" in str(error):
        return "PostgreSQL does not use TLS, but the URL asks for it (sslmode)"
    if error.errno is None:
        return BROKEN
    return _SYSTEM.get(error.errno) or f"PostgreSQL cannot be reached: {os.strerror(error.errno)}"

"""The settings that each session must have, whatever the server, the database and the role set, and their check.

Pinned.    A database, a role or a server can have its own defaults.  With another isolation level a statement that has
           waited for a lock would not see what the other transaction wrote, so changes would fail.  With other formats,
           texts that the database makes of values (events, exports) would differ from process to process.
Checked.   Once for each new connection.  A pooler can drop what a client asks for, and gives the next statement to
           another session.  Then no time limit of a change holds, and locks and notifications belong to somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

# Each can be set by everybody, and overrides the database, the role and postgresql.conf.  Names are in lower case, so
# that a caller's value replaces ours; PostgreSQL shows some with capitals (TimeZone).
PINNED: Final = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # A limit that somebody gave the database for other programs would end a migration, or the lock of a leader.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # Text forms.
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}

# Only a superuser can set these, or nobody.
_REQUIRED: Final = {
    "server_encoding": ("UTF8", "make a database with ENCODING 'UTF8' TEMPLATE template0, and use that one"),
    "session_replication_role": ("origin", "with another value the rules of the directory are off: reset it"),
}

# Not compared: PostgreSQL shows 0 for these on a Unix socket, and shortens the name.
_UNCHECKED: Final = ("tcp_keepalives_", "application_name")


class UnfitSession(Exception):
    """The server answers, but not with a session that we can use; the text is one line for the operator."""


def list_wanted(settings: Mapping[str, str]) -> dict[str, str]:
    """Return what a session that was opened with these settings must show, by name."""
    asked = {name: value for name, value in settings.items() if not name.startswith(_UNCHECKED)}
    return {**asked, **{name: value for name, (value, _) in _REQUIRED.items()}}


def check_session(wanted: Mapping[str, str], found: Sequence[str], *, is_own: bool) -> None:
    """Compare the settings of a new session, each as name=value, with those that it must show.

    `is_own`: the process that answers is the one that the session began with.  Raises UnfitSession.
    """
    values = dict(each.split("=", 1) for each in found)
    for name, (value, remedy) in _REQUIRED.items():
        if values.get(name) != value:
            kind = "encoding of the database" if name == "server_encoding" else name
            raise UnfitSession(f"the {kind} is {values.get(name)}, but must be {value}: {remedy}")
    lost = sorted(name for name, value in wanted.items() if values.get(name) != value)
    if lost:
        shown = f"{lost[0]} is {values.get(lost[0])}, not {wanted[lost[0]]}"
        raise UnfitSession(f"the session lost its settings ({shown}): connect directly, not through a pooler")
    if not is_own:
        raise UnfitSession("the session is shared with other clients: connect directly, not through a pooler")

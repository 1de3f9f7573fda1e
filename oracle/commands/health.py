"""Asks the listeners of the service on this machine whether they answer.

Open.     The supervisor opens all its listeners at the start and keeps them.  So a port that refuses connections
          belongs to a part that does not run here (`serve --only`).  A worker that hangs or dies refuses nothing: its
          port is open, and the question ends with the time-out.
Alive.    Any complete answer shows that a worker turns.  With `ready` its status must be 200.
Address.  That of the settings; a listener at all addresses is asked at the loopback one.
TLS.      No certificate is checked: nothing secret is sent, and an expired one is no reason to restart the service.  A
          listener that demands one of its clients gets that of the commands (ORACLE_COMMAND_CERT_FILE).  Without it
          the listener's refusal shows that a worker turns, and nothing else.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final, NamedTuple

from oracle.commands.certificates import show_certificate
from oracle.run.listeners import Place, list_places
from oracle.run.order import Role, choose_roles
from oracle.run.tls import uses_tls
from oracle.settings import Settings, is_every_address

_OK: Final = 200
# ALS has no /ready at the address of its admin API.
_PATHS: Final[Mapping[Role, str]] = {"oracles": "/health"}


class Answer(NamedTuple):
    role: str
    good: bool
    text: str

    def __str__(self) -> str:
        return f"{self.role}: {self.text}"


def ask_listeners(settings: Settings, *, ready: bool, timeout_s: float) -> list[Answer]:
    """Ask all listeners that are open.  `timeout_s` is for all of them together."""
    return list(_ask(settings, ready=ready, timeout_s=timeout_s))


def _ask(settings: Settings, *, ready: bool, timeout_s: float) -> Iterator[Answer]:
    ends_at = time.monotonic() + timeout_s
    for place in list_places(settings, choose_roles(settings)):
        tls = _make_context(settings) if uses_tls(settings, place.role) else None
        try:
            path = _PATHS.get(place.role, "/ready" if ready else "/live")
            status = _get(place, path, max(0.1, ends_at - time.monotonic()), tls)
        except ConnectionRefusedError:
            continue
        except ssl.SSLError as exc:
            if "ALERT" not in str(exc.reason):
                yield Answer(place.role, good=False, text="no answer with TLS")
            else:
                text = "it demands a client certificate: set ORACLE_COMMAND_CERT_FILE" if ready else "ok"
                yield Answer(place.role, good=not ready, text=text)
        except TimeoutError:
            yield Answer(place.role, good=False, text="no answer in time")
        except (OSError, HTTPException) as exc:
            yield Answer(place.role, good=False, text=f"no answer ({type(exc).__name__})")
        else:
            good = status == _OK or not ready
            yield Answer(place.role, good=good, text="ok" if good else f"status {status}")


def _make_context(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    show_certificate(context, settings)
    return context


def _get(place: Place, path: str, timeout_s: float, tls: ssl.SSLContext | None) -> int:
    host = ("::1" if ":" in place.host else "127.0.0.1") if is_every_address(place.host) else place.host
    connection = (
        HTTPConnection(host, place.port, timeout=timeout_s)
        if tls is None
        else HTTPSConnection(host, place.port, timeout=timeout_s, context=tls)
    )
    with closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status

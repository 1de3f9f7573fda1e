"""SIGHUP reads the settings again: what workers use changes with their replacement, the rest needs a restart.

Refused.   A file that is broken, or holds one wrong value, changes nothing: the workers go on with their settings.
Restart.   Sockets are bound and servers are started once.  And all processes must agree at each moment on the directory
           and the cache: with two caches, a change would be fenced in one and answered from the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from oracle.run.order import Order, Role
from oracle.run.tls import read_credentials
from oracle.settings import SETTINGS, Settings, SettingsError
from oracle.telemetry import logs

AT_START: Final = frozenset({
    "database_url", "database_password", "database_owner_url", "database_owner_password", "redis_url", "redis_password",
    "cache_prefix", "data_dir", "workers", "compiled",
    "account_lookup", "account_lookup_workers", "start_wait_s", "log_format",
    *(name for name in SETTINGS if name.endswith(("host", "_port"))),
})  # fmt: skip
# `serve` does not use them.
OF_COMMANDS: Final = frozenset({
    "admin_url", "key", "key_file", "command_ca_file", "command_cert_file", "command_cert_key_file",
})  # fmt: skip

log = logs.Log(__name__)


def make_renewal(
    start: Settings, read: Callable[[], Settings], roles: Sequence[Role]
) -> Callable[[Order], Order | None]:
    """Return the function that makes the next order from the present one; it returns None when nothing must change.

    `start`: the settings of the start, without the URLs of our own servers.  `read` raises SettingsError.  `roles`:
    those that run, whose certificates are read.
    """

    def renew(order: Order) -> Order | None:
        try:
            fresh = read()
            credentials = read_credentials(fresh, roles, refuse_expired=True)
        except SettingsError as exc:
            log.error("The settings cannot be used; the old ones stay in use. Correct them, then send SIGHUP again",
                      problems=exc.problems)  # fmt: skip
            return None
        running = order.settings
        if start.redis_url is None and not fresh.cache_key:  # the key of our own Redis is in no setting
            fresh = msgspec.structs.replace(fresh, cache_key=running.cache_key)
        changed = [name for name in SETTINGS if name not in AT_START | OF_COMMANDS and _differs(name, running, fresh)]
        late = [name for name in SETTINGS if name in AT_START and _differs(name, start, fresh)]
        log.info("The settings were read again", changed=[_describe(name, running, fresh) for name in changed])
        if late:
            log.warning("Some changed settings need a restart; until then the old ones stay in use",
                        settings=[_describe(name, start, fresh) for name in late])  # fmt: skip
        if "log_level" in changed:
            logs.configure(fresh.log_level, start.log_format, role="supervisor")
        values: dict[str, Any] = {name: getattr(fresh, name) for name in changed}
        for role, one in credentials.items():
            if one != order.credentials.get(role):
                log.info("A certificate or its authorities were read again", listener=role, expires=one.expires)
        settings = msgspec.structs.replace(running, **values)
        return msgspec.structs.replace(order, settings=settings, credentials=credentials)

    return renew


def _differs(name: str, one: Settings, other: Settings) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def _describe(name: str, old: Settings, new: Settings) -> str:
    """Say how a setting changes, without secrets."""
    before, after = SETTINGS[name].format(old) or "not set", SETTINGS[name].format(new) or "not set"
    return (
        f"{SETTINGS[name].variable}: {before} -> {after}" if before != after else f"{SETTINGS[name].variable}: changed"
    )

"""Reads the settings of a service with the files that they name, and reports every problem of both at once.

A person who corrects settings would otherwise start the program once for each problem.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oracle.run.order import choose_roles
from oracle.run.tls import find_prefix, read_credentials, uses_tls
from oracle.settings import Configuration, Settings, SettingsError, read, require_database_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


def load_with_files(
    environ: Mapping[str, str], file: Path | None, *, only: str | None = None, refuse_expired: bool = False
) -> Configuration:
    """Read the settings in use, and check the files of what they turn on.  Raises SettingsError with every problem.

    `only`: the listener that alone will be opened.  `refuse_expired`: refuse its certificate if it has expired.
    """
    draft = read(environ, file)
    settings = draft.configuration.settings
    problems = [*draft.problems]
    for prefixes, check in _list_checks(settings, only, refuse_expired=refuse_expired):
        if any(name.startswith(prefixes) for name in draft.unread):
            continue  # it would judge defaults
        try:
            check()
        except SettingsError as exc:
            problems += exc.problems
    if problems:
        raise SettingsError([*dict.fromkeys(problems)])
    return draft.configuration


def _list_checks(
    settings: Settings, only: str | None, *, refuse_expired: bool
) -> Iterator[tuple[tuple[str, ...], Callable[[], object]]]:
    """List the checks of files, each with how the names of the settings begin that it needs."""

    def read_townships() -> None:
        from oracle.identifiers import Reading  # noqa: PLC0415 - see find_form: modules that can be compiled

        Reading.of(settings)

    yield ("database_",), lambda: require_database_url(settings)
    yield ("nrc_townships",), read_townships
    if settings.jws_sign == "on" or settings.jws_validate == "on":
        yield ("jws_",), lambda: _check_signatures(settings)
    if "oidc" in settings.admin_auth or "gateway" in settings.admin_auth:
        yield ("oidc_", "admin_auth"), lambda: _check_trust(settings)
    if settings.call_ca_file or settings.call_cert_file:
        yield ("call_",), lambda: _check_calls(settings)
    for role in choose_roles(settings, only):
        if uses_tls(settings, role):
            yield (find_prefix(role),), partial(read_credentials, settings, [role], refuse_expired=refuse_expired)


def _check_signatures(settings: Settings) -> None:
    from oracle.api.dfsp.signatures import check_files  # noqa: PLC0415 - for services that sign or verify alone

    check_files(settings)


def _check_trust(settings: Settings) -> None:
    from oracle.identity.issuers import read_trust  # noqa: PLC0415 - for services with tokens alone

    read_trust(settings, for_gateway="oidc" not in settings.admin_auth)


def _check_calls(settings: Settings) -> None:
    from oracle.calls.tls import check_files  # noqa: PLC0415 - for services with such files alone

    check_files(settings)

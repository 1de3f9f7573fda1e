"""`oracle als …`: whether the ALS of the hub asks this oracle, and its registration there.

Without --als-admin the service is asked, with the settings that it has.  With --als-admin this command calls that ALS
itself: for a hub whose service does not run yet, or that must not reach the admin API of ALS.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import CommandError, Found, Misused, Refused, Unreachable
from oracle.commands.output import format_json, print_line, print_note, show_pages
from oracle.commands.verbs import CONNECTION_HELP, Arguments, Verbs, add_connection, call_api, name_user, parse_number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oracle.commands.client import Client
    from oracle.registration.registration import Outcome, Registration
    from oracle.settings import Settings

COLUMNS: Final = ("partyIdType", "currency", "state", "row.endpoint", "reason")
EVERY_S: Final = 60
_OWN: Final = "only with --als-admin"
_DETAILS: Final = (
    "Without --als-admin, the service does it, with its settings ORACLE_ALS_ADMIN_URL and ORACLE_ALS_ENDPOINT, and your"
    " key. With --als-admin, this command calls that ALS itself, and needs no key."
)
_WRITES: Final = " Then it needs the database (ORACLE_DATABASE_URL), because each change of ALS is an event in history."

Ask = Callable[[], dict[str, Any]]  # what the admin API answers: AlsRegistration


def add(commands: Any) -> None:
    als = Verbs(commands, "als", "register this oracle at the ALS of the hub, and see whether it is")
    status = als.add_local(
        "status",
        _status,
        "show whether this oracle is registered at the ALS of the hub, as it must be",
        f"{_DETAILS} {CONNECTION_HELP}",
    )
    _add_options(status)
    register = als.add_local(
        "register", _register, "create what is missing at the ALS of the hub", f"{_DETAILS}{_WRITES} {CONNECTION_HELP}"
    )
    _add_options(register)
    _add_replace(register)
    watch = als.add_local(
        "watch", _watch, "check again and again, and create what is missing, until stopped (Ctrl-C)",
        f"The jobs process of the service does the same if ORACLE_ALS_ADMIN_URL is set. {_DETAILS}{_WRITES}"
        f" {CONNECTION_HELP}",
    )  # fmt: skip
    _add_options(watch)
    _add_replace(watch)
    watch.add_argument(
        "--every", type=parse_number, default=EVERY_S, metavar="SECONDS",
        help=f"how long it waits between two checks (default: {EVERY_S})",
    )  # fmt: skip


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--als-admin", metavar="URL", help="the admin API of ALS, for example http://als-admin:4001")
    parser.add_argument(
        "--endpoint", metavar="URL", help=f"URL at which ALS reaches the hub listener (default: the setting); {_OWN}"
    )
    parser.add_argument(
        "--type", type=partial(_parse, "als_types"), metavar="TYPES",
        help=f"party id types, for example MSISDN,ALIAS (default: the setting); {_OWN}",
    )  # fmt: skip
    parser.add_argument(
        "--currency", type=partial(_parse, "als_currencies"), metavar="CURRENCIES",
        help=f"a row for each, for example MXN,USD (default: the setting); {_OWN}",
    )  # fmt: skip
    parser.add_argument("--default", action="store_true", help=f"the rows must be default ones; {_OWN}")
    add_connection(parser)


def _add_replace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--replace", action="store_true",
        help="also replace rows that differ; between its removal and its creation, lookups of a type fail",
    )  # fmt: skip


def _parse(setting: str, text: str) -> tuple[str, ...]:
    from oracle.settings import SETTINGS

    reader = SETTINGS[setting].reader
    try:
        return reader.read(text.upper())  # type: ignore[return-value]  # these settings are lists
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}; use {reader.allowed}") from None


# The verbs ----------------------------------------------------------------------------------------------------------


def _status(arguments: Arguments) -> None:
    def read(client: Client) -> Any:
        return client.call("GET", "/als/registration").body

    def examine(settings: Settings) -> Coroutine[Any, Any, dict[str, Any]]:
        return _examine(settings, arguments)

    _run(arguments, read, examine, lambda ask: _conclude(_show(ask(), arguments), Found))


def _register(arguments: Arguments) -> None:
    _run(
        arguments, _make_order(arguments), lambda settings: _change(settings, arguments),
        lambda ask: _conclude(_show(ask(), arguments), Refused),
    )  # fmt: skip


def _watch(arguments: Arguments) -> None:
    def watch(ask: Ask) -> None:
        last = ""
        while True:
            try:
                found = ask()
            except CommandError as exc:
                line = str(exc)
            else:
                lost = ", ".join(_list_lost(found))
                line = f"not registered: {lost}. Reasons: `oracle als status`" if lost else "registered"
                for act in found["acts"]:
                    print_note(f"{_name_now()} {act['action']}: {format_json(act['row'])}")
            if line != last:
                print_note(f"{_name_now()} {line}")
            last = line
            time.sleep(arguments.every)

    _run(arguments, _make_order(arguments), lambda settings: _change(settings, arguments), watch)


def _name_now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())


def _make_order(arguments: Arguments) -> Callable[[Client], Any]:
    def register(client: Client) -> Any:
        return client.call("POST", "/als/registration", body={"replace": arguments.replace}).body

    return register


def _run(
    arguments: Arguments,
    through_service: Callable[[Client], Any],
    directly: Callable[[Settings], Coroutine[Any, Any, dict[str, Any]]],
    work: Callable[[Ask], None],
) -> None:
    """Do `work` with a function that asks the service, or ALS itself where --als-admin names one."""
    import asyncio

    from oracle.commands.database import load_settings

    if arguments.als_admin is not None:
        settings = load_settings(arguments).settings
        work(lambda: asyncio.run(directly(settings)))
        return
    if arguments.endpoint or arguments.type or arguments.currency or arguments.default:
        raise Misused(
            "--endpoint, --type, --currency and --default need --als-admin",
            "Without --als-admin the settings of the service count: ORACLE_ALS_ENDPOINT, ORACLE_ALS_TYPES,"
            " ORACLE_ALS_CURRENCIES, ORACLE_ALS_DEFAULT",
        )
    call_api(lambda client, _: work(lambda: through_service(client)), arguments)


# What is shown -----------------------------------------------------------------------------------------------------


def _show(found: dict[str, Any], arguments: Arguments) -> dict[str, Any]:
    if arguments.json:
        print_line(format_json(found))
        return found
    show_pages([found["items"]], COLUMNS, as_json=False)
    for act in found["acts"]:
        row = act["row"]
        print_note(f"{act['action']} at ALS: {row['partyIdType']} {row['currency'] or ''} {row['endpoint']}")
    for hint in dict.fromkeys(item["hint"] for item in found["items"] if item["state"] != "registered"):
        print_note(f"{hint.replace('`replace`', '--replace')}.")
    return found


def _list_lost(found: dict[str, Any]) -> list[str]:
    lost = (item for item in found["items"] if item["state"] != "registered")
    return [f"{item['partyIdType']} {item['currency'] or ''}".strip() for item in lost]


def _conclude(found: dict[str, Any], error: type[CommandError]) -> None:
    lost = _list_lost(found)
    if lost:
        way = "To create what is missing: oracle als register" if error is Found else "The list says why"
        raise error(f"this oracle is not registered as wanted at {found['alsAdminUrl']}: {', '.join(lost)}", way)


# ALS itself ----------------------------------------------------------------------------------------------------------


async def _examine(settings: Settings, arguments: Arguments) -> dict[str, Any]:
    from oracle.registration.registration import Outcome

    async with _open(settings, arguments, "") as registration:
        return _describe(registration, Outcome(await registration.examine()))


async def _change(settings: Settings, arguments: Arguments) -> dict[str, Any]:
    from oracle.commands.database import open_database
    from oracle.store.base import Context

    context = Context(channel="admin", actor="als-command", role="operator", reason=f"by {name_user()}")
    async with open_database(settings) as url, _open(settings, arguments, url) as registration:
        return _describe(registration, await registration.register(context, replace=arguments.replace))


@asynccontextmanager
async def _open(settings: Settings, arguments: Arguments, database_url: str) -> AsyncIterator[Registration]:
    """Open the registration that the arguments describe.  Raises CommandError, also for what fails inside."""
    from oracle.calls.calls import open_calls
    from oracle.errors import DirectoryUnavailable
    from oracle.registration.als_admin import AlsAdmin, AlsFailed
    from oracle.registration.registration import CONNECTION_SETTINGS, Registration, Unfinished
    from oracle.registration.rows import BadEndpoint, list_wanted
    from oracle.scheme.urls import BadUrl, check_base_url
    from oracle.store.servers import Servers
    from oracle.telemetry.metrics import Metrics

    endpoint = arguments.endpoint or settings.als_endpoint
    if endpoint is None:
        raise Misused("add --endpoint URL", "ALS must know at which URL it reaches the hub listener of this service")
    try:
        check_base_url(arguments.als_admin.rstrip("/"))
    except BadUrl as exc:
        raise Misused(f"--als-admin: {exc}") from None
    try:
        wanted = list_wanted(
            endpoint, arguments.type or settings.als_types, arguments.currency or settings.als_currencies,
            is_default=arguments.default or settings.als_default == "on",
        )  # fmt: skip
    except BadEndpoint as exc:
        raise Misused(str(exc)) from None
    calls = open_calls(settings, Metrics.open(None, "command", 0))
    servers = Servers(database_url)
    try:
        yield Registration(
            AlsAdmin(calls, arguments.als_admin), wanted,
            lambda: servers.connect("oracle als command", CONNECTION_SETTINGS),
        )  # fmt: skip
    except Unfinished as exc:
        done = f"{len(exc.acts)} changes were made before: see `oracle audit events --entity als-oracle`"
        raise Unreachable(str(exc), done if exc.acts else "") from None
    except AlsFailed as exc:
        raise Unreachable(str(exc), "Check that ALS runs, and --als-admin") from None
    except DirectoryUnavailable as exc:
        raise Unreachable(str(exc), "Nothing is changed at ALS without its event. Try again") from None
    finally:
        await calls.close()


def _describe(registration: Registration, outcome: Outcome) -> dict[str, Any]:
    """Describe it as the admin API does."""
    import msgspec

    from oracle.registration.views import describe

    return dict(msgspec.to_builtins(describe(registration, outcome)))

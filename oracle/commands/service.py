"""`oracle serve`, `health`, `check-config`, and `oracle worker`, which `serve` starts for itself."""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import Misused, Unreachable
from oracle.commands.output import print_line, print_note
from oracle.commands.verbs import Arguments, add_command, parse_number

if TYPE_CHECKING:
    from oracle.settings import Settings


HEALTH_S: Final = 4
_ONLY: Final = "open only this listener (default: all that the settings turn on)"
_OFF: Final = {
    "account-lookup": ("the account lookup listener is off", "Set ORACLE_ACCOUNT_LOOKUP=on"),
    "oracles": ("the listener of /oracles is off", "Set ORACLE_ACCOUNT_LOOKUP_ADMIN_PORT, for example to 4001"),
}


def add(commands: Any) -> None:
    text = "answer the hub and the administrators until stopped (Ctrl-C)"
    serve = add_command(commands, "serve", _serve, text)
    serve.add_argument("--only", choices=("hub", "admin", "account-lookup", "oracles"), help=_ONLY)

    health = add_command(
        commands, "health", _ask_health, "check that the service on this machine answers, for containers and monitors",
        "It asks each listener that the settings turn on and that is open, so it fits `serve --only` as well. The exit"
        " code is 0 if all of them answer.",
    )  # fmt: skip
    health.add_argument(
        "--ready", action="store_true", help="ask also whether lookups can be answered (default: only whether it runs)"
    )
    health.add_argument(
        "--timeout", type=parse_number, default=HEALTH_S, metavar="SECONDS",
        help=f"how long all of them together can take (default: {HEALTH_S})",
    )  # fmt: skip

    check = add_command(commands, "check-config", _check_config, "check the settings and print the values in use")
    check.add_argument(
        "--example", action="store_true", help="print a TOML file of all settings, each with its default as a comment"
    )

    # Only `serve` starts it: without a help text it is not listed.
    worker = commands.add_parser("worker")
    worker.add_argument("--role", choices=("hub", "admin", "jobs", "account-lookup", "oracles"), required=True)
    for name in ("--index", "--control"):
        worker.add_argument(name, type=int, required=True)
    worker.add_argument("--fd", type=int)  # absent for a role without a listener
    worker.set_defaults(run=_work)


def _serve(arguments: Arguments) -> None:
    import os

    from oracle.run.configuration import load_with_files
    from oracle.run.order import choose_roles
    from oracle.run.supervisor import serve

    def read_settings(*, refuse_expired: bool = True) -> Settings:
        return load_with_files(
            os.environ, arguments.config, only=arguments.only, refuse_expired=refuse_expired
        ).settings

    settings = read_settings(refuse_expired=False)
    roles = choose_roles(settings, arguments.only)
    if not roles:
        raise Misused(*_OFF[arguments.only])
    serve(settings, roles, read_settings=read_settings)


def _ask_health(arguments: Arguments) -> None:
    from oracle.commands.database import load_settings
    from oracle.commands.health import ask_listeners

    answers = ask_listeners(load_settings(arguments).settings, ready=arguments.ready, timeout_s=arguments.timeout)
    if not answers:
        raise Unreachable("no listener of this service is open on this machine", "Start it: oracle serve")
    for answer in answers:
        print_line(str(answer))
    bad = [answer.role for answer in answers if not answer.good]
    if bad:
        raise Unreachable(f"not healthy: {', '.join(bad)}", "The log of `oracle serve` has the reason")


def _work(arguments: Arguments) -> int:
    from oracle.run.worker import work

    return work(arguments.role, arguments.index, arguments.fd, arguments.control)


def _check_config(arguments: Arguments) -> None:
    import asyncio
    import os

    from oracle import compiled
    from oracle.run.configuration import load_with_files
    from oracle.run.order import choose_roles
    from oracle.run.redis_risks import find_risks
    from oracle.run.tls import list_tls_warnings, read_credentials
    from oracle.settings import format_example, list_warnings

    if arguments.example:
        print(format_example())
        return
    configuration = load_with_files(os.environ, arguments.config)
    settings = configuration.settings
    credentials = read_credentials(settings, choose_roles(settings))
    for line in configuration.format_lines():
        print_line(line)
    print_line(f"# {compiled.find_state(settings.compiled)}")
    warnings = [*list_warnings(settings), *list_tls_warnings(settings, credentials), *_look_around(settings)]
    if settings.hub_tls_require_client == "on":
        warnings.append(
            "ORACLE_HUB_TLS_REQUIRE_CLIENT is on, and ALS 17.16.1 cannot show a client certificate: put a sidecar or a"
            " proxy that shows one between ALS and the hub listener"
        )
    warnings += find_risks(settings)
    for warning in [*warnings, *asyncio.run(_ask_servers(settings))]:
        print_note(f"warning: {warning}")


def _look_around(settings: Settings) -> list[str]:
    """List what keeps the service from starting on this machine: a port, the data directory."""
    from oracle.run.embedded.directory import find_unwritable
    from oracle.run.listeners import find_taken, list_places
    from oracle.run.order import choose_roles

    needs_directory = settings.database_url is None or settings.redis_url is None
    unwritable = find_unwritable(settings.data_dir) if needs_directory else ""
    return [*filter(None, (find_taken(list_places(settings, choose_roles(settings))), unwritable))]


async def _ask_servers(settings: Settings) -> list[str]:
    """List what keeps the service from using the PostgreSQL, the Redis and the issuers of tokens of the settings."""
    from oracle.run.connections import find_shortage, find_superuser
    from oracle.run.errors import DatabaseError, explain_database_errors
    from oracle.run.order import choose_roles
    from oracle.store.cache.coherence import TOKEN_MS
    from oracle.store.cache.session import Unreachable
    from oracle.store.cache.topology import dialler

    warnings = []
    for url in filter(None, (settings.database_url, settings.database_owner_url)):
        try:
            with explain_database_errors(url):
                warnings.append(await find_shortage(url, settings, choose_roles(settings)))
                if url == settings.database_url:
                    warnings.append(await find_superuser(url))
        except DatabaseError as exc:
            warnings.append(str(exc))
    if settings.redis_url is not None:
        try:
            session = await dialler(settings.redis_url, timeout_ms=settings.cache_timeout_ms, token_ms=TOKEN_MS)()
            session.close()
        except Unreachable as exc:
            warnings.append(f"Redis cannot be used: {exc}")
    if "oidc" in settings.admin_auth:
        from oracle.identity.opening import find_unreachable
        from oracle.telemetry.metrics import Metrics

        warnings += await find_unreachable(settings, Metrics.open(None, "command", 0))
    return list(dict.fromkeys(filter(None, warnings)))

"""`oracle serve`, `oracle check-config`, and `oracle worker`, which `serve` starts for itself."""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oracle.commands.output import print_line, print_note
from oracle.commands.verbs import Arguments, add_command

if TYPE_CHECKING:
    from oracle.settings import Settings


def add(commands: Any) -> None:
    text = "answer the hub and the administrators until stopped (Ctrl-C)"
    serve = add_command(commands, "serve", _serve, text)
    serve.add_argument("--only", choices=("hub", "admin"), help="open only this listener (default: both)")

    check = add_command(commands, "check-config", _check_config, "check the settings and print the values in use")
    check.add_argument("--example", action="store_true", help="print all settings with their defaults as a TOML file")

    # Only `serve` starts it: without a help text it is not listed.
    worker = commands.add_parser("worker")
    worker.add_argument("--role", choices=("hub", "admin", "jobs"), required=True)
    for name in ("--index", "--control"):
        worker.add_argument(name, type=int, required=True)
    worker.add_argument("--fd", type=int)  # absent for a role without a listener
    worker.set_defaults(run=_work)


def _serve(arguments: Arguments) -> None:
    from oracle.commands.database import load_settings
    from oracle.identifiers import Reading
    from oracle.run.order import PARTS, ROLES
    from oracle.run.supervisor import serve
    from oracle.settings import require_database_url

    def read_settings() -> Settings:
        settings = load_settings(arguments).settings
        require_database_url(settings)
        Reading.of(settings)  # a fault in a file of theirs is one line here, and not a process that cannot start
        return settings

    serve(read_settings(), PARTS[arguments.only] if arguments.only else ROLES, read_settings=read_settings)


def _work(arguments: Arguments) -> int:
    from oracle.run.worker import work

    return work(arguments.role, arguments.index, arguments.fd, arguments.control)


def _check_config(arguments: Arguments) -> None:
    import asyncio

    from oracle.commands.database import load_settings
    from oracle.identifiers import Reading
    from oracle.run.redis_risks import find_risks
    from oracle.settings import format_example, list_warnings, require_database_url

    if arguments.example:
        print(format_example())
        return
    configuration = load_settings(arguments)
    require_database_url(configuration.settings)
    Reading.of(configuration.settings)
    for line in configuration.format_lines():
        print_line(line)
    settings = configuration.settings
    for warning in [*list_warnings(settings), *find_risks(settings), *asyncio.run(_ask_servers(settings))]:
        print_note(f"warning: {warning}")


async def _ask_servers(settings: Settings) -> list[str]:
    """List what keeps the service from using the PostgreSQL and the Redis of the settings."""
    from oracle.run.connections import find_shortage
    from oracle.run.errors import DatabaseError, explain_database_errors
    from oracle.run.order import ROLES
    from oracle.store.cache.coherence import TOKEN_MS
    from oracle.store.cache.session import Unreachable
    from oracle.store.cache.topology import dialler

    warnings = []
    for url in filter(None, (settings.database_url, settings.database_owner_url)):
        try:
            with explain_database_errors(url):
                warnings.append(await find_shortage(url, settings, ROLES))
        except DatabaseError as exc:
            warnings.append(str(exc))
    if settings.redis_url is not None:
        try:
            session = await dialler(settings.redis_url, timeout_ms=settings.cache_timeout_ms, token_ms=TOKEN_MS)()
            session.close()
        except Unreachable as exc:
            warnings.append(f"Redis cannot be used: {exc}")
    return list(dict.fromkeys(filter(None, warnings)))

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

    def read_settings() -> Settings:
        settings = load_settings(arguments).settings
        Reading.of(settings)  # a fault in a file of theirs is one line here, and not a process that cannot start
        return settings

    serve(read_settings(), PARTS[arguments.only] if arguments.only else ROLES, read_settings=read_settings)


def _work(arguments: Arguments) -> int:
    from oracle.run.worker import work

    return work(arguments.role, arguments.index, arguments.fd, arguments.control)


def _check_config(arguments: Arguments) -> None:
    from oracle.commands.database import load_settings
    from oracle.identifiers import Reading
    from oracle.run.redis_risks import find_risks
    from oracle.settings import format_example, list_warnings

    if arguments.example:
        print(format_example())
        return
    configuration = load_settings(arguments)
    Reading.of(configuration.settings)
    for line in configuration.format_lines():
        print_line(line)
    for warning in [*list_warnings(configuration.settings), *find_risks(configuration.settings)]:
        print_note(f"warning: {warning}")

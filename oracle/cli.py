"""The command line: `oracle COMMAND`.  This is the parser; the commands are in oracle/commands.

Exit codes.  One for each next step of the caller: see `failures` in oracle/commands, and `oracle --help`.
Failures.    An expected failure is one line on stderr, `oracle: ...`, or one JSON object; a traceback is a bug of ours.
Imports.     Inside the functions, all of them: every worker starts through here, and a person who types a command
             must wait only for the modules of that command, not for those of all commands together.
"""
# ruff: noqa: PLC0415 - see Imports

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EPILOG: Final = """\
help:
  oracle COMMAND --help     explains one command
  oracle NOUN VERB --help   explains one verb, for example: oracle alias add --help

settings:
  Every setting is an environment variable ORACLE_<NAME>, or a line of the file --config.
  `oracle check-config` prints all of them.  These matter most here:
  ORACLE_DATABASE_URL       the PostgreSQL of the directory (default: one of its own)
  ORACLE_ADMIN_URL          the address of the admin API (default: http://127.0.0.1:3001)
  ORACLE_KEY                your key, or a token of your identity provider, or
  ORACLE_KEY_FILE           the file with one of them (default: the key that `oracle key save` kept)

exit codes:
{exit_codes}

errors:
  An error is printed on stderr.  With --json it is one JSON object, the last line there: code, message,
  hint, exitCode, and status, the HTTP status of the admin API (null: it did not answer).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    from oracle.commands import failures

    words = sys.argv[1:] if arguments is None else arguments
    try:
        parsed = make_parser(words).parse_args(words)
        run: Callable[[argparse.Namespace], int | None] = parsed.run
        code = run(parsed) or failures.OK
        sys.stdout.flush()
    except KeyboardInterrupt:
        return failures.INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # `oracle ... | head`: the reader has all that it wanted
        return failures.FAILED
    except Exception as exc:
        failure = failures.describe(exc)
        if failure is None:
            raise
        if failures.is_full(exc):
            _drop_output()
        failure.print(as_json=_wants_json(words))
        return failure.exit_code
    return code


def _wants_json(words: Sequence[str]) -> bool:
    """Whether --json is among the options, also if they cannot be parsed."""
    words = list(words)
    return "--json" in words[: words.index("--") if "--" in words else None]


def _drop_output() -> None:
    """Send what stdout still holds to nowhere: Python flushes once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Make the parser of the command in `words`, or of all commands if there is none."""
    from oracle import commands
    from oracle.commands.failures import EXIT_CODES
    from oracle.commands.parser import Parser

    exit_codes = "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())

    parser = Parser(
        prog="oracle",
        description="Alias directory oracle: finds the FSP of a phone number, an account or another identifier.",
        epilog=_EPILOG.format(exit_codes=exit_codes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="file with settings (TOML); environment variables override it"
    )
    parser.set_defaults(root=parser)  # for the command that writes all commands into a script
    commands.add(parser.add_subparsers(title="commands", metavar="COMMAND", required=True), words)
    return parser


class _Version(argparse.Action):
    """Print the version; the import that finds it is made only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"oracle {version('alias-oracle')}")
        parser.exit()

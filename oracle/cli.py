"""The command line: `oracle COMMAND`.  This is the parser; the commands are in oracle/commands.

Exit codes.  0: success.  1: failure (wrong settings included).  2: wrong usage, or an identifier that is not valid.
Failures.    An expected failure is one line on stderr, `oracle: ...`; a traceback is a bug of ours.
Imports.     Inside the functions, all of them: every worker starts through here, and a person who types a command
             must wait only for the modules of that command, not for those of all commands together.
"""
# ruff: noqa: PLC0415 - see Imports

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OK: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130  # the exit code that a shell gives to a command that Ctrl-C ended

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_EPILOG: Final = """\
help:
  oracle COMMAND --help     explains one command
  oracle NOUN VERB --help   explains one verb, for example: oracle alias add --help

settings:
  Every setting is an environment variable ORACLE_<NAME>, or a line of the file --config.
  `oracle check-config` prints all of them.  These matter most here:
  ORACLE_DATABASE_URL       the PostgreSQL of the directory (default: one of its own)
  ORACLE_ADMIN_URL          the address of the admin API (default: http://127.0.0.1:3001)
  ORACLE_KEY_FILE           the file with your key (default: the key that `oracle key save` kept)

exit codes:
  0 success; 1 failure; 2 wrong usage, or an identifier that is not valid
"""


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        parsed = make_parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int | None] = parsed.run
        code = run(parsed) or OK
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # `oracle ... | head`: the reader has all that it wanted
        return FAILED
    except Exception as exc:
        lines = _describe(exc)
        if not lines:
            raise
        if _is_full(exc):
            _drop_output()
        from oracle.commands.verbs import complain

        complain(*lines)
        return getattr(exc, "exit_code", FAILED)
    return code


def _drop_output() -> None:
    """Send what stdout still holds to nowhere: Python flushes once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_full(exc: Exception) -> bool:
    return isinstance(exc, OSError) and exc.errno in FULL


def _describe(exc: Exception) -> list[str]:
    """Return the lines that explain an expected failure; none for a bug."""
    from oracle.commands.verbs import CommandError
    from oracle.run.embedded import EmbeddedError
    from oracle.run.errors import ServeError
    from oracle.settings import SettingsError
    from oracle.store.migrate import SchemaError

    if isinstance(exc, OSError) and _is_full(exc):
        return [f"cannot write the output: {exc.strerror}"]
    if isinstance(exc, SettingsError):
        return exc.problems
    return [str(exc)] if isinstance(exc, (CommandError, ServeError, EmbeddedError, SchemaError)) else []


def make_parser() -> argparse.ArgumentParser:
    from oracle import commands
    from oracle.commands.parser import Parser

    parser = Parser(
        prog="oracle",
        description="Alias directory oracle: finds the FSP of a phone number, an account or another identifier.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="file with settings (TOML); environment variables override it"
    )
    commands.add(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))
    return parser


class _Version(argparse.Action):
    """Print the version; the import that finds it is made only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"oracle {version('alias-oracle')}")
        parser.exit()

"""How a command fails: exit codes, the errors behind them, and what a person or a program reads on stderr.

A person gets one line, `oracle: what happened (code). What to do`.  With --json a program gets one JSON object, which
is the last line of stderr: code, message, hint, exitCode, and status, the HTTP status of the admin API (null: none).
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import ClassVar, Final, NamedTuple

from oracle.verifier.printable import escape_text

OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
NOT_FOUND: Final = 3
FORBIDDEN: Final = 4
REFUSED: Final = 5
UNREACHABLE: Final = 6
FOUND: Final = 7
INTERRUPTED: Final = 130  # the exit code that a shell gives to a command that Ctrl-C ended

EXIT_CODES: Final[dict[int, str]] = {
    OK: "success",
    FAILED: "another failure: wrong settings, a file that cannot be read, a defect of the service",
    MISUSED: "wrong usage: a word, an option or an identifier that the command cannot use",
    NOT_FOUND: "not found: no such FSP, alias, route, batch, key or event, or your key cannot see it",
    FORBIDDEN: "forbidden: the key is not valid, or its role or FSP cannot do this",
    REFUSED: "refused: the service does not allow it, for example a conflict; or rows of a file failed",
    UNREACHABLE: "unreachable: the service or the database does not answer, or only later",
    FOUND: "found: `oracle audit verify`, `oracle audit proof` or `oracle als status` found that something is wrong",
    INTERRUPTED: "Ctrl-C ended the command",
}

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Of an answer of the admin API.  Every other status is FAILED.
_OF_STATUS: Final[dict[int, int]] = {
    400: REFUSED, 401: FORBIDDEN, 403: FORBIDDEN, 404: NOT_FOUND, 409: REFUSED, 410: NOT_FOUND, 412: REFUSED,
    413: REFUSED, 415: REFUSED, 429: REFUSED, 502: UNREACHABLE, 503: UNREACHABLE, 504: UNREACHABLE,
}  # fmt: skip
_OF_CODE: Final = {"unknown_person": NOT_FOUND}  # the key that was named does not exist
# For programs, where a failure of the command itself has no code of its own.
_CODES: Final[dict[int, str]] = {
    FAILED: "failed",
    MISUSED: "usage",
    NOT_FOUND: "not_found",
    FORBIDDEN: "forbidden",
    REFUSED: "refused",
    UNREACHABLE: "unreachable",
    FOUND: "found",
}


class CommandError(Exception):
    """An expected failure.  `message` says what happened, `hint` what to do; one line each."""

    exit_code: ClassVar[int] = FAILED

    def __init__(self, message: str, hint: str = "", *, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code  # of the admin API
        self.status = status

    def __str__(self) -> str:
        text = f"{self.message} ({self.code})" if self.code else self.message
        return f"{text}. {self.hint}" if self.hint else text


class Misused(CommandError):
    """The arguments do not fit together, or one cannot be used."""

    exit_code = MISUSED


class NotFound(CommandError):
    exit_code = NOT_FOUND


class Forbidden(CommandError):
    exit_code = FORBIDDEN


class Refused(CommandError):
    """The service does not allow it, or not all of it."""

    exit_code = REFUSED


class Unreachable(CommandError):
    """The service or the database does not answer, or cannot now."""

    exit_code = UNREACHABLE


class Found(CommandError):
    """A check found that something is wrong."""

    exit_code = FOUND


class UsageError(Misused):
    """What the parser refuses: `usage` is printed before the message, and `more` after it, for people alone."""

    def __init__(self, program: str, message: str, hint: str = "", *, usage: str, more: str = "") -> None:
        super().__init__(message, hint)
        self.program = program
        self.usage = usage
        self.more = more


_ERRORS: Final[dict[int, type[CommandError]]] = {
    error.exit_code: error for error in (CommandError, Misused, NotFound, Forbidden, Refused, Unreachable, Found)
}


def make_error(message: str, hint: str, code: str, status: int, exit_code: int | None = None) -> CommandError:
    """Make the error for an answer of the admin API."""
    if exit_code is None:
        exit_code = _OF_CODE.get(code, _OF_STATUS.get(status, FAILED))
    return _ERRORS[exit_code](message, hint, code=code, status=status)


class Failure(NamedTuple):
    """What is printed on stderr, and the exit code."""

    lines: Sequence[str]  # for people
    exit_code: int
    code: str
    message: str
    hint: str = ""
    status: int = 0

    def print(self, *, as_json: bool) -> None:
        print(self._format_json() if as_json else "\n".join(map(escape_text, self.lines)), file=sys.stderr)

    def _format_json(self) -> str:
        import json

        from oracle.verifier.printable import escape_document

        document = {
            "code": self.code, "message": self.message, "hint": self.hint or None, "exitCode": self.exit_code,
            "status": self.status or None,
        }  # fmt: skip
        return escape_document(json.dumps(document, ensure_ascii=False))


def describe(error: Exception) -> Failure | None:
    """Describe an expected failure; None for a bug."""
    from oracle.run.embedded import EmbeddedError
    from oracle.run.errors import DatabaseAway, ServeError
    from oracle.settings import SettingsError
    from oracle.store.migrate import SchemaError

    if isinstance(error, UsageError):
        text = f"{error.usage}{error.program}: {error.message}{error.more}"
        way = f"For an explanation: {error.program} --help"
        return Failure([*text.splitlines(), way], MISUSED, _CODES[MISUSED], error.message, error.hint or way)
    if isinstance(error, CommandError):
        code = error.code or _CODES[error.exit_code]
        return Failure([f"oracle: {error}"], error.exit_code, code, error.message, error.hint, error.status)
    if isinstance(error, SettingsError):
        return _describe_lines(error.problems, FAILED, "settings")
    if isinstance(error, DatabaseAway):
        return _describe_lines([str(error)], UNREACHABLE)
    if isinstance(error, OSError) and is_full(error):
        return _describe_lines([f"cannot write the output: {error.strerror}"], FAILED)
    if isinstance(error, (ServeError, EmbeddedError, SchemaError)):
        return _describe_lines([str(error)], FAILED)
    return None


def is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in FULL


def _describe_lines(lines: Sequence[str], exit_code: int, code: str = "") -> Failure:
    return Failure([f"oracle: {line}" for line in lines], exit_code, code or _CODES[exit_code], "\n".join(lines))


def complain(*lines: str) -> None:
    """Print lines of an answer that is a failure."""
    print(*(escape_text(f"oracle: {line}") for line in lines), sep="\n", file=sys.stderr)

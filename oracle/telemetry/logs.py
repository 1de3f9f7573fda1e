"""Structured logs: one JSON object a line on stderr, or text for a person at a terminal.

Use.       `log = logs.Log(__name__)`, then `log.warning("The cache is away", exc=error, server=name)`: the event is
           a constant sentence, and values are fields.  Lines of standard loggers, with their `extra`, come here too.
Privacy.   A party identifier is personal data and is never logged.  An exception is written as type, code and
           frames, because messages hold identifiers (PostgreSQL's `DETAIL: Key (identifier)=(...) already
           exists`, a driver's `invalid input for query argument $1: '...'`).  So do messages of libraries that
           name a path or a callback's arguments: only the fixed words of those are written.
Quantity.  No line for a request.  A state that lasts is a `Condition`: one line when it changes.
Loss.      A line that cannot be written is dropped: a full disk is no reason to fail a payment.
"""

from __future__ import annotations

import datetime as dt
import errno
import json
import logging
import math
import re
import ssl
import sys
import threading
import time
import uuid
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, TextIO

from oracle.verifier.printable import escape_document

if TYPE_CHECKING:
    from types import TracebackType

Layout = Literal["auto", "json", "text"]
Level = Literal["debug", "info", "warning", "error"]

OWN = "oracle"
# So many frames explain endless recursion too; so many links of a chain explain any chain.
FRAMES_MAX, CHAIN_MAX, TEXT_MAX, ITEMS_MAX = 30, 8, 500, 32

_FOREIGN = ("uvicorn", "litestar", "asyncio", "opentelemetry", "py.warnings")
# The messages of these hold paths, task results or callback arguments.
_TALKATIVE = ("asyncio", "litestar", "concurrent", "uvicorn")
_STANDARD = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "fields"})
_SOURCE_ROOT = re.compile(r".*/(?:site-packages|dist-packages|lib/python3\.\d+|(?=oracle/|tests/))")
# Some libraries write the traceback of what an application raised into the message.
_WRITTEN_FRAME = re.compile(r'^  File "([^"\n]+)", line (\d+), in ([\w<>.]+)$', re.MULTILINE)
_WRITTEN_TYPE = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Group|Warning))(?=:|$)", re.MULTILINE)
_FIXED_WORDS = re.compile(r"[^(<%{\n'\"]*")


class Log:
    """A standard logger whose messages are constant, with fields beside them."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self.at(logging.DEBUG, event, exc=exc, **fields)

    def info(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self.at(logging.INFO, event, exc=exc, **fields)

    def warning(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self.at(logging.WARNING, event, exc=exc, **fields)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self.at(logging.ERROR, event, exc=exc, **fields)

    def at(self, level: int, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=exc, extra={"fields": fields})


class Condition:
    """A state that lasts, such as a dead cache: one line when it changes, and one each `repeat_s` while it is bad.

    A state that flaps gets at most one line in `quiet_s`; the first call after that writes the state that remains.
    `level` is the usual level of bad states.
    """

    def __init__(
        self,
        log: Log,
        subject: str,
        *,
        good: str = "ok",
        quiet_s: float = 5.0,
        repeat_s: float = math.inf,
        level: int = logging.WARNING,
    ) -> None:
        self._log, self._subject, self._good = log, subject, good
        self._quiet_s, self._repeat_s, self._level = quiet_s, repeat_s, level
        self._said, self._said_at = good, -math.inf

    def now(
        self, state: str, /, *, exc: BaseException | None = None, level: int | None = None, **fields: object
    ) -> bool:
        """Note the state; True when that wrote a line.  Cheap enough to call for every request."""
        is_news = state != self._said
        quiet_s = self._quiet_s if is_news else self._repeat_s
        if not (is_news or state != self._good) or time.monotonic() - self._said_at < quiet_s:
            return False
        self._said, self._said_at = state, time.monotonic()
        level = logging.INFO if state == self._good else self._level if level is None else level
        self._log.at(level, f"{self._subject} {state}", exc=exc, **fields)
        return True


def configure(
    level: Level = "info",
    layout: Layout = "auto",
    *,
    stream: TextIO | None = None,
    **context: str | int,
) -> None:
    """Send every logger of this process to one stream; every line has the `context` (role, index)."""
    out = stream or sys.stderr
    text = layout == "text" or (layout == "auto" and out.isatty())
    handler = _Handler(out)
    handler.setFormatter(_Text(context) if text else _Json(context))
    root = logging.getLogger()
    root.handlers = [*(other for other in root.handlers if not isinstance(other, _Handler)), handler]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger(OWN).setLevel(wanted)
    # The debug lines of libraries show what they send and receive: identifiers.
    root.setLevel(max(wanted, logging.INFO))
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn.access").setLevel(logging.CRITICAL + 1)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each request that is no HTTP
    _catch_the_uncaught()


def describe_exception(error: BaseException) -> list[dict[str, object]]:
    """Type, code and frames of an exception, its causes and its group, outermost first; nothing of their messages."""
    parts: list[dict[str, object]] = []
    waiting, seen = [error], set()
    while waiting and len(parts) < CHAIN_MAX:
        current = waiting.pop(0)
        seen.add(id(current))
        code = _code(current)
        parts.append(
            {
                "type": _type_name(current),
                **({"code": code} if code else {}),
                "frames": _frames(current.__traceback__),
            }
        )
        members = current.exceptions if isinstance(current, BaseExceptionGroup) else ()
        cause = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        waiting += [one for one in (*members, cause) if one is not None and id(one) not in seen]
    return parts


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Drop the line.  The standard prints the message and its arguments, whole, to stderr."""


class _Json(logging.Formatter):
    def __init__(self, context: dict[str, str | int]) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        return escape_document(json.dumps(self.line(record)))

    def line(self, record: logging.LogRecord) -> dict[str, object]:
        line: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _remove_error(_event(record), record)[:TEXT_MAX],
            "logger": record.name,
            **self._context,
        }
        for key, value in _fields(record).items():
            line.setdefault(key, _plain(value))
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe_exception(record.exc_info[1])
        elif _is_foreign(record) and (frames := _list_written_frames(record)):
            line["exception"] = frames
        return line


class _Text(_Json):
    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record)
        exception = line.pop("exception", [])
        at, level, event = (str(line.pop(key)) for key in ("time", "level", "event"))
        fields = "".join(f"  {key}={_bare(value)}" for key, value in line.items())
        # Line breaks and escape sequences of foreign messages must not paint on the terminal.
        head = f"{at[11:23]}Z {level:7} {_encode(event)[1:-1]}{fields}"
        return "\n".join([head, *_indent(exception)])


def _indent(exception: object) -> list[str]:
    lines: list[str] = []
    for one in exception if isinstance(exception, list) else []:
        lines.append(f"    {one['type']} {one.get('code', '')}".rstrip())
        lines += [f"        {frame}" for frame in one["frames"]]
    return lines


def _bare(value: object) -> str:
    """A plain word stays as it is; anything else is quoted as in JSON."""
    text = _encode(value)
    return text[1:-1] if isinstance(value, str) and re.fullmatch(r'"[^\s"=\\]+"', text) else text


def _encode(value: object) -> str:
    return escape_document(json.dumps(value, ensure_ascii=False))


def _event(record: logging.LogRecord) -> str:
    """Return the message; if another package writes about an exception or a request, only the fixed words of it."""
    foreign = _is_foreign(record)
    if foreign and (record.exc_info or record.name.partition(".")[0] in _TALKATIVE):
        words = _FIXED_WORDS.match(str(record.msg))
        return words[0].strip() if words else ""
    message = _message(record)
    return message.partition("\n")[0] if foreign else message


def _message(record: logging.LogRecord) -> str:
    if isinstance(record.msg, BaseException):
        return _type_name(record.msg)
    args: object = record.args
    if isinstance(args, tuple):
        args = tuple(_type_name(arg) if isinstance(arg, BaseException) else arg for arg in args)
    try:
        return str(record.msg) % args if args else str(record.msg)
    except (TypeError, ValueError, KeyError):
        return str(record.msg)  # arguments that do not fit are the writer's mistake; the line still matters


def _is_foreign(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] != OWN


def _list_written_frames(record: logging.LogRecord) -> list[dict[str, object]]:
    """List the frames of a traceback that a library has written into its message."""
    message = _message(record)
    frames = [f"{_short(file)}:{line} {function}" for file, line, function in _WRITTEN_FRAME.findall(message)]
    types = _WRITTEN_TYPE.findall(message) or ["unknown"]
    return [{"type": types[-1], "frames": frames[-FRAMES_MAX:]}] if frames else []


def _remove_error(event: str, record: logging.LogRecord) -> str:
    """Replace an exception's text that a caller wrote into the message by its type."""
    error = record.exc_info[1] if record.exc_info else None
    message = str(error) if error else ""
    return event.replace(message, _type_name(error)) if message else event


def _fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    return {**extra, **record.__dict__.get("fields", {})}


def _plain(value: object) -> object:
    """Return the value as a line can hold it; for any other object its type, because its repr can show anything."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return value[:TEXT_MAX]
        case PurePath() | uuid.UUID() | Decimal() | dt.date() | dt.timedelta():
            return str(value)
        case list() | tuple():
            return [_plain(item) for item in value[:ITEMS_MAX]]
        case dict():
            return {str(key): _plain(item) for key, item in list(value.items())[:ITEMS_MAX]}
        case _:
            return _type_name(value)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _code(error: BaseException) -> str | None:
    """Return the part of an error that is a code of its kind and never user data: SQLSTATE, errno, TLS reason."""
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return sqlstate[:5]
    if isinstance(error, ssl.SSLError) and isinstance(error.reason, str):
        return error.reason
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return errno.errorcode.get(error.errno, str(error.errno))
    return None


def _frames(trace: TracebackType | None) -> list[str]:
    """List `file:line function`, outermost first; of a long stack the innermost part."""
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{_short(code.co_filename)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-FRAMES_MAX:]


def _short(file: str) -> str:
    return _SOURCE_ROOT.sub("", file).lstrip("/")


def _catch_the_uncaught() -> None:
    """Replace the three places where Python prints an exception with its message to stderr, and warnings."""
    log = Log(f"{OWN}.uncaught")

    def in_main(_: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.__excepthook__(type(error), error, trace)
        else:
            log.error("Uncaught exception", exc=error)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        log.error("Uncaught exception in a thread", exc=args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        log.error("Exception where Python cannot raise one", exc=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = in_main, in_thread, unraisable
    logging.captureWarnings(capture=True)

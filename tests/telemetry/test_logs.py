"""The output on stderr: JSON lines, and no identifier in them."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from oracle.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTIFIER = "525512345678"

HEAD = f"""
import logging, sys
from oracle.telemetry import logs
IDENTIFIER = "{IDENTIFIER}"
"""


def run(code: str, *, configure: str = 'logs.configure("info", "json")') -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", f"{HEAD}\n{configure}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr


def lines(code: str, **options: str) -> list[dict[str, Any]]:
    out = run(code, **options)
    assert IDENTIFIER not in out
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configured logging of this process, put back afterwards."""
    root, hooks = logging.getLogger(), (sys.excepthook, sys.unraisablehook)
    import threading

    thread_hook, handlers, level = threading.excepthook, root.handlers, root.level
    out = io.StringIO()
    logs.configure("debug", "json", stream=out, role="hub", index=3)
    yield out
    logging.captureWarnings(capture=False)
    sys.excepthook, sys.unraisablehook, threading.excepthook = *hooks, thread_hook
    root.handlers = handlers
    root.setLevel(level)
    logging.getLogger("oracle").setLevel(logging.NOTSET)


def read_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_event_context_and_fields(stream: io.StringIO) -> None:
    logs.Log("oracle.store.cache").warning("cache unreachable", server="10.0.0.1", attempt=3, time="mine")
    (line,) = read_lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "warning",
        "event": "cache unreachable",
        "logger": "oracle.store.cache",
        "role": "hub",
        "index": 3,
        "server": "10.0.0.1",
        "attempt": 3,
    }


def test_lines_of_standard_loggers_are_written_with_their_extra(stream: io.StringIO) -> None:
    logging.getLogger("oracle.run.wiring").info("listening on %d", 3000, extra={"workers": 2})
    logging.getLogger("uvicorn").info("Started worker-1")
    own, foreign = read_lines(stream)
    assert (own["event"], own["workers"]) == ("listening on 3000", 2)
    assert foreign["event"] == "Started worker-1"


def test_a_line_with_wrong_arguments_is_still_written() -> None:
    (line,) = lines("logging.getLogger('oracle.x').error('%d parties', IDENTIFIER)")
    assert line["event"] == "%d parties"


def test_values_that_could_show_anything_show_their_type(stream: io.StringIO) -> None:
    class Party:
        def __repr__(self) -> str:
            return IDENTIFIER

    logs.Log("oracle").info(
        "odd",
        party=Party(),
        raw=IDENTIFIER.encode(),
        error=ValueError(IDENTIFIER),
        nan=float("nan"),
        many=[1, Party()],
        broken="a\nb\ud800",
        long="x" * 9999,
    )
    (line,) = read_lines(stream)
    assert IDENTIFIER not in stream.getvalue()
    assert line["raw"] == "bytes"
    assert line["error"] == "ValueError"
    assert line["nan"] == "nan"
    assert line["many"][0] == 1
    assert line["broken"] == "a\nb\ud800"
    assert len(line["long"]) == 500


def test_exceptions_are_type_code_and_frames_and_never_a_message() -> None:
    (line,) = lines("""
import asyncpg
def store(number):
    error = asyncpg.UniqueViolationError(f"duplicate key: {number}")
    error.detail = f"Key (identifier)=({number}) already exists."
    raise error
try:
    try:
        store(IDENTIFIER)
    except asyncpg.UniqueViolationError as error:
        raise LookupError(IDENTIFIER) from error
except LookupError as error:
    logs.Log("oracle.store").error("change failed", exc=error, operation="register")
""")
    assert [one["type"] for one in line["exception"]] == [
        "LookupError",
        "asyncpg.exceptions.UniqueViolationError",
    ]
    assert line["exception"][1]["code"] == "23505"
    assert line["exception"][1]["frames"][-1] == "<string>:12 store"
    assert line["operation"] == "register"


@pytest.mark.parametrize(
    "code",
    [
        "logging.getLogger('oracle.x').exception('failed: %s', error)",
        "logging.getLogger('oracle.x').error(error)",
        "logging.getLogger('uvicorn.error').error(f'failed {error}', exc_info=error)",
        "logging.getLogger('litestar').error('Uncaught (path=%r)', '/participants/MSISDN/' + IDENTIFIER)",
        "logging.getLogger('redis').error('lost connection: %s', error)",
        "logging.getLogger('uvicorn.access').info('GET /participants/MSISDN/' + IDENTIFIER)",
        "logging.getLogger('httpx').debug('GET /participants/MSISDN/' + IDENTIFIER)",
        "logging.getLogger('oracle').error('%d', IDENTIFIER)",
        "raise error",
        "raise ExceptionGroup(IDENTIFIER, [error, error])",
        "import threading; t = threading.Thread(target=int, args=('x' + IDENTIFIER,)); t.start(); t.join()",
    ],
)
def test_no_way_to_log_an_exception_leaks_its_message(code: str) -> None:
    out = run(f"""
try:
    raise ValueError("bad " + IDENTIFIER)
except ValueError as caught:
    error = caught
{code}
""")
    assert IDENTIFIER not in out
    assert all(json.loads(line)["time"] for line in out.splitlines())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_event_loop_that_reports_lost_exceptions_leaks_nothing(loop: str) -> None:
    found = lines(f"""
import asyncio, gc, {loop}
class Party:
    def __repr__(self): return IDENTIFIER
def callback(party): raise ValueError(IDENTIFIER)
async def task(): raise ValueError(IDENTIFIER)
async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon(callback, Party())
    forgotten = asyncio.create_task(task())
    await asyncio.sleep(0.01)
    del forgotten
    gc.collect()
{loop}.run(main())
""")
    assert {line["logger"] for line in found} == {"asyncio"}
    assert any(line["event"].startswith("Exception in callback") for line in found)
    assert any(line["event"] == "Task exception was never retrieved" for line in found)
    assert all(line["exception"][0]["type"] == "ValueError" for line in found)


# Word for word what a server (granian 2.8) logs when an application raises.
RAISED = """Application callable raised an exception
Traceback (most recent call last):
  File "/opt/site-packages/granian/_futures.py", line 15, in future_watcher
    await inner(watcher.scope, watcher.proto)
  File "/srv/oracle/api/http.py", line 5, in __rsgi__
    raise ValueError("LEAK525512345678")
ValueError: LEAK525512345678
525512345678 ana@bank.mx"""


def test_a_traceback_in_a_message_keeps_its_frames(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").error(RAISED)
    logging.getLogger("uvicorn.error").error("what\nfollows %s", IDENTIFIER)
    first, second = read_lines(stream)
    assert IDENTIFIER not in stream.getvalue()
    assert "ana" not in stream.getvalue()
    assert first["event"] == "Application callable raised an exception"
    assert first["exception"] == [
        {
            "type": "ValueError",
            "frames": ["granian/_futures.py:15 future_watcher", "oracle/api/http.py:5 __rsgi__"],
        }
    ]
    assert second["event"] == "what"
    assert "exception" not in second


def test_warnings_are_lines_too() -> None:
    found = lines("import warnings; warnings.warn('old', DeprecationWarning)")
    assert [line["logger"] for line in found] == ["py.warnings"]


def test_a_broken_stderr_disturbs_nothing() -> None:
    assert run("sys.stderr.close(); logs.Log('oracle').error('x'); sys.exit(0)") == ""


def test_no_line_holds_a_character_that_a_terminal_obeys() -> None:
    hostile = r"a\u202e\u2066\u061c\u200e\u2028\x7f\x9b[2J\x1b[2J"
    code = f"""
logging.getLogger("oracle.x").warning("{hostile}")
logs.Log("oracle.x").error("failed", fsp="{hostile}", several=["{hostile}"], named={{"k": "{hostile}"}})
"""
    for layout in ("json", "text"):
        out = run(code, configure=f'logs.configure("info", "{layout}")')
        assert re.findall(r"[^\n -~]", out) == [], layout
        assert out.count(r"\u202e") == 4, layout
    assert json.loads(run(code).splitlines()[1])["fsp"] == hostile.encode().decode("unicode_escape")


def test_text_lines_cannot_be_overwritten_on_the_terminal() -> None:
    out = run(
        r"""
logging.getLogger("oracle.x").warning("two\nlines \x1b[2J")
try:
    1 / 0
except ZeroDivisionError as error:
    logs.Log("oracle.x").error("failed", exc=error, fsp="bank one", n=3)
""",
        configure='logs.configure("info", "text")',
    )
    first, second, *exception = out.splitlines()
    assert "\x1b" not in out
    assert first.endswith(r"two\nlines \u001b[2J  logger=oracle.x")
    assert re.match(r'\d\d:\d\d:\d\d\.\d{3}Z error   failed  logger=oracle\.x  fsp="bank one"  n=3$', second)
    assert exception == ["    ZeroDivisionError", "        <string>:10 <module>"]


def test_levels_silence_the_debug_lines_of_libraries(stream: io.StringIO) -> None:
    logs.Log("oracle.x").debug("own")
    logging.getLogger("redis").debug("theirs")
    assert [line["event"] for line in read_lines(stream)] == ["own"]


def test_configuring_twice_writes_once(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream=stream)
    logs.Log("oracle.x").info("once")
    assert len(read_lines(stream)) == 1


def test_a_condition_writes_a_line_when_it_changes(stream: io.StringIO) -> None:
    condition = logs.Condition(logs.Log("oracle.cache"), "cache", good="reachable", quiet_s=0)
    for state in ("reachable", "unreachable", "unreachable", "unreachable", "reachable", "reachable"):
        condition.now(state, server="one")
    assert [(line["level"], line["event"]) for line in read_lines(stream)] == [
        ("warning", "cache unreachable"),
        ("info", "cache reachable"),
    ]


def test_a_flapping_condition_writes_one_line_in_its_quiet_time(stream: io.StringIO) -> None:
    condition = logs.Condition(logs.Log("oracle.cache"), "cache", quiet_s=3600)
    for _ in range(100):
        condition.now("unreachable")
        condition.now("ok")
    assert len(read_lines(stream)) == 1
    condition._said_at -= 3600
    condition.now("ok")
    assert [line["event"] for line in read_lines(stream)] == ["cache unreachable", "cache ok"]

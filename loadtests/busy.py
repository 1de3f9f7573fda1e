"""Busy loops beside a measurement: other programs that want the cores.

A loop ends when its block ends, and by itself a little later if nobody ends it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from loadtests.stack import read_cpu, start, stop, wait_until

_LOOP: Final = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
SPARE_S: Final = 60.0


@contextmanager
def run_busy_loops(count: int, seconds: float, home: Path) -> Iterator[None]:
    """Keep `count` processes busy for the time of the block, which takes about `seconds`."""
    command = [sys.executable, "-S", "-E", "-c", _LOOP, str(seconds + SPARE_S)]
    with ExitStack() as stack:
        loops = []
        for _ in range(count):
            loops.append(start(command, home / "busy.log"))
            stack.callback(stop, loops[-1])
        wait_until(lambda: all(read_cpu([loop.pid]).total > 0 for loop in loops), "busy loops")
        yield

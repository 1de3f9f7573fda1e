"""Small plots of values over time, as SVG that the server draws.

Policy.   No style and no script: the shape is in attributes, colours and dashes are classes of console.css.
Texts.    A plot has a title and a description for those who do not see it, and its values are in a table beside it
          (`Plot.table`).  The labels of the axes are HTML, so they keep their size when the picture shrinks.
Scale.    One scale for all lines of a plot, from 0 to a round number above the largest value.
Gaps.     Where a value is not known (None), the line has a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Final, NamedTuple

from oracle.api.console.languages import Text

WIDTH: Final = 600
HEIGHT: Final = 120
ROWS_MAX: Final = 12  # of the table
_STEPS: Final = (1, 2, 5, 10)
Value = float | None


class Line(NamedTuple):
    """The values of one line, one for each time of the plot."""

    name: Text
    values: Sequence[Value]
    kind: int  # colour and dashes, from 1; see console.css


class Drawn(NamedTuple):
    name: str
    kind: int
    path: str
    last: Value
    highest: Value


class Row(NamedTuple):
    """A row of the table: the highest or mean value of each line between two times."""

    at: float
    values: list[Value]


class Plot(NamedTuple):
    name: str  # unique in the page
    title: str
    unit: str
    form: str  # of a value: number, share, seconds
    top: float
    lines: list[Drawn]
    begin: float  # Unix times
    end: float
    table: list[Row]

    @property
    def is_empty(self) -> bool:
        return all(line.highest is None for line in self.lines)


def draw(
    name: str,
    title: Text,
    times: Sequence[float],
    lines: Sequence[Line],
    *,
    span_s: float,
    unit: Text = "",
    form: str = "number",
    top: float | None = None,
) -> Plot:
    """Draw lines over the `span_s` seconds before the last time.  `times` are in order; `top`: of the scale."""
    end = times[-1] if times else 0.0
    begin = end - span_s
    highest = max((value for line in lines for value in line.values if value is not None), default=0.0)
    top = top or find_top(highest)
    drawn = [
        Drawn(
            str(line.name), line.kind, _make_path(times, line.values, begin, end, top), _find_last(line.values),
            max((value for value in line.values if value is not None), default=None),
        )
        for line in lines
    ]  # fmt: skip
    return Plot(name, str(title), str(unit), form, top, drawn, begin, end, _make_table(times, lines))


def find_top(highest: float) -> float:
    """Find the round number above: 1, 2 or 5 times a power of ten."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** floor(log10(highest))
    return next(step * power for step in _STEPS if step * power >= highest * (1 - 1e-9))


def _make_path(times: Sequence[float], values: Sequence[Value], begin: float, end: float, top: float) -> str:
    parts: list[str] = []
    stroke: list[str] = []
    width = (end - begin) or 1.0
    for at, value in zip(times, values, strict=True):
        if value is None:
            _end_stroke(parts, stroke)
            continue
        x = (at - begin) / width * WIDTH
        y = HEIGHT - min(value / top, 1.0) * HEIGHT
        stroke.append(f"{x:.0f} {y:.1f}")
    _end_stroke(parts, stroke)
    return "".join(parts)


def _end_stroke(parts: list[str], stroke: list[str]) -> None:
    """End a line.  A single point becomes a short one, or nobody would see it."""
    if len(stroke) == 1:
        parts.append(f"M{stroke[0]}h2")
    elif stroke:
        parts.append("M" + "L".join(stroke))
    stroke.clear()


def _find_last(values: Sequence[Value]) -> Value:
    return values[-1] if values else None


def _make_table(times: Sequence[float], lines: Sequence[Line]) -> list[Row]:
    """Join neighbours, so that the table has few rows: each has the mean of its values, the newest first."""
    size = max(1, ceil(len(times) / ROWS_MAX))
    rows = []
    for start in range(0, len(times), size):
        found = [_find_mean(line.values[start : start + size]) for line in lines]
        rows.append(Row(times[min(start + size, len(times)) - 1], found))
    return rows[::-1]


def _find_mean(values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

"""Small plots of values over time, as SVG that the server draws.

Policy.   No style and no script: the shape is in attributes, colours and dashes are classes of console.css.
Texts.    A plot has a title and a description for those who do not see it, and its values are in a table beside it.
          The labels of the axes are HTML, so they keep their size when the picture shrinks.
Scale.    One scale for all lines of a plot, from 0 to a round number above the largest value.
Gaps.     Where a value is not known (None), the line has a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import ceil, floor, log10
from typing import Final, NamedTuple

from oracle.api.console.languages import Text, _

WIDTH: Final = 600
HEIGHT: Final = 120
ROWS_MAX: Final = 12  # of the table
_STEPS: Final = (1, 2, 5, 10)
Value = float | None
Write = Callable[[Value], str]


class Line(NamedTuple):
    """The values of one line, one for each time of the plot."""

    name: Text
    values: Sequence[Value]


class Drawn(NamedTuple):
    """A line as the template needs it.  Its place in the plot chooses its colour and dashes."""

    name: str
    path: str
    dots: str  # a path as well: the points without a neighbour, which no line shows
    last: str
    highest: str


class Row(NamedTuple):
    """A row of the table: the mean value of each line, between the time of the row and that of the next older one."""

    at: datetime
    values: list[str]


class Plot(NamedTuple):
    name: str  # unique in the page
    title: str
    top: str
    lines: list[Drawn]
    begin: datetime
    end: datetime
    table: list[Row]
    description: str
    width: int = WIDTH
    height: int = HEIGHT
    grid: str = f"M0 0H{WIDTH}M0 {HEIGHT // 2}H{WIDTH}M0 {HEIGHT}H{WIDTH}"


def draw(
    name: str,
    title: Text,
    times: Sequence[datetime],
    lines: Sequence[Line],
    write: Write,
    *,
    span_s: float,
    top: float | None = None,
) -> Plot:
    """Draw lines over the `span_s` seconds before the last time.

    `times` are in order.  `write` writes a value with its unit; `top`: the end of the scale, else a round number.
    """
    seconds = [moment.timestamp() for moment in times]
    end = seconds[-1] if seconds else datetime.now(UTC).timestamp()
    begin = end - span_s
    top = top or find_top(max((value for line in lines for value in line.values if value is not None), default=0.0))
    drawn = [
        Drawn(
            str(line.name), *_make_paths(seconds, line.values, begin, end, top),
            write(line.values[-1] if line.values else None),
            write(max((value for value in line.values if value is not None), default=None)),
        )
        for line in lines
    ]  # fmt: skip
    texts = [_("{name}: {last} now, {highest} at most.").format(**one._asdict()) for one in drawn]
    return Plot(
        name, str(title), write(top), drawn, datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC),
        _make_table(times, lines, write), " ".join(texts),
    )  # fmt: skip


def find_top(highest: float) -> float:
    """Find the round number above: 1, 2 or 5 times a power of ten."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** floor(log10(highest))
    return next(step * power for step in _STEPS if step * power >= highest * (1 - 1e-9))


def _make_paths(
    times: Sequence[float], values: Sequence[Value], begin: float, end: float, top: float
) -> tuple[str, str]:
    """Make the path of the lines, and that of the points that are alone."""
    strokes: list[list[str]] = [[]]
    for at, value in zip(times, values, strict=True):
        if value is None:
            strokes.append([])
        elif at >= begin:
            x = (at - begin) / (end - begin) * WIDTH
            y = HEIGHT - min(max(value / top, 0.0), 1.0) * HEIGHT
            strokes[-1].append(f"{x:.0f} {y:.1f}")
    lines = "".join(f"M{'L'.join(points)}" for points in strokes if len(points) > 1)
    return lines, "".join(f"M{points[0]}h0" for points in strokes if len(points) == 1)


def _make_table(times: Sequence[datetime], lines: Sequence[Line], write: Write) -> list[Row]:
    """Join neighbours, so that the table has few rows; the newest is first."""
    size = max(1, ceil(len(times) / ROWS_MAX))
    rows = []
    for stop in range(len(times), 0, -size):
        part = slice(max(0, stop - size), stop)
        rows.append(Row(times[stop - 1], [write(_find_mean(line.values[part])) for line in lines]))
    return rows


def _find_mean(values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

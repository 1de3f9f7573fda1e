"""Draws line plots as inline SVG: three kinds of plot do not need a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Final

Points = Sequence[tuple[float, float]]

WIDTH: Final = 720
HEIGHT: Final = 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 44
# People who cannot see red or green can distinguish them, too; in print they differ in lightness.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999933")
LEGEND_COLUMN: Final = 165


class _Axis:
    """Converts values to pixels, from zero upwards or by powers of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool) -> None:
        self.log = log and min(values) > 0
        self.start, self.end = start, end
        if self.log:
            lowest = floor(log10(min(values)))
            highest = max(ceil(log10(max(values))), lowest + 1)
            self.low, self.high = float(lowest), float(highest)
            self.ticks = [10.0**power for power in range(lowest, highest + 1)]
        else:
            step = _choose_step(max(*values, 1e-9))
            self.low, self.high = 0.0, ceil(max(*values, 1e-9) / step) * step
            self.ticks = [step * n for n in range(round(self.high / step) + 1)]

    def at(self, value: float) -> float:
        place = log10(value) if self.log else value
        return self.start + (place - self.low) / (self.high - self.low) * (self.end - self.start)


def _choose_step(most: float) -> float:
    """Return 1, 2 or 5 times a power of ten, so that there are four to nine steps."""
    power = 10.0 ** floor(log10(most / 4))
    return next(factor * power for factor in (1, 2, 5, 10) if most / (factor * power) <= 9)


def draw_plot(title: str, x_name: str, y_name: str, lines: Mapping[str, Points], *, log_x: bool = False) -> str:
    """Return an <svg>, or a sentence if there is nothing to draw.  Connects points in the given order."""
    shown = {name: points for name, points in lines.items() if points}
    if not shown:
        return f"<p>{escape(title)}: nothing measured.</p>"
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    top = TOP + 16 * ceil(len(shown) / 4)
    x_axis = _Axis(xs, LEFT, WIDTH - RIGHT, log=log_x)
    y_axis = _Axis(ys, HEIGHT - BOTTOM, top, log=False)
    parts = [*_draw_frame(title, x_name, y_name, x_axis, y_axis)]
    for number, (name, points) in enumerate(shown.items()):
        parts += _draw_line(number, name, [(x_axis.at(x), y_axis.at(y)) for x, y in points])
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    font = 'role="img" font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{"".join(parts)}</svg>'


def _draw_frame(title: str, x_name: str, y_name: str, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    parts = [f'<text x="{LEFT}" y="16" font-size="14" font-weight="bold">{escape(title)}</text>']
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_shorten(tick)}</text>')
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_shorten(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    middle = (HEIGHT - BOTTOM + TOP) / 2
    turned = f'transform="rotate(-90 14 {middle:.0f})"'
    parts.append(f'<text x="14" y="{middle:.0f}" {turned} text-anchor="middle">{escape(y_name)}</text>')
    return parts


def _draw_line(number: int, name: str, points: Points) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = LEFT + number % 4 * LEGEND_COLUMN, TOP + number // 4 * 16
    parts = [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>',
        f'<rect x="{x}" y="{y - 8}" width="10" height="10" fill="{colour}"/>',
        f'<text x="{x + 14}" y="{y + 1}">{escape(name)}</text>',
    ]
    if len(points) <= 30:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
    return parts


def _shorten(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"

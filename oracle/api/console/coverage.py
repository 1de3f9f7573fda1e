"""The picture of a prefix: which part of the identifiers below it each route takes.

Each route is a bar as wide as its part, in the row of its length.  The longest prefix wins, so what people see when
they look from below is who answers.  The width stands for the identifiers that can exist, not for those that do.

It is as wide as the page, also on a telephone: places are shares of the width, texts keep their size, and those that
only a wide screen has room for are left out on a narrow one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from string import ascii_uppercase, digits
from typing import Any, Final, NamedTuple

WIDTH: Final = 1_000.0
ROW: Final = 34.0
TOP: Final = 26.0  # above the bars, for the next characters of the prefix
ROWS_MAX: Final = 6
BARS_MAX: Final = 300
COLOURS: Final = 8  # c0 to c7 of console.css
LEVEL_MAX: Final = 6  # level-1 to level-6 of console.css
LABEL: Final = 8.2  # the width of a letter
NARROW: Final = 0.28  # of WIDTH: what a telephone has
_NARROWEST: Final = 5.0  # more than a pixel on a telephone
_MARGIN: Final = 10.0  # of a label in its bar
_NOTHING: Final = 1e-9  # a share that is only left by rounding


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    label: str  # '': there is no room
    is_roomy: bool  # only a wide screen has room for the label
    route: Mapping[str, Any]
    colour: int
    is_answered: bool


class Tick(NamedTuple):
    x: float
    text: str
    is_roomy: bool  # only a wide screen has room for it


class Part(NamedTuple):
    """A route, and the share of the identifiers that it answers: without what longer routes take."""

    route: Mapping[str, Any]
    share: float | None  # None: the identifiers are not numbers
    level: int  # how many shorter ones are around it, LEVEL_MAX at most
    colour: int
    is_answered: bool


class Picture(NamedTuple):
    height: float
    bars: list[Bar]
    ticks: list[Tick]
    parts: list[Part]
    shares: list[tuple[str, float, int]]  # of each FSP, with its colour; '': of nobody
    left_out: int  # routes that are not drawn


def draw(prefix: str, routes: Sequence[Mapping[str, Any]], unanswered: frozenset[str], kind: str) -> Picture:
    """Draw the valid routes of a kind around a prefix.  Of two with one prefix, that of `kind` comes first."""
    by_prefix: dict[str, Mapping[str, Any]] = {}
    for route in sorted(routes, key=lambda one: one["kind"] == kind):
        by_prefix[route["prefix"]] = route
    around = max((one for one in by_prefix if prefix.startswith(one)), key=len, default=None)
    outer = [] if around is None else [around]
    inner = sorted(one for one in by_prefix if one.startswith(prefix) and len(one) > len(prefix))
    letters = _choose_letters([one[len(prefix) :] for one in inner])
    fsps = dict.fromkeys(by_prefix[one]["fspId"] for one in (*outer, *inner))
    colours = {fsp_id: place % COLOURS for place, fsp_id in enumerate(fsps)}
    lengths = sorted({len(one) for one in inner})[:ROWS_MAX]
    drawn = [one for one in inner if len(one) in lengths][:BARS_MAX]
    places = [(one, 0, 0.0, 1.0) for one in outer]
    places += [(one, len(outer) + lengths.index(len(one)), *_place(one[len(prefix) :], letters)) for one in drawn]
    bars = [_make_bar(by_prefix[one], row, begin, width, colours, unanswered) for one, row, begin, width in places]
    parts = _share_out(prefix, around, inner, by_prefix, letters, colours, unanswered)
    return Picture(
        TOP + ROW * (len(outer) + len(lengths)), bars, _make_ticks(prefix, letters), parts,
        _sum_shares(parts, around, letters, colours), len(inner) - len(drawn),
    )  # fmt: skip


def _make_bar(
    route: Mapping[str, Any], row: int, begin: float, width: float, colours: Mapping[str, int],
    unanswered: frozenset[str],
) -> Bar:  # fmt: skip
    """Make the bar of a route; `begin` and `width` are shares of the picture."""
    fsp_id, prefix = route["fspId"], route["prefix"]
    wide = max(width * WIDTH, _NARROWEST)
    labels = (f"{prefix} · {fsp_id}", fsp_id, prefix)
    label = next((text for text in labels if len(text) * LABEL + _MARGIN < wide), "")
    is_roomy = len(label) * LABEL + _MARGIN >= wide * NARROW
    return Bar(
        begin * WIDTH, TOP + row * ROW, wide, label, is_roomy, route, colours[fsp_id], fsp_id not in unanswered
    )  # fmt: skip


def _choose_letters(rests: list[str]) -> str:
    used = set("".join(rests))
    for letters in (digits, digits + ascii_uppercase):
        if used <= set(letters):
            return letters
    return "".join(sorted(used))


def _place(rest: str, letters: str) -> tuple[float, float]:
    begin, width = 0.0, 1.0
    for letter in rest:
        width /= len(letters)
        begin += letters.index(letter) * width
    return begin, width


def _make_ticks(prefix: str, letters: str) -> list[Tick]:
    step = WIDTH / len(letters)
    is_short = len(prefix) > 5 or len(letters) > len(digits)  # noqa: PLR2004 - a longer one has no room
    texts = [f"…{one}" if is_short else prefix + one for one in letters]
    every = ceil(max(map(len, texts), default=0) * LABEL / (step * NARROW))  # of them, on a telephone
    return [Tick((place + 0.5) * step, text, place % every != 0) for place, text in enumerate(texts)]


def _share_out(
    prefix: str, around: str | None, inner: list[str], by_prefix: Mapping[str, Mapping[str, Any]], letters: str,
    colours: Mapping[str, int], unanswered: frozenset[str],
) -> list[Part]:  # fmt: skip
    """List the routes with their shares, in the order of their prefixes."""
    widths: dict[str, float] = {around: 1.0} if around is not None else {}
    levels: dict[str, int] = {around: 0} if around is not None else {}
    open_ones = [around] if around is not None else []
    for one in inner:
        while open_ones and not one.startswith(open_ones[-1]):
            open_ones.pop()
        widths[one] = _place(one[len(prefix) :], letters)[1]
        levels[one] = len(open_ones)
        if open_ones:
            widths[open_ones[-1]] -= widths[one]
        open_ones.append(one)
    return [
        Part(
            by_prefix[one], _round(max(width, 0.0)) if letters == digits else None, min(levels[one], LEVEL_MAX),
            colours[by_prefix[one]["fspId"]], by_prefix[one]["fspId"] not in unanswered,
        )
        for one, width in widths.items()
    ]  # fmt: skip


def _sum_shares(
    parts: list[Part], around: str | None, letters: str, colours: Mapping[str, int]
) -> list[tuple[str, float, int]]:
    if letters != digits:
        return []
    sums: dict[str, float] = {}
    for part in parts:
        name = part.route["fspId"] if part.is_answered else ""
        sums[name] = sums.get(name, 0.0) + (part.share or 0.0)
    if around is None:
        sums[""] = sums.get("", 0.0) + max(1.0 - sum(part.share or 0.0 for part in parts), 0.0)
    kept = [(name, _round(share), colours.get(name, 0)) for name, share in sums.items() if share > _NOTHING]
    return sorted(kept, key=lambda one: -one[1])


def _round(share: float) -> float:
    return float(f"{share:.4g}")

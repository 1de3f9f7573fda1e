"""Draws the dashboard with the data of a Prometheus: a look at what the panels show, where there is no Grafana.

It asks for each query of deploy/monitoring/dashboard.json as Grafana does, and draws lines and numbers in the places of
the panels, in Chromium.  Colours, axes and legends are this program's own: it is no test of how Grafana draws.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import alert_forms
import httpx
from browser import FLAGS
from playwright.async_api import async_playwright

COLUMN_PX: Final = 75
LINE_PX: Final = 34
POINTS: Final = 120
RATE_INTERVAL_S: Final = 15
COLOURS: Final = ("#73bf69", "#5794f2", "#f2cc0c", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ca95e5")
PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
SMALL: Final = ((1, "s", 1.0), (1e-3, "ms", 1e3), (0, "µs", 1e6))


class Line(NamedTuple):
    legend: str
    points: list[tuple[float, float]]


async def draw(url: str, place: Path, seconds: float) -> None:
    """Write a PNG of the last so many seconds."""
    dashboard = json.loads((alert_forms.PLACE / "dashboard.json").read_text())
    ends_at = time.time()
    span = ends_at - seconds, ends_at
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        panels = [await _draw_panel(client, panel, span) for panel in dashboard["panels"]]
    height = LINE_PX * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    page_text = _PAGE.format(title=html.escape(dashboard["title"]), panels="\n".join(panels), height=height)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = await browser.new_page(viewport={"width": 24 * COLUMN_PX + 20, "height": height + 60})
        await page.set_content(page_text)
        await page.screenshot(path=place, full_page=True)
        await browser.close()


async def _draw_panel(client: httpx.AsyncClient, panel: dict[str, Any], span: tuple[float, float]) -> str:
    place = panel["gridPos"]
    box = {
        "left": place["x"] * COLUMN_PX, "top": place["y"] * LINE_PX,
        "width": place["w"] * COLUMN_PX - 8, "height": place["h"] * LINE_PX - 8,
    }  # fmt: skip
    style = ";".join(f"{name}:{value}px" for name, value in box.items())
    title = html.escape(panel["title"])
    if panel["type"] == "row":
        return f'<h2 style="{style}">{title}</h2>'
    lines = [line for target in panel["targets"] for line in await _fetch(client, target, span)]
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] == "stat":
        inner = _draw_stat(lines, defaults)
    else:
        inner = _draw_lines(lines, defaults, span, box["width"] - 16, box["height"] - 76)
    return f'<section style="{style}"><h3>{title}</h3>{inner}</section>'


async def _fetch(client: httpx.AsyncClient, target: dict[str, str], span: tuple[float, float]) -> list[Line]:
    query = target["expr"].replace("$__rate_interval", f"{RATE_INTERVAL_S}s")
    query = query.replace("$cluster_name", ".*").replace("$namespace", ".*")
    step = (span[1] - span[0]) / POINTS
    data = {"query": query, "start": f"{span[0]}", "end": f"{span[1]}", "step": f"{step}"}
    answer = (await client.post("/api/v1/query_range", data=data)).raise_for_status().json()
    return [
        Line(
            _name(target["legendFormat"], series["metric"]),
            [(float(at), float(value)) for at, value in series["values"] if value not in ("NaN", "+Inf")],
        )
        for series in answer["data"]["result"]
    ]


def _name(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()


def _draw_stat(lines: list[Line], defaults: dict[str, Any]) -> str:
    points = lines[0].points if lines else []
    if not points:
        return '<p class="stat none">No data</p>'
    value = points[-1][1]
    steps = defaults["thresholds"]["steps"]
    colour = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    names = {name: one["text"] for mapping in defaults["mappings"] for name, one in mapping["options"].items()}
    text = names.get(f"{value:g}") or _format(value, defaults["unit"])
    return f'<p class="stat {colour}">{html.escape(text)}</p>'


def _draw_lines(
    lines: list[Line], defaults: dict[str, Any], span: tuple[float, float], width: float, height: float
) -> str:
    lines = [line for line in lines if line.points]
    if not lines:
        return '<p class="none">No data</p>'
    unit = defaults["unit"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    sums: dict[float, float] = {}
    shapes, legends = [], []
    drawn = []
    for line in lines:
        points = line.points
        if stacked:
            points = [(at, value + sums.get(at, 0.0)) for at, value in points]
            sums |= dict(points)
        drawn.append(points)
    most = max(defaults.get("max", 0), *(value for points in drawn for _, value in points)) or 1.0
    for number, (line, points) in enumerate(zip(lines, drawn, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        places = " ".join(
            f"{width * (at - span[0]) / (span[1] - span[0]):.1f},{height - height * max(value, 0) / most:.1f}"
            for at, value in points
        )
        shapes.append(f'<polyline points="{places}" stroke="{colour}"/>')
        last = html.escape(f"{line.legend or 'value'}: {_format(line.points[-1][1], unit)}")
        legends.append(f'<span style="color:{colour}">{last}</span>')
    top = html.escape(_format(most, unit))
    return (
        f'<svg width="{width}" height="{height}"><rect width="{width}" height="{height}"/>{"".join(shapes)}'
        f'<text x="4" y="12">{top}</text></svg><div class="legend">{" ".join(legends)}</div>'
    )


def _format(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.2%}"
    if unit == "s" and value < 60:
        _, name, times = next(one for one in SMALL if value >= one[0])
        return f"{value * times:.3g} {name}"
    if unit == "s":
        return f"{value:.0f} s"
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


_PAGE: Final = """<!doctype html><meta charset="utf-8"><style>
body {{ background: #111217; color: #ccccdc; font: 12px sans-serif; margin: 10px }}
h1 {{ font-size: 18px; margin: 0 0 8px }}
main {{ position: relative; height: {height}px }}
main > * {{ position: absolute; box-sizing: border-box; margin: 0; overflow: hidden }}
h2 {{ font-size: 15px; padding-top: 8px }}
section {{ background: #181b1f; border: 1px solid #2c3235; padding: 6px 8px }}
h3 {{ font-size: 12px; margin: 0 0 4px; font-weight: 600; white-space: nowrap }}
rect {{ fill: #14161a }} polyline {{ fill: none; stroke-width: 1.4 }} text {{ fill: #8e8e9a; font-size: 10px }}
.legend {{ font-size: 10px; line-height: 12px; height: 38px; overflow: hidden }} .legend span {{ margin-right: 8px }}
.stat {{ font-size: 24px; text-align: center; margin: 0; padding: 14px; color: #111 }} .none {{ color: #8e8e9a }}
.green {{ background: #73bf69 }} .red {{ background: #f2495c }}
</style><h1>{title}</h1><main>{panels}</main>"""

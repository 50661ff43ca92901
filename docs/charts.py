"""Small line charts as SVG text, for the pages: points in, one string out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 330, 240  # pixels of one panel
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 26, 40
INK = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")


@dataclass(frozen=True)
class Panel:
    """One chart.

    lines   points (x, y) by name, joined by a line if `joined`
    x, y    what the axes show
    log     letters of the axes that are logarithmic: "", "x", "y" or "xy"
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    x: str = ""
    y: str = ""
    log: str = ""
    joined: bool = True


def figure(panels: Sequence[Panel], *, columns: int = 2) -> str:
    """Return the SVG of panels, row by row; a line has the same colour in all of them."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    width = WIDTH * min(columns, len(panels))
    height = HEIGHT * math.ceil(len(panels) / columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="10">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, panel in enumerate(panels):
        at = f"translate({i % columns * WIDTH} {i // columns * HEIGHT})"
        parts += [f'<g transform="{at}">', *_drawn(panel, names), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _drawn(panel: Panel, names: Sequence[str]) -> list[str]:
    points = [p for line in panel.lines.values() for p in line]
    across = _Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, "x" in panel.log)
    up = _Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, "y" in panel.log)
    parts = [f'<text x="{LEFT}" y="14" font-size="12">{escape(panel.title)}</text>']
    for tick in across.ticks():
        x = across(tick)
        parts.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{HEIGHT - BOTTOM}" stroke="#e3e8ee"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{tick:g}</text>')
    for tick in up.ticks():
        y = up(tick)
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#e3e8ee"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3}" text-anchor="end">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) // 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - BOTTOM + 28}" text-anchor="middle">{escape(panel.x)}</text>')
    turned = f"translate(11 {HEIGHT // 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(panel.y)}</text>')
    for i, (name, line) in enumerate(panel.lines.items()):
        ink = INK[names.index(name) % len(INK)]
        places = [(across(x), up(y)) for x, y in line]
        if panel.joined:
            path = " ".join(f"{x},{y}" for x, y in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="1.6"/>')
        if len(places) <= 30:
            parts += [f'<circle cx="{x}" cy="{y}" r="2.4" fill="{ink}"/>' for x, y in places]
        parts.append(f'<text x="{LEFT + 6}" y="{TOP + 12 + 12 * i}" fill="{ink}">{escape(name)}</text>')
    return parts


class _Axis:
    """Where a value stands, in pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float, log: bool) -> None:
        self.start, self.end, self.log = start, end, log
        found = [self._inner(v) for v in values if math.isfinite(v) and (v > 0 or not log)] or [0.0]
        self.low, self.high = min(found), max(found)
        if self.high - self.low < 1e-12 * max(1.0, abs(self.high)):
            self.low, self.high = self.low - 0.5, self.high + 0.5
        pad = 0.04 * (self.high - self.low)
        self.low, self.high = self.low - pad, self.high + pad

    def _inner(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def __call__(self, value: float) -> float:
        inner = self._inner(max(value, 1e-300)) if self.log else value
        part = (max(inner, self.low) - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers inside of the axis, about five of them."""
        if self.log and self.high - self.low > 1:
            step = max(1, math.ceil((self.high - self.low) / 6))
            return [10.0**e for e in range(math.ceil(self.low), math.floor(self.high) + 1, step)]
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        raw = (high - low) / 5
        size = 10 ** math.floor(math.log10(raw))
        step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw)
        return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

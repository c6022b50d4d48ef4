"""Line and bar charts as SVG. They are few and plain: drawing them here spares everybody a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 40, 90
COLOURS = ("#1f6fb4", "#d9642c", "#3c9a4b", "#8a5fb0", "#7a7a7a", "#c2a11b")
TICKS = 5
LEGEND_GAP = 5
"""The room between two names of the legend, box included, in characters."""
STYLE = "text{font:12px sans-serif;fill:#333}.title{font-size:15px;font-weight:bold}"
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Lines:
    """Hold curves by name; the horizontal axis is logarithmic, as depths and sizes double from point to point."""

    title: str
    across: str
    up: str
    series: Mapping[str, Points]

    def svg(self) -> str:
        """Draw the curves."""
        everything = [point for points in self.series.values() for point in points]
        places = sorted({x for x, _ in everything})
        low, high = math.log(places[0]), math.log(places[-1])
        top = _round_up(max(y for _, y in everything))
        at = {x: LEFT + _inner_width() * (math.log(x) - low) / ((high - low) or 1) for x in places}
        marks = [_text(at[x], HEIGHT - BOTTOM + 18, f"{x:,g}") for x in places]
        for number, points in enumerate(self.series.values()):
            colour = _colour(number)
            dots = [(at[x], _height(y, top)) for x, y in points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
            marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]
        return _frame(self.title, self.across, self.up, top, [*marks, *_legend(list(self.series))])


@dataclass(frozen=True)
class Bars:
    """Hold groups of bars: the names of the groups, and by the name of each series its bar in every group."""

    title: str
    up: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float]]

    def svg(self) -> str:
        """Draw the bars."""
        top = _round_up(max(y for values in self.series.values() for y in values))
        room = _inner_width() / len(self.groups)
        width = room * 0.8 / len(self.series)
        starts = [LEFT + room * (index + 0.1) for index in range(len(self.groups))]
        marks = [
            _text(start + room * 0.4, HEIGHT - BOTTOM + 18 + 13 * (index % 2 if room < 90 else 0), name)
            for index, (start, name) in enumerate(zip(starts, self.groups, strict=True))
        ]
        for number, values in enumerate(self.series.values()):
            for start, value in zip(starts, values, strict=True):
                marks.append(_bar(start + number * width, width, _height(value, top), _colour(number)))
        return _frame(self.title, "", self.up, top, [*marks, *_legend(list(self.series))])


Chart = Lines | Bars


def _inner_width() -> float:
    return WIDTH - LEFT - RIGHT


def _height(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _round_up(value: float) -> float:
    """Give the end of an axis whose ticks are round."""
    step = 10.0 ** math.floor(math.log10(value / TICKS)) if value > 0 else 1.0
    return next(TICKS * step * part for part in (1, 2, 2.5, 5, 10) if TICKS * step * part >= value * 0.999)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _bar(x: float, width: float, y: float, colour: str) -> str:
    height = HEIGHT - BOTTOM - y
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _legend(names: list[str]) -> list[str]:
    """Draw a box and a name for each series. A longer name gets more room."""
    rooms = [len(name) + LEGEND_GAP for name in names]
    marks, x = [], float(LEFT)
    for number, (name, room) in enumerate(zip(names, rooms, strict=True)):
        marks.append(f'<rect x="{x:.1f}" y="{HEIGHT - 22}" width="12" height="12" fill="{_colour(number)}"/>')
        marks.append(_text(x + 18, HEIGHT - 11, name, "start"))
        x += _inner_width() * room / sum(rooms)
    return marks


def _frame(title: str, across: str, up: str, top: float, marks: list[str]) -> str:
    lines = []
    for number in range(TICKS + 1):
        y = _height(top * number / TICKS, top)
        lines.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(_text(LEFT - 6, y + 4, f"{top * number / TICKS:,.6g}", "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    names = [
        _text(WIDTH / 2, 22, title, more=' class="title"'),
        _text(LEFT + _inner_width() / 2, HEIGHT - BOTTOM + 40, across),
        _text(14, middle, up, more=f' transform="rotate(-90 14 {middle:g})"'),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    ground = f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([head, ground, *lines, *names, *marks, "</svg>"]) + "\n"

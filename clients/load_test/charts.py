"""Charts as SVG for a page that sets their colours: lines over an axis, and bars.

A point or bar under the pointer shows its figures by its `title`, so that no script is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 16, 40
AT_THE_EDGE = 20
LONG_LABEL = 3
"""Within this distance from the right edge, the name of a mark that has more characters ends at the edge."""
TICKS = 4
NICE = (1, 2, 2.5, 5, 10)
BAR_GAP = 2
LOG_LABELS = 1.0
"""An axis of fewer decades also has marks at 2 and 5."""


@dataclass(frozen=True)
class Axis:
    """One axis: from which value to which, its marks, and whether it is logarithmic."""

    low: float
    high: float
    marks: Sequence[tuple[float, str]]
    title: str
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        if self.logarithmic:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points, and the texts that they show under the pointer."""

    name: str
    points: Sequence[tuple[float, float]]
    texts: Sequence[str]


@dataclass(frozen=True)
class Bar:
    """A bar from one value of the horizontal axis to another."""

    start: float
    end: float
    height: float
    text: str


def linear_axis(top: float, title: str, label: Callable[[float], str]) -> Axis:
    """Return an axis from 0 to a round number that is at least top."""
    step = _nice_step(top or 1.0)
    count = max(1, math.ceil((top or 1.0) / step - 1e-9))
    return Axis(0.0, step * count, [(step * number, label(step * number)) for number in range(count + 1)], title)


def time_axis(seconds: float) -> Axis:
    """Return the axis of a measurement that took so long."""
    step = _nice_step(seconds or 1.0)
    marks = [step * number for number in range(int(seconds / step + 1e-9) + 1)]
    return Axis(0.0, seconds or 1.0, [(mark, f"{mark:g}") for mark in marks], "seconds")


def log_axis(low: float, high: float, title: str) -> Axis:
    """Return an axis with all powers of ten from below low to above high."""
    first = math.floor(math.log10(low) + 1e-9)
    last = max(first + 1, math.ceil(math.log10(high) - 1e-9))
    digits = (1, 2, 5) if last - first <= LOG_LABELS else (1,)
    marks = [digit * 10.0**power for power in range(first, last) for digit in digits] + [10.0**last]
    return Axis(10.0**first, 10.0**last, [(mark, f"{mark:,g}") for mark in marks], title, True)


def _nice_step(top: float) -> float:
    """Return a round step of which a few reach the top."""
    rough = top / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in NICE if nice * power >= rough * (1 - 1e-9))


def line_chart(title: str, across: Axis, up: Axis, lines: Sequence[Line]) -> str:
    """Draw curves, with a legend if there are several."""
    drawn = [_line(line, number, across, up) for number, line in enumerate(lines, 1)]
    area = _area(lines[0], across, up) if len(lines) == 1 and not up.logarithmic else ""
    return _figure(title, across, up, area + "".join(drawn), [line.name for line in lines])


def bar_chart(title: str, across: Axis, up: Axis, bars: Sequence[Bar], marks: Sequence[tuple[float, str]]) -> str:
    """Draw bars, and named marks on the horizontal axis."""
    drawn = [_bar(bar, across, up) for bar in bars if bar.height]
    named = [_mark(x, name, number, across) for number, (x, name) in enumerate(marks)]
    return _figure(title, across, up, "".join([*drawn, *named]), [])


def _x(axis: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * axis.share(value)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * axis.share(value)


def _line(line: Line, number: int, across: Axis, up: Axis) -> str:
    places = [(_x(across, x), _y(up, y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle class="dot s{number}" cx="{x:.1f}" cy="{y:.1f}" r="7"><title>{escape(text)}</title></circle>'
        for (x, y), text in zip(places, line.texts, strict=True)
    )
    return f'<polyline class="line s{number}" points="{path}"/>{dots}'


def _area(line: Line, across: Axis, up: Axis) -> str:
    """Fill what is below the only curve."""
    if not line.points:
        return ""
    base = _y(up, up.low)
    path = " ".join(f"{_x(across, x):.1f},{_y(up, y):.1f}" for x, y in line.points)
    first, last = _x(across, line.points[0][0]), _x(across, line.points[-1][0])
    return f'<polygon class="area" points="{first:.1f},{base:.1f} {path} {last:.1f},{base:.1f}"/>'


def _bar(bar: Bar, across: Axis, up: Axis) -> str:
    left, right, top = _x(across, bar.start), _x(across, bar.end), _y(up, bar.height)
    width, height = max(right - left - BAR_GAP, 1), max(HEIGHT - BOTTOM - top, 1)
    return (
        f'<rect class="bar" x="{left + BAR_GAP / 2:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" width="{width:.1f}"'
        f' height="{height:.1f}" rx="2"><title>{escape(bar.text)}</title></rect>'
    )


def _mark(value: float, name: str, number: int, across: Axis) -> str:
    """Draw a vertical line with its name, each name lower than the one before it."""
    x, y = _x(across, value), TOP + 10 + 14 * number
    side, shift = ("end", -4) if x > WIDTH * 0.8 else ("start", 4)
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="name" x="{x + shift:.1f}" y="{y}" text-anchor="{side}">{escape(name)}</text>'
    )


def _figure(title: str, across: Axis, up: Axis, drawn: str, names: Sequence[str]) -> str:
    """Put axes and title around what is drawn."""
    rows = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(up, value):.1f}" y2="{_y(up, value):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{_y(up, value) + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        for value, label in up.marks
    ]
    columns = [_column(_x(across, value), label) for value, label in across.marks]
    base = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
    below = f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(across.title)}</text>'
    return (
        f"<figure><figcaption><b>{escape(title)}</b> <span>{escape(up.title)}</span>{_legend(names)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(rows)}{''.join(columns)}{below}{drawn}{base}</svg></figure>"
    )


def _column(x: float, label: str) -> str:
    """Write a mark below the horizontal axis."""
    at_edge = x > WIDTH - RIGHT - AT_THE_EDGE and len(label) > LONG_LABEL
    place, anchor = (WIDTH - 2, "end") if at_edge else (x, "middle")
    return f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{escape(label)}</text>'


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    entries = [f'<i class="key k{number}"></i>{escape(name)}' for number, name in enumerate(names, 1)]
    return f'<span class="legend">{" ".join(f"<span>{entry}</span>" for entry in entries)}</span>'

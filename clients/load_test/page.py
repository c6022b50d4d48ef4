"""The results of a load as one HTML page that needs nothing else: figures, charts, settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from clients.load_test.charts import Axis, Bar, Line, bar_chart, line_chart, linear_axis, log_axis, time_axis
from clients.load_test.measurement import MILLISECOND_US, Measurement, Moment
from clients.load_test.report import Report
from clients.load_test.style import STYLE

POINTS = 150
"""The most points of a curve over time; several ticks become one point where there are more."""
BARS_A_DECADE = 10
MARKED = (50, 99, 99.9)
NINES_STEP = 0.1
PERCENTILE_MARKS = [(0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %"), (5.0, "99.999 %")]


def page_of(report: Report) -> str:
    """Return the page."""
    load = report.load
    title = f"{load.protocol} at {load.address}"
    parts = [
        _verdict(report, title),
        _tiles(report),
        *_charts(report),
        f'<div class="tables">{_table(report)}{_settings(report)}</div>',
        _remarks(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>Load test: {escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _verdict(report: Report, title: str) -> str:
    word = "pass" if report.passed else "fail"
    when = f"{report.started_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"<header><div><h1>Load test</h1><p>{escape(title)} · {when}</p></div>"
        f'<strong class="verdict {word}">{word}</strong></header>'
    )


def _tiles(report: Report) -> str:
    """Return a tile for each target."""
    tiles = [
        f'<div class="tile"><p>{escape(target.name)}</p><b>{escape(target.found)}</b>'
        f'<p class="{"pass" if target.met else "fail"}">{"✓" if target.met else "✗"} {escape(target.wanted)}</p></div>'
        for target in report.targets
    ]
    return f'<section class="tiles">{"".join(tiles)}</section>' if tiles else ""


def _charts(report: Report) -> Iterator[str]:
    yield '<section class="charts">'
    yield _throughput_chart(report)
    if len(report.measurements) == 1:
        yield _latency_chart(report.measurements[0])
        yield _distribution_chart(report.measurements[0])
    yield _percentile_chart(report)
    yield "</section>"


def _throughput_chart(report: Report) -> str:
    curves = [(report.title_of(each), thinned(each.moments)) for each in report.measurements]
    everything = [moment for _, moments in curves for moment in moments]
    lines = [
        Line(
            name,
            [(moment.at, moment.rate) for moment in moments],
            [f"{moment.at:.2f} s: {moment.rate:,.0f} requests/s" for moment in moments],
        )
        for name, moments in curves
    ]
    across = time_axis(max((moment.at for moment in everything), default=1.0))
    top = max((moment.rate for moment in everything), default=1.0)
    return line_chart("Throughput", across, linear_axis(top, "requests a second", "{:,.0f}".format), lines)


def _latency_chart(measurement: Measurement) -> str:
    moments = [moment for moment in thinned(measurement.moments) if moment.p50]
    figures = {"p50": [moment.p50 for moment in moments], "p99": [moment.p99 for moment in moments]}
    lines = [
        Line(
            name,
            [(moment.at, value) for moment, value in zip(moments, values, strict=True)],
            [f"{moment.at:.2f} s: {name} {value:.3f} ms" for moment, value in zip(moments, values, strict=True)],
        )
        for name, values in figures.items()
    ]
    across = time_axis(max((moment.at for moment in moments), default=1.0))
    return line_chart(
        "Latency over time", across, linear_axis(max(figures["p99"], default=1.0), "ms", "{:g}".format), lines
    )


def _distribution_chart(measurement: Measurement) -> str:
    """Draw the share of the requests in each range of latencies, on a logarithmic axis."""
    total = max(measurement.histogram.total_count, 1)
    counts: dict[int, int] = {}
    for step in measurement.histogram.get_recorded_iterator():
        place = math.floor(math.log10(step.value_iterated_to / MILLISECOND_US) * BARS_A_DECADE)
        counts[place] = counts.get(place, 0) + step.count_added_in_this_iter_step
    edges = {place: 10 ** (place / BARS_A_DECADE) for at in counts for place in (at, at + 1)}
    bars = [
        Bar(
            edges[at],
            edges[at + 1],
            100 * count / total,
            f"{edges[at]:.3g} to {edges[at + 1]:.3g} ms: {count:,} requests",
        )
        for at, count in sorted(counts.items())
    ]
    across = log_axis(min(edges.values(), default=0.1), max(edges.values(), default=1.0), "ms, logarithmic")
    up = linear_axis(max((bar.height for bar in bars), default=1.0), "% of the requests", "{:g}".format)
    marks = [(measurement.percentile_ms(percent), f"p{percent:g}") for percent in MARKED] if counts else []
    return bar_chart("Latency distribution", across, up, bars, marks)


def _percentile_chart(report: Report) -> str:
    lines = [_percentile_line(report.title_of(each), each) for each in report.measurements]
    values = [value for line in lines for _, value in line.points] or [1.0]
    longest = max((line.points[-1][0] for line in lines if line.points), default=1.0)
    last = max(1.0, min(float(math.ceil(longest)), PERCENTILE_MARKS[-1][0]))
    across = Axis(0.0, last, [mark for mark in PERCENTILE_MARKS if mark[0] <= last], "of the requests are faster")
    return line_chart("Latency by percentile", across, log_axis(min(values), max(values), "ms, logarithmic"), lines)


def _percentile_line(name: str, measurement: Measurement) -> Line:
    """Return a curve over the number of nines, as far as there are requests."""
    total = measurement.histogram.total_count
    nines = min(math.log10(total), PERCENTILE_MARKS[-1][0]) if total else 0.0
    places = [NINES_STEP * number for number in range(int(nines / NINES_STEP) + 1)] if total else []
    percents = [100 * (1 - 10**-place) for place in places]
    values = [measurement.percentile_ms(percent) for percent in percents]
    texts = [f"{name}: {percent:.5g} % within {value:.3f} ms" for percent, value in zip(percents, values, strict=True)]
    return Line(name, list(zip(places, values, strict=True)), texts)


def thinned(moments: Sequence[Moment]) -> list[Moment]:
    """Return at most POINTS moments: the means of several ticks, and the worst of their p99."""
    size = math.ceil(len(moments) / POINTS) or 1
    groups = [moments[start : start + size] for start in range(0, len(moments), size)]
    return [
        Moment(
            group[-1].at,
            sum(moment.rate for moment in group) / len(group),
            sum(moment.p50 for moment in group) / len(group),
            max(moment.p99 for moment in group),
            sum(moment.errors for moment in group),
        )
        for group in groups
    ]


def _table(report: Report) -> str:
    columns = [report.rows_of(measurement) for measurement in report.measurements]
    head = "".join(f"<th>{escape(report.title_of(measurement))}</th>" for measurement in report.measurements)
    rows = [
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(column[name])}</td>' for column in columns)}</tr>"
        for name in columns[0]
    ]
    return f"<section><h2>Figures</h2><table><tr><td></td>{head}</tr>{''.join(rows)}</table></section>"


def _remarks(report: Report) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in report.remarks())
    return f"<section><h2>Remarks</h2><ul>{lines}</ul></section>" if lines else ""


def _settings(report: Report) -> str:
    load = report.load
    length = f"{load.duration:g} s" if load.duration is not None else f"{load.requests:,} requests each"
    settings = {
        "connections": ", ".join(map(str, load.users or (load.connections,))),
        "length": length,
        "stores": f"{load.ratio:.0%}",
        "keys": f"{load.keys:,}, {load.key_distribution}"
        if load.rows is None
        else f"of {load.rows}, {load.key_distribution}",
        "value": "that of the row" if load.users else f"{load.value_size:,} bytes",
        "ttl": f"{load.ttl} s" if load.ttl else "none",
        "rate": f"{load.rate:,g}/s (open loop)" if load.rate is not None else "as fast as replies arrive",
        "in flight": f"{load.pipeline} a connection",
        "processes": str(load.processes),
    }
    rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in settings.items())
    return f'<section class="load"><h2>Load</h2><table>{rows}</table></section>'

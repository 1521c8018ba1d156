"""The dashboard's main row as a picture: its panels, its queries, asked of a running Prometheus.

python -m fairqueue_monitoring.picture --prometheus http://localhost:9090 --seconds 3600 dashboard.png
"""

import argparse
import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any, Final

from .grafana import COLUMNS, Panel, Query
from .selecting import filled
from .tenant_panels import FAIRNESS

Json = dict[str, Any]

# Okabe-Ito colours, told apart by colour-blind readers too.
_COLOURS: Final = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#000000")
_COLUMN_INCHES, _ROW_INCHES, _HEAD_INCHES = 5.0, 3.3, 0.5
_DOTS_PER_INCH: Final = 90
_TEXT_LETTERS: Final = 72
_PATIENCE_SECONDS: Final = 30.0
_AXES: Final = {"s": "seconds", "short": "requests", "percentunit": "percent"}


@dataclass(frozen=True, slots=True)
class Span:
    """What is drawn: `step` seconds apart, in seconds since 1970; `rate_interval` as Prometheus writes durations."""

    start: float
    end: float
    step: float
    rate_interval: str


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its name in the legend, and points of seconds since the start and value; between two that are more
    than a step apart nothing is known."""

    name: str
    dashed: bool
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A row of panels with what was found. `marks` are words for what happened, by seconds since the start."""

    panels: Sequence[tuple[Panel, Sequence[Line]]]
    seconds: float
    step: float
    marks: Mapping[float, str] = field(default_factory=dict)


def read(prometheus: str, span: Span, panels: Sequence[Panel] = FAIRNESS.panels) -> list[tuple[Panel, list[Line]]]:
    """The panels with their series. Raises OSError if Prometheus cannot be asked."""
    return [(panel, [line for query in panel.queries for line in _lines(prometheus, query, span)]) for panel in panels]


def _lines(prometheus: str, query: Query, span: Span) -> list[Line]:
    expression = filled(query.expression, rate_interval=span.rate_interval)
    asked = {"query": expression, "start": span.start, "end": span.end, "step": span.step}
    address = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(address, timeout=_PATIENCE_SECONDS) as reply:
        return lines(query, json.load(reply)["data"]["result"], span)


def lines(query: Query, result: Sequence[Json], span: Span) -> list[Line]:
    """Series as Prometheus has them, by their names in the legend."""
    found = [
        Line(
            name_of(query.legend, series["metric"]),
            query.dashed,
            [(float(at) - span.start, float(value)) for at, value in series["values"]],
        )
        for series in result
    ]
    return sorted(found, key=lambda line: line.name)


def name_of(legend: str, labels: Mapping[str, str]) -> str:
    """As Grafana makes it: a label that is not there leaves nothing."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend).strip()


def draw(drawing: Drawing, file: Path) -> None:
    """Writes the picture as a PNG. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = COLUMNS // drawing.panels[0][0].width
    rows = -(-len(drawing.panels) // columns)
    size = (columns * _COLUMN_INCHES, rows * _ROW_INCHES + _HEAD_INCHES)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    looks = colours(drawing)
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (panel, found) in zip(places, drawing.panels, strict=True):
        _draw_panel(axes, panel, found, looks, drawing)
    _legend(figure, looks)
    if drawing.marks:
        words = "     ".join(f"{at:g} s: {what}" for at, what in drawing.marks.items())
        figure.supxlabel(words, x=0.01, ha="left", fontsize=9, color="#444444")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="png", metadata={"Software": None})


def colours(drawing: Drawing) -> dict[str, str]:
    """One for each name, the same in all panels. Who is at 0 in all of them is left out."""
    drawn = [line for _, found in drawing.panels for line in found if any(value for _, value in line.points)]
    return dict(zip(dict.fromkeys(line.name for line in drawn), cycle(_COLOURS), strict=False))


def _draw_panel(axes: Any, panel: Panel, found: Sequence[Line], looks: Mapping[str, str], drawing: Drawing) -> None:
    scale = 100.0 if panel.unit == "percentunit" else 1.0
    for line in (it for it in found if it.name in looks):
        seconds, values = _with_gaps(line, drawing.step)
        style = {"linestyle": "dashed", "linewidth": 1.3} if line.dashed else {"linewidth": 2.0}
        axes.plot(seconds, [scale * value for value in values], color=looks[line.name], **style)
    for value, colour in panel.steps[1:]:
        axes.axhline(scale * (value or 0.0), color=colour, linestyle="dotted", linewidth=1.5)
    for at in drawing.marks:
        axes.axvline(at, color="#999999", linewidth=0.8)
    axes.set_title(panel.title, loc="left", fontsize=11, weight="bold", pad=28)
    text = fill(panel.text, _TEXT_LETTERS)
    # Its room is the title's padding; a long line must not make the panel narrow.
    looks_like = {"fontsize": 8, "color": "#555555", "va": "top", "annotation_clip": False}
    axes.annotate(text, (0, 1), (0, 25), "axes fraction", "offset points", **looks_like).set_in_layout(False)
    axes.set_xlim(0, drawing.seconds)
    axes.set_ylim(0, None if panel.most is None else scale * panel.most)
    axes.set_xlabel("seconds", fontsize=8.5, labelpad=1)
    axes.set_ylabel(_AXES.get(panel.unit, panel.unit.removeprefix("suffix:").strip()), fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _with_gaps(line: Line, step: float) -> tuple[list[float], list[float]]:
    """Points, with a NaN where some are missing."""
    seconds: list[float] = []
    values: list[float] = []
    for at, value in line.points:
        if seconds and at - seconds[-1] > 1.5 * step:
            seconds.append(seconds[-1] + step)
            values.append(float("nan"))
        seconds.append(at)
        values.append(value)
    return seconds, values


def _legend(figure: Any, looks: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linewidth=2.0) for colour in looks.values()]
    figure.legend(handles, list(looks), loc="outside upper left", ncols=len(looks), frameon=False, fontsize=10)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fairqueue_monitoring.picture", description="Draw the dashboard's main row.")
    parser.add_argument("file", type=Path, metavar="FILE", help="where the PNG goes")
    parser.add_argument("--prometheus", default="http://localhost:9090", metavar="URL", help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3600.0, metavar="N", help="how far back (%(default)s)")
    parser.add_argument("--rate-interval", default="1m", metavar="DURATION", help="four scrapes or more (%(default)s)")
    args = parser.parse_args()
    end = time.time()
    span = Span(end - args.seconds, end, max(args.seconds / 300, 1.0), args.rate_interval)
    try:
        draw(Drawing(read(args.prometheus.rstrip("/"), span), args.seconds, span.step), args.file)
    except (OSError, ValueError) as error:
        print(f"fairqueue_monitoring.picture: {args.prometheus}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

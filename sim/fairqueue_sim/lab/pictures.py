"""Pictures of a comparison: schedulers side by side, for a reader who never heard of fair queueing.

Drawn to bytes or a file only, without a display and whatever matplotlib is set to. The same input gives the same bytes.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairqueue_sim.lab.curves import Curves, curves_of, half_window, requests_of, telling_tenants
from fairqueue_sim.lab.experiment import Run
from fairqueue_sim.lab.metrics import Array
from fairqueue_sim.lab.plain_words import format_count, format_seconds, printable, scheduler_in_words
from fairqueue_sim.lab.workloads import Workload

__all__ = ["READING_HELP", "draw", "figure", "png", "svg"]

# Okabe-Ito colours, told apart by colour-blind readers too; each with a line style of its own, from wide to narrow,
# so that lines that lie on top of each other are all seen.
_LOOKS: tuple[tuple[str, Any, float], ...] = (
    ("#D55E00", "solid", 3.4),
    ("#0072B2", "solid", 2.0),
    ("#009E73", (0, (5, 1.5)), 2.0),
    ("#CC79A7", (0, (6, 1.5, 1.5, 1.5)), 2.0),
    ("#E69F00", (0, (2.5, 1.5)), 2.0),
    ("#000000", (0, (1, 1.2)), 2.0),
)
# All others are told apart from these only.
_THIN: dict[str, Any] = {"color": "#9a9a9a", "linewidth": 0.7, "zorder": 2}
_BAND: dict[str, Any] = {"color": "#c8c8c8", "linewidth": 0, "zorder": 2}
_DRAIN: dict[str, Any] = {"color": "#efebdc", "linewidth": 0, "zorder": 0}
# More than these are drawn as a band.
_MOST_THIN_LINES = 30
_DOTS_PER_INCH = 100
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}

# Of the whole, where requests still come; and how much longer than those the picture may be.
_LEAST_ARRIVING, _MOST_DRAINING = 0.25, 1.5

# Inches.
_WIDE_COLUMN, _COLUMN_GAP, _LEFT, _RIGHT, _LEAST_WIDTH = 3.7, 0.25, 1.0, 0.25, 9.6
_MARGIN, _TITLE, _LEGEND_LINE, _LEGEND_ENTRY = 0.25, 0.6, 0.25, 4.2
_ROW_TITLE, _ROW_HELP, _COLUMN_TITLE, _COLUMN_WORDS, _ROW_PLOT, _ROW_FOOT = 0.27, 0.28, 0.2, 0.22, 2.1, 0.62
_ROW_HEAD = _ROW_TITLE + _ROW_HELP + _COLUMN_TITLE + _COLUMN_WORDS
_ROW = _ROW_HEAD + _ROW_PLOT + _ROW_FOOT
_FOOT = 0.7
_TITLE_LETTERS, _NAME_LETTERS = 60, 24


@dataclass(frozen=True, slots=True)
class _Row:
    """What is told by one row of the picture."""

    title: str
    help: str
    unit: str
    of: Callable[[Curves], Array]


_ROWS = (
    _Row(
        "What each tenant was served so far",
        "Lines on top of each other: equal shares. Flat: that tenant is given nothing, or asks for nothing.",
        "cost units",
        lambda curves: curves.served,
    ),
    _Row(
        "How fast each is being served",
        "Equal heights: equal shares. A tenant may be lower because it is held back, or because it asks for less.",
        "cost units per second",
        lambda curves: curves.rates,
    ),
    _Row(
        "How long each waits for its first token",
        "Lower is better. A tenant that asks for little should not have to wait long because another asks for much.",
        "seconds",
        lambda curves: curves.waits,
    ),
)
READING_HELP = tuple((row.title, row.help) for row in _ROWS)


def draw(workload: Workload, runs: Sequence[tuple[str, Run]], path: Path) -> None:
    """Writes the picture as a PNG; raises OSError."""
    path.write_bytes(png(workload, runs))


def png(workload: Workload, runs: Sequence[tuple[str, Run]]) -> bytes:
    """The picture as a PNG."""
    return _bytes(workload, runs, "png", {"Software": None})


def svg(workload: Workload, runs: Sequence[tuple[str, Run]]) -> bytes:
    """The picture as an SVG whose texts are texts."""
    return _bytes(workload, runs, "svg", _METADATA)


def figure(workload: Workload, runs: Sequence[tuple[str, Run]]) -> Any:
    """The picture as a matplotlib figure: a row of axes for each of `READING_HELP`, a column for each run."""
    with _own_settings():
        return _Picture(workload, runs).draw()


def _bytes(workload: Workload, runs: Sequence[tuple[str, Run]], kind: str, metadata: dict[str, None]) -> bytes:
    out = io.BytesIO()
    with _own_settings():
        _Picture(workload, runs).draw().savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


@contextmanager
def _own_settings() -> Iterator[None]:
    """Whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "fairqueue", "svg.fonttype": "none", "text.parse_math": False})
        # A name in letters that the font lacks is drawn with boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


class _Sheet:
    """A figure that is filled from its top. Laid out by hand, in inches: fast, and the same on every machine."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white")
        FigureCanvasAgg(self.figure)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, text, va="top", **style)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = 1 - (top + height) / self.height
        return self.figure.add_axes((left / self.width, bottom, width / self.width, height / self.height))

    def legend(self, top: float, handles: Sequence[Any], labels: Sequence[str], columns: int) -> None:
        corner = (_MARGIN / self.width, 1 - top / self.height)
        style: dict[str, Any] = {
            "loc": "upper left",
            "frameon": False,
            "handlelength": 3.4,
            "fontsize": 9.5,
            "borderpad": 0,
        }
        self.figure.legend(handles, labels, bbox_to_anchor=corner, borderaxespad=0, ncols=columns, **style)


class _Picture:
    """What all parts of one picture have in common."""

    def __init__(self, workload: Workload, runs: Sequence[tuple[str, Run]]) -> None:
        self._workload = workload
        self._runs = runs
        self._half = half_window([run for _, run in runs])
        self._named = telling_tenants(workload)
        self._others = len(workload.tenants) - len(self._named)
        self._last_arrival = max((arrival.seconds for arrival in workload.arrivals), default=0.0)
        self._last_reply = max((run.course.ended_at for _, run in runs), default=0.0)
        self._end = _shown_seconds(self._last_arrival, self._last_reply)
        self._curves = [curves_of(run, self._half, self._end) for _, run in runs]
        # As the policy in force has them: they may differ from the workload's, and between runs.
        self._weighted = any(tenant.weight != 1 for _, run in runs for tenant in run.result.tenants)

    def draw(self) -> Any:
        gaps = _COLUMN_GAP * (len(self._runs) - 1)
        width = max(_LEFT + _WIDE_COLUMN * len(self._runs) + gaps + _RIGHT, _LEAST_WIDTH)
        column = (width - _LEFT - gaps - _RIGHT) / max(len(self._runs), 1)
        handles, labels = self._legend()
        legend_columns = int((width - _MARGIN) // _LEGEND_ENTRY)
        top = _TITLE + _LEGEND_LINE * -(-len(labels) // legend_columns) + _MARGIN
        sheet = _Sheet(width, top + _ROW * len(_ROWS) + _FOOT)
        sheet.text(_MARGIN, 0.2, self._title(), size=15, weight="bold")
        sheet.legend(_TITLE, handles, labels, legend_columns)
        for row in _ROWS:
            self._draw_row(sheet, row, top, column)
            top += _ROW
        sheet.text(_MARGIN, top + 0.05, self._footnote(), size=8.5, color="#444444", linespacing=1.4)
        return sheet.figure

    def _title(self) -> str:
        name = printable(self._workload.name, _TITLE_LETTERS)
        requests = format_count(len(self._workload.arrivals), "request")
        return f"{name}: {requests} from {format_count(len(self._workload.tenants), 'tenant')}"

    def _footnote(self) -> str:
        weight = ", divided by the tenant's weight: a weight of 2 is entitled to twice as much" * self._weighted
        cut = f" The last reply came at {format_seconds(self._last_reply)}." if self._last_reply > self._end else ""
        return (
            f"Cost units: 1 for a token of the prompt, 2 for a token of the output{weight}.\n"
            f"Speeds and waits are means over {2 * self._half:.3g} seconds; "
            f"a wait is shown when it ends, with the first token.{cut}"
        )

    def _legend(self) -> tuple[list[Any], list[str]]:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        requests = requests_of(self._workload)
        handles: list[Any] = [Line2D([], [], **_look(number)) for number in range(len(self._named))]
        labels = [f"{self._name(tenant)}, {format_count(requests[tenant], 'request')}" for tenant in self._named]
        if self._others:
            words = "the other tenant" if self._others == 1 else f"the other {self._others:,} tenants"
            handles.append(self._others_handle())
            labels.append(words if self._others <= _MOST_THIN_LINES else f"{words}, from least to most")
        if self._end > self._last_arrival:
            handles.append(Patch(**_DRAIN))
            labels.append(f"after {format_seconds(self._last_arrival)} no new requests come")
        return handles, labels

    def _others_handle(self) -> Any:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        return Patch(**_BAND) if self._others > _MOST_THIN_LINES else Line2D([], [], **_THIN)

    def _name(self, tenant: str) -> str:
        weights = {run.result.tenants[run.series.tenants.index(tenant)].weight for _, run in self._runs}
        name = printable(tenant, _NAME_LETTERS)
        return f"{name}, weight {weights.pop():g}" if self._weighted and len(weights) == 1 else name

    def _draw_row(self, sheet: _Sheet, row: _Row, top: float, width: float) -> None:
        sheet.text(_MARGIN, top, row.title, size=12.5, weight="bold")
        sheet.text(_MARGIN, top + _ROW_TITLE, row.help, size=9.5, color="#333333")
        highest = max((_largest(row.of(curves)) for curves in self._curves), default=0.0) or 1.0
        for number, ((title, run), curves) in enumerate(zip(self._runs, self._curves, strict=True)):
            left, head = _LEFT + number * (width + _COLUMN_GAP), top + _ROW_TITLE + _ROW_HELP
            sheet.text(left, head, _column_title(title, run), size=10.5, weight="bold")
            sheet.text(left, head + _COLUMN_TITLE, scheduler_in_words(run.result.scheduler), size=9, color="#444444")
            axes = sheet.axes(left, top + _ROW_HEAD, width, _ROW_PLOT)
            self._draw_plot(axes, curves.seconds, row.of(curves), run)
            self._scale(axes, highest, self._unit(row) if number == 0 else None)

    def _unit(self, row: _Row) -> str:
        return row.unit.replace("units", "units / weight") if self._weighted else row.unit

    def _draw_plot(self, axes: Any, seconds: Array, table: Array, run: Run) -> None:
        if self._end > self._last_arrival:
            axes.axvspan(self._last_arrival, self._end, **_DRAIN)
            axes.axvline(self._last_arrival, color="#8a8360", linewidth=0.8, zorder=1)
        if not np.isfinite(table).any():
            axes.text(0.5, 0.5, "nothing was served", transform=axes.transAxes, ha="center", color="#444444")
            return
        named = [run.series.tenants.index(tenant) for tenant in self._named]
        others = np.delete(table, named, axis=1)
        if self._others > _MOST_THIN_LINES:
            axes.fill_between(seconds, np.fmin.reduce(others, axis=1), np.fmax.reduce(others, axis=1), **_BAND)
        elif self._others:
            axes.plot(seconds, others, **_THIN)
        for number, tenant in enumerate(named):
            axes.plot(seconds, table[:, tenant], **_look(number))

    def _scale(self, axes: Any, highest: float, unit: str | None) -> None:
        axes.set_xlim(0, self._end)
        axes.set_ylim(0, highest * 1.05)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8.5, labelleft=unit is not None)
        axes.xaxis.set_major_formatter(_number)
        axes.yaxis.set_major_formatter(_number)
        axes.set_xlabel("seconds since the start", size=8.5, labelpad=1)
        if unit is not None:
            axes.set_ylabel(unit, size=9.5)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)


def _shown_seconds(last_arrival: float, last_reply: float) -> float:
    """How much is drawn: all, unless a long time in which only what had piled up is worked off would hide the rest."""
    if last_arrival < last_reply * _LEAST_ARRIVING:
        return max(last_reply, last_arrival) or 1.0
    return max(min(last_reply, _MOST_DRAINING * last_arrival), last_arrival) or 1.0


def _column_title(title: str, run: Run) -> str:
    refused = sum(run.result.refusals.values())
    return f"{printable(title, _NAME_LETTERS)}{f', {refused:,} refused' if refused else ''}"


def _look(number: int) -> dict[str, Any]:
    colour, style, width = _LOOKS[number]
    return {"color": colour, "linestyle": style, "linewidth": width, "zorder": 3 + number / 10}


def _largest(table: Array) -> float:
    finite = table[np.isfinite(table)]
    return float(finite.max(initial=0.0))


def _number(value: float, _position: int | None = None) -> str:
    return f"{value:,.9f}".rstrip("0").rstrip(".")

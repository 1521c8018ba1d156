"""The results in one picture: a few panels of bars. Draws to a PNG file only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_plane_bench.proxies import BASE, FAIRQUEUE, FAIRQUEUE_VLLM, PROXIES, REFERENCE
from data_plane_bench.summary import Spread, Summary

__all__ = ["draw"]

# Okabe-Ito colours, told apart by colour-blind readers too.
_OURS, _OTHERS = "#0072B2", "#999999"
_INCHES = (12.0, 7.0)
_DOTS_PER_INCH = 100


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    form: str
    of: Callable[[Summary, str], Spread | None]


_PANELS = (
    _Panel(
        "CPU per streamed event, nginx = 1 (less is better)",
        ".2f",
        lambda it, proxy: it.ratio("cpu", proxy, REFERENCE, "cpu_us_per_event"),
    ),
    _Panel(
        "Most events per second on one core (more is better)",
        ",.0f",
        lambda it, proxy: it.spread("max", proxy, "events_per_second"),
    ),
    _Panel(
        "Most short requests per second on one core (more is better)",
        ",.0f",
        lambda it, proxy: it.spread("short", proxy, "requests_per_second"),
    ),
    _Panel(
        "kB for each idle stream: MB per 1,000 (less is better)",
        ",.1f",
        lambda it, proxy: _thousandth(it.spread("memory", proxy, "idle_stream_bytes")),
    ),
)


def draw(summary: Summary, file: Path) -> None:
    """Writes the picture; a bar is a median, its line goes from the least to the most. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        _draw_panel(axes, panel, summary)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="png", metadata={"Software": None})


def _draw_panel(axes: Any, panel: _Panel, summary: Summary) -> None:
    found = [(name, panel.of(summary, name)) for name in PROXIES if name != BASE]
    bars = [(name, spread) for name, spread in found if spread is not None]
    names = [name for name, _ in bars]
    medians = [spread.median for _, spread in bars]
    spans = [
        [spread.median - spread.least for _, spread in bars],
        [spread.most - spread.median for _, spread in bars],
    ]
    colours = [_OURS if name in (FAIRQUEUE, FAIRQUEUE_VLLM) else _OTHERS for name in names]
    drawn = axes.barh(names, medians, xerr=spans, color=colours, ecolor="#444444", capsize=3)
    axes.bar_label(drawn, [format(value, panel.form) for value in medians], padding=6)
    axes.set_title(panel.title, fontsize=11, loc="left")
    axes.set_xlim(0, 1.2 * max((spread.most for _, spread in bars), default=1))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _thousandth(spread: Spread | None) -> Spread | None:
    return None if spread is None else Spread(spread.median / 1e3, spread.least / 1e3, spread.most / 1e3)

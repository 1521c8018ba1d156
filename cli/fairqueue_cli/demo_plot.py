"""The demo's picture: how long each chat user waited, and who got the engine's tokens. Draws to a PNG file only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairqueue_cli.demo_report import Phase, tenant_of
from fairqueue_cli.load_report import format_seconds

# Okabe-Ito colours, told apart by colour-blind readers too.
_PHASE_COLOURS = ("#D55E00", "#0072B2")
_TENANT_COLOURS = ("#999999", "#009E73", "#E69F00", "#CC79A7")
_INCHES = (12.0, 5.2)
_DOTS_PER_INCH = 110


def draw(phases: Sequence[Phase], watched: str, file: Path) -> None:
    """Writes the picture of these phases; `watched` is the tenant whose waits are shown. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    waits, shares = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_waits(waits, phases, watched)
    _draw_shares(shares, phases)
    figure.savefig(file, format="png")


def _draw_waits(axes: Any, phases: Sequence[Phase], watched: str) -> None:
    for phase, colour in zip(phases, _PHASE_COLOURS, strict=False):
        result = phase.result
        start = result.ended_at if result.measured_from is None else result.measured_from
        replies = [r for r in result.tenants[watched].replies if r.sent_at >= start and r.ttft_seconds is not None]
        seconds = [reply.sent_at - start for reply in replies]
        axes.plot(seconds, [r.ttft_seconds for r in replies], "o", color=colour, label=phase.title, markersize=7)
        ttft = tenant_of(phase, watched).ttft
        if ttft is not None:
            axes.axhline(ttft.p50, color=colour, linestyle="--", linewidth=1.2)
            axes.annotate(
                f"half wait at most {format_seconds(ttft.p50)}",
                xy=(1.0, ttft.p50),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 4),
                textcoords="offset points",
                ha="right",
                color=colour,
            )
    axes.set_title(f"How long a {watched} user waits for the first word")
    axes.set_xlabel("when the request was sent (seconds into the measurement)")
    axes.set_ylabel("wait for the first token (seconds)")
    # Room above the dots for the legend.
    axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.12)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", ncols=2)


def _draw_shares(axes: Any, phases: Sequence[Phase]) -> None:
    bottoms = [0.0] * len(phases)
    titles = [phase.title for phase in phases]
    names = [tenant.name for tenant in phases[0].report.tenants]
    for number, name in enumerate(names):
        rates = [tenant_of(phase, name).output_tokens_per_second for phase in phases]
        workers = phases[0].result.tenants[name].spec.workers
        colour = _TENANT_COLOURS[number % len(_TENANT_COLOURS)]
        bars = axes.bar(titles, rates, bottom=bottoms, color=colour, width=0.55, label=f"{name} ({workers} at a time)")
        axes.bar_label(bars, labels=[f"{name}: {rate:.0f}" for rate in rates], label_type="center")
        bottoms = [bottom + rate for bottom, rate in zip(bottoms, rates, strict=True)]
    axes.set_title("Who got the engine's tokens")
    axes.set_ylabel("tokens per second")
    axes.set_ylim(top=max(1.0, *bottoms) * 1.25)
    axes.legend(loc="upper center", ncols=2)

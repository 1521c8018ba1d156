"""Figures as readers want them."""

from typing import Literal

from data_plane_bench.summary import Spread

__all__ = ["Unit", "spelled", "spelled_bound"]

Unit = Literal["times", "events/s", "requests/s", "streams", "µs", "µs/event", "ms", "MB", "kB", "s"]
_SHOWN: dict[Unit, tuple[float, str]] = {
    "times": (1, ".2f"),
    "events/s": (1, ",.0f"),
    "requests/s": (1, ",.0f"),
    "streams": (1, ",.0f"),
    "µs": (1, ",.0f"),
    "µs/event": (1, ",.1f"),
    "ms": (1e3, ",.1f"),
    "MB": (1e-6, ",.1f"),
    "kB": (1e-3, ",.1f"),
    "s": (1, ",.1f"),
}


def spelled(spread: Spread | None, unit: Unit) -> str:
    """The median and the range; nothing for nothing. Bytes and seconds come in as such, µs as µs."""
    if spread is None:
        return ""
    low, middle, high = (_number(value, unit) for value in (spread.least, spread.median, spread.most))
    return middle if low == high else f"{middle} [{low} to {high}]"


def spelled_bound(bound: float, unit: Unit) -> str:
    """With its unit."""
    factor, _ = _SHOWN[unit]
    return f"{bound * factor:,.6g}".removesuffix(".0") + f" {unit}"


def _number(value: float, unit: Unit) -> str:
    factor, form = _SHOWN[unit]
    return format(value * factor, form)

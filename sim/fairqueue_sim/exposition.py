"""Prometheus's text format, as far as simulated engines need it."""

from collections.abc import Mapping

__all__ = ["Family", "render"]

Family = tuple[str, str, Mapping[str, float]]
"""Name, type, and values by their labels in braces' own notation, such as `engine="0"`."""


def render(families: list[Family]) -> bytes:
    """The exposition text."""
    lines = []
    for name, kind, values in families:
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{name}{{{labels}}} {float(value)!r}" for labels, value in values.items()]
    return "\n".join([*lines, ""]).encode()

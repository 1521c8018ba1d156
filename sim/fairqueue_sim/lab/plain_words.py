"""What a reader who never heard of a scheduler is told about it, and names made safe to show."""

__all__ = ["format_count", "format_seconds", "printable", "scheduler_in_words"]

_SCHEDULERS = {
    "fcfs": "first come, first served",
    "rpm": "first come, first served, so many requests a minute each",
    "lcf": "least served first, idle time is saved up",
    "round-robin": "one request of each in turn",
    "drr": "an equal portion of work of each in turn",
    "vtc": "least served first",
    "vtc-predict": "least served first, with guessed lengths",
    "vtc-oracle": "least served first, with known lengths",
    "fairqueue": "the proxy in front of the engine",
}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def scheduler_in_words(scheduler: str | None) -> str:
    """What a scheduler does, in a few words; empty where there is nothing to say."""
    kind, _, number = (scheduler or "").partition(":")
    if kind == "rpm" and number:
        return f"first come, first served, {number} requests a minute each"
    if kind == "vtc-oracle" and number:
        return f"least served first, lengths known to {number} %"
    return _SCHEDULERS.get(kind, "")


def printable(name: str, most: int | None = None) -> str:
    """A name from anywhere on one line, without what changes the direction or the meaning of text beside it, cut to
    `most` characters."""
    shown = "".join(letter if letter.isprintable() else _REPLACEMENT for letter in name)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + _ELLIPSIS


def format_seconds(seconds: float | None) -> str:
    """A time with three digits that matter, in seconds."""
    if seconds is None:
        return "none"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def format_count(count: int, noun: str) -> str:
    """A number with its noun: `1 request`, `1,620 requests`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"

"""Prometheus text of engines: the series of a name, found without parsing the rest. Pure.

TGI's text has thousands of lines, and it is read on the loop that relays streams: so names are searched for.
"""

import re
from collections.abc import Iterator
from math import isfinite

# In quotes a label's value may hold anything, braces too.
_LABELS = rb'\{(?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*\}'
# Other values, such as NaN or +Inf, are no numbers to add to.
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\S)"
_REST_OF_LINE = re.compile(rb"(?P<labels>" + _LABELS + rb")? (?P<value>" + _NUMBER + rb")?")


def series(name: str, text: bytes) -> Iterator[re.Match[bytes]]:
    """The lines of a name, each with its `labels` and its `value`; None where that is not there or no number."""
    wanted = name.encode()
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if (at == 0 or text[at - 1] == ord("\n")) and (match := _REST_OF_LINE.match(text, end)) is not None:
            yield match
        at = text.find(wanted, end)


def total(name: str, text: bytes) -> float | None:
    """Summed over all series of a name that hold a number; None without any."""
    values = [float(match["value"]) for match in series(name, text) if match["value"] is not None]
    # 1e999 is a number, too.
    return sum(values) if values and all(map(isfinite, values)) else None


def with_added(name: str, text: bytes, number: int) -> bytes:
    """The text with so much added to one series of a name, or with one of its own if there is none."""
    found = list(series(name, text))
    if not found:
        line_end = b"" if not text or text.endswith(b"\n") else b"\n"
        return text + line_end + b"%s %d\n" % (name.encode(), number)
    for match in found:
        if match["value"] is not None:
            changed = b"%.15g" % (float(match["value"]) + number)
            return text[: match.start("value")] + changed + text[match.end("value") :]
    return text


def whole_label(name: str, labels: bytes | None) -> int | None:
    """A label's value if it is a whole number."""
    match = re.search(rb"[{,]" + re.escape(name.encode()) + rb'="(\d+)"', labels or b"")
    return int(match[1]) if match is not None else None

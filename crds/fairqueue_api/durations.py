"""Durations as Kubernetes writes them: the syntax of Go's `time.ParseDuration`, read into seconds."""

import re

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "\u03bcs": 1_000,  # Greek mu, which Go takes too
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(" + "|".join(sorted(_NANOSECONDS, key=len, reverse=True)) + ")")


class DurationError(ValueError):
    """A text that is no duration, or one outside its range: `what` is wrong and a `fix`."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: "500ms", "1m30s", "1.5h", "-1s", "0". Raises `DurationError`.

    What lies below a nanosecond is dropped, as Go does.
    """
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    if unsigned == "0":
        return 0.0
    nanoseconds, position = 0, 0
    while position < len(unsigned):
        part = _PART.match(unsigned, position)
        if part is None or not (part[1] or part[2]):
            raise _malformed()
        nanoseconds += _part_nanoseconds(part[1], part[2] or "", _NANOSECONDS[part[3]])
        position = part.end()
    if not unsigned:
        raise _malformed()
    return (-nanoseconds if text[0] == "-" else nanoseconds) / 1e9


def _part_nanoseconds(whole: str, fraction: str, unit: int) -> int:
    return int(whole or "0") * unit + int(fraction or "0") * unit // int("1" + "0" * len(fraction))


def _malformed() -> DurationError:
    return DurationError("is not a duration", "write one such as 500ms, 60s or 1m30s")

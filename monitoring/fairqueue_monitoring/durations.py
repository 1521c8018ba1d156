"""Durations as Prometheus writes them, all divided by one factor: tests let an hour pass in a minute."""

from dataclasses import dataclass

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


@dataclass(frozen=True, slots=True)
class Durations:
    """Calling it with seconds gives the text of that duration over `factor`, in the largest unit that fits.

    Raises:
        ValueError: the factor is not positive, or a duration over it is less than a millisecond.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(f"the factor must be positive: {self.factor}")

    def __call__(self, seconds: float) -> str:
        milliseconds = round(seconds * 1000 / self.factor)
        if not milliseconds:
            raise ValueError(f"{seconds} s over {self.factor:g} is less than a millisecond")
        return next(f"{milliseconds // size}{unit}" for unit, size in _UNITS if milliseconds % size == 0)

    def seconds(self, seconds: float) -> str:
        """The number of seconds, for expressions that compare times."""
        return f"{seconds / self.factor:.15g}"


MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

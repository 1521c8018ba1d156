"""The largest rate that is carried."""

from collections.abc import Awaitable, Callable

__all__ = ["largest"]

FACTOR = 1.5


async def largest(
    carries: Callable[[float], Awaitable[bool]], start: float, precision: float, most: float
) -> float | None:
    """In coarse steps up from the start (or down, if not even that is carried), then halved until it is known to this
    precision. None if not even a hundredth of the start is carried; `most` if that is."""
    low, high = await _bracket(carries, start, most)
    if low is None or high is None:
        return low
    while high / low > 1 + precision:
        middle = (low * high) ** 0.5
        if await carries(middle):
            low = middle
        else:
            high = middle
    return low


async def _bracket(
    carries: Callable[[float], Awaitable[bool]], start: float, most: float
) -> tuple[float | None, float | None]:
    """A rate that is carried, and one that is not (None: there is none)."""
    rate = start
    if not await carries(rate):
        while rate > start / 100:
            high, rate = rate, rate / FACTOR
            if await carries(rate):
                return rate, high
        return None, rate
    while rate < most:
        low, rate = rate, min(rate * FACTOR, most)
        if not await carries(rate):
            return low, rate
    return most, None

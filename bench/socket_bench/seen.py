"""What an engine did in a span of time, whoever saw it."""

from dataclasses import dataclass

__all__ = ["Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """`waiting` are counts of all who waited in the engine, each taken right after a step with newcomers; `fitting`
    only of those who would have fitted. `running_mean` is of all steps or looks. `idle_share` is of the time, with room
    that nobody took. `behind` is the share of the time that a simulated engine's steps took too long: it had no CPU.
    """

    seconds: float
    running_mean: float
    prompt_tokens: int
    output_tokens: int
    waiting: list[int]
    fitting: list[int]
    idle_share: float
    behind: float = 0.0

"""Why a request gets no reply of the model: one kind of value for refusals and failures, whatever the dialect."""

from dataclasses import dataclass

__all__ = ["ENGINE_FAILURE", "OVERLOADED", "Refusal"]


@dataclass(frozen=True, slots=True)
class Refusal(Exception):
    """The status of a plain reply, the message, the engine's own word for the kind of error, and which field it is."""

    status: int
    message: str
    error_type: str
    param: str | None = None


OVERLOADED = Refusal(429, "Model is overloaded", "overloaded")
ENGINE_FAILURE = Refusal(424, "Request failed during generation: Server error: simulated failure", "generation")

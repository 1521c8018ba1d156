"""Named model profiles: how long a step of a model server takes and how much fits into it.

The numbers are data (`profiles.toml` beside this module), each with its source. Only measured machines are in there,
apart from `tiny`, which exists for tests.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

__all__ = ["ModelProfile", "UnknownProfileError", "load_profile", "profile_names"]


class UnknownProfileError(LookupError):
    """There is no profile of that name; the message lists those that exist."""


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Size and speed of one model on one machine. `rules` are those by which it batches in the fairness lab, where
    nothing else is asked for."""

    name: str
    description: str
    kv_tokens: int
    prefill_budget_tokens: int
    max_total_tokens: int
    decode_base_seconds: float
    decode_per_sequence_seconds: float
    decode_per_kv_token_seconds: float
    prefill_per_token_seconds: float
    overhead_seconds: float
    mean_output_tokens: float
    rules: Literal["lightllm", "tgi", "vllm", "sglang"] = "tgi"

    def step_seconds(self, decoding_sequences: int, resident_kv_tokens: int, prefill_tokens: int) -> float:
        """Length of one engine iteration that decodes and prefills as much as given."""
        seconds = self.overhead_seconds + self.prefill_per_token_seconds * prefill_tokens
        if decoding_sequences:
            seconds += (
                self.decode_base_seconds
                + self.decode_per_sequence_seconds * decoding_sequences
                + self.decode_per_kv_token_seconds * resident_kv_tokens
            )
        return seconds


@cache
def _profiles() -> dict[str, ModelProfile]:
    text = files(__package__).joinpath("profiles.toml").read_text(encoding="utf-8")
    return {name: ModelProfile(name=name, **values) for name, values in tomllib.loads(text).items()}


def profile_names() -> list[str]:
    """The names that `load_profile` knows."""
    return sorted(_profiles())


def load_profile(name: str) -> ModelProfile:
    """The profile of that name; raises UnknownProfileError."""
    try:
        return _profiles()[name]
    except KeyError:
        raise UnknownProfileError(f"there is no such profile: take one of {', '.join(profile_names())}") from None

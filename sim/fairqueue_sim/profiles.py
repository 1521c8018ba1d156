"""Named model profiles: how long a step of a model server takes and how much fits into it.

The numbers are data (`profiles.toml` beside this module), each with its source. Only measured machines are in there,
apart from `tiny`, which exists for tests. A file of one's own has the same fields, of one profile.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Literal

from msgspec import ValidationError, convert

__all__ = ["ModelProfile", "UnknownProfileError", "load_profile", "profile_names"]


# A step that takes no time would never let time pass.
_LEAST = {
    "kv_tokens": 64,
    "prefill_budget_tokens": 16,
    "max_total_tokens": 2,
    "decode_base_seconds": 1e-6,
    "decode_per_sequence_seconds": 0.0,
    "decode_per_kv_token_seconds": 0.0,
    "prefill_per_token_seconds": 1e-9,
    "overhead_seconds": 0.0,
    "mean_output_tokens": 0.0,
}


class UnknownProfileError(LookupError):
    """There is no profile of that name, or its file can't be used; the message says what there is, or what is wrong."""


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
    """The profile of that name, or in the file of that name if it ends in `.toml`; raises UnknownProfileError."""
    if name.endswith(".toml"):
        return _read(Path(name))
    try:
        return _profiles()[name]
    except KeyError:
        names = ", ".join(profile_names())
        raise UnknownProfileError(
            f"there is no such profile: take one of {names}, or a file that ends in .toml"
        ) from None


def _read(path: Path) -> ModelProfile:
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        profile = convert({"name": path.stem, "description": "", **fields}, ModelProfile)
    except OSError as error:
        raise UnknownProfileError(f"can't be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnknownProfileError(f"is no TOML: {error}") from None
    except ValidationError as error:
        raise UnknownProfileError(f"{error}: the fields are {', '.join(ModelProfile.__dataclass_fields__)}") from None
    unknown = sorted(fields.keys() - ModelProfile.__dataclass_fields__.keys())
    if unknown:
        raise UnknownProfileError(
            f"has no field {unknown[0]}: there are {', '.join(ModelProfile.__dataclass_fields__)}"
        )
    _check(profile)
    return profile


def _check(profile: ModelProfile) -> None:
    for field, least in _LEAST.items():
        value = getattr(profile, field)
        if not least <= value < inf:
            raise UnknownProfileError(f"{field} {value:g}: must be {least:g} or more")

"""Reads and rewrites the fields of a request body without touching the values that it does not know.

A JSON object is held as names with raw values. Written out again, each value keeps its bytes, and a name that came
twice comes once: the engine cannot read another value than the proxy did. Pure functions; a value of the wrong type is
the engine's to refuse and reads as absent here.
"""

import math
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from fairqueue_proxy.engines.call import BadBody

Fields = dict[str, Raw]

MAX_TOKENS: Final = 1 << 24
"""Above every context there is: a larger output limit reads as this."""

MAX_COPIES: Final = 1024
"""Above every number of samples that an engine makes of one prompt."""

TRUE: Final = Raw(b"true")

# Fields by which a client could change the engine's own order, or address the caches and slots of others.
_STEERING_FIELDS: Final = frozenset(
    {"priority", "rid", "data_parallel_rank", "kv_transfer_params", "ec_transfer_params", "id_slot"}
)
_STEERING_PREFIX: Final = "bootstrap_"

_object = msgspec.json.Decoder(Fields)
_number = msgspec.json.Decoder(int | float | str)


def decode_body(body: bytes) -> Fields:
    """The fields of the body without those that steer the engine. Raises BadBody."""
    try:
        fields = _object.decode(body)
    except UnicodeDecodeError:
        raise BadBody("The request body is not valid UTF-8") from None
    except RecursionError:
        raise BadBody("The request body is nested too deeply") from None
    except msgspec.ValidationError:
        raise BadBody("The request body must be a JSON object") from None
    except msgspec.DecodeError as error:
        raise BadBody(f"The request body is not valid JSON: {error}") from None
    return {name: raw for name, raw in fields.items() if not _steers(name)}


def decode_object(raw: Raw | None) -> Fields | None:
    """The fields of a nested object; None for anything else."""
    if raw is None:
        return None
    try:
        return _object.decode(raw)
    except (ValueError, RecursionError):
        return None


def encode(fields: Fields) -> bytes:
    return msgspec.json.encode(fields)


def is_true(raw: Raw | None) -> bool:
    """Whether the value is the JSON literal true, as strict engines read a boolean."""
    return raw is not None and bytes(raw) == b"true"


def is_lax_true(raw: Raw | None) -> bool:
    """Whether the value is true for engines that also read 1, "true", "yes" and the like (pydantic's lax mode)."""
    if raw is None:
        return False
    return bytes(raw).strip(b'"').lower() in (b"true", b"1", b"1.0", b"yes", b"y", b"on", b"t")


def is_null(raw: Raw | None) -> bool:
    """Whether the field is absent or null."""
    return raw is None or bytes(raw) == b"null"


def number(raw: Raw | None, *, lax: bool = False) -> float | None:
    """A JSON number, and if `lax` a number in a string; None for anything else."""
    if is_null(raw) or raw is None or len(raw) > 40:
        return None
    try:
        value = _number.decode(raw)
        return float(value) if lax or not isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def copies(raw_numbers: Iterable[Raw | None], *, lax: bool = False) -> int:
    """The largest of several counts of samples, at least 1 and never absurd."""
    values = (number(raw, lax=lax) for raw in raw_numbers)
    return max([1, *(int(min(value, MAX_COPIES)) for value in values if value is not None and value >= 1)])


def output_limit(raw: Raw | None, *, lax: bool = False) -> int | None:
    """An output limit in tokens, at least 1; None if there is none, or nothing that reads as a number."""
    value = number(raw, lax=lax)
    if value is None or math.isnan(value):
        return None
    return int(max(1, min(value, MAX_TOKENS)))


def _steers(name: str) -> bool:
    return name in _STEERING_FIELDS or name.startswith(_STEERING_PREFIX)

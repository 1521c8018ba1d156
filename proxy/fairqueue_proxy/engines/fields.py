"""Reads and rewrites the fields of a request body without touching the values that it does not know.

A JSON object is held as names with raw values. Written out again, each value keeps its bytes, and a name that came
twice comes once: the engine cannot read another value than the proxy did. Pure functions; a value of the wrong type is
the engine's to refuse and reads as absent here.
"""

import math
import re
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

MAX_MODEL_BYTES: Final = 512
"""Above every name of a model; a longer one reads as none."""

MAX_VALUES: Final = 50_000
"""Strings (each counted twice), lists and objects in a body. Each costs the proxy a moment in which nothing else runs:
a body of millions of them is an attack, not a prompt."""

MAX_ITEMS: Final = 500_000
"""Items of a list that is looked into; more are measured as a whole."""

TRUE: Final = Raw(b"true")

_TRUE_WORDS: Final = frozenset({"true", "1", "1.0", "yes", "y", "on", "t"})
_FALSE_WORDS: Final = frozenset({"false", "0", "0.0", "-0.0", "no", "n", "off", "f"})

# Fields by which a client could change the engine's own order, choose the id by which others address its request, or
# address the caches, slots, sessions and workers of others. Of vLLM, llama.cpp and SGLang.
_STEERING_FIELDS: Final = frozenset(
    {
        "conversation_id",
        "data_parallel_rank",
        "decode_tp_size",
        "disagg_prefill_dp_rank",
        "ec_transfer_params",
        "encoder_urls",
        "http_worker_ipc",
        "id_slot",
        "kv_transfer_params",
        "log_metrics",
        "need_wait_for_mm_inputs",
        "num_items_assigned",
        "priority",
        "received_time",
        "request_id",
        "rid",
        "routed_dp_rank",
        "routing_key",
        "session_id",
        "session_params",
    }
)
_STEERING_PREFIX: Final = "bootstrap_"

_object = msgspec.json.Decoder(Fields)
_objects = msgspec.json.Decoder(list[Fields])
_raws = msgspec.json.Decoder(list[Raw])
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_number = msgspec.json.Decoder(int | float | str)
_scalar = msgspec.json.Decoder(bool | int | float | str)
_text = msgspec.json.Decoder(str)


def decode_body(body: bytes) -> Fields:
    """The fields of the body without those that steer the engine. Raises BadBody."""
    _refuse_many_values(body)
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


def _refuse_many_values(body: bytes) -> None:
    if len(body) <= MAX_VALUES:
        return
    # Quotes inside of strings are escaped, and the one that opens a string never is: no fewer than the strings.
    quotes = body.count(b'"') - body.count(b'\\"')
    containers = body.count(b"[") + body.count(b"{")
    if quotes <= MAX_VALUES < quotes + containers:
        # Brackets in texts (source code, mostly) are no values.
        outside = _STRING.sub(b"", body)
        containers = outside.count(b"[") + outside.count(b"{")
    if quotes + containers > MAX_VALUES:
        raise BadBody(f"The request body has more than {MAX_VALUES} values: send fewer messages, prompts or tools")


def decode_items(raw: Raw) -> list[Raw]:
    """The items of a list, unread. Raises BadBody for more than there ever are."""
    if len(raw) > MAX_ITEMS and bytes(raw).count(b",") > MAX_ITEMS:
        raise BadBody(f"a list has more than {MAX_ITEMS} items or commas in it: send less at once")
    return _raws.decode(raw)


def decode_object(raw: Raw | None) -> Fields | None:
    """The fields of a nested object; None for anything else."""
    if raw is None:
        return None
    try:
        return _object.decode(raw)
    except (ValueError, RecursionError):
        return None


def decode_objects(raw: Raw | None) -> list[Fields] | None:
    """The fields of each object of a list; None for anything else."""
    if raw is None:
        return None
    try:
        return _objects.decode(raw)
    except (ValueError, RecursionError):
        return None


def encode(fields: Fields) -> bytes:
    return msgspec.json.encode(fields)


def is_true(raw: Raw | None) -> bool:
    """Whether the value is the JSON literal true, as strict engines read a boolean."""
    return raw is not None and bytes(raw) == b"true"


def lax_bool(raw: Raw | None) -> bool | None:
    """A boolean as engines read it that also take 1, "true", "yes" and the like (pydantic's lax mode); None if it is
    none to them either."""
    if raw is None or len(raw) > 40:
        return None
    try:
        value = _scalar.decode(raw)
    except ValueError:
        return None
    word = str(value).lower()
    if word in _TRUE_WORDS:
        return True
    return False if word in _FALSE_WORDS else None


def is_lax_true(raw: Raw | None) -> bool:
    return lax_bool(raw) is True


def is_null(raw: Raw | None) -> bool:
    """Whether the field is absent or null."""
    return raw is None or bytes(raw) == b"null"


def text(raw: Raw | None) -> str | None:
    """A JSON string; None for anything else."""
    if raw is None:
        return None
    try:
        return _text.decode(raw)
    except (ValueError, RecursionError):
        return None


def model_name(fields: Fields) -> str:
    """The model that is asked for; empty if there is none, or nothing that reads as a name."""
    raw = fields.get("model")
    return "" if raw is None or len(raw) > MAX_MODEL_BYTES else text(raw) or ""


def number(raw: Raw | None, *, lax: bool = False) -> float | None:
    """A JSON number, and if `lax` a number in a string; None for anything else."""
    if raw is None or len(raw) > 40:
        return None
    try:
        value = _number.decode(raw)
        return float(value) if lax or not isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def copies(raw_numbers: Iterable[Raw | None], *, lax: bool = False) -> int:
    """The largest of several counts of samples, at least 1 and never absurd."""
    most = 1
    for raw in raw_numbers:
        value = number(raw, lax=lax)
        if value is not None and value > most:
            most = int(min(value, MAX_COPIES))
    return most


def output_limit(raw: Raw | None, *, lax: bool = False) -> int | None:
    """An output limit in tokens, at least 1; None if there is none, or nothing that reads as a number."""
    value = number(raw, lax=lax)
    if value is None or math.isnan(value):
        return None
    return int(max(1, min(value, MAX_TOKENS)))


def _steers(name: str) -> bool:
    return name in _STEERING_FIELDS or name.startswith(_STEERING_PREFIX)

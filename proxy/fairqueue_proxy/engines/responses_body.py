"""Reads the body of `/v1/responses`.

What such a request can leave behind outlives it and is everybody's who knows its id: responses stored by the engine,
runs in the background. Requests that build on them are refused, and nothing is stored.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from fairqueue_proxy.engines.call import Api, BadBody, Call
from fairqueue_proxy.engines.conversations import size_of_responses
from fairqueue_proxy.engines.fields import Fields, is_lax_true, is_null, output_limit
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.metering.meter import Meter
from fairqueue_proxy.metering.responses import ResponsesMeter

# Name of the field, and what it would reach.
_SHARED: Final = {
    "previous_response_id": "stored responses may be those of others: send the conversation as input",
    "conversation": "stored conversations may be those of others: send the conversation as input",
}


class _Item(msgspec.Struct):
    type: str | None = None


_items = msgspec.json.Decoder(list[Raw])
_item = msgspec.json.Decoder(_Item)


def refuse_what_is_shared(fields: Fields) -> None:
    """Raises BadBody for what would outlive its client or read what others have stored."""
    if is_lax_true(fields.get("background")):
        raise BadBody("background is not allowed: a response must not outlive its client")
    for name, reason in _SHARED.items():
        if not is_null(fields.get(name)):
            raise BadBody(f"{name} is not allowed: {reason}")
    if any(_is_reference(item) for item in _list_of(fields.get("input"))):
        raise BadBody("items of type item_reference are not allowed: stored items may be those of others")


def parse_responses(
    fields: Fields,
    *,
    stores: bool,
    stream: bool,
    max_tokens: int | None = None,
    make_meter: Callable[[], Meter] = ResponsesMeter,
) -> Call:
    """`stores`: the engine stores responses unless it is told not to. `max_tokens`: what else bounds the output."""
    refuse_what_is_shared(fields)
    if stores:
        fields["store"] = Raw(b"false")
    limit = output_limit(fields.get("max_output_tokens"), lax=True)
    return sized_call(
        Api.RESPONSES,
        fields,
        size_of_responses(fields),
        stream=stream,
        max_tokens=max_tokens if limit is None else limit,
        make_meter=make_meter,
    )


def _is_reference(item: Raw) -> bool:
    try:
        return _item.decode(item).type == "item_reference"
    except (ValueError, RecursionError):
        return False


def _list_of(raw: Raw | None) -> list[Raw]:
    try:
        return _items.decode(raw) if raw is not None else []
    except (ValueError, RecursionError):
        return []

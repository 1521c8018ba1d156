"""Reads the body of Anthropic's `/v1/messages`."""

from fairqueue_proxy.engines.call import Api, Call
from fairqueue_proxy.engines.client_user import user_of_metadata
from fairqueue_proxy.engines.conversations import size_of_messages
from fairqueue_proxy.engines.fields import Fields, output_limit
from fairqueue_proxy.engines.sized_call import sized_call
from fairqueue_proxy.metering.messages import MessagesMeter


def parse_messages(fields: Fields, *, stream: bool) -> Call:
    return sized_call(
        Api.MESSAGES,
        fields,
        size_of_messages(fields),
        stream=stream,
        max_tokens=output_limit(fields.get("max_tokens"), lax=True),
        make_meter=MessagesMeter,
        user=user_of_metadata(fields),
    )

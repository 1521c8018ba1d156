"""Puts a call together from the fields of its body and the size of its prompts. Pure."""

from collections.abc import Callable

from fairqueue_proxy.engines.call import Api, Call
from fairqueue_proxy.engines.client_user import user_of
from fairqueue_proxy.engines.fields import Fields, encode, model_name
from fairqueue_proxy.engines.prompts import PromptSize
from fairqueue_proxy.metering.meter import Meter


def sized_call(
    api: Api,
    fields: Fields,
    size: PromptSize,
    *,
    stream: bool,
    max_tokens: int | None,
    make_meter: Callable[[], Meter],
    samples: int = 1,
    user: str | None = None,
) -> Call:
    """`samples`: how often each prompt is sampled. `user`: None to read OpenAI's field."""
    return Call(
        api=api,
        stream=stream,
        body=encode(fields),
        prompt_bytes=size.text_bytes * samples,
        prompt_tokens=size.tokens * samples if size.tokens is not None else None,
        sequences=size.prompts * samples,
        max_tokens=max_tokens,
        make_meter=make_meter,
        media_parts=size.media_parts * samples,
        model=model_name(fields),
        user=user_of(fields) if user is None else user,
    )

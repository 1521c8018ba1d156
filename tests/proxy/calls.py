"""What an adapter has understood of a request, for tests of what is written down about it."""

from fairqueue_proxy.engines import Api, Call
from fairqueue_proxy.metering.other import OtherMeter


def call(
    *, model: str = "", max_tokens: int | None = None, user: str | None = None, prompt_tokens: int | None = None
) -> Call:
    """A chat that is not streamed, as far as it matters."""
    return Call(
        Api.CHAT,
        stream=False,
        body=b"",
        prompt_bytes=0,
        prompt_tokens=prompt_tokens,
        sequences=1,
        max_tokens=max_tokens,
        make_meter=OtherMeter,
        model=model,
        user=user,
    )

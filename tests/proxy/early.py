"""A client's stream that is promised before the engine has answered, read byte by byte."""

from typing import Any

import pytest

from proxy.crowd import generate
from proxy.raw_client import RawClient, Reply, request
from proxy.scripted_engine import LAST_CHUNK, chunk, event, tgi_token

COMMENT = b"3\r\n:\n\n\r\n"
SHORT = {"holdHeaders": "20ms"}
CHAT = {"messages": [], "stream": True, "stream_options": {"include_usage": True}}
CHUNK = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "x"}}]}
USAGE = {**CHUNK, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}}
ENDING = chunk(b"data: [DONE]\n\n") + LAST_CHUNK

ROUTES: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "native": ("/generate_stream", generate(), tgi_token("x") + tgi_token("y", last=True) + LAST_CHUNK),
    "root": ("/", {**generate(), "stream": True}, tgi_token("y", last=True) + LAST_CHUNK),
    "chat": ("/v1/chat/completions", CHAT, event(CHUNK) + event(USAGE) + ENDING),
}
routes = pytest.mark.parametrize("route", ROUTES)


class Early:
    """A client's stream that waits behind an occupant until it has been promised a stream."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.headers: dict[str, str] = {}

    async def send(self, route: str, tenant: str = "bob") -> None:
        path, body, _ = ROUTES[route]
        self.client.send(request(path, body, tenant=tenant, headers={"x-request-id": "early"}))
        status, self.headers = await self.client.head()
        assert status == 200
        for _ in range(3):
            assert await self.client.until(b"\n\n\r\n") == COMMENT

    async def rest(self) -> bytes:
        """What comes after the comments, to the end of the reply; its chunks taken apart."""
        framed = await self.client.until(b"\r\n0\r\n\r\n")
        body = bytearray()
        while not framed.startswith(b"0\r\n"):
            size, _, framed = framed.partition(b"\r\n")
            body += framed[: int(size, 16)]
            framed = framed[int(size, 16) + 2 :]
        while body.startswith(b":\n\n"):
            del body[:3]
        return bytes(body)

    async def error(self) -> Reply:
        """What comes after the comments is the end: one error."""
        return Reply(200, self.headers, await self.rest())

"""What becomes of a client whose reply has begun when something of ours fails."""

import pytest

from fairqueue_proxy.relay import Relay
from proxy.conftest import StartProxy
from proxy.one_stream import nth_event
from proxy.raw_client import RawClient, request
from proxy.scripted_engine import STREAM_HEAD, ScriptedEngine, chunk


async def test_a_failure_after_the_head_ends_the_connection_and_is_no_second_reply(
    start_proxy: StartProxy, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_relay: Relay) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(Relay, "end", fail)
    stack = await start_proxy(scripted.port)
    async with RawClient(stack.data) as client:
        client.send(request("/generate_stream", {"inputs": "x"}, tenant="alice"))
        (await scripted.play()).write(STREAM_HEAD + chunk(nth_event("TGI", 1)))
        written = await client.rest()
    assert written.count(b"HTTP/1.1 ") == 1
    assert written.startswith(b"HTTP/1.1 200 ")

"""What the tests of `mode: Observe` share."""

import asyncio
from typing import Any

from proxy.conftest import StartProxy
from proxy.raw_client import Reply, ask
from proxy.samples import samples
from proxy.scripted_engine import Play, ScriptedEngine, json_reply
from proxy_stack import Stack

DONE = {"generated_text": "x"}
OVERLOADED = json_reply({"error": "Model is overloaded", "error_type": "overloaded"}, 429)


async def observing(start_proxy: StartProxy, scripted: ScriptedEngine, **policy: Any) -> Stack:
    return await start_proxy(scripted.port, mode="Observe", **policy)


async def relayed(stack: Stack, scripted: ScriptedEngine, data: bytes, answer: bytes) -> tuple[Play, Reply]:
    """What the engine saw of a request, and what the client got."""
    asking = asyncio.create_task(ask(stack.data, data))
    play = await scripted.play()
    play.answer(answer)
    return play, await asking


def would_be(text: str) -> dict[tuple[str, str], float]:
    """Counts of what would have been refused, by tenant and outcome."""
    found = {}
    for (name, labels), value in samples(text).items():
        if name == "fairqueue_observed_refusals_total":
            fields = dict(labels)
            found[fields["tenant"], fields["outcome"]] = value
    return found

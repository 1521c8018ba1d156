"""Several clients at once, each with one request, in front of an engine that the test plays."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from proxy.raw_client import RawClient, Reply, request
from proxy.scripted_engine import Play, ScriptedEngine, json_reply
from proxy_stack import Stack

ONE_AT_A_TIME = {"maxRequests": 1}


def generate(words: str = "hello", **parameters: Any) -> dict[str, Any]:
    """A body for TGI's native routes."""
    return {"inputs": words, "parameters": {"max_new_tokens": 2, **parameters}}


class Crowd:
    """Clients, each with one request; `replies` tells who has got what. Leaves with all connections closed."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.tasks: dict[str, asyncio.Task[Reply]] = {}
        self._clients: dict[str, RawClient] = {}
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> "Crowd":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self._exit.aclose()

    async def join(
        self,
        name: str,
        tenant: str | None = None,
        body: object = None,
        path: str = "/generate",
        *,
        headers: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> None:
        """Sends a request; returns when the proxy has queued, let in or answered it."""
        client = await self._exit.enter_async_context(RawClient(self.stack.data, source=source))
        fields = {"x-request-id": name, **(headers or {})}
        data = request(path, generate() if body is None else body, tenant=tenant, headers=fields)
        self._clients[name] = client
        self.tasks[name] = asyncio.create_task(client.ask(data))
        async with asyncio.timeout(5):
            # Nothing tells when the proxy has read a request.
            while not self.tasks[name].done() and name not in self._known():
                await asyncio.sleep(0.001)

    async def status(self, name: str) -> int:
        async with asyncio.timeout(5):
            return (await self.tasks[name]).status

    def hang_up(self, name: str) -> None:
        """This one waits no longer."""
        self.tasks[name].cancel()
        self._clients[name].close()

    def refused(self) -> dict[str, int]:
        return {name: task.result().status for name, task in self.tasks.items() if task.done()}

    def waiting(self) -> list[str]:
        return [name for name, task in self.tasks.items() if not task.done()]

    def _known(self) -> set[str]:
        assert self.stack.proxy is not None
        return {job.request_id for job in self.stack.proxy.dispatcher.jobs}


async def occupy(crowd: Crowd, scripted: ScriptedEngine, tenant: str = "alice") -> Play:
    """Takes the engine's only place."""
    await crowd.join("occupant", tenant)
    return await scripted.play()


async def serve_in_turn(scripted: ScriptedEngine, play: Play, count: int) -> list[str]:
    """Answers `play` and then `count` more; the order in which the proxy has sent them."""
    order = []
    for _ in range(count):
        play.answer(json_reply({"generated_text": "x"}))
        play = await scripted.play()
        order.append(play.headers["x-request-id"])
    play.answer(json_reply({"generated_text": "x"}))
    return order

"""Clients, inside the cluster: `python client_program.py load|ask|watch JSON`. Needs aiohttp and nothing of fairqueue.

`load` keeps so many streams per tenant running, each request on a connection of its own (or, with `keep_alive`, each
stream on one, and so with one pod), until standard input ends (or for `seconds`), and prints what became of all
requests as one line of JSON. A client does what clients of services do: it tries once more when a connection is
refused, and when told so by 503 with Retry-After; all else has failed. `ask` sends one request and prints the answer.
`watch` prints when each of several proxies has had a revision of its document for the first time.
"""

import asyncio
import errno
import json
import sys
import time
from typing import Any

import aiohttp

Json = dict[str, Any]


class Load:
    """Streams of several tenants to one address."""

    def __init__(self, plan: Json) -> None:
        self.url = plan["url"]
        self.path = plan.get("path", "/generate_stream")
        self.keys: dict[str, str] = plan["keys"]
        self.streams: dict[str, int] = plan["streams"]
        self.tokens: int = plan["tokens"]
        self.keep_alive: bool = plan.get("keep_alive", False)
        # For streams that run when no more are to begin.
        self.patience_seconds: float = plan.get("patience_seconds", 120.0)
        self.most_tries: int = plan.get("tries", 2)
        self.body = plan.get("body") or {"inputs": "Why?", "parameters": {"max_new_tokens": self.tokens}}
        self.stopping = False
        self.done: dict[str, int] = dict.fromkeys(self.streams, 0)
        self.events: dict[str, int] = dict.fromkeys(self.streams, 0)
        self.tried_again = 0
        self.failed: list[str] = []
        self.longest_gap = 0.0

    def result(self) -> Json:
        return {
            "done": self.done,
            "events": self.events,
            "tried_again": self.tried_again,
            "failed": self.failed,
            "longest_gap_seconds": self.longest_gap,
        }

    async def run(self, seconds: float | None) -> None:
        streams = [asyncio.create_task(self._stream(it)) for it, count in self.streams.items() for _ in range(count)]
        await wait_for_end(seconds)
        self.stopping = True
        _, hanging = await asyncio.wait(streams, timeout=self.patience_seconds)
        for stream in hanging:
            stream.cancel()
        if self.patience_seconds:
            self.failed += ["it never ended"] * len(hanging)
        for done in await asyncio.gather(*streams, return_exceptions=True):
            if isinstance(done, Exception):
                raise done

    async def _stream(self, tenant: str) -> None:
        connector = aiohttp.TCPConnector(force_close=not self.keep_alive)
        timeout = aiohttp.ClientTimeout(total=600, sock_connect=5)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while not self.stopping:
                why = await self._request(session, tenant)
                if why is None:
                    self.done[tenant] += 1
                else:
                    self.failed.append(f"{time.strftime('%H:%M:%S')} {tenant}: {why}")
                    await asyncio.sleep(0.2)

    async def _request(self, session: aiohttp.ClientSession, tenant: str) -> str | None:
        """None, or why it failed."""
        why = ""
        for attempt in range(self.most_tries):
            if attempt:
                self.tried_again += 1
            again, why = await self._try(session, tenant)
            if not why:
                return None
            if again is None:
                return why
            await asyncio.sleep(again)
        return why

    async def _try(self, session: aiohttp.ClientSession, tenant: str) -> tuple[float | None, str]:
        """In how many seconds it may be tried again, if it may, and why; an empty reason: it is done."""
        headers = {"Authorization": f"Bearer {self.keys[tenant]}"}
        answered = False
        try:
            async with session.post(self.url + self.path, json=self.body, headers=headers) as reply:
                answered = True
                if reply.status == 503 and "Retry-After" in reply.headers:
                    return float(reply.headers["Retry-After"]), f"503 {(await reply.text())[:200]}"
                if reply.status != 200:
                    return None, f"{reply.status} {(await reply.text())[:200]}"
                return None, await self._read(reply, tenant)
        except aiohttp.ClientConnectorError as error:
            return (0.5 if error.errno == errno.ECONNREFUSED else None), f"not connected: {error}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return None, f"{type(error).__name__} {error} (answered: {answered})"

    async def _read(self, reply: aiohttp.ClientResponse, tenant: str) -> str:
        last, at, events = b"", time.monotonic(), 0
        async for line in reply.content:
            if line.startswith(b"data:"):
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - at if events else 0.0)
                last, at, events = line, now, events + 1
                self.events[tenant] += 1
        if b'"error"' in last:
            return f"ended with {last[:200].decode()}"
        return "" if b"generated_text" in last or b"[DONE]" in last else f"ended after {events} events: {last[:80]!r}"


async def wait_for_end(seconds: float | None) -> None:
    """Returns when standard input ends, or the time is over."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        async with asyncio.timeout(seconds):
            await reader.read()
    except TimeoutError:
        pass


async def ask(plan: Json) -> Json:
    """One request: status, headers and text of the answer, or what went wrong."""
    timeout = aiohttp.ClientTimeout(total=plan.get("seconds", 60))
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                plan.get("method", "GET"), plan["url"], headers=plan.get("headers"), json=plan.get("json")
            ) as reply,
        ):
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return {"status": reply.status, "headers": headers, "text": await reply.text()}
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return {"error": type(error).__name__, "text": str(error)}


async def watch(plan: Json) -> dict[str, float]:
    """Seconds since the epoch, by the proxy's address."""
    seen: dict[str, float] = {}

    async def one(session: aiohttp.ClientSession, address: str) -> None:
        while True:
            async with session.get(f"http://{address}:9820/-/config") as reply:
                if (await reply.json())["revision"] == plan["revision"]:
                    seen[address] = time.time()
                    return
            await asyncio.sleep(0.02)

    async with aiohttp.ClientSession() as session, asyncio.timeout(plan["seconds"]):
        print("watching", flush=True)
        await asyncio.gather(*(one(session, address) for address in plan["addresses"]))
    return seen


async def main() -> None:
    what, plan = sys.argv[1], json.loads(sys.argv[2])
    if what in ("ask", "watch"):
        print(json.dumps(await (ask(plan) if what == "ask" else watch(plan))))
        return
    load = Load(plan)
    await load.run(plan.get("seconds"))
    print(json.dumps(load.result()))


asyncio.run(main())

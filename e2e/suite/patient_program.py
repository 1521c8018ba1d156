"""Clients that never give up, and outlive whoever started them: `python patient_program.py start|finish|keys ...`.

They run in a pod by themselves, so that neither an API server nor a kubelet that is down ends them. A patient client
sends its request again (whole, to whichever pod answers) when the connection fails, the reply breaks off, or the
answer is 502 or 503; a request is lost only if it is refused with anything else, or is not answered in full for so
long that nobody would wait. Its keys are in a file, and may be changed while it runs.

`keys` asks proxies again and again, and prints when each took one key and refused another for the first time.
Needs aiohttp and nothing of fairqueue.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

Json = dict[str, Any]

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 2.0
WORTH_ANOTHER_TRY = {502, 503}


class Clients:
    """Streams of several tenants, for as long as there is no file `stop` in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plan = json.loads((folder / "plan.json").read_text())
        self.urls: list[str] = plan["urls"]
        self.streams: dict[str, int] = plan["streams"]
        self.lost_after_seconds: float = plan["lost_after_seconds"]
        self.body = {"inputs": "Why?", "parameters": {"max_new_tokens": plan["tokens"]}}
        self.sent = 0
        self.done = dict.fromkeys(self.streams, 0)
        self.tried_again: Counter[str] = Counter()
        self.lost: list[str] = []
        self.longest_gap = self.slowest = 0.0

    async def run(self) -> Json:
        async with asyncio.TaskGroup() as group:
            for tenant, count in self.streams.items():
                for _ in range(count):
                    group.create_task(self._stream(tenant))
        return {
            "done": self.done,
            "tried_again": dict(self.tried_again),
            "lost": self.lost,
            "longest_gap_seconds": self.longest_gap,
            "slowest_seconds": self.slowest,
        }

    async def _stream(self, tenant: str) -> None:
        timeout = aiohttp.ClientTimeout(total=600, sock_connect=3)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout) as session:
            while not (self.folder / "stop").exists():
                self.sent += 1
                began = time.monotonic()
                if why := await self._request(session, tenant, self.sent):
                    self.lost.append(f"{time.strftime('%H:%M:%S')} {tenant}: {why}")
                    await asyncio.sleep(1)
                else:
                    self.done[tenant] += 1
                    self.slowest = max(self.slowest, time.monotonic() - began)

    async def _request(self, session: aiohttp.ClientSession, tenant: str, number: int) -> str:
        """Empty if it was answered in full, however often it had to be sent; else why it is lost."""
        deadline = time.monotonic() + self.lost_after_seconds
        pause, tries = SHORTEST_PAUSE_SECONDS, 0
        while True:
            url = self.urls[(number + tries) % len(self.urls)]
            is_final, why = await self._try(session, url, tenant, f"{tenant}.{number}.{tries}")
            if is_final:
                return why
            if time.monotonic() > deadline:
                return f"after {tries + 1} tries: {why}"
            tries += 1
            self.tried_again[why[:80]] += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _try(self, session: aiohttp.ClientSession, url: str, tenant: str, request_id: str) -> tuple[bool, str]:
        """Whether that is the end of it, and why it is not well, if it is not."""
        key = json.loads((self.folder / "keys.json").read_text())[tenant]
        headers = {"Authorization": f"Bearer {key}", "X-Request-Id": request_id}
        try:
            async with session.post(f"{url}/generate_stream", json=self.body, headers=headers) as reply:
                if reply.status == 200:
                    return await self._read(reply)
                return reply.status not in WORTH_ANOTHER_TRY, f"{reply.status} {(await reply.text())[:120]}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return False, type(error).__name__

    async def _read(self, reply: aiohttp.ClientResponse) -> tuple[bool, str]:
        last, at = b"", 0.0
        async for line in reply.content:
            if line.startswith(b"data:"):
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - at if at else 0.0)
                last, at = line, now
        return (True, "") if b"generated_text" in last else (False, "the reply broke off")


async def keys(plan: Json) -> Json:
    """When each proxy has taken the key `good`, and when it has refused the key `bad`: seconds since the epoch."""
    body = {"inputs": "Why?", "parameters": {"max_new_tokens": 1}}

    async def until(session: aiohttp.ClientSession, address: str, key: str, status: int) -> float:
        while True:
            headers = {"Authorization": f"Bearer {key}"}
            try:
                async with session.post(f"http://{address}/generate", json=body, headers=headers) as reply:
                    await reply.read()
                    if reply.status == status:
                        return time.time()
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.05)

    wanted = {"taken": ("good", 200), "refused": ("bad", 401)}
    async with aiohttp.ClientSession() as session, asyncio.timeout(plan["seconds"]):
        print("watching", flush=True)
        found: Json = {}
        for name, (key, status) in wanted.items():
            if key in plan:
                asked = (until(session, address, plan[key], status) for address in plan["addresses"])
                found[name] = await asyncio.gather(*asked)
    return found


def start(folder: Path) -> None:
    """Leaves the clients running on their own; plan and keys are in the folder."""
    with (folder / "log").open("wb") as log:
        command = [sys.executable, __file__, "run", str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    print(process.pid)


def finish(folder: Path) -> None:
    """Lets no more requests begin, and prints what became of all; fails if some have not ended in half a minute."""
    (folder / "stop").touch()
    deadline = time.monotonic() + 30
    while not (folder / "result.json").exists():
        if time.monotonic() > deadline:
            sys.exit(f"not all requests have ended yet; {(folder / 'log').read_text()}")
        time.sleep(0.1)
    print((folder / "result.json").read_text())


def run(folder: Path) -> None:
    result = asyncio.run(Clients(folder).run())
    draft = folder / "result.partial"
    draft.write_text(json.dumps(result))
    draft.rename(folder / "result.json")


def main() -> None:
    what, given = sys.argv[1], sys.argv[2]
    if what == "keys":
        print(json.dumps(asyncio.run(keys(json.loads(given)))))
    else:
        {"start": start, "finish": finish, "run": run}[what](Path(given))


main()

"""A policy that never rests: round by round other weights, keys, groups and tenants, and now and then no policy at all.

Remembers which round was in force when, as far as it can be known from outside: a round may be in force from the moment
before its file is there, and surely is when the proxy says so.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from msgspec.structs import replace

from fairqueue_api import Document, GroupSettings, LimitSettings, TenantSettings, digest
from fairqueue_api.document import revision_of
from proxy_stack import Stack, document_of, key_of

ROUND_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.01
BROKEN: Final = (b"", b"{", b'{"schema": 2}', b"\xff\xfe", b'{"schema": 1}')
NAMES: Final = tuple(f"tenant{number}" for number in range(8))
NO_LIMITS: Final = LimitSettings(None, None, None)
TREES: Final = (
    (),
    (("first", None), ("second", None)),
    (("first", None), ("second", "first")),
    (("second", None), ("first", "second"), ("third", None)),
)


@dataclass(frozen=True, slots=True)
class Round:
    """One document. `keys` has each tenant's newest key, `valid` those of the round before, too; by their names."""

    document: Document
    keys: dict[str, str]
    valid: frozenset[str]


class Rounds:
    """Draws rounds, and brings them into force."""

    def __init__(self, folder: Path, source: random.Random, path: Path, *, observing: float = 0.0) -> None:
        """`observing`: the part of the rounds that only observe."""
        policy = {"queue": {"holdHeaders": "200ms"}, "drain": {"timeout": "10s"}}
        self._base = document_of(folder / "base", tenants=[{"name": "nobody"}], **policy)
        self._source = source
        self._path = path
        self._observing = observing
        self._epochs = dict.fromkeys(NAMES, 0)
        self.all: list[Round] = []
        self.published = -1
        self.confirmed = -1
        self.broken = 0
        self.put(self.draw())

    def draw(self) -> Round:
        """Another round: some tenants get new keys, whose old ones are good once more."""
        source, groups = self._source, self._source.choice(TREES)
        tenants, keys, valid = [], {}, set()
        for name in NAMES:
            fresh = source.random() < 0.05
            self._epochs[name] += fresh
            if source.random() < 0.1:
                continue
            keys[name] = f"{name}-{self._epochs[name]}"
            own = {keys[name], f"{name}-{self._epochs[name] - fresh}"}
            valid |= own
            tenants.append(self._tenant(name, [group for group, _ in groups], own))
        pressure = replace(self._base.backpressure, max_requests=source.randint(8, 16))
        document = replace(
            self._base,
            groups=tuple(GroupSettings(name, parent, source.randint(1, 9)) for name, parent in sorted(groups)),
            tenants=tuple(tenants),
            backpressure=pressure,
            mode="Observe" if source.random() < self._observing else "Enforce",
        )
        return Round(replace(document, revision=revision_of(document)), keys, frozenset(valid))

    def _tenant(self, name: str, groups: list[str], keys: set[str]) -> TenantSettings:
        source = self._source
        limits = replace(NO_LIMITS, max_in_flight=source.randint(1, 6)) if source.random() < 0.2 else NO_LIMITS
        digests = tuple(sorted(digest(key_of(key).encode()) for key in keys))
        return TenantSettings(
            name,
            source.choice([*groups, None]),
            source.randint(1, 20),
            "User" if source.random() < 0.3 else "None",
            limits,
            (),
            digests,
        )

    def put(self, drawn: Round) -> None:
        """Its document is where the proxy looks, from now on."""
        self.all.append(drawn)
        self.published += 1
        self._write(drawn.document.to_json())

    async def run(self, stack: Stack, until: float) -> None:
        """A round every tenth of a second, as long as the proxy keeps up; a broken one before every seventh."""
        async with aiohttp.ClientSession(f"http://{stack.admin.host}:{stack.admin.port}") as session:
            await self._confirm(session)
            while (started_at := time.monotonic()) < until:
                if self.published % 7 == 6:
                    await self._break(session)
                self.put(self.draw())
                await self._confirm(session)
                await asyncio.sleep(max(started_at + ROUND_SECONDS - time.monotonic(), 0))

    async def _confirm(self, session: aiohttp.ClientSession) -> None:
        revision = self.all[self.published].document.revision
        told = await _when(session, lambda told: told["revision"] == revision)
        assert told["problem"] is None
        self.confirmed = self.published

    async def _break(self, session: aiohttp.ClientSession) -> None:
        """A document that is none changes nothing."""
        self._write(BROKEN[self.broken % len(BROKEN)])
        self.broken += 1
        told = await _when(session, lambda told: told["problem"] is not None)
        assert told["revision"] == self.all[self.published].document.revision

    def _write(self, content: bytes) -> None:
        beside = self._path.with_name(".beside")
        beside.write_bytes(content)
        beside.replace(self._path)


async def _when(session: aiohttp.ClientSession, holds: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    async with asyncio.timeout(20):
        while True:
            async with session.get("/-/config") as reply:
                told = dict(json.loads(await reply.read()))
            if holds(told):
                return told
            await asyncio.sleep(LOOK_SECONDS)

"""One watch for each namespace that has policies: begun, ended, and apart from one another."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from fairqueue_operator.operator_cluster import OperatorCluster
from fairqueue_operator.planning.secrets_view import Denied, Open, Unknown
from fairqueue_operator.secret_watches import SecretWatches
from injector.conftest import until
from operating.storing_api_server import StoringApiServer


class Kept:
    """Watches that run, and what they say."""

    def __init__(self, cluster: OperatorCluster, server: StoringApiServer) -> None:
        self.changes: list[tuple[str, str | None]] = []
        self.watches = SecretWatches(cluster, lambda *change: self.changes.append(change), random.Random(1))
        self._server = server

    def start(self) -> None:
        self.task = asyncio.create_task(self.watches.run())

    async def is_open(self, *namespaces: str) -> None:
        await until(lambda: all(isinstance(self.watches.of(it).view, Open) for it in namespaces))

    async def watching(self, number: int) -> None:
        await until(lambda: len(self._server.watching) == number)


@pytest.fixture
async def kept(server: StoringApiServer, cluster: OperatorCluster) -> AsyncIterator[Kept]:
    kept = Kept(cluster, server)
    for namespace in ("a", "b", "c"):
        server.grant(namespace)
    yield kept
    kept.task.cancel()
    await asyncio.gather(kept.task, return_exceptions=True)
    await kept.watching(0)


async def test_what_is_kept_before_it_runs_begins_with_it(server: StoringApiServer, kept: Kept) -> None:
    kept.watches.keep({"a", "b"})
    await asyncio.sleep(0.02)
    assert server.requests == []
    assert kept.watches.of("a").view == Unknown()
    kept.start()
    await kept.is_open("a", "b")
    await kept.watching(2)
    assert sorted(kept.changes) == [("a", None), ("b", None)]


async def test_watches_come_and_go_with_their_namespaces(server: StoringApiServer, kept: Kept) -> None:
    kept.start()
    kept.watches.keep({"a", "b"})
    kept.watches.keep({"a", "b"})
    await kept.is_open("a", "b")
    await kept.watching(2)
    first = kept.watches.of("b")
    kept.watches.keep({"b", "c"})
    await kept.is_open("b", "c")
    await until(lambda: sorted(server.watching) == ["b", "c"])
    assert kept.watches.of("b") is first
    kept.changes.clear()
    server.put_secret("x-fairqueue", namespace="a")
    server.put_secret("x-fairqueue", namespace="c")
    await until(lambda: kept.changes == [("c", "x")])


async def test_one_that_is_asked_for_begins(kept: Kept) -> None:
    kept.start()
    await asyncio.sleep(0)
    assert kept.watches.of("a").view == Unknown()
    await kept.is_open("a")


async def test_one_that_was_ended_says_nothing(kept: Kept) -> None:
    kept.start()
    kept.watches.keep({"a"})
    await kept.is_open("a")
    ended = kept.watches.of("a")
    kept.watches.keep(set())
    kept.changes.clear()
    ended._changed(None)
    assert kept.changes == []


async def test_a_namespace_without_a_grant_is_no_other_ones_matter(server: StoringApiServer, kept: Kept) -> None:
    server.grant("b", given=False)
    kept.start()
    kept.watches.keep({"a", "b"})
    await kept.is_open("a")
    await until(lambda: isinstance(kept.watches.of("b").view, Denied))
    assert isinstance(kept.watches.of("a").view, Open)


async def test_nothing_begins_while_all_are_ended(kept: Kept) -> None:
    kept.start()
    kept.watches.keep({"a"})
    await kept.is_open("a")
    kept.task.cancel()
    await asyncio.sleep(0)
    kept.watches.keep({"a", "b"})
    assert kept.watches.of("c").view == Unknown()
    with pytest.raises(asyncio.CancelledError):
        await kept.task

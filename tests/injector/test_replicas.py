"""Replicas that begin, serve while certificates change, and end: real sockets, and the order of everything."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from fairqueue_operator import certificate_keeper
from fairqueue_operator.certificates import read_bundle
from fairqueue_operator.cluster_model import ResourceList, Unreachable
from fairqueue_operator.running import CannotStart
from injector.conftest import policy, review, until
from injector.fake_cluster import FakeCluster
from injector.running import NAME, WEBHOOK, Running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at certificates many times a second."""
    monkeypatch.setattr(certificate_keeper, "INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(certificate_keeper, "_SETTLING", timedelta(seconds=0.1))


@pytest.fixture
async def replicas(tmp_path: Path, quick: None) -> AsyncIterator[list[Running]]:
    cluster = FakeCluster()
    cluster.policies = [policy()]
    both = [await Running(tmp_path, cluster).ready() for _ in range(2)]
    yield both
    for replica in both:
        await replica.stop()


async def test_a_replica_is_ready_when_it_has_a_certificate_and_the_policies(tmp_path: Path, quick: None) -> None:
    cluster = FakeCluster()
    cluster.fail = {"read_secret": Unreachable("no"), "list_policies": Unreachable("no")}
    running = await Running(tmp_path, cluster).listening()
    assert await running.get("/livez") == (200, "ok\n")
    assert await running.get("/readyz") == (503, "no certificate yet\n")
    del cluster.fail["read_secret"]
    await until(lambda: running.injector.unready() == "policies not listed yet")
    assert await running.get("/readyz") == (503, "policies not listed yet\n")
    # Who comes all the same is served, with what the API server says now; here it says nothing.
    assert (await running.post(review()))[1]["response"]["status"]["code"] == 503
    del cluster.fail["list_policies"]
    await running.ready()
    assert await running.get("/readyz") == (200, "ok\n")
    await running.stop()


async def test_without_a_certificate_a_handshake_fails_and_no_more(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.fail = {"read_secret": Unreachable("no")}
    running = await Running(tmp_path, cluster).listening()
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(running.url, json=review())
    assert (await running.get("/livez"))[0] == 200
    await running.stop()


async def test_an_old_api_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def version(self: FakeCluster) -> tuple[int, int]:
        return 1, 31

    monkeypatch.setattr(FakeCluster, "server_version", version)
    running = Running(tmp_path)
    await until(running.task.done)
    assert isinstance(running.task.exception(), CannotStart)
    assert str(running.task.exception()) == "Kubernetes 1.31 is too old: fairqueue's proxies need 1.32 or newer"


async def test_an_api_server_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.fail = {"server_version": Unreachable("no")}
    running = Running(tmp_path, cluster)
    await until(lambda: len(cluster.calls) >= 2)
    assert (await running.get("/livez"))[0] == 200
    assert (await running.get("/readyz"))[0] == 503
    await running.stop()
    assert running.task.exception() is None


class Load:
    """Clients that trust what the webhook configuration says when they connect, each request on a new connection."""

    def __init__(self, replicas: list[Running]) -> None:
        self.answered = 0
        self._ending = False
        self._tasks = [asyncio.create_task(self._ask(replica)) for replica in replicas for _ in range(3)]

    async def _ask(self, replica: Running) -> None:
        while not self._ending:
            status, answer = await replica.post(review())
            assert (status, answer["response"]["allowed"]) == (200, True)
            self.answered += 1

    async def end(self) -> None:
        """Raises what any client has met."""
        self._ending = True
        await asyncio.gather(*self._tasks)


async def _leaf(replica: Running) -> bytes:
    tls = {"ssl": replica.trusting(), "server_hostname": NAME}
    _, writer = await asyncio.open_connection("127.0.0.1", replica.injector.admissions.port, **tls)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


async def test_no_request_fails_while_the_authority_is_deleted_and_made_anew(replicas: list[Running]) -> None:
    cluster = replicas[0].cluster
    old = [await _leaf(replica) for replica in replicas]
    (old_authority,) = read_bundle((cluster.bundles or {})[WEBHOOK])
    load = Load(replicas)
    await until(lambda: load.answered > 20)
    cluster.delete("fairqueue-injector-ca")
    async with asyncio.timeout(30):
        while any([await _leaf(replica) in old for replica in replicas]):
            await asyncio.sleep(0.02)
    seen = load.answered
    await until(lambda: load.answered > seen + 20)
    await load.end()
    assert await _leaf(replicas[0]) == await _leaf(replicas[1])
    assert read_bundle((cluster.bundles or {})[WEBHOOK])[0] != old_authority


async def test_connections_outlive_the_certificate_they_began_with(replicas: list[Running]) -> None:
    replica = replicas[0]
    old = await _leaf(replica)
    context = replica.trusting()
    async with aiohttp.ClientSession() as session:
        assert (await replica.post_in(session, review(), ssl=context))[0] == 200
        replica.cluster.delete("fairqueue-injector-tls")
        async with asyncio.timeout(30):
            while await _leaf(replica) == old:
                await asyncio.sleep(0.02)
        assert (await replica.post_in(session, review(), ssl=context))[0] == 200
        assert len(session.connector._conns) == 1  # type: ignore[union-attr]


async def test_no_key_is_left_in_a_file(replicas: list[Running], tmp_path: Path) -> None:
    assert os.listdir(tmp_path) == []


async def test_told_to_end_a_replica_is_not_ready_and_serves_until_its_time(tmp_path: Path) -> None:
    running = await Running(tmp_path, shutdown_delay_seconds=0.5).ready()
    async with aiohttp.ClientSession() as session:
        assert (await running.post_in(session, review()))[0] == 200
        running.told.tell()
        assert await running.get("/readyz") == (503, "shutting down\n")
        assert (await running.get("/livez"))[0] == 200
        # New connections and old ones, and those are told to end.
        assert (await running.post(review()))[0] == 200
        tls = {"ssl": running.trusting(), "server_hostname": NAME}
        async with session.post(running.url, json=review(), **tls) as response:
            assert response.status == 200
            assert response.headers["Connection"] == "close"
    await running.task


async def test_what_runs_when_the_listener_closes_is_finished(tmp_path: Path) -> None:
    go = asyncio.Event()

    class Slow(FakeCluster):
        async def list_policies(self, namespace: str | None = None) -> ResourceList:
            listed = await super().list_policies(namespace)
            if namespace is not None:
                await go.wait()
            return listed

    running = await Running(tmp_path, Slow()).ready()
    asking = asyncio.create_task(running.post(review()))
    await until(lambda: running.cluster.calls.count("list_policies") == 2)
    server = running.injector.admissions._server
    assert server is not None
    running.told.tell()
    await until(lambda: not server.is_serving())
    assert not running.task.done()
    go.set()
    assert (await asking)[1]["response"]["allowed"] is False
    await running.task


async def test_being_told_twice_ends_the_delay(tmp_path: Path) -> None:
    running = await Running(tmp_path, shutdown_delay_seconds=300).ready()
    running.told.tell()
    await until(lambda: running.injector.admissions.is_ending)
    running.told.tell()
    async with asyncio.timeout(5):
        await running.task


async def test_something_that_ends_though_it_never_should_ends_the_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(*_: object) -> None:
        return

    monkeypatch.setattr("fairqueue_operator.policy_watch.PolicyWatch.run", ends)
    running = Running(tmp_path)
    await until(running.task.done)
    assert "has ended" in str(running.task.exception())

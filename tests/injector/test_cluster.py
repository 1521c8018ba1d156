"""The calls to the API server, over real HTTP: what is sent, what is made of each answer, how watches end.

The server is ours and knows no more of Kubernetes than `api_server` says; the suite in `e2e/` asks a real one.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.config import incluster_config

from fairqueue_operator import kubeconfig
from fairqueue_operator.cluster import Transport, connect
from fairqueue_operator.cluster_model import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    ResourceEvent,
    Unauthenticated,
    Unreachable,
)
from fairqueue_operator.injector_cluster import InjectorCluster
from injector.api_server import POLICIES, WEBHOOKS, ApiServer, refusing
from injector.conftest import policy, until
from injector.leaves import AUTHORITY

SECRET = "/api/v1/namespaces/ns/secrets/s"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = await ApiServer().start()
    yield server
    await server.stop()


@pytest.fixture
async def transport(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transport]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    transport = await connect("fairqueue-injector")
    yield transport
    await transport.close()


@pytest.fixture
def cluster(transport: Transport) -> InjectorCluster:
    return InjectorCluster(transport)


async def test_every_call_carries_the_token_and_says_who_calls(server: ApiServer, cluster: InjectorCluster) -> None:
    await cluster.server_version()
    headers = server.requests[0].headers
    assert headers["Authorization"] == "Bearer a-token"
    assert headers["User-Agent"] == "fairqueue-injector"


@pytest.mark.parametrize(
    ("answer", "version"), [({"major": "1", "minor": "31"}, (1, 31)), ({"major": "1", "minor": "32+"}, (1, 32))]
)
async def test_versions_are_numbers(
    server: ApiServer, cluster: InjectorCluster, answer: Any, version: tuple[int, int]
) -> None:
    server.version = answer
    assert await cluster.server_version() == version


@pytest.mark.parametrize("answer", [{}, {"major": "one", "minor": "2"}, {"major": "1", "minor": 36}, [], "x"])
async def test_a_version_that_is_none_is_no_answer(server: ApiServer, cluster: InjectorCluster, answer: Any) -> None:
    server.version = answer
    with pytest.raises(Unreachable, match="GET /version"):
        await cluster.server_version()


async def test_each_request_is_counted_with_its_answer(server: ApiServer, transport: Transport) -> None:
    answered: list[tuple[str, int]] = []
    transport.answered = lambda method, status: answered.append((method, status))
    cluster = InjectorCluster(transport)
    await cluster.list_policies()
    await cluster.create_event("team", {})
    assert await cluster.read_secret("ns", "s") is None
    await server.stop()
    with pytest.raises(Unreachable):
        await cluster.server_version()
    assert answered == [("GET", 200), ("POST", 201), ("GET", 404), ("GET", 0)]


async def test_many_watches_leave_room_for_requests(server: ApiServer, cluster: InjectorCluster) -> None:
    """The library's own limit is 100 connections."""
    watches = [Watch(cluster) for _ in range(120)]
    await until(lambda: len(server.watches) == 120)
    assert await cluster.server_version() == (1, 36)
    server.break_watches()
    await asyncio.gather(*(watch.task for watch in watches))


async def test_a_text_is_no_object_and_has_a_longest_length(server: ApiServer, transport: Transport) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="x" * 100, status=503 if "bad" in request.path else 200)

    server.script["GET", "/version"] = [answer] * 2
    server.script["GET", "/bad"] = [answer]
    assert await transport.text("/version", seconds=5, most_bytes=100) == "x" * 100
    with pytest.raises(ClusterError, match="longer than 99 bytes"):
        await transport.text("/version", seconds=5, most_bytes=99)
    with pytest.raises(Unreachable, match=r"GET /bad: 503$"):
        await transport.text("/bad", seconds=5, most_bytes=100)


async def test_policies_are_listed_to_the_last_page(server: ApiServer, cluster: InjectorCluster) -> None:
    server.page = 2
    for number in range(5):
        server.put(policy(f"p{number}", namespace="a" if number else "b"))
    listed = await cluster.list_policies()
    assert sorted(item["metadata"]["name"] for item in listed.items) == ["p0", "p1", "p2", "p3", "p4"]
    assert listed.resource_version == "105"
    assert [item["metadata"]["name"] for item in (await cluster.list_policies("b")).items] == ["p0"]


async def test_only_metadata_of_pods_that_ask_and_have_not_ended_is_listed_to_the_last_page(
    server: ApiServer, cluster: InjectorCluster
) -> None:
    server.pods = [{"metadata": {"name": f"p{number}"}} for number in range(5)]
    server.page = 2
    assert [it["metadata"]["name"] async for it in cluster.asking_pods()] == ["p0", "p1", "p2", "p3", "p4"]
    for seen in server.requests:
        assert seen.query["labelSelector"] == "fairqueue.dev/inject=true"
        assert seen.query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"
        assert "PartialObjectMetadataList" in seen.headers["Accept"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, ClusterError),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (422, ClusterError),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
    ],
)
async def test_refusals_have_kinds_and_say_what_was_asked(
    server: ApiServer, cluster: InjectorCluster, code: int, kind: type[ClusterError]
) -> None:
    server.script["GET", POLICIES] = [refusing(code, "because\nof this")] * 2
    with pytest.raises(ClusterError, match=f"^GET {POLICIES}: {code} because of this$") as caught:
        await cluster.list_policies()
    assert type(caught.value) is kind
    with pytest.raises(kind):
        await anext(cluster.watch_policies("1"))


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("code", [200, 502])
async def test_an_answer_that_is_not_an_api_servers_is_unreachable(
    server: ApiServer, cluster: InjectorCluster, content: bytes, code: int
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=content, status=code)

    server.script["GET", POLICIES] = [answer]
    with pytest.raises(Unreachable):
        await cluster.list_policies()


async def test_a_server_that_is_gone_or_hangs_is_unreachable(server: ApiServer, transport: Transport) -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    impatient = Transport(transport._client.configuration, "x", request_seconds=0.05)
    server.script["GET", POLICIES] = [hang]
    with pytest.raises(Unreachable, match="no answer in time"):
        await InjectorCluster(impatient).list_policies()
    await server.stop()
    with pytest.raises(Unreachable):
        await InjectorCluster(impatient).list_policies()
    await impatient.close()


async def test_secrets_are_created_read_and_replaced(server: ApiServer, cluster: InjectorCluster) -> None:
    assert await cluster.read_secret("ns", "s") is None
    await cluster.create_secret("ns", "s", {"tls.crt": b"one", "tls.key": b"\x00\xff"})
    created = server.requests[-1].body
    assert created["type"] == "kubernetes.io/tls"
    assert created["metadata"]["namespace"] == "ns"
    found = await cluster.read_secret("ns", "s")
    assert found is not None
    assert found.data == {"tls.crt": b"one", "tls.key": b"\x00\xff"}
    with pytest.raises(Conflict):
        await cluster.create_secret("ns", "s", {})
    await cluster.replace_secret("ns", "s", {"tls.crt": b"two"}, found.resource_version)
    with pytest.raises(Conflict):
        await cluster.replace_secret("ns", "s", {"tls.crt": b"three"}, found.resource_version)
    assert base64.b64decode(server.secrets["s"]["data"]["tls.crt"]) == b"two"
    assert server.secrets["s"]["metadata"]["labels"]["app.kubernetes.io/component"] == "injector"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ('secrets "s" is forbidden: exceeded quota: few, requested: secrets=1, used: 5', "exceeded quota: few"),
        (
            'secrets is forbidden: User "u" cannot get resource "secrets" in API group ""',
            'cannot get resource "secrets"',
        ),
        ('admission webhook "a.b" denied the request: hunter2', 'admission webhook "a.b"'),
        ("secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'p' denied: hunter2", "ValidatingAdmissionPolicy 'p'"),
        ("is forbidden: in namespace ns because it is being terminated", "namespace ns because it is being terminated"),
    ],
)
async def test_who_forbids_something_of_a_secret_is_said_and_nothing_else(
    server: ApiServer, cluster: InjectorCluster, message: str, said: str
) -> None:
    server.script["GET", SECRET] = [refusing(403, message)]
    with pytest.raises(Forbidden) as caught:
        await cluster.read_secret("ns", "s")
    assert str(caught.value) == f"GET {SECRET}: 403 {said}"


async def test_what_is_said_of_a_secret_in_a_refusal_is_not_repeated(
    server: ApiServer, cluster: InjectorCluster
) -> None:
    server.script["GET", SECRET] = [refusing(403, "Invalid value: hunter2")]
    with pytest.raises(Forbidden, match=f"^GET {SECRET}: 403$"):
        await cluster.read_secret("ns", "s")
    await cluster.create_secret("ns", "s", {"tls.key": b"hunter2"})
    assert "hunter2" not in repr(await cluster.read_secret("ns", "s"))


async def test_names_do_not_lead_to_other_paths(server: ApiServer, cluster: InjectorCluster) -> None:
    assert await cluster.read_secret("ns", "../../configmaps/x") is None
    assert server.requests[-1].path == "/api/v1/namespaces/ns/secrets/../../configmaps/x"
    assert (await cluster.list_policies("a/b?c=d")).items == ()
    assert server.requests[-1].query == {"limit": "500"}


async def test_bundles_are_read_and_patched_by_the_webhooks_names(server: ApiServer, cluster: InjectorCluster) -> None:
    server.add_webhooks("fairqueue-injector", "a.fairqueue.dev", "b.fairqueue.dev")
    found = await cluster.read_webhooks("fairqueue-injector")
    assert found is not None
    assert found.bundles == {"a.fairqueue.dev": b"", "b.fairqueue.dev": b""}
    await cluster.patch_bundles("fairqueue-injector", {"b.fairqueue.dev": b"trust"}, found.resource_version)
    assert (server.bundle(index=0), server.bundle(index=1)) == (b"", b"trust")
    assert server.webhooks["fairqueue-injector"]["webhooks"][1]["clientConfig"]["service"] == {"name": "s"}
    with pytest.raises(Conflict):
        await cluster.patch_bundles("fairqueue-injector", {"b.fairqueue.dev": b"no"}, found.resource_version)
    assert await cluster.read_webhooks("other") is None
    assert server.requests[-1].path == f"{WEBHOOKS}/other"


async def test_events_are_created_in_their_namespace(server: ApiServer, cluster: InjectorCluster) -> None:
    await cluster.create_event("team", {"note": "x"})
    assert server.events == [{"note": "x"}]
    assert server.requests[-1].path == "/apis/events.k8s.io/v1/namespaces/team/events"


class Watch:
    """A watch that is being read."""

    def __init__(self, cluster: InjectorCluster, version: str = "7") -> None:
        self.events: list[ResourceEvent] = []
        self.task = asyncio.create_task(self._read(cluster, version))

    async def _read(self, cluster: InjectorCluster, version: str) -> None:
        async for event in cluster.watch_policies(version):
            self.events.append(event)


@pytest.fixture
async def watch(server: ApiServer, cluster: InjectorCluster) -> Watch:
    watch = Watch(cluster)
    await until(lambda: bool(server.watches))
    return watch


async def test_a_watch_begins_where_it_is_told_and_asks_for_bookmarks(server: ApiServer, watch: Watch) -> None:
    query = server.requests[-1].query
    assert (query["resourceVersion"], query["allowWatchBookmarks"], query["watch"]) == ("7", "true", "true")
    server.break_watches()
    await watch.task


async def test_a_watch_gives_what_changes_and_ends_when_the_server_ends_it(server: ApiServer, watch: Watch) -> None:
    for kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        server.change(kind, server.put(policy()))
    server.break_watches()
    await watch.task
    assert [event.type for event in watch.events] == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    assert [event.resource_version for event in watch.events] == ["101", "102", "103", "104"]


async def test_lines_come_in_any_pieces_and_any_size(server: ApiServer, watch: Watch) -> None:
    """Readers of lines have limits of 64 kB to 2 MB; a policy with its managed fields may have more."""
    large = policy(padding="é" * 3_000_000)
    content = (json.dumps({"type": "ADDED", "object": large}, ensure_ascii=False) + "\n").encode() * 2
    for start in range(0, len(content), 999_983):
        server.send(content[start : start + 999_983])
    await until(lambda: len(watch.events) == 2)
    assert watch.events[1].item == large
    server.break_watches()
    await watch.task


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}, Gone),
        ({"type": "ERROR", "object": {"reason": "Expired"}}, Gone),
        ({"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}, Unreachable),
        ({"type": "ERROR", "object": None}, ClusterError),
        ({"type": "NEW", "object": policy()}, Unreachable),
        ({"type": "ADDED", "object": {"metadata": {}}}, Unreachable),
        ({"type": "ADDED"}, Unreachable),
        ([], Unreachable),
    ],
)
async def test_a_line_that_is_no_change_ends_the_watch_with_its_reason(
    server: ApiServer, watch: Watch, line: Any, kind: type[ClusterError]
) -> None:
    server.change("ADDED", server.put(policy()))
    server.send((json.dumps(line) + "\n").encode())
    with pytest.raises(kind):
        await watch.task
    assert len(watch.events) == 1


async def test_a_line_that_is_cut_is_no_change(server: ApiServer, watch: Watch) -> None:
    server.send(json.dumps({"type": "DELETED", "object": policy()}).encode())
    server.break_watches()
    await watch.task
    assert watch.events == []


async def test_a_watch_that_is_silent_for_too_long_is_dead(server: ApiServer, transport: Transport) -> None:
    impatient = Transport(transport._client.configuration, "x", silence_seconds=0.1)
    with pytest.raises(Unreachable, match="no answer in time"):
        await Watch(InjectorCluster(impatient)).task
    await impatient.close()


async def test_a_connection_that_breaks_is_unreachable(server: ApiServer, cluster: InjectorCluster) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.close()
        return response

    server.script["GET", POLICIES] = [break_off]
    with pytest.raises(Unreachable):
        await Watch(cluster).task


async def test_without_a_cluster_the_error_says_where_was_looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(ClusterError, match="nowhere is not there: set KUBECONFIG"):
        await connect("x")
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ClusterError, match="config is not there: set KUBECONFIG"):
        await connect("x")


async def test_in_a_pod_the_service_account_says_where_the_cluster_is_and_who_we_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("from-the-kubelet")
    (tmp_path / "namespace").write_text("fairqueue-system")
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate_pem)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(kubeconfig, "_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    transport = await connect("x")
    configuration = transport._client.configuration
    assert configuration.host == "https://[fd00::1]:443"
    assert configuration.verify_ssl
    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer from-the-kubelet"
    await transport.close()

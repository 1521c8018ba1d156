"""`python -m fairqueue_operator operator` as a process of its own, beside an API server over HTTP; kopf watches."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from fairqueue_operator.__main__ import main
from injector.api_server import POLICIES, Answer, Json
from injector.command_process import CommandProcess
from injector.conftest import until
from operating.resources import policy
from operating.storing_api_server import StoringApiServer

POLICY = "/apis/fairqueue.dev/v1alpha1/namespaces/team/fairnesspolicies/shared"
DOCUMENT = "/api/v1/namespaces/team/secrets/shared-fairqueue"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/fairqueue-system/leases/fairqueue-operator"
VERBS = ["get", "list", "patch", "watch"]


class DiscoveredApiServer(StoringApiServer):
    """One that says which kinds it has, and whose pods can be watched."""

    def _add_routes(self, add: Callable[[str, str, Answer], object]) -> None:
        group = "fairqueue.dev"
        version = {"groupVersion": f"{group}/v1alpha1", "version": "v1alpha1"}
        groups = [{"name": group, "versions": [version], "preferredVersion": version}]
        crds = {"groupVersion": "apiextensions.k8s.io/v1", "version": "v1"}
        groups.append({"name": "apiextensions.k8s.io", "versions": [crds], "preferredVersion": crds})
        add("GET", "/api", _saying({"versions": ["v1"]}))
        add("GET", "/apis", _saying({"groups": groups}))
        core = [("pods", "Pod", True), ("namespaces", "Namespace", False), ("events", "Event", True)]
        add("GET", "/api/v1", _saying({"resources": [_kind(*it) for it in core]}))
        kinds = [_kind("fairnesspolicies", "FairnessPolicy", True)]
        add("GET", "/apis/fairqueue.dev/v1alpha1", _saying({"resources": kinds}))
        crd = [_kind("customresourcedefinitions", "CustomResourceDefinition", False)]
        add("GET", "/apis/apiextensions.k8s.io/v1", _saying({"resources": crd}))
        super()._add_routes(add)

    async def _get_pods(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            # What is sent to those who watch is of policies.
            await asyncio.Event().wait()
        return await super()._get_pods(request)

    def apply(self, item: Json) -> None:
        """Somebody applies a policy."""
        known = POLICY in self.objects
        self.put(item)
        self._store(POLICY, item)
        self.change("MODIFIED" if known else "ADDED", item)

    def conditions(self) -> dict[str, str]:
        found = self.objects.get(POLICY, {}).get("status", {}).get("conditions", [])
        return {it["type"]: it["reason"] for it in found}

    def holder(self) -> str:
        return str(self.objects.get(LEASE, {}).get("spec", {}).get("holderIdentity") or "").partition("_")[0]


def _kind(plural: str, kind: str, namespaced: bool) -> Json:
    return {"name": plural, "kind": kind, "singularName": "", "namespaced": namespaced, "verbs": VERBS}


def _saying(answer: Json) -> Answer:
    async def say(_request: web.Request) -> web.Response:
        return web.json_response(answer)

    return say


class Process(CommandProcess):
    """The operator's, with its port."""

    def __init__(self, kubeconfig: Path, name: str) -> None:
        given = ["--namespace", "fairqueue-system", "--health", "127.0.0.1:0"]
        super().__init__(kubeconfig, name, "operator", *given)

    async def start(self) -> "Process":
        await self.begin()
        await until(lambda: bool(self.said("listening")) or self.process.returncode is not None)
        return self

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.said('listening')[0]['health']}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()


@pytest.fixture
async def server() -> AsyncIterator[DiscoveredApiServer]:
    server = DiscoveredApiServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def processes(server: DiscoveredApiServer, tmp_path: Path) -> AsyncIterator[list[Process]]:
    kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
    made = [Process(kubeconfig, f"operator-{number}") for number in range(2)]
    yield made
    for each in made:
        if hasattr(each, "process"):
            if each.process.returncode is None:
                each.process.kill()
            await each.ended()


async def test_it_makes_policies_true_and_ends_in_order_and_the_next_one_goes_on_at_once(
    server: DiscoveredApiServer, processes: list[Process]
) -> None:
    one, other = processes
    await one.start()
    await until(lambda: len(server.watches) == 1)
    assert (await one.get("/readyz"))[0] == (await one.get("/livez"))[0] == 200
    server.apply(policy())
    await until(lambda: server.conditions().get("Ready") == "NoMatchingPods")
    assert DOCUMENT in server.objects
    assert server.holder() == "operator-0"
    told = 'fairqueue_operator_policy_ready{policy="team/shared",reason="NoMatchingPods"} 0.0'
    assert told in (await one.get("/metrics"))[1]

    await other.start()
    assert (await other.get("/readyz"))[0] == 200
    assert "fairqueue_operator_leading 0.0" in (await other.get("/metrics"))[1]
    one.process.send_signal(signal.SIGTERM)
    assert await one.ended() == (0, "")
    assert one.lines[-1]["message"] == "stopped"
    await until(lambda: server.holder() == "operator-1")
    changed = policy(mode="Observe", generation=2)
    await until(lambda: len(server.watches) == 1)
    before = server.objects[DOCUMENT]["metadata"]["resourceVersion"]
    server.apply(changed)
    await until(lambda: server.objects[DOCUMENT]["metadata"]["resourceVersion"] != before)


async def test_it_writes_what_is_ours_and_kopf_nothing(server: DiscoveredApiServer, processes: list[Process]) -> None:
    server.apply(policy())
    one = await processes[0].start()
    await until(lambda: server.conditions().get("Ready") == "NoMatchingPods" and len(server.watches) == 1)
    server.apply(policy(generation=2, tenants=[{"name": "bob"}]))
    await until(lambda: server.objects.get(POLICY, {}).get("status", {}).get("observedGeneration") == 2)
    one.process.send_signal(signal.SIGINT)
    assert await one.ended() == (0, "")
    written = {seen.path for seen in server.requests if seen.method not in ("GET", "HEAD")}
    events = "/apis/events.k8s.io/v1/namespaces/team/events"
    leases = LEASE.rpartition("/")[0]
    assert written <= {DOCUMENT, f"{POLICY}/status", events, LEASE, leases}
    # All pods of the cluster are none of its business.
    selectors = {seen.query.get("labelSelector", "") for seen in server.requests if seen.path == "/api/v1/pods"}
    assert selectors == {"fairqueue.dev/inject=true"}


async def test_it_ends_at_once_when_another_has_the_lease(
    server: DiscoveredApiServer, processes: list[Process]
) -> None:
    one = await processes[0].start()
    await until(lambda: len(server.watches) == 1)
    held = server.objects[LEASE]
    server._store(LEASE, {**held, "spec": {**held["spec"], "holderIdentity": "another"}})
    assert await one.ended() == (1, "")
    assert one.lines[-1]["message"] == "ended"
    assert server.holder() == "another"


async def test_it_waits_for_the_right_to_look(server: DiscoveredApiServer, processes: list[Process]) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"message": "forbidden"}, status=403)

    server.script["GET", POLICIES] += [refuse, refuse]
    one = await processes[0].start()
    await until(lambda: bool(one.said("policies and pods cannot be listed yet")))
    assert one.process.returncode is None
    await until(lambda: len(server.watches) == 1)


async def test_it_waits_until_the_kind_is_discovered_and_then_watches_it(
    server: DiscoveredApiServer, processes: list[Process]
) -> None:
    """Or it would never hear of a policy again but by the list of every five minutes."""
    server.script["GET", "/apis"] += [_saying({"groups": []})] * 2
    one = await processes[0].start()
    await until(lambda: len(server.watches) == 1)
    assert one.said("FairnessPolicy is not a kind that the API server has yet: is the CRD installed?")
    server.apply(policy())
    await until(lambda: DOCUMENT in server.objects)


async def test_without_a_cluster_it_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("nothing")
    code, error = await (await Process(tmp_path / "kubeconfig", "operator-0").start()).ended()
    assert code == 2
    assert error.startswith(f"fairqueue operator: no cluster: {tmp_path}/kubeconfig cannot be used")
    assert error.count("\n") == 1


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["operator", "--help"])
    assert ended.value.code == 0
    assert "example:\n  python -m fairqueue_operator operator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "--namespace: not given"), (["--namespace", "n", "--health", "x"], "--health x: must be HOST:PORT")],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    assert main(["operator", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1

"""`fairqueue status` against an API server on a real socket: policies, their pods, and what their proxies say."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cli.kubernetes_objects import METRICS, REVISION, condition, not_ready, pod, policy
from cli.kubernetes_server import KubernetesServer
from fairqueue_cli.main import kubectl_plugin, main
from injector.api_server import status

OLD = METRICS.replace(REVISION, "0ld0" + REVISION[4:])


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesServer]:
    server = KubernetesServer()
    await server.start()
    server.add(policy(), pod("engine-7f-a"))
    server.answers["team", "engine-7f-a:9820", "/metrics"] = METRICS
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    yield server
    await server.stop()


Run = Callable[..., Any]


@pytest.fixture
def shown(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in namespace team; gives its code and what it printed."""

    async def run(*options: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["status", *(options or ("-n", "team"))])
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, printed.out

    return run


async def values(shown: Run) -> tuple[int, dict[str, Any]]:
    code, out = await shown("-A", "--json")
    return code, json.loads(out)


def notes(report: dict[str, Any]) -> dict[str, str]:
    rows = [row for policy in report["policies"] for row in policy["pods"]] + report["pods_without_policy"]
    return {row["name"]: row["note"] for row in rows}


async def test_a_policy_is_shown_with_its_pods(server: KubernetesServer, shown: Run) -> None:
    server.add(
        policy(pods={"matched": 4, "unlabelled": 1, "injected": 2, "started": 2, "current": 1}),
        pod("engine-7f-b", status={"conditions": [condition("Ready", "False")]}),
        pod("plain", labels={"app": "engine"}, bound=None),
        pod("old", bound=None),
    )
    server.answers["team", "engine-7f-b:9820", "/metrics"] = OLD
    assert await shown() == (
        1,
        """\
team/shared
  Accepted    True     Accepted
  Programmed  True     Programmed
  Ready       True     Ready
  tenants: 2; pods: 4 matched, 1 unlabelled, 2 injected, 2 started, 1 current; revision: 5f0e00000000
  POD          PROXY  REVISION              READY  WAITING  IN FLIGHT  NOTE
  engine-7f-a  yes    5f0e00000000 current  yes          7          2
  engine-7f-b  yes    0ld000000000 old      no           7          2
  old          no     -                     yes          -          -  it is older than the injector, or than its \
label: kubectl -n team rollout restart deployment/engine
  plain        no     -                     yes          -          -  it does not ask: put the label \
fairqueue.dev/inject: "true" on the pod template
""",
    )


async def test_what_keeps_a_policy_from_being_ready_is_said(server: KubernetesServer, shown: Run) -> None:
    server.add(not_ready("Accepted", "SecretAccessDenied", "type this"))
    code, out = await shown()
    assert code == 1
    assert out.splitlines()[:4] == [
        "team/shared  (not Ready)",
        "  Accepted    False    SecretAccessDenied: type this",
        "  Programmed  False    Pending",
        "  Ready       False    SecretAccessDenied: type this",
    ]


async def test_a_status_of_before_the_last_change_is_not_ready(server: KubernetesServer, shown: Run) -> None:
    server.add(policy(generation=2))
    code, out = await shown()
    assert code == 1
    assert "the operator has not looked at it yet" in out


async def test_all_is_in_the_json(server: KubernetesServer, shown: Run) -> None:
    code, report = await values(shown)
    assert code == 0
    assert report["ready"] is True
    (only,) = report["policies"]
    assert (only["namespace"], only["name"], only["ready"], only["tenants"]) == ("team", "shared", True, 2)
    assert only["revision"] == REVISION
    assert [each["type"] for each in only["conditions"]] == ["Accepted", "Programmed", "Ready"]
    assert only["pods"] == [
        {
            "namespace": "team",
            "name": "engine-7f-a",
            "injected": True,
            "revision": REVISION,
            "current": True,
            "ready": True,
            "waiting": 7,
            "in_flight": 2,
            "note": "",
        }
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(None, "503 error trying to reach service", id="does not answer"),
        pytest.param("<html>", "fairqueue's proxy", id="something else answers"),
        pytest.param("a" * (17 << 20), "longer than", id="endless"),
        pytest.param(lambda: status(403, "no right"), "403 no right", id="no right"),
        pytest.param(lambda: web.Response(body=b"\xff\xfe"), "proxy", id="no text"),
    ],
)
async def test_a_proxy_that_does_not_say_leaves_a_cell_empty(
    server: KubernetesServer, shown: Run, answer: Any, words: str
) -> None:
    server.answers["team", "engine-7f-a:9820", "/metrics"] = answer
    code, report = await values(shown)
    (row,) = report["policies"][0]["pods"]
    assert (row["injected"], row["waiting"], row["in_flight"], row["current"]) == (True, None, None, None)
    assert row["note"].startswith("its proxy could not be asked: ")
    assert words in row["note"]
    # The policy is Ready all the same.
    assert code == 0


async def test_where_it_has_no_right_to_ask_proxies_it_does_not_ask_each(server: KubernetesServer, shown: Run) -> None:
    for number in range(40):
        server.add(pod(f"engine-7f-{number}"))
        server.answers["team", f"engine-7f-{number}:9820", "/metrics"] = lambda: status(403, "no right")
    await values(shown)
    assert len([path for path in server.asked() if "/proxy/" in path]) < 20


async def test_of_pods_that_do_not_ask_only_those_that_a_policy_selects_are_listed(
    server: KubernetesServer, shown: Run
) -> None:
    await shown()
    lists = [seen.query["labelSelector"] for seen in server.requests if seen.path == "/api/v1/namespaces/team/pods"]
    assert lists == ["fairqueue.dev/inject=true", "app=engine,fairqueue.dev/inject!=true"]


async def test_only_proxies_that_have_started_are_asked(server: KubernetesServer, shown: Run) -> None:
    server.add(pod(status={"initContainerStatuses": [{"name": "fairqueue-proxy", "started": False}]}))
    _, report = await values(shown)
    assert notes(report) == {"engine-7f-a": "its proxy has not started"}
    assert not any("/proxy/" in path for path in server.asked())


async def test_a_document_that_a_proxy_could_not_use_is_told_of(server: KubernetesServer, shown: Run) -> None:
    server.answers["team", "engine-7f-a:9820", "/metrics"] = OLD.replace("failures_total 0", "failures_total 2")
    _, report = await values(shown)
    assert "could not use a document" in notes(report)["engine-7f-a"]


async def test_pods_without_a_policy_are_shown(server: KubernetesServer, shown: Run) -> None:
    allowed = {"labels": {"fairqueue.dev/inject": "true"}, "annotations": {"fairqueue.dev/on-missing-policy": "Allow"}}
    server.add(pod("orphan", bound="gone"), pod("allowed", bound=None, **allowed))
    code, report = await values(shown)
    assert code == 1
    assert {row["name"] for row in report["pods_without_policy"]} == {"orphan", "allowed"}
    assert notes(report)["orphan"].startswith("its policy gone is not there any more")
    assert "fairqueue.dev/on-missing-policy: Allow let it in" in notes(report)["allowed"]
    server.remove("Pod", "orphan", "team")
    assert (await values(shown))[0] == 0


async def test_a_right_that_is_missing_leaves_the_rest(server: KubernetesServer, shown: Run) -> None:
    server.forbid("/api/v1/namespaces/team/pods")
    code, out = await shown()
    assert code == 0
    assert out.startswith("team/shared\n")
    assert "\n\nnot known: pods that ask for the proxy: GET /api/v1/namespaces/team/pods: 403 User" in out
    assert "\n\nnot known: pods that do not ask for the proxy: GET /api/v1/namespaces/team/pods: 403 User" in out


async def test_without_the_right_to_policies_there_is_nothing_to_show(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.forbid("/apis/fairqueue.dev")
    assert await asyncio.to_thread(main, ["status"]) == 2
    assert capsys.readouterr().err.startswith("fairqueue status: GET /apis/fairqueue.dev/v1alpha1/namespaces/default/")


async def test_where_fairqueue_is_not_installed_it_says_so(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def unknown(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="404 page not found")

    server.script["GET", "/apis/fairqueue.dev/v1alpha1/fairnesspolicies"] = [unknown]
    assert await asyncio.to_thread(main, ["status", "-A"]) == 2
    assert "fairqueue is not installed (see `fairqueue check`)" in capsys.readouterr().err


async def test_namespaces_are_those_of_the_option_the_context_or_all(server: KubernetesServer, shown: Run) -> None:
    server.add(policy("other", namespace="elsewhere"))
    _, everywhere = await shown("-A")
    assert everywhere.startswith("elsewhere/other\n")
    assert "\n\nteam/shared\n" in everywhere
    assert (await shown("-n", "elsewhere"))[1].startswith("elsewhere/other\n")
    # The context names none: default.
    assert await shown("--context", "c") == (0, "there is no FairnessPolicy: -A looks in all namespaces\n")


async def test_names_and_messages_from_anywhere_stay_on_their_lines(server: KubernetesServer, shown: Run) -> None:
    server.add(not_ready("Accepted", "Invalid", "first\nsecond\x1b[31m"))
    _, out = await shown()
    assert "\x1b" not in out
    assert "first\ufffdsecond\ufffd[31m" in out


async def test_a_policy_that_this_version_cannot_read_is_shown_all_the_same(
    server: KubernetesServer, shown: Run
) -> None:
    server.find("FairnessPolicy", "shared", "team")["spec"]["fromTheFuture"] = True
    code, report = await values(shown)
    assert (code, [row["name"] for row in report["policies"][0]["pods"]]) == (0, ["engine-7f-a"])


async def test_as_a_plugin_of_kubectl_it_is_the_same(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(kubectl_plugin, ["status", "-n", "team"]) == 0
    assert capsys.readouterr().out.startswith("team/shared\n")


def test_the_plugin_has_the_commands_that_are_about_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert kubectl_plugin(["--help"]) == 0
    usage = capsys.readouterr().out
    assert usage.startswith("usage: kubectl fairqueue COMMAND")
    assert [line.split()[0] for line in usage.splitlines() if line.startswith("  ")] == ["status", "check"]
    assert kubectl_plugin(["serve"]) == 2
    assert capsys.readouterr().err.startswith("kubectl fairqueue: there is no command 'serve'")
    with pytest.raises(SystemExit) as ended:
        kubectl_plugin(["status", "--nothing"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("kubectl fairqueue status: ")

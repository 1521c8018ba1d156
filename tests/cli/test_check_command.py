"""`fairqueue check` against an API server on a real socket: all is well, and then one thing after the other is not.

The server is ours; the suite in `e2e/` asks a real one.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cli.broken_clusters import BROKEN, RETRY, SYSTEM, Change
from cli.kubernetes_objects import (
    condition,
    failed_create,
    install,
    not_ready,
    own_pod,
    pod,
    policy,
)
from cli.kubernetes_server import DENIED, KubernetesServer
from fairqueue_cli.main import main


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesServer]:
    server = KubernetesServer()
    await server.start()
    install(server)
    server.add(policy(), pod("engine-7f-a"), pod("engine-7f-b"))
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    yield server
    await server.stop()


Run = Callable[..., Any]


@pytest.fixture
def check(server: KubernetesServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with --json; gives its code, and what was not passed: (group, result, text, mend)."""

    async def run(*options: str) -> tuple[int, list[tuple[str, str, str, list[str]]]]:
        code = await asyncio.to_thread(main, ["check", "--json", *options])
        report = json.loads(capsys.readouterr().out)
        assert report["passed"] == (code == 0)
        return code, [
            (group["name"], line["result"], line["text"], line["mend"])
            for group in report["groups"]
            for line in group["checks"]
            if line["result"] != "passed"
        ]

    return run


async def test_where_all_is_well_everything_passes(check: Run) -> None:
    assert await check() == (0, [])


async def test_it_changes_nothing(server: KubernetesServer, check: Run) -> None:
    await check()
    assert set(server.asked("POST")) == {
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "/api/v1/namespaces/default/pods",
    }
    assert [seen for seen in server.requests if seen.method not in ("GET", "POST")] == []
    assert all(seen.headers["User-Agent"] == "fairqueue-cli" for seen in server.requests)
    assert not any("/secrets" in path for path in server.asked())


@pytest.mark.parametrize(("change", "group", "result", "words", "command"), BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_wrong_is_named_with_the_command_that_mends_it(
    server: KubernetesServer,
    check: Run,
    change: Change,
    group: str,
    result: str,
    words: str,
    command: str,
) -> None:
    change(server)
    code, found = await check()
    assert code == (1 if any(line[1] == "failed" for line in found) else 0)
    (line,) = [line for line in found if line[0] == group and words in line[2]]
    assert line[1] == result
    assert command in line[3] if command else line[3] == []
    if result == "failed":
        assert code == 1


# Which group cannot be looked at without which right.
UNSEEN = {
    "/apis/apiextensions.k8s.io": "custom-resource",
    "/api/v1/namespaces/fairqueue-system": "installation",
    "/apis/apps/v1/namespaces/fairqueue-system": "installation",
    "/apis/admissionregistration.k8s.io/v1/mutating": "webhook",
    "/api/v1/namespaces/fairqueue-system/pods/fairqueue-injector-0:8080/proxy": "webhook",
    "/apis/admissionregistration.k8s.io/v1/validating": "second-lock",
    "/apis/fairqueue.dev": "policies",
    "/apis/apps/v1/deployments": "workloads",
    "/api/v1/events": "workloads",
    "/api/v1/pods": "workloads",
}


@pytest.mark.parametrize(("path", "group"), UNSEEN.items(), ids=UNSEEN.keys())
async def test_what_may_not_be_seen_is_a_warning_and_hides_nothing_else(
    server: KubernetesServer, check: Run, path: str, group: str
) -> None:
    server.forbid(path)
    server.add(pod("engine-7f-old", bound=None))
    code, found = await check()
    assert any(line[:2] == (group, "warning") and "cannot get" in line[2] for line in found)
    bare = [line for line in found if line[0] == "workloads" and line[1] == "failed"]
    assert (code, len(bare)) == ((0, 0) if path == "/api/v1/pods" else (1, 1))


async def test_what_may_not_be_asked_is_not_asked_again_and_again(server: KubernetesServer, check: Run) -> None:
    for number in range(20):
        server.add(policy(namespace=f"team-{number}"))
    server.forbid("/apis/authorization.k8s.io")
    await check()
    # So many are under way at once.
    assert server.asked("POST").count("/apis/authorization.k8s.io/v1/subjectaccessreviews") <= 16


async def test_the_certificate_that_ends_first_counts(server: KubernetesServer, check: Run) -> None:
    for number, days in enumerate((50, 5, 70)):
        injector = own_pod("fairqueue-injector")
        injector["metadata"]["name"] = f"fairqueue-injector-{number}"
        server.add(injector)
        ends = (datetime.now(UTC) + timedelta(days=days)).timestamp()
        text = f"fairqueue_certificate_not_after_seconds {ends}\n"
        server.answers["fairqueue-system", f"fairqueue-injector-{number}:8080", "/metrics"] = text
    _, found = await check()
    assert [line[:2] for line in found] == [("webhook", "warning")]
    server.find("Pod", "fairqueue-injector-1", "fairqueue-system")["status"]["conditions"] = []
    assert await check() == (0, [])


async def test_without_an_injector_that_is_ready_its_certificate_is_not_known(
    server: KubernetesServer, check: Run
) -> None:
    server.find("Pod", "fairqueue-injector-0", "fairqueue-system")["status"]["conditions"] = []
    _, found = await check()
    assert [line[2] for line in found] == ["the injector's certificate cannot be looked at: no injector is ready"]


async def test_controllers_that_have_their_pods_again_are_not_told_of(server: KubernetesServer, check: Run) -> None:
    server.add(failed_create("ReplicaSet", "engine-7f", f"Error creating: {DENIED}"))
    named = {"name": "engine-7f", "namespace": "team"}
    server.add({"kind": "ReplicaSet", "metadata": named, "spec": {"replicas": 2}, "status": {"replicas": 2}})
    server.add(failed_create("Job", "deleted", f"Error creating: {DENIED}"))
    server.add(failed_create("ReplicaSet", "quota", "Error creating: exceeded quota"))
    assert await check() == (0, [])


async def test_a_replica_set_is_told_of_under_its_deployment_only(server: KubernetesServer, check: Run) -> None:
    server.add(failed_create("ReplicaSet", "llm-7f", f"Error creating: {DENIED}"))
    owner = {"kind": "Deployment", "name": "llm", "controller": True}
    named = {"name": "llm-7f", "namespace": "team", "ownerReferences": [owner]}
    server.add({"kind": "ReplicaSet", "metadata": named, "spec": {"replicas": 2}, "status": {"replicas": 0}})
    code, found = await check()
    assert [line[3] for line in found] == [[RETRY.format("replicaset/llm-7f")]]
    failure = condition("ReplicaFailure", "True", "FailedCreate", DENIED)
    server.add(
        {"kind": "Deployment", "metadata": {"name": "llm", "namespace": "team"}, "status": {"conditions": [failure]}}
    )
    code, found = await check()
    assert (code, [line[3] for line in found]) == (1, [[RETRY.format("deployment/llm")]])


async def test_one_namespace_can_be_checked(server: KubernetesServer, check: Run) -> None:
    server.add(
        pod("engine-7f-old", bound=None, namespace="other"), not_ready("Accepted", "Invalid", "x", namespace="other")
    )
    assert await check("-n", "team") == (0, [])
    assert "/api/v1/namespaces/team/pods" in server.asked("POST")
    code, found = await check("--namespace", "other")
    assert (code, [line[0] for line in found]) == (1, ["policies", "workloads"])


async def test_why_replicas_are_missing_is_said_as_their_pods_say_it(server: KubernetesServer, check: Run) -> None:
    deployment = server.find("Deployment", "fairqueue-injector", "fairqueue-system")
    deployment["status"] = {"conditions": [condition("Available", "False")]}
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}
    server.add(own_pod("fairqueue-injector", containerStatuses=[{"state": {"waiting": waiting}}]))
    _, found = await check()
    (line,) = [line for line in found if line[0] == "installation"]
    assert line[2] == (
        "0 of 2 replicas of fairqueue-injector are available: fairqueue-injector-0: ImagePullBackOff "
        'Back-off pulling image "x"'
    )
    assert line[3] == [f"{SYSTEM} describe pod fairqueue-injector-0"]


async def test_an_injected_dry_run_is_an_answer_too(server: KubernetesServer, check: Run) -> None:
    def inject(made: Any) -> web.Response:
        made["spec"]["initContainers"] = [{"name": "fairqueue-proxy"}]
        return web.json_response(made, status=201)

    server.dry_run = inject
    assert await check() == (0, [])


async def test_what_is_not_found_out_in_time_fails_and_the_rest_too(server: KubernetesServer, check: Run) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    server.script["GET", "/api/v1/namespaces/fairqueue-system"] = [never]
    code, found = await check("--timeout", "0.5")
    assert code == 1
    assert [line[0] for line in found] == [
        "installation", "rights", "webhook", "second-lock", "policies", "workloads",
    ]  # fmt: skip
    late = {line[2] for line in found if line[0] != "policies"}
    assert late == {"not found out in time: give it more with --timeout SECONDS"}


async def test_without_a_terminal_it_prints_plain_words(
    server: KubernetesServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add(pod("engine-7f-old", bound=None), not_ready("Programmed", "NoMatchingPods", "none"))
    assert await asyncio.to_thread(main, ["check"]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.isascii()
    assert printed.out.startswith("kubernetes-api\n  ok   Kubernetes 1.36 is 1.32 or newer\n\ncustom-resource\n")
    assert (
        "  FAIL team/engine-7f-old: has not the proxy that it asks for, being older than the injector or the label\n"
        "      kubectl -n team rollout restart deployment/engine\n"
    ) in printed.out
    assert printed.out.endswith("\nFAIL 1 of 21 checks failed\n")


async def test_a_cluster_without_policies_is_well(server: KubernetesServer, check: Run) -> None:
    server.remove("FairnessPolicy", "shared", "team")
    server.remove("Pod", "engine-7f-a", "team")
    server.remove("Pod", "engine-7f-b", "team")
    assert await check() == (0, [])


async def test_on_a_terminal_it_says_what_it_is_at_and_prints_signs(server: KubernetesServer) -> None:
    def run() -> tuple[int, str]:
        ours, theirs = os.openpty()
        command = [sys.executable, "-m", "fairqueue_cli.main", "check"]
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, "PYTHONUTF8": "1"}) as process:
            os.close(theirs)
            shown = b""
            # Its end is an error on Linux.
            with suppress(OSError):
                while part := os.read(ours, 4096):
                    shown += part
            os.close(ours)
        return process.returncode, shown.decode()

    code, shown = await asyncio.to_thread(run)
    assert code == 0
    assert shown.startswith(
        "\r\x1b[Kkubernetes-api ...\r\x1b[Kkubernetes-api\r\n  ✓ Kubernetes 1.36 is 1.32 or newer\r\n\r\n"
    )
    assert shown.endswith("\r\n✓ all 21 checks passed\r\n")


@pytest.mark.parametrize("command", ["check", "status"])
async def test_without_a_cluster_there_is_one_line(
    server: KubernetesServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    file = server.kubeconfig(tmp_path / "other")
    await server.stop()
    assert await asyncio.to_thread(main, [command, "--kubeconfig", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"fairqueue {command}: GET /")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9", "nan"])
def test_a_time_that_is_none_is_bad_input(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    assert main(["check", f"--timeout={seconds}"]) == 2
    assert "must be more than 0 and at most 3600 seconds" in capsys.readouterr().err


async def test_without_the_client_library_it_says_what_to_install(server: KubernetesServer) -> None:
    code = (
        "import sys; sys.modules['kubernetes'] = None; from fairqueue_cli.main import main; "
        "sys.exit(main([sys.argv[1]]))"
    )
    for command in ("check", "status"):
        run = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, command], capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stdout) == (2, "")
        assert run.stderr.startswith(f"fairqueue {command}: needs Kubernetes' client library: pip install")

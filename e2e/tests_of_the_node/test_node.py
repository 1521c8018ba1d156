"""What the suite needs of a cluster. Nothing is timed."""

import http.client
import re
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from .conftest import Kubectl

SERVE = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("serving as", os.getuid(), flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port=8000, bind="0.0.0.0")
"""
WAIT = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""
ASK_API = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
request = urllib.request.Request("https://kubernetes.default.svc/apis/apps/v1")
request.add_header("Authorization", "Bearer " + open(folder + "/token").read())
tls = ssl.create_default_context(cafile=folder + "/ca.crt")
print(urllib.request.urlopen(request, context=tls, timeout=5).status)
"""
# The process that grows is not the container's first one.
LET_CHILD_GROW = """
import subprocess, sys
grown = subprocess.run([sys.executable, "-c", "x = b'x' * (300 << 20); print(len(x))"])
print("the child ended with", grown.returncode, flush=True)
"""
PAGE = "/proc/self/status"


def container(name: str, image: str, code: str, **more: Any) -> dict[str, Any]:
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 10_001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    command = ["python3", "-c", code]
    return {"name": name, "image": image, "command": command, "securityContext": security} | more


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": list(containers), **spec}}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except urllib.error.URLError:
        return False


def fetch(url: str) -> str:
    return f"import urllib.request as r; print(r.urlopen('{url}', timeout=10).status)"


@pytest.fixture
def served(kubectl: Kubectl, image: str) -> str:
    """The name of a pod: a native sidecar serves, the container `main` waits. Its Service is `page`."""
    probe = {"httpGet": {"port": 8000, "path": PAGE}, "periodSeconds": 1}
    sidecar = container("sidecar", image, SERVE, restartPolicy="Always", startupProbe=probe)
    kubectl("create", "-f", "-", stdin=pod("served", container("main", image, WAIT), initContainers=[sidecar]))
    kubectl("expose", "pod", "served", "--name=page", "--port=80", "--target-port=8000")
    kubectl("wait", "pod/served", "--for=condition=Ready", "--timeout=60s")
    # kube-proxy writes its rules some time after the pod is ready.
    service = f"http://{kubectl.get('service', 'page')['spec']['clusterIP']}{PAGE}"
    for _ in range(100):
        if answers(service):
            break
        time.sleep(0.1)
    return "served"


def test_a_pod_is_reached_from_the_host_by_its_own_and_its_services_address(kubectl: Kubectl, served: str) -> None:
    assert answers(f"http://{kubectl.get('pod', served)['status']['podIP']}:8000{PAGE}")
    assert answers(f"http://{kubectl.get('service', 'page')['spec']['clusterIP']}{PAGE}")


def test_a_pod_reaches_services_by_address_and_name_and_the_api_server_with_its_token(
    kubectl: Kubectl, served: str
) -> None:
    def inside(code: str) -> str:
        return kubectl("exec", served, "--container=main", "--", "python3", "-c", code).strip()

    assert inside(fetch(f"http://{kubectl.get('service', 'page')['spec']['clusterIP']}{PAGE}")) == "200"
    assert inside(fetch(f"http://page{PAGE}")) == "200"
    assert inside(fetch(f"http://page.{kubectl.namespace}.svc.cluster.local{PAGE}")) == "200"
    assert inside(ASK_API) == "200"


def test_a_sidecar_runs_as_nobody_and_its_log_is_read(kubectl: Kubectl, served: str) -> None:
    assert "serving as 10001" in kubectl("logs", served, "--container=sidecar")


def test_a_port_is_forwarded_into_a_pod(kubectl: Kubectl, served: str) -> None:
    with kubectl.start("port-forward", f"pod/{served}", ":8000") as forwarding:
        assert forwarding.stdout
        port = re.search(r":(\d+) ->", forwarding.stdout.readline())
        assert port
        connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=10)
        connection.request("GET", PAGE)
        assert connection.getresponse().status == 200
        connection.close()
        forwarding.terminate()


def test_a_pod_ends_in_good_time_when_it_is_deleted(kubectl: Kubectl, served: str) -> None:
    kubectl("delete", "pod", served, "--timeout=25s")


def test_a_pod_can_be_evicted(kubectl: Kubectl, served: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": served}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{served}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=eviction)
    kubectl("wait", f"pod/{served}", "--for=delete", "--timeout=25s")


def test_a_pod_that_may_more_than_its_namespace_allows_is_refused(kubectl: Kubectl) -> None:
    bold = container("main", "none", "") | {"securityContext": {"privileged": True}}
    assert "violates PodSecurity" in kubectl("create", "-f", "-", stdin=pod("bold", bold), fails=True)


def test_a_memory_limit_ends_the_process_that_grew_and_no_other_container(kubectl: Kubectl, image: str) -> None:
    limits = {"limits": {"memory": "64Mi"}}
    grows = container("grows", image, "x = b'x' * (300 << 20)", resources=limits)
    parent = container("parent", image, LET_CHILD_GROW, resources=limits)
    beside = container("beside", image, WAIT)
    kubectl("create", "-f", "-", stdin=pod("limits", grows, parent, beside, restartPolicy="Never"))

    for name in ("grows", "parent"):
        ended = f'jsonpath={{.status.containerStatuses[?(@.name=="{name}")].state.terminated}}'
        kubectl("wait", "pod/limits", f"--for={ended}", "--timeout=60s")
    states = {it["name"]: it["state"] for it in kubectl.get("pod", "limits")["status"]["containerStatuses"]}
    assert (states["grows"]["terminated"]["reason"], states["grows"]["terminated"]["exitCode"]) == ("OOMKilled", 137)
    assert "the child ended with -9" in kubectl("logs", "limits", "--container=parent")
    assert "running" in states["beside"]

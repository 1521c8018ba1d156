"""Nodes that no kubelet serves, and their pods: kwok says of both what kubelets would.

Pods come to be Running and Ready, at addresses where nothing is unless `stub_proxies` answers there. Both
are started beside the node that comes with the repository, and work on no other cluster.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from one_node.commands import job
from one_node.go_programs import SOURCES, GoPrograms, module_folder
from one_node.layout import Layout
from one_node.namespaces import HOLDER
from one_node.only_one import only_one
from one_node.processes import Records
from suite.kubectl import Json, Kubectl, until
from suite.pods import is_ready

# Beside the node's own; no route leads there from elsewhere.
NETWORK = IPv4Network("10.77.64.0/18")
_LABEL = "fairqueue.dev/e2e-node"
_STAGES = (
    "node/fast/node-initialize.yaml",
    # Or nodes are taken for dead after a minute, and their pods are Ready no more.
    "node/heartbeat/node-heartbeat.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-delete.yaml",
)


@contextmanager
def fake_nodes(names: Sequence[str]) -> Iterator[None]:
    """These nodes are Ready, and pods on them run, for as long as the block. No scheduler chooses them."""
    layout, cluster = Layout.of_this_machine(), Kubectl()
    with only_one():
        program = GoPrograms(layout.cache).kwok()
    stages = module_folder(SOURCES / "kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage"
    command: list[str | Path] = [program, f"--kubeconfig={os.environ['KUBECONFIG']}", f"--cidr={NETWORK}"]
    command += [f"--manage-nodes-with-label-selector={_LABEL}=fake", *(f"--config={stages / it}" for it in _STAGES)]
    with layout.log("kwok").open("wb") as log, subprocess.Popen(job(command), stdout=log, stderr=log) as process:
        try:
            cluster.apply(*(_node(name) for name in names))
            until(lambda: _are_ready(cluster, names), f"{len(names)} nodes, see {layout.log('kwok')}")
            yield
        finally:
            cluster.delete("node", *names)
            process.kill()


@contextmanager
def stub_proxies() -> Iterator[None]:
    """Something answers as proxies do at all addresses of `NETWORK`."""
    holder = Records(Layout.of_this_machine().records).read()[HOLDER]
    command = ["nsenter", f"--target={holder.pid}", "--net", "--", sys.executable, "-m", "suite.stub_proxies_program"]
    with subprocess.Popen([*command, str(NETWORK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(10)


def _node(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {_LABEL: "fake", "kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": _LABEL, "value": "fake", "effect": "NoSchedule"}]},
    }


def _are_ready(cluster: Kubectl, names: Sequence[str]) -> bool:
    ready = {it["metadata"]["name"] for it in cluster.all("nodes", f"{_LABEL}=fake") if is_ready(it)}
    return ready >= set(names)

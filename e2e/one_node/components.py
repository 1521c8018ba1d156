"""The parts of a node by name: what each is called with, and how one is ended and started again while the rest runs.

Tests of outages do that. A node that lacks a part is not whole: `up` takes it down and starts anew.
"""

from one_node import kubernetes_config
from one_node.api_server import ApiServer
from one_node.errors import NodeError
from one_node.layout import INSIDE, Layout
from one_node.namespaces import HOLDER, start
from one_node.processes import Process, Records, is_alive, kill
from one_node.waiting import until

__all__ = ["COMPONENTS", "command_line", "start_again", "stop"]

# All that runs, in the order of starting.
COMPONENTS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)


def command_line(name: str) -> list[str]:
    """Program and arguments, as inside the node."""
    match name:
        case "etcd":
            return ["etcd", *kubernetes_config.etcd_arguments()]
        case "containerd":
            return ["containerd", f"--config={INSIDE}/config/containerd.toml"]
        case "coredns":
            return [str(INSIDE / "bin" / name), f"-conf={INSIDE}/config/Corefile"]
        case _:
            return [str(INSIDE / "bin" / name), *kubernetes_config.arguments(name)]


def stop(layout: Layout, name: str) -> None:
    """Kills it, as a crash would; nothing if it does not run. Raises `NodeError`."""
    _holder(layout)
    process = Records(layout.records).read().get(name)
    if process is not None:
        kill(process)


def start_again(layout: Layout, name: str) -> None:
    """Starts it, and waits for the API server if that is what it is; nothing if it runs. Raises `NodeError`."""
    holder = _holder(layout)
    process = Records(layout.records).read().get(name)
    if process is None or not is_alive(process):
        process = start(layout, holder, name, command_line(name))
    if name == "kube-apiserver":
        until(ApiServer(layout).is_ready, "the API server", {name: (process, layout.log(name))}, timeout_seconds=90)


def _holder(layout: Layout) -> Process:
    holder = Records(layout.records).read().get(HOLDER)
    if holder is None or not is_alive(holder):
        raise NodeError("the node is not up: `make cluster-up`")
    return holder

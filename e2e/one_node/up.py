"""Brings the node up, from whatever state a crash may have left."""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from one_node import kubernetes_config, preconditions
from one_node.addresses import HOST, NODE_NAME
from one_node.api_server import ApiServer
from one_node.certificates import CLIENTS, Pair, write_all, write_secret
from one_node.cluster_dns import announce_dns, corefile, dns_answers
from one_node.components import COMPONENTS, command_line
from one_node.containerd import containerd_config, import_archive, pod_network
from one_node.down import down, is_anything_left
from one_node.errors import NodeError
from one_node.go_programs import GoPrograms
from one_node.layout import Layout
from one_node.namespaces import HOLDER, create_box, start
from one_node.network import connect
from one_node.packages import install
from one_node.pause_image import PAUSE_IMAGE, write_pause_image
from one_node.processes import Process, Records, is_alive
from one_node.progress import say
from one_node.waiting import Watched, until

__all__ = ["is_up", "up"]

_PROGRAMS = [name for name in COMPONENTS if name not in ("etcd", "containerd")]


def up(layout: Layout) -> None:
    programs = GoPrograms(layout.cache)
    machine = preconditions.this_machine(programs_are_built=programs.are_cached())
    preconditions.check(preconditions.reason_against(machine))
    if is_up(layout):
        say("the node is up already")
        return
    if is_anything_left(layout):
        say("a node that is not whole is left: taking it down first")
        down(layout)
    if machine.missing:
        install(machine.missing)
    began = time.monotonic()
    kubernetes, pause = programs.kubernetes(), programs.pause()
    say("starting the node")
    _write_files(layout, kubernetes, pause)
    _Start(layout, create_box(layout)).whole_node()
    say(f"the node is up ({time.monotonic() - began:.1f} s)")


def is_up(layout: Layout) -> bool:
    """Everything runs and the API server answers."""
    records = Records(layout.records).read()
    all_run = all(name in records and is_alive(records[name]) for name in (HOLDER, *COMPONENTS))
    return all_run and layout.kubeconfig.exists() and ApiServer(layout).is_ready()


def _write_files(layout: Layout, kubernetes: Path, pause: Path) -> None:
    layout.state.mkdir(parents=True, exist_ok=True)
    layout.state.chmod(0o700)
    for folder in (layout.program(""), layout.config("cni"), layout.log("any").parent):
        folder.mkdir(parents=True, exist_ok=True)
    _place(kubernetes, layout.program("kubernetes"))
    _place(pause, layout.program("pause"))
    for name in (*_PROGRAMS, "kubectl"):
        layout.program(name).symlink_to("kubernetes")
    plugins = preconditions.plugin_folder()
    if plugins is None:
        raise NodeError("there are no CNI plug-ins: install what Debian calls containernetworking-plugins")
    layout.config("containerd.toml").write_text(containerd_config(PAUSE_IMAGE, plugins))
    layout.config("cni/10-pods.conflist").write_text(pod_network())
    layout.config("kubelet.yaml").write_text(kubernetes_config.kubelet_config())
    layout.config("resolv.conf").write_text(f"nameserver {HOST}\n")
    layout.config("Corefile").write_text(corefile())
    write_pause_image(pause, layout.config("pause.tar"))
    write_all(layout.certificates, datetime.now(UTC))
    for name in CLIENTS:
        write_secret(layout.config(f"{name}.kubeconfig"), _kubeconfig(layout, name).encode())


def _place(program: Path, where: Path) -> None:
    """Without a second copy, if it is the same file system."""
    try:
        where.hardlink_to(program)
    except OSError:
        shutil.copy2(program, where)


def _kubeconfig(layout: Layout, name: str) -> str:
    pki = layout.certificates
    pair = Pair((pki / f"{name}.crt").read_bytes(), (pki / f"{name}.key").read_bytes())
    return kubernetes_config.kubeconfig((pki / "ca.crt").read_bytes(), pair)


class _Start:
    def __init__(self, layout: Layout, holder: Process) -> None:
        self._layout = layout
        self._holder = holder
        self._started: dict[str, tuple[Process, Path]] = {}

    def whole_node(self) -> None:
        connect(self._holder)
        for name in ("etcd", "containerd", "kube-apiserver"):
            self._start(name)
        socket = self._layout.state / Path(kubernetes_config.CONTAINERD_SOCKET).relative_to("/")
        until(socket.exists, "containerd's socket", self._logs("containerd"), timeout_seconds=30)
        import_archive(self._holder, self._layout.config("pause.tar"))
        api = ApiServer(self._layout)
        until(api.is_ready, "the API server", self._logs("etcd", "kube-apiserver"), timeout_seconds=90)
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"):
            self._start(name)
        self._start("coredns")
        until(lambda: api.node_is_ready(NODE_NAME), "the node", self._logs("containerd", "kubelet"), timeout_seconds=90)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        controllers = self._logs("kube-controller-manager", "kube-scheduler", "kube-proxy")
        until(lambda: api.exists(account), "the default ServiceAccount", controllers, timeout_seconds=60)
        until(lambda: announce_dns(api), "the Service for DNS", self._logs("kube-apiserver"), timeout_seconds=30)
        until(dns_answers, "DNS", self._logs("coredns"), timeout_seconds=30)
        # Its name appears when all is there.
        draft = self._layout.state / "kubeconfig.partial"
        write_secret(draft, _kubeconfig(self._layout, "admin").encode())
        os.replace(draft, self._layout.kubeconfig)

    def _start(self, name: str) -> None:
        process = start(self._layout, self._holder, name, command_line(name))
        self._started[name] = (process, self._layout.log(name))

    def _logs(self, *names: str) -> Watched:
        return {name: self._started[name] for name in names}

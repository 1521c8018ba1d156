"""The box that the node lives in: PID, mount and network namespaces of its own, held by one process.

When that process is killed the kernel kills all others in the box, containers too, and with the last of them all
mounts, the network and its rules are gone. So there is no order in which the node's parts must be stopped, and nothing
that a crash could leave half undone. What images hold is in memory and goes with it, too.

The box has a /run, /var/lib and /var/log of its own. Programs that insist on places there (containerd's shims, CNI
plug-ins, the kubelet) thus write into the state folder. Kernel settings that are the whole machine's are covered by
files that say what the kubelet wants to read, so it leaves the machine's own as they are.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from one_node.errors import NodeError
from one_node.layout import INSIDE, Layout
from one_node.processes import Process, Records, child_of, is_alive, process_of
from one_node.waiting import last_lines, until

__all__ = ["HOLDER", "create_box", "in_box", "set_up_script", "start"]

# The name of the process that holds the box.
HOLDER = "node"

# Where containerd keeps the content of images. To delete thousands of files can take a disk half a minute.
IN_MEMORY = [f"/var/lib/containerd/io.containerd.{it}" for it in ("content.v1.content", "snapshotter.v1.overlayfs")]

KUBELET_WANTS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}

# $1: the state folder. It goes on only when its pid was recorded: if we die before that, the end of the input ends it.
_SET_UP = f"""
read -r recorded
mount --make-rshared /
mkdir -p "$1/run" && mount --bind "$1/run" /run
mkdir -p {INSIDE} /run/lock && mount --bind "$1" {INSIDE}
mount --bind {INSIDE}/var/lib /var/lib
mount --bind {INSIDE}/var/log /var/log
{{in_memory}}
{{kernel_settings}}
for family in ipv4/ip_forward ipv6/conf/all/forwarding; do
    if test -e /proc/sys/net/$family; then echo 1 > /proc/sys/net/$family; fi
done
ip link set lo up
: > {INSIDE}/box-is-ready
exec {INSIDE}/bin/pause
"""


def create_box(layout: Layout) -> Process:
    for folder in ("run", "var/lib", "var/log"):
        (layout.state / folder).mkdir(parents=True, exist_ok=True)
    log = layout.log(HOLDER)
    argv: list[str | Path] = ["unshare", "--pid", "--mount", "--net", "--propagation", "slave", "--mount-proc"]
    argv += ["--kill-child", "sh", "-euc", set_up_script(), "sh", layout.state]
    with log.open("wb") as output:
        outer = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, env=_environment()
        )
    process = child_of(outer.pid)
    if process is None:
        raise NodeError(f"no namespaces could be made for the node{last_lines(log)}")
    _record(layout, HOLDER, process, outer.pid)
    assert outer.stdin
    outer.stdin.write(b"recorded\n")
    outer.stdin.close()
    ready = layout.state / "box-is-ready"
    until(ready.exists, "the node's namespaces", {HOLDER: (process, log)}, timeout_seconds=30)
    return process


def set_up_script() -> str:
    settings = []
    for name, value in KUBELET_WANTS.items():
        cover = f"/run/sys/{name}"
        settings += [
            f"mkdir -p $(dirname {cover})",
            f"echo {value} > {cover}",
            f"mount --bind {cover} /proc/sys/{name}",
        ]
    in_memory = [f"mkdir -p {it} && mount -t tmpfs tmpfs {it}" for it in IN_MEMORY]
    return _SET_UP.format(in_memory="\n".join(in_memory), kernel_settings="\n".join(settings))


def in_box(holder: Process, argv: Sequence[str | Path]) -> list[str | Path]:
    """Wraps a command to run inside. `ip netns exec` would hide the cgroups, as it mounts /sys anew."""
    if not is_alive(holder):
        raise NodeError("the node is not up: `make cluster-up`")
    return ["nsenter", f"--target={holder.pid}", "--pid", "--mount", "--net", "--", *argv]


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def start(layout: Layout, holder: Process, name: str, argv: Sequence[str | Path]) -> Process:
    """Starts a component that stays, with a log of its own and nothing of our environment. One that is started again
    goes on with its log."""
    log = layout.log(name)
    with log.open("ab") as output:
        outer = subprocess.Popen(
            in_box(holder, argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=_environment(),
            cwd="/",
        )
    process = child_of(outer.pid)
    if process is None:
        raise NodeError(f"{name} does not start{last_lines(log)}")
    _record(layout, name, process, outer.pid)
    return process


def _record(layout: Layout, name: str, process: Process, launcher_pid: int) -> None:
    """Also what waits for it outside of the box, and ends when it does."""
    records = Records(layout.records)
    records.add(name, process)
    launcher = process_of(launcher_pid)
    if launcher:
        records.add(f"{name}'s launcher", launcher)

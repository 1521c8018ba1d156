"""Whether this machine can have a node, and in one line what to do if not."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from one_node.addresses import DEVICE, taken_by
from one_node.commands import run
from one_node.errors import NodeError

__all__ = [
    "Machine",
    "check",
    "missing_packages",
    "plugin_folder",
    "reason_against",
    "reason_against_touching",
    "this_machine",
]

# Programs that the node needs, and the Debian packages that have them.
_PROGRAMS = {
    "runc": "runc",
    "containerd": "containerd",
    "etcd": "etcd-server",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
_PLUGINS = ("host-local", "loopback", "portmap", "ptp")
_PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

_ELSEWHERE = "run the suite against another cluster instead, see docs/e2e.md"


@dataclass(frozen=True, slots=True)
class Machine:
    system: str
    is_root: bool
    has_apt: bool
    # Go, or what it would build.
    has_go: bool
    missing: tuple[str, ...]
    routes: tuple[str, ...] = ()


def this_machine(*, programs_are_built: bool = True) -> Machine:
    linux = platform.system() == "Linux"
    return Machine(
        system=platform.system(),
        is_root=linux and os.geteuid() == 0,
        has_apt=shutil.which("apt-get") is not None,
        has_go=programs_are_built or shutil.which("go") is not None,
        missing=tuple(missing_packages()),
        routes=tuple(_routes()) if linux and shutil.which("ip") else (),
    )


def check(reason: str | None) -> None:
    if reason:
        raise NodeError(reason)


def reason_against(machine: Machine) -> str | None:
    if not_root := reason_against_touching(machine):
        return not_root
    if not machine.has_go:
        return f"building Kubernetes needs Go 1.21 or newer, and there is no `go` here: install it, or {_ELSEWHERE}"
    if machine.missing and not machine.has_apt:
        wanted = " ".join(machine.missing)
        return f"there is no apt-get to install what is missing: install what Debian calls {wanted}, or {_ELSEWHERE}"
    taken = taken_by(machine.routes)
    if taken:
        return f"the node's addresses are in use: there is a route to {taken}; remove it, or {_ELSEWHERE}"
    return None


def reason_against_touching(machine: Machine) -> str | None:
    """What keeps from looking after a node that is there already."""
    if machine.system != "Linux":
        return f"a node needs Linux and this is {machine.system}: {_ELSEWHERE}"
    if not machine.is_root:
        return f"a node needs root: run this as root, or {_ELSEWHERE}"
    return None


def missing_packages() -> list[str]:
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    return missing if plugin_folder() else [*missing, "containernetworking-plugins"]


def plugin_folder() -> Path | None:
    """Where the CNI plug-ins are."""
    for folder in _PLUGIN_FOLDERS:
        if all((folder / name).exists() for name in _PLUGINS):
            return folder
    return None


def _routes() -> list[str]:
    lines = run(["ip", "-4", "route", "show"]).splitlines()
    return [line.split()[0] for line in lines if line and f"dev {DEVICE}" not in line]

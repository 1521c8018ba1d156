"""Debian packages, installed without starting what they bring."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from one_node.commands import finish
from one_node.errors import NodeError
from one_node.progress import say

__all__ = ["install"]

# What packages' scripts enable and start services with.
_STARTERS = ("/usr/sbin/invoke-rc.d", "/usr/bin/deb-systemd-invoke", "/usr/bin/deb-systemd-helper")


def install(packages: Sequence[str]) -> None:
    """In a mount namespace in which starters of services are /bin/true, so there is nothing to put back after a crash.
    apt-get itself is never killed half-way: if we are, it goes on, and the next try waits for it."""
    say(f"installing {' '.join(packages)} with apt-get, without starting services (half a minute)")
    get = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = [*get, "install", "--no-install-recommends", *packages]
    try:
        finish(_without_services(command), "apt-get install", environment=environment)
    except NodeError:
        say("apt-get install failed: trying again after `dpkg --configure -a` and `apt-get update`")
        finish(_without_services(["dpkg", "--configure", "-a"]), "dpkg --configure -a", environment=environment)
        finish([*get, "update"], "apt-get update", environment=environment)
        finish(_without_services(command), "apt-get install", environment=environment)


def _without_services(command: Sequence[str]) -> list[str]:
    starters = [it for it in _STARTERS if Path(it).exists()]
    cover = 'while test $1 != --; do mount --bind $0 $1; shift; done; shift; exec "$@"'
    does_nothing = shutil.which("true") or "/bin/true"
    own_mounts = ["unshare", "--mount", "--propagation", "private"]
    return [*own_mounts, "sh", "-euc", cover, does_nothing, *starters, "--", *command]

"""containerd and the pods' network: configuration, and images that are brought in."""

import json
from pathlib import Path

from one_node.addresses import PODS
from one_node.commands import run
from one_node.errors import NodeError
from one_node.kubernetes_config import CONTAINERD_SOCKET
from one_node.layout import INSIDE
from one_node.namespaces import in_box
from one_node.processes import Process

__all__ = ["containerd_config", "import_archive", "pod_network"]


def containerd_config(pause_image: str, plugins: Path) -> str:
    """For containerd 1.6 and newer. Its folders are the default ones, which are the node's own."""
    quoted = {name: json.dumps(str(it)) for name, it in {"image": pause_image, "plugins": plugins}.items()}
    return f"""\
version = 2
# It would make /opt/containerd.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {quoted["image"]}
# Not everywhere may a process be made less likely to be killed for memory than its parent.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {quoted["plugins"]}
conf_dir = "{INSIDE}/config/cni"
"""


def pod_network() -> str:
    """Every pod has a cable of its own to the node, which routes: so Services work from everywhere without a bridge
    and what a bridge needs of the kernel."""
    ptp = {
        "type": "ptp",
        "ipMasq": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/cni/addresses",
            "ranges": [[{"subnet": str(PODS)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [ptp, portmap]}, indent=1)


def import_archive(holder: Process, archive: Path) -> list[str]:
    """Brings an image archive (docker or OCI) in, and returns the names of what was in it."""
    try:
        with archive.open("rb") as content:
            ctr = ["ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import", "-"]
            hint = "it must be an archive as of `docker save` or `buildah push IMAGE docker-archive:FILE:NAME`"
            said = run(in_box(holder, ctr), f"the import of {archive}", stdin=content, what_to_do=hint)
    except OSError as error:
        raise NodeError(f"{archive}: {error.strerror}") from None
    # Lines are like `unpacking NAME (sha256:...)...done`.
    return [line.split()[1] for line in said.splitlines() if line.startswith("unpacking ")]

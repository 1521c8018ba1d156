"""The cable between the host and the node, and the host's routes through it, which go when the cable goes."""

from pathlib import Path

from one_node.addresses import DEVICE, HOST, LINK, NODE, PODS, SERVICES
from one_node.commands import run
from one_node.errors import NodeError
from one_node.namespaces import in_box
from one_node.processes import Process

__all__ = ["connect", "disconnect", "is_connected"]

_INSIDE_DEVICE = "eth0"


def connect(holder: Process) -> None:
    run(["ip", "link", "add", DEVICE, "type", "veth", "peer", "name", _INSIDE_DEVICE, "netns", str(holder.pid)])
    for command in (
        ["addr", "add", f"{NODE}/{LINK.prefixlen}", "dev", _INSIDE_DEVICE],
        ["link", "set", _INSIDE_DEVICE, "up"],
        ["route", "add", "default", "via", str(HOST)],
    ):
        run(in_box(holder, ["ip", *command]))
    run(["ip", "addr", "add", f"{HOST}/{LINK.prefixlen}", "dev", DEVICE])
    run(["ip", "link", "set", DEVICE, "up"])
    for subnet in (PODS, SERVICES):
        run(["ip", "route", "add", str(subnet), "via", str(NODE), "dev", DEVICE])


def is_connected() -> bool:
    return Path("/sys/class/net", DEVICE).exists()


def disconnect() -> None:
    """The kernel does it too, a little after the node's network has gone."""
    if is_connected():
        try:
            run(["ip", "link", "delete", DEVICE])
        except NodeError:
            if is_connected():
                raise

"""Whether the node is up, and what of it runs."""

from one_node.components import COMPONENTS
from one_node.layout import Layout
from one_node.namespaces import HOLDER
from one_node.processes import Records, is_alive
from one_node.up import is_up

__all__ = ["status"]


def status(layout: Layout) -> tuple[bool, str]:
    """Whether all is well, and a table."""
    records = Records(layout.records).read()
    lines = []
    for name in (HOLDER, *COMPONENTS):
        process = records.get(name)
        runs = process is not None and is_alive(process)
        state = f"pid {process.pid}" if process and runs else "down"
        lines.append(f"{name:<24} {state:<12} {layout.log(name)}")
    well = is_up(layout)
    lines.append("the node is up" if well else "the node is not up: `make cluster-up`")
    return well, "\n".join(lines)

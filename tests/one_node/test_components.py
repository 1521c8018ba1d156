"""The parts of the node by name: each can be called, and none is touched on a node that is not there."""

from pathlib import Path

import pytest

from one_node.components import COMPONENTS, command_line, start_again, stop
from one_node.errors import NodeError
from one_node.layout import Layout
from one_node.namespaces import HOLDER
from one_node.processes import Process, Records


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_part_is_called_with_options_of_its_own(name: str) -> None:
    program, *options = command_line(name)
    assert Path(program).name == name
    assert all(it.startswith("-") and "=" in it for it in options)
    assert options


@pytest.mark.parametrize("act", [stop, start_again])
@pytest.mark.parametrize("holder", [None, Process(pid=1, started_ticks=-1)], ids=["no node", "a node that has died"])
def test_without_a_node_one_is_told_how_to_get_one(tmp_path: Path, act: object, holder: Process | None) -> None:
    assert callable(act)
    layout = Layout(tmp_path, tmp_path)
    if holder is not None:
        Records(layout.records).add(HOLDER, holder)
    with pytest.raises(NodeError, match="make cluster-up"):
        act(layout, "kubelet")

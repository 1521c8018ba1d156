"""Where the node keeps what, by what the environment says."""

from pathlib import Path

import pytest

from one_node.errors import NodeError
from one_node.layout import Layout


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.delenv("FAIRQUEUE_E2E_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_what_is_cached_outlives_the_node_and_the_working_tree(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layout = Layout.of_this_machine()
    assert layout == Layout(Path("/var/lib/fairqueue-e2e"), tmp_path / ".cache" / "fairqueue")
    environment.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert Layout.of_this_machine().cache == Path("/elsewhere/fairqueue")


def test_all_of_the_node_is_in_the_folder_that_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("FAIRQUEUE_E2E_DIR", str(tmp_path / "node"))
    layout = Layout.of_this_machine()
    for path in (layout.records, layout.kubeconfig, layout.certificates, layout.program("kubectl"), layout.log("etcd")):
        assert path.is_relative_to(tmp_path / "node")


def test_a_folder_that_the_node_would_hide_from_itself_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FAIRQUEUE_E2E_DIR", "/run/fairqueue")
    with pytest.raises(NodeError, match="must not be in /run"):
        Layout.of_this_machine()

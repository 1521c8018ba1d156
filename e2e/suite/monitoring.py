"""prometheus-operator and a Prometheus in the cluster, and `overlays/monitoring` as docs/install.md has it for one that
selects by a label."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prometheus_operator import INSTALL, definitions
from prometheus_operator.images import images
from suite.installing import OVERLAYS, SYSTEM
from suite.kubectl import Kubectl, until
from suite.node_parts import PYTHON_PATH
from suite.pods import is_ready
from suite.prometheus import POD, Prometheus

NAMESPACE = "fairqueue-e2e-monitoring"
# Of what its Prometheus selects.
SELECTED = {"release": "kube-prometheus-stack"}
PAGE = OVERLAYS.parents[1] / "docs" / "install.md"


@contextmanager
def monitoring(folder: Path) -> Iterator[Prometheus]:
    """For as long as the block; `folder` is for files of it."""
    cluster, there = Kubectl(), Kubectl(NAMESPACE)
    _skip_where_it_cannot_be(cluster)
    for archive in images(folder):
        _bring_in(archive)
        archive.unlink()
    cluster.run("apply", "--server-side", "-f", str(definitions()))
    cluster.run("wait", "--for=condition=established", "--timeout=60s", "-f", str(definitions()))
    cluster.run("apply", "--server-side", "-k", str(_kustomization(folder)))
    cluster.run("apply", "--server-side", "-f", str(INSTALL))
    until(lambda: is_ready(there.get("pod", POD)), "Prometheus", seconds=120)
    yield Prometheus(there)
    if not os.environ.get("E2E_KEEP"):
        # With the definitions goes all that is of their kinds.
        cluster.run("delete", "-f", str(INSTALL), "-f", str(definitions()))
        Kubectl(SYSTEM).run("delete", "-f", str(OVERLAYS.parent / "components" / "monitoring" / "dashboard.yaml"))


def _skip_where_it_cannot_be(cluster: Kubectl) -> None:
    if os.environ.get("E2E_CLUSTER") and not os.environ.get("E2E_LOAD"):
        pytest.skip("E2E_LOAD is not set: the images of prometheus-operator and Prometheus are built on this machine")
    is_there = cluster.all("crd", "", "--field-selector=metadata.name=podmonitors.monitoring.coreos.com")
    if is_there and not cluster.all("namespaces", "", f"--field-selector=metadata.name={NAMESPACE}"):
        pytest.skip("the cluster has a prometheus-operator: everybody's PodMonitors would go with ours")


def _bring_in(archive: Path) -> None:
    load = shlex.split(os.environ.get("E2E_LOAD", "")) or [sys.executable, "-m", "one_node", "load"]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    subprocess.run([*load, archive], check=True, stdout=subprocess.DEVNULL, env=environment)


def _kustomization(folder: Path) -> Path:
    """The one of the page."""
    [text] = re.findall(r"^```yaml\n(resources: \[\S*/overlays/monitoring\]\n.*?)^```$", PAGE.read_text(), re.M | re.S)
    manifests = os.path.relpath(OVERLAYS.parent, folder)
    (folder / "kustomization.yaml").write_text(text.replace("../manifests", manifests))
    return folder

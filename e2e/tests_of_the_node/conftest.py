"""The node that KUBECONFIG names, with a namespace for each test and Debian's Python as an image.

They say whether the node is good for the suite, and nothing of fairqueue.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from one_node.base_image import base_image
from one_node.layout import Layout

E2E = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("KUBECONFIG"):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="KUBECONFIG is not set"))


class Kubectl:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        program = shutil.which("kubectl") or str(Layout.of_this_machine().program("kubectl"))
        self._command = [program, f"--namespace={namespace}"]

    def __call__(self, *arguments: str, stdin: object = None, fails: bool = False) -> str:
        """What it says; to standard error if it is to fail."""
        text = None if stdin is None else json.dumps(stdin)
        done = subprocess.run([*self._command, *arguments], input=text, capture_output=True, text=True, timeout=120)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", kind, name, "--output=json"))
        return found

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self._command, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Brought in by the command in E2E_LOAD, which is given the archive's path."""
    name = base_image(Layout.of_this_machine().cache)
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    subprocess.run(["buildah", "push", "--quiet", name, f"docker-archive:{archive}:{name}"], check=True)
    load = shlex.split(os.environ.get("E2E_LOAD", "")) or [sys.executable, "-m", "one_node", "load"]
    subprocess.run([*load, archive], check=True, env={**os.environ, "PYTHONPATH": str(E2E)})
    archive.unlink()
    return name


@pytest.fixture
def kubectl() -> Iterator[Kubectl]:
    """In a namespace of its own, in which pods must be as restricted as pods can be."""
    kubectl = Kubectl(f"node-test-{uuid.uuid4().hex[:8]}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kubectl.namespace, "labels": labels}}
    kubectl("create", "-f", "-", stdin=namespace)
    kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=30s")
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")

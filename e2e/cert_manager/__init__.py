"""The real cert-manager, built from its source, for the tests of `overlays/cert-manager`."""

from pathlib import Path

from one_node.go_programs import module_folder

__all__ = ["IMAGE", "INSTALL", "SOURCE", "definitions"]

SOURCE = Path(__file__).parent
INSTALL = SOURCE / "install.yaml"
IMAGE = "localhost/fairqueue-e2e/cert-manager:1"


def definitions() -> Path:
    """The folder of its CustomResourceDefinitions, which is in the source of the version that go.mod requires."""
    return module_folder(SOURCE, "github.com/cert-manager/cert-manager") / "deploy" / "crds"

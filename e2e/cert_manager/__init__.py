"""The real cert-manager, built from its source, for the tests of `overlays/cert-manager`."""

import json
import subprocess
from pathlib import Path

__all__ = ["IMAGE", "INSTALL", "SOURCE", "definitions"]

SOURCE = Path(__file__).parent
INSTALL = SOURCE / "install.yaml"
IMAGE = "localhost/fairqueue-e2e/cert-manager:1"


def definitions() -> Path:
    """The folder of its CustomResourceDefinitions, which is in the source of the version that go.mod requires."""
    command = ["go", "mod", "download", "-json", "github.com/cert-manager/cert-manager"]
    said = json.loads(subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=True).stdout)
    return Path(said["Dir"]) / "deploy" / "crds"

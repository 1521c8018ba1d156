"""The real prometheus-operator, and the Prometheus that it runs, built from their source, for the tests of
`overlays/monitoring`."""

from pathlib import Path

from one_node.go_programs import module_folder

__all__ = ["INSTALL", "OPERATOR_IMAGE", "PROMETHEUS_IMAGE", "RELOADER_IMAGE", "SOURCE", "definitions"]

SOURCE = Path(__file__).parent
INSTALL = SOURCE / "install.yaml"
OPERATOR_IMAGE = "localhost/fairqueue-e2e/prometheus-operator:1"
RELOADER_IMAGE = "localhost/fairqueue-e2e/prometheus-config-reloader:1"
PROMETHEUS_IMAGE = "localhost/fairqueue-e2e/prometheus:1"


def definitions() -> Path:
    """The folder of its CustomResourceDefinitions, which is in the source of the version that go.mod requires."""
    return (
        module_folder(SOURCE, "github.com/prometheus-operator/prometheus-operator")
        / "example"
        / "prometheus-operator-crd"
    )

"""Images of prometheus-operator, of what it puts beside Prometheus, and of Prometheus: one static program each."""

from collections.abc import Iterator
from pathlib import Path

from one_node.go_programs import GoPrograms
from one_node.layout import Layout
from one_node.only_one import only_one
from one_node.pause_image import write_image
from prometheus_operator import OPERATOR_IMAGE, PROMETHEUS_IMAGE, RELOADER_IMAGE

__all__ = ["images"]


def images(folder: Path) -> Iterator[Path]:
    """Builds the programs, once, and writes one archive after the other, as of `docker save`. They are the caller's."""
    programs = GoPrograms(Layout.of_this_machine().cache)
    with only_one():
        built = {
            OPERATOR_IMAGE: programs.prometheus_operator(),
            RELOADER_IMAGE: programs.prometheus_config_reloader(),
            PROMETHEUS_IMAGE: programs.prometheus(),
        }
    for name, program in built.items():
        archive = folder / f"{program.name}.tar"
        # Where their published images have them: prometheus-operator names the reloader's by its path.
        write_image(name, program, archive, entry=f"bin/{program.name}")
        yield archive

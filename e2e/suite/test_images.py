"""The proxy's image, which runs in every pod, holds what its lock names and nothing else."""

import json
import re
from pathlib import Path

from suite.clients import CLIENT
from suite.place import Place

LOCK = Path(__file__).resolve().parents[2] / "requirements" / "proxy.txt"
# Kubernetes' client and what is built on it: tens of megabytes that no proxy needs.
UNWANTED = ["kopf", "kubernetes", "prometheus_client", "numpy", "matplotlib", "cryptography"]
LOOK = """
import importlib, importlib.metadata, json, sys
found = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        found.append(name)
    except ModuleNotFoundError:
        pass
print(json.dumps({"importable": found, "installed": [it.name for it in importlib.metadata.distributions()]}))
"""


def plain(name: str) -> str:
    """The one of a package's spellings that all compare by."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_proxys_image_holds_what_is_locked_for_it_and_no_kubernetes_client(place: Place) -> None:
    # Its pod is of the proxy's image.
    found = json.loads(place.kubectl.exec(CLIENT, "python", "-c", LOOK, *UNWANTED, "aiohttp", "fairqueue_proxy"))
    assert found["importable"] == ["aiohttp", "fairqueue_proxy"]
    locked = {plain(line.split("==")[0]) for line in LOCK.read_text().splitlines() if "==" in line}
    assert {plain(name) for name in found["installed"]} == locked | {"fairqueue"}

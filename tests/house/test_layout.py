"""What the layout of the repository promises: nothing shadows Python's modules, and the proxy stays small."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"kopf", "kubernetes", "numpy", "matplotlib", "rich", "prometheus_client", "xllamacpp"}


def test_pythons_own_operator_module_is_importable_from_the_repository_root() -> None:
    """`operator/` will be a source root; a package of that name would break Python itself."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    code = "import operator, sys; sys.stdout.write(str(operator.add(2, 3)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "5"


def test_serve_loads_nothing_that_a_sidecar_does_not_need() -> None:
    code = "import json, sys, fairqueue_cli.main, fairqueue_cli.serving; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert {"aiohttp", "fairqueue_proxy"} <= loaded
    # Policies are read by a process of their own.
    assert not (HEAVY | {"pydantic", "yaml"}) & loaded


def test_all_of_the_proxy_and_of_serve_loads_neither_kopf_nor_a_kubernetes_client() -> None:
    code = """
import importlib, pkgutil, sys, fairqueue_proxy, fairqueue_cli.main, fairqueue_cli.serving
for module in pkgutil.walk_packages(fairqueue_proxy.__path__, "fairqueue_proxy."):
    importlib.import_module(module.name)
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    modules = {path.stem for path in (ROOT / "proxy" / "fairqueue_proxy").rglob("*.py")} - {"__init__"}
    assert modules <= {name.rpartition(".")[2] for name in loaded}
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_the_locked_proxy_installs_without_operator_and_plotting_libraries() -> None:
    lines = (ROOT / "requirements" / "proxy.txt").read_text().splitlines()
    locked = {line.split("==")[0].replace("-", "_") for line in lines if "==" in line}
    assert {"aiohttp", "pydantic", "httptools", "msgspec", "uvloop"} <= locked
    assert not HEAVY & locked


def test_locks_name_no_index_address_and_pin_every_version_by_hash() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, lock.name
        assert "--index" not in text, lock.name
        pins = [block for block in text.replace("\\\n", " ").splitlines() if block.strip()]
        assert pins, lock.name
        assert all("==" in pin and "--hash=sha256:" in pin for pin in pins), lock.name


def test_every_package_is_typed_and_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert all((ROOT / package / "py.typed").exists() for package in packages)

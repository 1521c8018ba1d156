"""The node's own Go programs, built once and cached by what they are made from."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from one_node.commands import finish, job
from one_node.errors import NodeError
from one_node.progress import say

__all__ = ["SOURCES", "GoPrograms", "module_folder", "version_flags"]

SOURCES = Path(__file__).resolve().parents[1]

# What Kubernetes is built with. Its OpenAPI documents come out broken with 1.27; `go` fetches this one if need be.
_TOOLCHAIN = "go1.26.8"
_KEPT = 3


class GoPrograms:
    def __init__(self, cache: Path, sources: Path = SOURCES) -> None:
        self._cache = cache
        self._sources = sources

    def kubernetes(self) -> Path:
        source = self._sources / "kubernetes_binary"
        return self._program("kubernetes", source, version_flags((source / "go.mod").read_text()), "eight minutes")

    def pause(self) -> Path:
        return self._program("pause", self._sources / "pause", (), "a few seconds")

    def cert_manager(self) -> Path:
        """Not the node's: what one suite tests with."""
        return self._program("cert-manager", self._sources / "cert_manager", (), "four minutes")

    def kwok(self) -> Path:
        """Not the node's either; its own program as it is published."""
        return self._program("kwok", self._sources / "kwok", (), "two minutes", "sigs.k8s.io/kwok/cmd/kwok")

    def prometheus_operator(self) -> Path:
        """Nor are these three."""
        package = "github.com/prometheus-operator/prometheus-operator/cmd/operator"
        return self._program("prometheus-operator", self._sources / "prometheus_operator", (), "two minutes", package)

    def prometheus_config_reloader(self) -> Path:
        """What prometheus-operator puts beside each Prometheus."""
        name = "prometheus-config-reloader"
        package = f"github.com/prometheus-operator/prometheus-operator/cmd/{name}"
        return self._program(name, self._sources / "prometheus_operator", (), "a few seconds", package)

    def prometheus(self) -> Path:
        """It finds what to scrape in Kubernetes, and nowhere else: the clients of twenty clouds stay out."""
        tags = ("remove_all_sd", "enable_kubernetes_sd")
        package = "github.com/prometheus/prometheus/cmd/prometheus"
        return self._program("prometheus", self._sources / "prometheus", (), "two minutes", package, tags)

    def are_cached(self) -> bool:
        source = self._sources / "kubernetes_binary"
        flags = version_flags((source / "go.mod").read_text())
        both = (self._file("kubernetes", source, flags), self._file("pause", self._sources / "pause", ()))
        return all(it.exists() for it in both)

    def _file(self, name: str, source: Path, flags: Sequence[str]) -> Path:
        return self._cache / name / key_of(source, flags) / name

    def _program(
        self,
        name: str,
        source: Path,
        variables: Sequence[str],
        about: str,
        package: str = ".",
        tags: Sequence[str] = (),
    ) -> Path:
        program = self._file(name, source, [*variables, *tags])
        if program.exists():
            os.utime(program.parent)
            return program
        say(f"building {name} from source, once ({about} on two cores if nothing of it was built before)")
        program.parent.mkdir(parents=True, exist_ok=True)
        draft = program.with_suffix(".partial")
        _build(source, variables, draft, package, tags)
        draft.replace(program)
        _forget_oldest(program.parents[1])
        return program


def module_folder(source: Path, module: str) -> Path:
    """Where the source of a module is, in the version that the go.mod in `source` requires."""
    command = ["go", "mod", "download", "-json", module]
    said = json.loads(subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout)
    return Path(said["Dir"])


def key_of(source: Path, flags: Sequence[str]) -> str:
    """Says what a program is made from: all of the module (go.sum stands for what it requires), and for which CPU."""
    digest = hashlib.sha256(repr((platform.machine(), tuple(flags))).encode())
    for file in sorted(it for it in source.iterdir() if it.suffix in (".go", ".mod", ".sum")):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def version_flags(go_mod: str) -> list[str]:
    """Variables that tell Kubernetes its version, which a build outside of its own repository does not know."""
    found = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\S*", go_mod)
    if not found:
        raise NodeError("go.mod requires no k8s.io/kubernetes")
    values = {"gitVersion": found[0].split()[1], "gitMajor": found[1], "gitMinor": found[2]}
    return [f"k8s.io/component-base/version.{name}={value}" for name, value in values.items()]


def _build(source: Path, variables: Sequence[str], output: Path, package: str, tags: Sequence[str]) -> None:
    go_flags = f"-tags={','.join(tags)}" if tags else ""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": go_flags, "GOWORK": "off", **_toolchain(source)}
    linker = " ".join(["-s", "-w", *(f"-X {it}" for it in variables)])
    command = ["go", "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", linker, "-o", str(output), package]
    hint = "Go needs its module proxy (GOPROXY) the first time, and about 5 GB of disk"
    finish(
        job(command),
        f"building {source.name}",
        cwd=source,
        environment=environment,
        expected_lines=_packages(source, environment, package),
        what_to_do=hint,
    )


def _toolchain(source: Path) -> dict[str, str]:
    has = subprocess.run(["go", "env", "GOVERSION"], cwd=source, capture_output=True, text=True, check=False).stdout
    return {} if has.startswith(_TOOLCHAIN.rpartition(".")[0]) else {"GOTOOLCHAIN": _TOOLCHAIN}


def _packages(source: Path, environment: dict[str, str], package: str) -> int:
    """How many packages are to be compiled."""
    ask = ["go", "list", "-deps", "-trimpath", "-buildvcs=false", "-f", "{{if .Stale}}x{{end}}", package]
    said = subprocess.run(job(ask), cwd=source, env=environment, capture_output=True, text=True, check=False)
    return said.stdout.count("x")


def _forget_oldest(folder: Path) -> None:
    by_use = sorted(folder.iterdir(), key=lambda it: it.stat().st_mtime, reverse=True)
    for old in by_use[_KEPT:]:
        shutil.rmtree(old)

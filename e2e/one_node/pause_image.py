"""Images as archives, of one static program and nothing else: that of the pods' first process, and others."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

__all__ = ["PAUSE_IMAGE", "write_image", "write_pause_image"]

PAUSE_IMAGE = "localhost/fairqueue-e2e/pause:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_pause_image(program: Path, archive: Path) -> None:
    write_image(PAUSE_IMAGE, program, archive, entry="pause")


def write_image(name: str, program: Path, archive: Path, *, entry: str = "program") -> None:
    """Writes it as `docker save` does."""
    layer = _tar({entry: program.read_bytes()}, mode=0o755)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        # An id that is nobody's: it needs no rights.
        "config": {"Entrypoint": [f"/{entry}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"manifest.json": _json(manifest), "config.json": _json(config), "layer.tar": layer}
    archive.write_bytes(_tar(files, mode=0o644))


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()

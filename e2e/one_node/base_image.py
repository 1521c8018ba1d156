"""An image with Debian's Python, made on the spot, for machines that reach no registry.

It stands in for the public python image that the product's own image is made from elsewhere.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from one_node.commands import finish, job
from one_node.progress import say

__all__ = ["base_image", "base_image_name"]

_SUITE = "bookworm"
_INCLUDED = ("python3", "python3-venv", "ca-certificates")
_DEBOOTSTRAP = ("debootstrap", "--variant=minbase", f"--include={','.join(_INCLUDED)}", _SUITE)
# Of no use in an image.
_LEFT_OUT = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*", "./proc/*", "./sys/*", "./dev/*")
_CONTAINERFILE = """\
FROM scratch
ADD base.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
CMD ["python3"]
"""


def base_image_name() -> str:
    made_from = repr((_DEBOOTSTRAP, _LEFT_OUT, _CONTAINERFILE))
    return f"localhost/fairqueue-e2e/python:{_SUITE}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"


def base_image(cache: Path) -> str:
    """Makes it unless it is there, and returns its name in buildah's storage."""
    name = base_image_name()
    if subprocess.run(["buildah", "inspect", "--type=image", name], capture_output=True, check=False).returncode == 0:
        return name
    folder = cache / "base-image" / name.rpartition("-")[2]
    archive = folder / "base.tar"
    if not archive.exists():
        _bootstrap(archive)
    (folder / "Containerfile").write_text(_CONTAINERFILE)
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    command = ["buildah", "build", "--quiet", "--tag", name, "--file", str(folder / "Containerfile"), str(folder)]
    finish(job(command), "building the base image", environment=environment)
    return name


def _bootstrap(archive: Path) -> None:
    say(f"making a base image of Debian {_SUITE} with Python, once (about a minute and a half)")
    tree = archive.parent / "tree"
    if tree.exists():
        shutil.rmtree(tree)
    tree.mkdir(parents=True)
    hint = "it needs Debian's packages: is there a way to them?"
    finish(job([*_DEBOOTSTRAP, tree]), "debootstrap", expected_lines=560, what_to_do=hint)
    draft = archive.with_suffix(".partial")
    left_out = [f"--exclude={it}" for it in _LEFT_OUT]
    finish(["tar", "-C", str(tree), "--numeric-owner", *left_out, "-cf", str(draft), "."], "packing the base image")
    shutil.rmtree(tree)
    draft.replace(archive)

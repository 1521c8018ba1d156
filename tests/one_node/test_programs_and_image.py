"""Programs are built once for what they are made from, and the pause image is the same for the same program."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from one_node.errors import NodeError
from one_node.go_programs import SOURCES, GoPrograms, key_of, version_flags
from one_node.pause_image import PAUSE_IMAGE, write_pause_image


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in ("kubernetes_binary", "pause"):
        shutil.copytree(SOURCES / name, tmp_path / "sources" / name)
    return tmp_path / "sources"


def test_the_key_changes_with_each_file_and_with_the_flags_and_with_nothing_else(sources: Path) -> None:
    pause = sources / "pause"
    key = key_of(pause, ())
    (pause / "README").write_text("of no concern")
    assert key_of(pause, ()) == key
    assert key_of(pause, ("a=b",)) != key
    for name in ("main.go", "go.mod"):
        original = (pause / name).read_text()
        (pause / name).write_text(original + "\n")
        assert key_of(pause, ()) != key
        (pause / name).write_text(original)
    assert key_of(pause, ()) == key
    (pause / "go.sum").write_text("")
    assert key_of(pause, ()) != key


def test_kubernetes_is_told_the_version_that_go_mod_requires() -> None:
    assert version_flags("require k8s.io/kubernetes v1.36.3 // indirect\n") == [
        "k8s.io/component-base/version.gitVersion=v1.36.3",
        "k8s.io/component-base/version.gitMajor=1",
        "k8s.io/component-base/version.gitMinor=36",
    ]
    with pytest.raises(NodeError, match="requires no"):
        version_flags("module x\n")


def test_a_program_that_is_in_the_cache_is_not_built(sources: Path, tmp_path: Path) -> None:
    programs = GoPrograms(tmp_path / "cache", sources)
    assert not programs.are_cached()
    flags = version_flags((sources / "kubernetes_binary" / "go.mod").read_text())
    for name, key in (
        ("kubernetes", key_of(sources / "kubernetes_binary", flags)),
        ("pause", key_of(sources / "pause", ())),
    ):
        (tmp_path / "cache" / name / key).mkdir(parents=True)
        (tmp_path / "cache" / name / key / name).write_text("")
    assert programs.are_cached()
    assert programs.kubernetes().name == "kubernetes"
    assert programs.pause().name == "pause"


def test_the_pause_image_is_its_program_and_nothing_else(tmp_path: Path) -> None:
    program, archive = tmp_path / "program", tmp_path / "pause.tar"
    program.write_bytes(b"a program")
    write_pause_image(program, archive)
    with tarfile.open(archive) as image:

        def content(name: str) -> bytes:
            file = image.extractfile(name)
            assert file
            return file.read()

        [manifest] = json.loads(content("manifest.json"))
        config = json.loads(content(manifest["Config"]))
        [layer] = [content(it) for it in manifest["Layers"]]
    assert manifest["RepoTags"] == [PAUSE_IMAGE]
    assert config["config"]["Entrypoint"] == ["/pause"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        [entry] = files.getmembers()
        assert (entry.name, entry.mode, entry.size) == ("pause", 0o755, len(b"a program"))


def test_the_pause_image_is_the_same_each_time(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"a program")
    for name in ("one", "other"):
        write_pause_image(program, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()

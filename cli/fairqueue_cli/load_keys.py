"""The API keys of a workload's tenants, read from files before a run begins."""

from collections.abc import Sequence
from pathlib import Path

from fairqueue_cli.load_spec import SpecError, read_key

_NAMES_SHOWN = 5


def read_keys(tenants: Sequence[str], directory: str | None, files: Sequence[str]) -> dict[str, str]:
    """By tenant, from DIR/<tenant> and from `tenant=FILE`, which goes first. Who has no file has no key.

    Raises SpecError for a file that can't be used, and where none of the tenants has one.
    """
    return {**_from_directory(tenants, directory), **_from_files(tenants, files)}


def _from_directory(tenants: Sequence[str], directory: str | None) -> dict[str, str]:
    if directory is None:
        return {}
    folder = Path(directory)
    if not folder.is_dir():
        raise SpecError(
            f"--keys {directory}: is no directory; each file in it holds the key of the tenant it is named for"
        )
    # A name that is a path would read keys from elsewhere.
    paths = {name: folder / name for name in tenants if Path(name).name == name and (folder / name).is_file()}
    if not paths:
        raise SpecError(f"--keys {directory}: has no file for any of the tenants {_listed(tenants)}")
    return {name: read_key(f"--keys {directory}: the file {name}", path) for name, path in paths.items()}


def _from_files(tenants: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for text in files:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise SpecError(f"--key {text}: write it like --key chat=chat.key")
        if name not in tenants:
            raise SpecError(f"--key {text}: there is no tenant {name!r}, only {_listed(tenants)}")
        if name in keys:
            raise SpecError(f"--key {text}: tenant {name} has one already; leave one")
        keys[name] = read_key(f"--key {text}: the file", Path(path))
    return keys


def _listed(tenants: Sequence[str]) -> str:
    shown = ", ".join(tenants[:_NAMES_SHOWN])
    return shown if len(tenants) <= _NAMES_SHOWN else f"{shown} and {len(tenants) - _NAMES_SHOWN} more"

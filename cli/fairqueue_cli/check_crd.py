"""Checks of the CustomResourceDefinition: there, served, and the one that this version of fairqueue generates. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from fairqueue_api.crd import GROUP, PLURAL, VERSION, schema
from fairqueue_cli.check_lines import INSTALL, Line, failed, passed, shown, warning
from fairqueue_cli.kubernetes_json import Resource, holds, mapping_at, objects_at
from fairqueue_cli.kubernetes_unknown import Unknown

NAME: Final = f"{PLURAL}.{GROUP}"


def judge_crd(found: Resource | Unknown | None) -> Iterator[Line]:
    """The definition in the cluster."""
    if isinstance(found, Unknown):
        yield warning(f"the CRD {NAME} cannot be looked at: {found.because}")
        return
    if found is None:
        yield failed(f"the CRD {NAME} is not there", INSTALL)
        return
    if not holds(found, "Established"):
        yield failed(f"the CRD {NAME} is not established yet", f"kubectl describe crd {NAME}")
        return
    yield passed(f"the CRD {NAME} is there")
    version = next((each for each in objects_at(found, "spec", "versions") if each.get("name") == VERSION), None)
    if version is None or version.get("served") is not True:
        yield failed(f"the CRD does not serve {VERSION}", INSTALL)
        return
    differences = list(_differences(schema(), mapping_at(version, "schema", "openAPIV3Schema"), ""))
    if differences:
        text = f"the CRD is of another version of fairqueue than this command: it differs at {shown(differences)}"
        yield failed(f"{text}; apply the manifests of one version, and use its command", INSTALL)
    else:
        yield passed(f"its {VERSION} is that of this version of fairqueue")


def _differences(ours: object, theirs: object, place: str) -> Iterator[str]:
    """Places at which the schemas differ, outermost first."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in sorted({*ours, *theirs}):
            yield from _differences(ours.get(key), theirs.get(key), _below(place, key))
    elif ours != theirs and not _is_comment(place, ours, theirs):
        yield place


def _is_comment(place: str, ours: object, theirs: object) -> bool:
    # A field may be called `description`: its schema is an object, the comment is a text.
    return place.rpartition(".")[2] == "description" and not isinstance(ours or theirs, Mapping)


def _below(place: str, key: str) -> str:
    if key == "properties":
        return place
    if key == "items":
        return f"{place}[]"
    return f"{place}.{key}" if place else key

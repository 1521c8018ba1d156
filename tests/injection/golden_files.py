"""The golden files: a folder for each case, with a pod, policies, and what becomes of them.

    python tests/injection/golden_files.py

writes what becomes of them anew, and the table of reasons in `docs/injection.md`: look at the difference before it
goes in.

`pod.yaml` and `policies.yaml` are written by hand (`settings.yaml` too, where a case has one); `decision.yaml` says how
it was decided, and `injected.yaml` is the whole pod after the patch, if there is one.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

from fairqueue_api.models import FairnessPolicy
from fairqueue_api.structure import parse_structure
from fairqueue_operator.injection import Decision, InjectionSettings, Reason, decide

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).parents[2] / "docs" / "injection.md"
SETTINGS = InjectionSettings(image="fairqueue/proxy:0.1.0", version="0.1.0")


@dataclass(frozen=True)
class Case:
    folder: Path

    @property
    def pod(self) -> dict[str, Any]:
        (pod,) = read_yaml(self.folder / "pod.yaml")
        assert isinstance(pod, dict)
        return pod

    @property
    def policy_resources(self) -> list[dict[str, Any]]:
        return read_yaml(self.folder / "policies.yaml")

    @property
    def policies(self) -> list[FairnessPolicy]:
        return [parse_structure(resource, "policies.yaml") for resource in self.policy_resources]

    @property
    def settings(self) -> InjectionSettings:
        file = self.folder / "settings.yaml"
        (changed,) = read_yaml(file) if file.exists() else [{}]
        return InjectionSettings(**(asdict(SETTINGS) | changed))

    @cache  # noqa: B019 - there are as many cases as folders
    def decision(self) -> Decision:
        return decide(self.pod, self.policies, self.settings)

    def files(self) -> dict[str, str]:
        """What the files must hold, by their names."""
        decision = self.decision()
        files = {"decision.yaml": _yaml(_summary(decision))}
        if decision.patch:
            files["injected.yaml"] = _yaml(patched(self.pod, decision))
        return files


def read_yaml(path: Path) -> list[Any]:
    """The documents in a file, by the quick parser."""
    return list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))


def cases() -> Iterator[Case]:
    for folder in sorted(GOLDEN.iterdir()):
        yield Case(folder)


def patched(pod: dict[str, Any], decision: Decision) -> Any:
    return jsonpatch.JsonPatch(list(decision.patch)).apply(pod)


def _summary(decision: Decision) -> dict[str, Any]:
    summary = {
        "reason": decision.reason.value,
        "outcome": decision.reason.outcome.value,
        "policy": decision.policy,
        "message": decision.message,
        "warnings": [f"{warned.reason.event_reason}: {warned.detail}" for warned in decision.warnings],
    }
    return {name: value for name, value in summary.items() if value}


# As manifests are usually written; what is not here follows by its name.
_ORDER = (
    *("apiVersion", "kind", "metadata", "spec", "status", "name", "namespace", "labels", "annotations"),
    *("initContainers", "containers", "image", "imagePullPolicy", "restartPolicy", "command", "args", "env", "ports"),
    *("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "httpGet", "path", "port"),
    *("reason", "outcome", "policy", "message", "warnings"),
)


class _Dumper(yaml.SafeDumper):
    """Lists and objects of plain values on one line, as one would write them."""


def _is_flat(values: Iterable[object]) -> bool:
    return all(isinstance(value, str | int | None) for value in values)


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=_is_flat(value))


def _represent_object(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.Node:
    place = {name: number for number, name in enumerate(_ORDER)}
    ordered = sorted(value.items(), key=lambda item: (place.get(item[0], len(place)), item[0]))
    short = _is_flat(value.values()) and sum(len(f"{name}{item}") + 4 for name, item in ordered) < 80
    return dumper.represent_mapping("tag:yaml.org,2002:map", ordered, flow_style=short)


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(dict, _represent_object)


def _yaml(value: object) -> str:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return re.sub(r"[ \t]+\n", "\n", text)


def page_with_reasons(page: str) -> str:
    """The page with its table of reasons made anew."""
    head, begin, rest = page.partition("<!-- begin reasons -->\n")
    _, end, tail = rest.partition("<!-- end reasons -->")
    rows = [f"| `{reason.value}` | {reason.outcome.value} | {reason.sentence} |\n" for reason in Reason]
    return "".join([head, begin, "| reason | pod | |\n| --- | --- | --- |\n", *rows, end, tail])


def main() -> None:
    PAGE.write_text(page_with_reasons(PAGE.read_text()))
    for case in cases():
        for name in ("decision.yaml", "injected.yaml"):
            (case.folder / name).unlink(missing_ok=True)
        for name, text in case.files().items():
            (case.folder / name).write_text(text)


if __name__ == "__main__":
    main()

"""kubectl, as a user types it: what the suite does to the cluster and asks of it."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Json = dict[str, Any]
Found = TypeVar("Found")

LONGEST_SECONDS = 120.0


class KubectlError(Exception):
    """What kubectl said on standard error."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Speaks to the cluster that KUBECONFIG names; `namespace` None: that of the context."""

    namespace: str | None = None

    def command(self, *args: str) -> list[str]:
        return ["kubectl", *(["--namespace", self.namespace] if self.namespace else []), *args]

    def run(self, *args: str, stdin: str | None = None, timeout_seconds: float = LONGEST_SECONDS) -> str:
        """What it prints. Raises KubectlError."""
        done = subprocess.run(
            self.command(*args), input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
        if done.returncode:
            raise KubectlError(done.stderr.strip() or f"kubectl {' '.join(args)}: exit code {done.returncode}")
        return done.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Applies these; raises KubectlError with what the API server has against them."""
        self.run("apply", "-f", "-", stdin=as_list(objects))

    def create(self, *objects: Mapping[str, Any]) -> None:
        """As `apply`, without a trace of what was applied."""
        self.run("create", "-f", "-", stdin=as_list(objects))

    def dry_run(self, made: Mapping[str, Any]) -> None:
        """Asks whether it would be let in."""
        self.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(made))

    def refusal(self, *objects: Mapping[str, Any]) -> str:
        """What `apply` is refused with."""
        try:
            self.apply(*objects)
        except KubectlError as error:
            return str(error)
        raise AssertionError(f"not refused: {objects}")

    def get(self, kind: str, name: str) -> Json:
        """One object."""
        found: Json = json.loads(self.run("get", kind, name, "-o", "json"))
        return found

    def all(self, kind: str, selector: str = "", *more: str) -> list[Json]:
        """All of a kind that the selector selects."""
        chosen = ["-l", selector] if selector else []
        found: list[Json] = json.loads(self.run("get", kind, *chosen, *more, "-o", "json"))["items"]
        return found

    def delete(self, kind: str, *names: str, wait: bool = True) -> None:
        """Deletes these, if they are there."""
        self.run("delete", kind, *names, "--ignore-not-found", f"--wait={str(wait).lower()}")

    def exec(self, pod: str, *command: str, container: str | None = None, stdin: str | None = None) -> str:
        """What a command in a container prints."""
        chosen = ["-c", container] if container else []
        return self.run("exec", "-i", pod, *chosen, "--", *command, stdin=stdin)

    def logs(self, pod: str, container: str, *, previous: bool = False) -> str:
        """What a container has printed."""
        return self.run("logs", pod, "-c", container, *(["--previous"] if previous else []))

    def events(self, reason: str | None = None) -> list[Json]:
        """Events, of one reason."""
        return [it for it in self.all("events") if reason is None or it["reason"] == reason]


def as_list(objects: Sequence[Mapping[str, Any]]) -> str:
    """Several objects as one document."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def until(condition: Callable[[], Found | None], what: str, *, seconds: float = 60.0, every: float = 0.2) -> Found:
    """What the condition returns once that is something; a kubectl that fails meanwhile counts as nothing."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
            last = found
        except KubectlError as error:
            last = error
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {last!r}")

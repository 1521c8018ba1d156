"""Clients in the namespace's client pod that go on whatever becomes of the API server, and what they saw."""

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.clients import CLIENT
from suite.kubectl import Kubectl, until
from suite.objects import key_of

_PROGRAM = Path(__file__).with_name("patient_program.py")
_FOLDER = "/tmp/patient"


@dataclass(slots=True)
class Patience:
    """What became of the requests of patient clients, once they have ended; why some were sent again, how often."""

    kubectl: Kubectl
    folder: str
    done: dict[str, int] = field(default_factory=dict)
    tried_again: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    longest_gap_seconds: float = 0.0
    slowest_seconds: float = 0.0

    def use_keys(self, keys: Mapping[str, str]) -> None:
        """From the next request on."""
        # By another name first: a client must never read half of it.
        script = 'cat > "$1.partial" && mv "$1.partial" "$1"'
        place = f"{self.folder}/keys.json"
        self.kubectl.exec(CLIENT, "sh", "-c", script, "sh", place, stdin=json.dumps(keys))

    def __str__(self) -> str:
        return (
            f"{sum(self.done.values())} done, tried again {self.tried_again}, lost {self.lost}, "
            f"longest gap {self.longest_gap_seconds:.2f} s, slowest {self.slowest_seconds:.1f} s"
        )


@contextmanager
def patient_clients(
    kubectl: Kubectl,
    urls: Sequence[str],
    streams: Mapping[str, int],
    *,
    tokens: int,
    keys: Mapping[str, str] | None = None,
    lost_after_seconds: float = 120.0,
) -> Iterator[Patience]:
    """Keeps so many streams per tenant running for as long as the block; each request goes to the next of the URLs."""
    found = Patience(kubectl, f"{_FOLDER}/{uuid.uuid4().hex[:8]}")
    plan = {"urls": urls, "streams": streams, "tokens": tokens, "lost_after_seconds": lost_after_seconds}
    _bring_program(kubectl)
    _write(kubectl, f"{found.folder}/plan.json", json.dumps(plan))
    found.use_keys(keys or {it: key_of(it) for it in streams})
    kubectl.exec(CLIENT, "python", f"{_FOLDER}/program.py", "start", found.folder)
    try:
        yield found
    except BaseException:
        kubectl.exec(CLIENT, "touch", f"{found.folder}/stop")
        raise
    finish = ("python", f"{_FOLDER}/program.py", "finish", found.folder)
    printed = until(lambda: kubectl.exec(CLIENT, *finish), "the clients' result", seconds=lost_after_seconds + 120)
    for name, value in json.loads(printed).items():
        setattr(found, name, value)


@contextmanager
def watched_keys(
    kubectl: Kubectl, addresses: Sequence[str], *, seconds: float = 60.0, **keys: str
) -> Iterator[dict[str, list[float]]]:
    """When each proxy took the key `good` (`taken`) and then refused the key `bad` (`refused`), of which one may be
    left out: seconds since the epoch, in the addresses' order, filled in at the block's end."""
    _bring_program(kubectl)
    plan: dict[str, Any] = {"addresses": addresses, "seconds": seconds, **keys}
    command = kubectl.command("exec", "-i", CLIENT, "--", "python", f"{_FOLDER}/program.py", "keys", json.dumps(plan))
    seen: dict[str, list[float]] = {}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield seen
        except BaseException:
            process.kill()
            raise
        printed, _ = process.communicate(timeout=seconds + 30)
    seen.update(json.loads(printed.splitlines()[-1]))


def _bring_program(kubectl: Kubectl) -> None:
    _write(kubectl, f"{_FOLDER}/program.py", _PROGRAM.read_text())


def _write(kubectl: Kubectl, place: str, text: str) -> None:
    script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
    kubectl.exec(CLIENT, "sh", "-c", script, "sh", place, stdin=text)

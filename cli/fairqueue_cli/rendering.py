"""Has a policy rendered by a process of its own.

What reads policies takes half as long to load as the whole proxy, and as much memory as a third of it. `fairqueue serve
--policy` needs it only now and then: so it starts faster, stays smaller, and no stream waits while a policy is read.
Nothing heavy is imported here, so that the process begins before its parent loads anything itself.
"""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fairqueue_api import Document

TIMEOUT_SECONDS = 60.0
REFUSED = "fairqueue render: "
"""What stands before the reason where a policy can't be used."""


class Rendered(NamedTuple):
    """What a policy has become, and what there is to say of it."""

    document: "Document"
    warnings: list[str]


class Rendering:
    """`fairqueue render` in a process of its own, from the moment when this is made."""

    def __init__(self, policy: Path, secrets: Path | None = None) -> None:
        options = ["--policy", str(policy), *(["--secrets", str(secrets)] if secrets is not None else [])]
        self._process = subprocess.Popen(
            # -P: nothing is imported from whatever folder the command was called in.
            [sys.executable, "-P", "-m", "fairqueue_cli.main", "render", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def result(self) -> Rendered:
        """Waits for it.

        Raises:
            ValueError: the policy can't be used, or not be rendered; the message is for whoever wrote it.
        """
        from fairqueue_api import parse_document

        try:
            output, words = self._process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.give_up()
            raise ValueError("the policy could not be rendered in time: is the disk slow?") from None
        said = words.decode("utf-8", "replace").strip()
        if self._process.returncode == 2:
            raise ValueError(said.removeprefix(REFUSED))
        if self._process.returncode:
            last = said.splitlines()[-1:] or [f"it ended with {self._process.returncode}"]
            raise ValueError(f"the policy could not be rendered: {last[0].strip()}")
        return Rendered(parse_document(output).document, said.splitlines())

    def give_up(self) -> None:
        """Its result is not wanted any more."""
        self._process.kill()
        self._process.communicate()

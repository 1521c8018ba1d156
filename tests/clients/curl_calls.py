"""curl as people type it."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

PATIENCE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Curled:
    """What curl printed, and what it says of the last attempt."""

    body: str
    status: int
    content_type: str
    exit_code: int
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """What the lines of data hold; other lines are left out."""
        data = [line[5:].strip() for line in self.body.splitlines() if line.startswith("data:")]
        return [json.loads(item) if item.startswith("{") else item for item in data]


def curl(url: str, key: str, body: object, *options: str) -> Curled:
    """Posts JSON, or bytes as they are."""
    program = shutil.which("curl")
    assert program is not None, "curl is not installed: these tests need the system's curl"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    command = [program, "--silent", "--show-error", "--no-buffer", url, "--header", f"Authorization: Bearer {key}"]
    command += ["--header", "Content-Type: application/json", "--data-binary", "@-", *options]
    command += ["--write-out", "%{stderr}\n%{http_code} %{content_type}"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    error, _, told = done.stderr.decode().rpartition("\n")
    status, _, content_type = told.partition(" ")
    return Curled(done.stdout.decode(), int(status), content_type, done.returncode, error.strip())

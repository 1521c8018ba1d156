"""Commands that are waited for. Each one dies with the command that waits, whatever it has started itself."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from one_node.errors import NodeError
from one_node.progress import still_at

__all__ = ["finish", "job", "run"]

_QUOTED_LINES = 12
_MOST_OUTPUT_BYTES = 16 * 2**20


def run(argv: Sequence[str | Path], what: str = "", *, stdin: IO[bytes] | None = None, what_to_do: str = "") -> str:
    """The output of a command that takes no time; raises what it said if it fails."""
    given = subprocess.DEVNULL if stdin is None else stdin
    done = subprocess.run(argv, stdin=given, capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise _failure(what or " ".join(map(str, argv)), done.returncode, said, what_to_do)
    return done.stdout.decode(errors="replace")


def job(argv: Sequence[str | Path], *, mounts: Sequence[tuple[Path, Path]] = ()) -> list[str | Path]:
    """Wraps a command so that no process and no mount of it is left when it ends or when we are killed: it has a PID
    and a mount namespace of its own. `mounts` are (from, onto) files and hold for it alone."""
    own = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--kill-child", "--mount-proc"]
    shell = "".join('mount --bind "$1" "$2"; shift 2; ' for _ in mounts)
    return [*own, "sh", "-euc", shell + 'exec "$@"', "sh", *(it for pair in mounts for it in pair), *argv]


def finish(
    argv: Sequence[str | Path],
    what: str,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    expected_lines: int = 0,
    what_to_do: str = "",
) -> None:
    """Waits for a command that takes long, saying every now and then how many of the expected lines it has written."""
    # A file and not a pipe: whoever is to go on without us must not be stopped by having nobody to write to.
    with TemporaryFile() as output:

        def lines() -> list[str]:
            return os.pread(output.fileno(), _MOST_OUTPUT_BYTES, 0).decode(errors="replace").splitlines()

        def how_far() -> str:
            return f", {len(lines())} of about {expected_lines}" if expected_lines else ""

        with still_at(what, how_far):
            code = subprocess.run(
                argv,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code:
            raise _failure(what, code, lines(), what_to_do)


def _failure(what: str, code: int, said: Sequence[str], what_to_do: str) -> NodeError:
    quoted = "\n".join(f"  | {line}" for line in list(said)[-_QUOTED_LINES:])
    hint = f": {what_to_do}" if what_to_do else ""
    return NodeError(f"{what} failed (exit code {code}){hint}" + (f"\n{quoted}" if quoted else ""))

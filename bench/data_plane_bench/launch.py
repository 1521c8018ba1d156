"""Turns into a command that is pinned to a core, goes before others, and ends when the benchmark does.

`python launch.py PARENT_PID CORE COMMAND ARGUMENTS…`: priority and descriptors as far as the system allows.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path

from fairqueue_cli.demo_child import die_with_parent

NICE = -10


def main() -> None:
    parent, core, *command = sys.argv[1:]
    die_with_parent(int(parent))
    os.sched_setaffinity(0, {int(core)})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    # Where each session is scheduled as one, the process's own priority counts within the session only.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICE))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

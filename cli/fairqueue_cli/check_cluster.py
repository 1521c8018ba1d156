"""Checks of what was there before fairqueue: the API server and its version. Pure."""

from typing import Final

from fairqueue_cli.check_lines import Line, failed, passed

OLDEST: Final = (1, 32)


def judge_version(version: tuple[int, int]) -> Line:
    """Kubernetes' own version."""
    if version < OLDEST:
        return failed(f"Kubernetes is {_text(version)}: {_text(OLDEST)} or newer is needed; upgrade the cluster")
    return passed(f"Kubernetes {_text(version)} is {_text(OLDEST)} or newer")


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))

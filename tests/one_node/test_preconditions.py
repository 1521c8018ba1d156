"""A machine that cannot have a node is told in one line what to do."""

from dataclasses import replace
from typing import Any

import pytest

from one_node.preconditions import Machine, reason_against, reason_against_touching

GOOD = Machine(system="Linux", is_root=True, has_apt=True, has_go=True, missing=())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"system": "Darwin"}, "needs Linux and this is Darwin", id="macOS"),
        pytest.param({"is_root": False}, "run this as root", id="not root"),
        pytest.param({"has_go": False}, "needs Go", id="no Go and nothing built"),
        pytest.param(
            {"missing": ("runc", "buildah"), "has_apt": False}, "what Debian calls runc buildah", id="no apt-get"
        ),
        pytest.param({"routes": ("10.77.0.0/16",)}, "a route to 10.77.0.0/16", id="addresses in use"),
    ],
)
def test_one_line_says_what_to_do_and_where_to_go_instead(change: dict[str, Any], says: str) -> None:
    reason = reason_against(replace(GOOD, **change))
    assert reason
    assert says in reason
    assert "docs/e2e.md" in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="all is there"),
        pytest.param({"missing": ("runc",)}, id="what is missing can be installed"),
        pytest.param({"routes": ("default", "192.0.2.0/24")}, id="other routes"),
    ],
)
def test_a_good_machine_is_told_nothing(change: dict[str, Any]) -> None:
    assert reason_against(replace(GOOD, **change)) is None


def test_looking_after_a_node_needs_neither_go_nor_packages() -> None:
    bare = replace(GOOD, has_apt=False, has_go=False, missing=("runc",))
    assert reason_against_touching(bare) is None
    assert reason_against_touching(replace(bare, is_root=False))

"""The command line that the proxy's container gets is one that `fairqueue serve` takes."""

import argparse

import pytest

from fairqueue_cli import serve
from injection.golden_files import Case, cases, patched
from injection.kubernetes_models import Json

CASES = [case for case in cases() if (case.folder / "injected.yaml").exists() and case.folder.name != "disabled"]


def parsed(case: Case) -> argparse.Namespace:
    proxy: Json = patched(case.pod, case.decision())["spec"]["initContainers"][0]
    assert proxy["command"] == ["fairqueue"]
    assert proxy["args"][0] == "serve"
    parser = argparse.ArgumentParser(exit_on_error=False)
    serve.add_arguments(parser)
    return parser.parse_args(proxy["args"][1:])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_serve_takes_the_command_line_of_every_golden_pod(case: Case) -> None:
    (policy,) = (policy for policy in case.policies if policy.metadata.name == case.decision().policy)
    given = parsed(case)
    assert given.engine_kind == policy.spec.engine.kind
    assert str(given.config) == "/etc/fairqueue"
    assert given.engine.startswith("http://127.0.0.1:")

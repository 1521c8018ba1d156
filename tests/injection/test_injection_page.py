"""The page on injection says what the code does: its reasons, labels, annotations, ports and options."""

import pytest

from fairqueue_operator.injection import names, resources
from fairqueue_operator.injection.engine_kinds import ENGINE_KINDS
from injection.golden_files import PAGE, page_with_reasons

TEXT = PAGE.read_text()


def test_the_table_of_reasons_is_the_enumeration() -> None:
    assert page_with_reasons(TEXT) == TEXT, "python tests/injection/golden_files.py writes it anew"


@pytest.mark.parametrize(
    "name",
    [
        *(names.INJECT_LABEL, names.POLICY_LABEL, names.ON_MISSING_POLICY, names.STATUS, names.BOUND_POLICY),
        names.USAGE_VOLUME,
        *(resources.CPU_REQUEST, resources.CPU_LIMIT, resources.MEMORY_REQUEST, resources.MEMORY_LIMIT),
        names.PROXY_CONTAINER,
        names.secret_name("<policy>"),
    ],
)
def test_every_name_that_users_meet_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("kind", sorted(ENGINE_KINDS))
def test_the_page_has_a_row_for_each_kind_with_what_it_is_told_by(kind: str) -> None:
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{kind}` |"))
    known = ENGINE_KINDS[kind]
    for setting in (known.listening.host, known.listening.port):
        for name in (*setting.options, setting.variable):
            assert name is None or f"`{name}`" in row
    assert known.default_port is None or f" {known.default_port}" in row

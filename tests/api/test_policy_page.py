"""The page on the policy file says what the code does: its example, its fields and defaults, its refusals."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from api.policies import EXAMPLE, POLICY_PAGE
from fairqueue_api import SecretDirectory, load_policy, render
from fairqueue_api.models import ApiKeySource, FairnessPolicy, IdentitySource
from fairqueue_api.structure import _FIELDS_NOT_SUPPORTED_YET, _VALUES_NOT_SUPPORTED_YET

PAGE = POLICY_PAGE.read_text()


def leaf_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Path and default, as the table has them, of each field that holds a plain value."""
    for field in model.model_fields.values():
        path, annotation = f"{prefix}{field.alias}", field.annotation
        inner = [argument for argument in (annotation, *get_args(annotation)) if isinstance(argument, type)]
        nested = next((kind for kind in inner if issubclass(kind, BaseModel)), None)
        if nested:
            yield from leaf_fields(nested, f"{path}[]." if get_origin(annotation) is list else f"{path}.")
        elif path != "status":
            default = field.default
            yield (
                path,
                "required" if default is PydanticUndefined else "" if default in (None, [], {}) else f"`{default}`",
            )


def table() -> dict[str, str]:
    rows = re.findall(r"^\| `([\w.\[\]]+)` \| (.+?) \| (.*?) ?\|", PAGE, re.MULTILINE)
    return {path: default for path, _, default in rows}


def test_the_table_has_every_enforced_field_with_its_default() -> None:
    fields = dict(leaf_fields(FairnessPolicy))
    # Required in a source that is written; the table shows the source that is there without any.
    fields |= {"spec.identity.sources[].name": "`api-key`", "spec.identity.sources[].type": "`APIKey`"}
    assert table() == fields


def test_the_default_source_is_the_one_in_the_table() -> None:
    (source,) = FairnessPolicy.model_validate(
        {
            "apiVersion": "fairqueue.dev/v1alpha1",
            "kind": "FairnessPolicy",
            "metadata": {"name": "a"},
            "spec": {"selector": {}, "engine": {"kind": "TGI"}},
        }
    ).spec.identity.sources
    assert source == IdentitySource.model_validate({"name": "api-key", "type": "APIKey", "apiKey": ApiKeySource()})


def test_the_page_shows_the_example_file() -> None:
    assert f"```yaml\n{EXAMPLE.read_text()}```\n" in PAGE


def test_the_page_names_all_that_is_not_supported_yet() -> None:
    section = PAGE.partition("## Not supported yet")[2].partition("\n## ")[0]
    names = {path.rpartition(".")[2] for path in _FIELDS_NOT_SUPPORTED_YET}
    for values in _VALUES_NOT_SUPPORTED_YET.values():
        names |= values
    assert {name for name in names if name not in section} == set()


def test_the_example_runs_with_keys_laid_out_as_the_page_says() -> None:
    for name, entries in {
        "team-a-keys": ["current", "next"],
        "team-a-batch-keys": ["token"],
        "team-b-keys": ["token"],
    }.items():
        Path("secrets", name).mkdir(parents=True)
        for entry in entries:
            Path("secrets", name, entry).write_text(f"{name}-{entry}\n")
    document = render(load_policy(EXAMPLE), SecretDirectory(Path("secrets")))
    assert [(tenant.name, len(tenant.key_digests)) for tenant in document.tenants] == [
        ("team-a", 2),
        ("team-a-batch", 1),
        ("team-b", 1),
    ]

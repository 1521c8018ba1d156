"""What the engine gets of a body under `mode: Observe`: the client's own, asked for token counts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.test_sizes import ROUTES, names, parse, values
from examples import at_most
from fairqueue_proxy.observed import ASKING_FIELDS, asking


@pytest.mark.parametrize(("kind", "path"), ROUTES)
@at_most(8)
@given(body=st.dictionaries(names, values, max_size=5))
def test_only_what_asks_for_counts_differs(kind: str, path: str, body: dict[str, Any]) -> None:
    adapted = parse(kind, path, body).body
    sent = json.dumps(body).encode()
    asked = asking(sent, adapted)
    if json.loads(asked) == body:
        assert asked == sent
    fields, wanted = json.loads(asked), json.loads(adapted)
    assert {name: fields[name] for name in fields.keys() - ASKING_FIELDS} == {
        name: body[name] for name in body.keys() - ASKING_FIELDS
    }
    assert {name: fields.get(name) for name in ASKING_FIELDS} == {name: wanted.get(name) for name in ASKING_FIELDS}


@pytest.mark.parametrize("body", [b"--boundary", b"", b"\xff\xfe", b"[1]"])
def test_what_is_no_object_goes_out_as_it_is(body: bytes) -> None:
    assert asking(body, body) == body

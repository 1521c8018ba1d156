"""The patch between two JSON values, applied by a library that knows nothing of how it was made."""

import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairqueue_operator.injection.json_patch import make_patch

_plain = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"])
_keys = st.sampled_from(["a", "b", "a/b", "~", "~1", "", "0"])
_json = st.recursive(_plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3))


@given(before=_json, after=_json)
@example(before=[1], after=[True])
def test_a_patch_leads_from_one_value_to_the_other(before: Any, after: Any) -> None:
    patched = jsonpatch.JsonPatch(list(make_patch(before, after))).apply(before)
    # As text: in Python, True is 1.
    assert json.dumps(patched, sort_keys=True) == json.dumps(after, sort_keys=True)


@given(value=_json)
def test_no_change_is_no_patch(value: Any) -> None:
    assert make_patch(value, value) == ()


def test_a_patch_touches_what_changes_in_the_order_of_the_keys() -> None:
    before = {"b": [{"x": 1}, {"x": 2}], "a": {"gone": 1, "same": []}, "c": ["p"]}
    after = {"b": [{"x": 1}, {"x": 3}], "a": {"same": [], "new/~": 1}, "c": ["p", "q"]}
    assert make_patch(before, after) == (
        {"op": "remove", "path": "/a/gone"},
        {"op": "add", "path": "/a/new~1~0", "value": 1},
        {"op": "replace", "path": "/b/1/x", "value": 3},
        {"op": "replace", "path": "/c", "value": ["p", "q"]},
    )


def test_the_library_cannot_make_this_patch_and_we_can() -> None:
    """Where it can, there is a module less to keep: see `json_patch`."""
    hidden = {"name": "PORT", "valueFrom": {}}
    shown = {"name": "PORT", "value": "1"}
    before, after = [hidden, hidden, {"name": "A"}], [shown, shown, {"name": "A"}, {"name": "B"}]
    assert jsonpatch.JsonPatch(list(make_patch(before, after))).apply(before) == after
    with pytest.raises(jsonpatch.JsonPatchException):
        jsonpatch.make_patch(before, after).apply(before)

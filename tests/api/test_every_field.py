"""Every field of the CRD works or is refused: for each a test is named that shows it, or that it is not supported yet.

The table is held against the generated schema, and each test that it names against the file that should have it.
Whoever adds a field adds a line here.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fairqueue_api.crd import schema
from fairqueue_api.reference import is_supported

ROOT = Path(__file__).parents[2]
NOT_SUPPORTED_YET = "not supported yet"

# Test files that are still to be written. Such a file may be named without a test in it, until it is there.
PLANNED = {
    "tests/proxy/test_identity_sources.py",
    "tests/proxy/test_observe.py",
    "tests/proxy/test_policy_fields.py",
    "tests/proxy/test_reload.py",
    "tests/proxy/test_users.py",
    "tests/proxy/test_waiting.py",
}

ACCEPTED = "tests/api/test_structure.py::test_a_well_formed_field_is_accepted"
REFUSED = "tests/api/test_structure.py::test_an_ill_formed_field_is_refused_with_its_path_and_the_fix"
RULES = "tests/api/test_rules.py::test_a_policy_that_keeps_the_rule_is_accepted_here_and_by_the_api_server"
STATUS = "tests/api/test_structure.py::test_other_metadata_and_the_status_are_passed_over"
BOUNDS = "tests/proxy/test_bounds.py"
SHARES = "tests/fairness/test_shares_through_the_proxy.py"
IDENTITY = "tests/proxy/test_identity_sources.py"
FIELDS = "tests/proxy/test_policy_fields.py"
USERS = "tests/proxy/test_users.py"
KEYS = "tests/proxy/test_identity_and_routes.py"

TESTS = {
    # For the injector, which is not there yet: here they are read and held within their bounds.
    "spec.selector.matchLabels": REFUSED,
    "spec.selector.matchExpressions[].key": RULES,
    "spec.selector.matchExpressions[].operator": RULES,
    "spec.selector.matchExpressions[].values": ACCEPTED,
    "spec.engine.container": REFUSED,
    "spec.engine.port": "tests/api/test_rendering.py::test_every_other_field_reaches_the_document_too",
    "spec.engine.listen.hostEnv": REFUSED,
    "spec.engine.listen.portEnv": ACCEPTED,
    "spec.engine.listen.hostArg": ACCEPTED,
    "spec.engine.listen.portArg": ACCEPTED,
    "spec.injection.mode": ACCEPTED,
    # For the proxy.
    "spec.engine.kind": "tests/proxy/test_hangups.py::"
    "test_a_plain_reply_of_an_engine_that_does_not_stop_is_read_to_its_end_for_nobody",
    "spec.engine.apiKeySecretRef.name": IDENTITY,
    "spec.engine.apiKeySecretRef.key": IDENTITY,
    "spec.mode": "tests/proxy/test_observe.py",
    "spec.identity.onUnidentified": IDENTITY,
    "spec.identity.sources[].name": IDENTITY,
    "spec.identity.sources[].type": IDENTITY,
    "spec.identity.sources[].apiKey.header": f"{KEYS}::"
    "test_the_first_header_that_is_there_decides_in_the_policys_order",
    "spec.identity.sources[].jwt.issuer": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.audiences": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.jwksURI": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.tenantClaim": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.userClaim": NOT_SUPPORTED_YET,
    "spec.identity.sources[].serviceAccount.audiences": NOT_SUPPORTED_YET,
    "spec.identity.sources[].header.name": IDENTITY,
    "spec.identity.sources[].header.trustedCIDRs": IDENTITY,
    "spec.groups[].name": "tests/proxy/test_metrics.py::test_gap_and_bound_are_shown_for_the_root_and_for_each_group",
    "spec.groups[].parent": FIELDS,
    "spec.groups[].weight": FIELDS,
    "spec.tenants[].name": f"{KEYS}::test_a_reply_says_whose_it_was_and_how_long_it_waited",
    "spec.tenants[].group": "tests/proxy/test_admin.py::test_behind_names_groups_as_well_as_tenants",
    "spec.tenants[].weight": f"{SHARES}::test_weights_1_and_3_share_1_to_3",
    "spec.tenants[].fairWithin": USERS,
    "spec.tenants[].apiKeySecretRefs[].name": f"{KEYS}::test_a_reply_says_whose_it_was_and_how_long_it_waited",
    "spec.tenants[].apiKeySecretRefs[].key": f"{KEYS}::test_a_reply_says_whose_it_was_and_how_long_it_waited",
    "spec.tenants[].subjects[].source": IDENTITY,
    "spec.tenants[].subjects[].value": IDENTITY,
    "spec.tenants[].limits.maxInFlight": f"{SHARES}::test_a_tenant_capped_at_one_in_flight_costs_the_others_nothing",
    "spec.tenants[].limits.maxQueued": f"{BOUNDS}::"
    "test_a_tenant_over_its_own_bound_gets_429_and_is_told_when_to_come_again",
    "spec.tenants[].limits.tokensPerMinute": USERS,
    "spec.anonymous.weight": IDENTITY,
    "spec.anonymous.perIdentity": IDENTITY,
    "spec.anonymous.limits.maxInFlight": IDENTITY,
    "spec.anonymous.limits.maxQueued": IDENTITY,
    "spec.anonymous.limits.tokensPerMinute": IDENTITY,
    "spec.cost.type": FIELDS,
    "spec.cost.inputToken": FIELDS,
    "spec.cost.outputToken": FIELDS,
    "spec.cost.request": FIELDS,
    "spec.cost.cachedInputPercent": FIELDS,
    "spec.cost.prediction": FIELDS,
    "spec.cost.quadratic.inputInputPerMillion": FIELDS,
    "spec.cost.quadratic.inputOutputPerMillion": FIELDS,
    "spec.cost.quadratic.outputOutputPerMillion": FIELDS,
    "spec.queue.maxRequests": f"{BOUNDS}::"
    "test_of_a_full_pod_the_newest_request_of_who_has_most_gives_way_to_the_arrival",
    "spec.queue.maxRequestsPerTenant": FIELDS,
    "spec.queue.maxBytes": f"{BOUNDS}::test_a_flood_of_bytes_gives_way_even_while_it_is_still_being_sent",
    "spec.queue.maxBytesPerTenant": f"{BOUNDS}::test_a_tenant_over_its_bytes_gets_429_while_it_still_sends",
    "spec.queue.maxBodyBytes": "tests/proxy/test_bodies.py::test_a_body_over_the_limit_is_413_before_it_is_read",
    "spec.queue.holdHeaders": "tests/proxy/test_waiting.py",
    "spec.queue.timeout": f"{BOUNDS}::test_who_waits_too_long_gets_504_and_is_told_not_to_try_again",
    "spec.backpressure.maxRequests": "tests/proxy/test_metrics.py::test_a_limit_names_where_it_comes_from",
    "spec.backpressure.maxTokens": "tests/proxy/test_admin.py::test_an_empty_queue_shows_the_budgets",
    "spec.backpressure.maxPrefillTokens": FIELDS,
    "spec.backpressure.scrapeInterval": "tests/proxy/test_reload.py",
    "spec.drain.timeout": "tests/proxy/test_draining_proxy.py::"
    "test_when_the_window_is_over_who_waits_is_refused_and_who_is_in_the_engine_is_not",
    # Written by the operator, which is not there yet: whatever is in them is passed over.
    "status.observedGeneration": STATUS,
    "status.configRevision": STATUS,
    "status.tenants": STATUS,
    "status.pods.matched": STATUS,
    "status.pods.unlabelled": STATUS,
    "status.pods.injected": STATUS,
    "status.pods.current": STATUS,
    "status.conditions[].type": STATUS,
    "status.conditions[].status": STATUS,
    "status.conditions[].observedGeneration": STATUS,
    "status.conditions[].lastTransitionTime": STATUS,
    "status.conditions[].reason": STATUS,
    "status.conditions[].message": STATUS,
}


def leaves(node: dict[str, Any], place: str) -> Iterator[str]:
    """Every field that holds a plain value, or a list or map of them."""
    if node["type"] == "array" and node["items"]["type"] == "object":
        yield from leaves(node["items"], f"{place}[]")
    elif "properties" in node:
        for name, below in node["properties"].items():
            yield from leaves(below, f"{place}.{name}")
    else:
        yield place


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_the_table_has_every_field_of_the_schema_and_no_other() -> None:
    fields = {place for part in ("spec", "status") for place in leaves(schema()["properties"][part], part)}
    assert set(TESTS) == fields


def test_what_the_table_calls_not_supported_yet_is_what_is_refused() -> None:
    refused = {field for field in TESTS if not is_supported(field)}
    assert {field for field, test in TESTS.items() if test == NOT_SUPPORTED_YET} == refused


@pytest.mark.parametrize("field", sorted(field for field, test in TESTS.items() if test != NOT_SUPPORTED_YET))
def test_the_test_that_shows_the_field_is_there(field: str) -> None:
    file, _, name = TESTS[field].partition("::")
    if file in PLANNED:
        assert not name, f"{file} is there: take it out of PLANNED"
        return
    assert name in names_in(file), f"name the test of {file} that shows {field}"
    assert field.rpartition(".")[2] in (ROOT / file).read_text(), f"{file} does not speak of {field}"


@pytest.mark.parametrize("file", sorted(PLANNED))
def test_a_planned_file_is_not_there_yet(file: str) -> None:
    assert not (ROOT / file).exists(), f"take {file} out of PLANNED and name its tests in the table"


def test_nothing_is_planned_that_no_field_waits_for() -> None:
    assert {file for file in TESTS.values() if "::" not in file} - {NOT_SUPPORTED_YET} == PLANNED

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

ACCEPTED = "tests/api/test_structure.py::test_a_well_formed_field_is_accepted"
REFUSED = "tests/api/test_structure.py::test_an_ill_formed_field_is_refused_with_its_path_and_the_fix"
RULES = "tests/api/test_rules.py::test_a_policy_that_keeps_the_rule_is_accepted_here_and_by_the_api_server"
STATUS = "tests/api/test_structure.py::test_other_metadata_and_the_status_are_passed_over"
BOUNDS = "tests/proxy/test_bounds.py"
SHARES = "tests/fairness/test_shares_through_the_proxy.py"
IDENTITY = "tests/proxy/test_identity_sources.py"
FIELDS = "tests/proxy/test_policy_fields.py"
USERS = "tests/proxy/test_users.py"
USERS_LIMITS = "tests/proxy/test_users_limits.py"
ENGINE_KEY = "tests/proxy/test_engine_key.py"
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
    "spec.engine.apiKeySecretRef.name": f"{ENGINE_KEY}::test_the_engine_sees_its_own_key_and_never_the_clients",
    "spec.engine.apiKeySecretRef.key": f"{ENGINE_KEY}::test_the_engine_sees_its_own_key_and_never_the_clients",
    "spec.mode": "tests/proxy/test_observe.py::test_nobody_waits_and_nobody_is_refused_for_want_of_room",
    "spec.identity.onUnidentified": f"{IDENTITY}::test_a_wrong_key_is_401_whatever_becomes_of_those_without_one",
    "spec.identity.sources[].name": f"{IDENTITY}::test_each_source_has_its_own_ranges_and_its_own_subjects",
    "spec.identity.sources[].type": f"{IDENTITY}::test_the_first_source_that_yields_an_identity_wins",
    "spec.identity.sources[].apiKey.header": f"{KEYS}::"
    "test_the_first_header_that_is_there_decides_in_the_policys_order",
    "spec.identity.sources[].jwt.issuer": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.audiences": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.jwksURI": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.tenantClaim": NOT_SUPPORTED_YET,
    "spec.identity.sources[].jwt.userClaim": NOT_SUPPORTED_YET,
    "spec.identity.sources[].serviceAccount.audiences": NOT_SUPPORTED_YET,
    "spec.identity.sources[].header.name": f"{IDENTITY}::test_each_source_has_its_own_ranges_and_its_own_subjects",
    "spec.identity.sources[].header.trustedCIDRs": f"{IDENTITY}::test_a_header_is_believed_from_peers_in_the_sources_ranges_only",
    "spec.groups[].name": "tests/proxy/test_metrics.py::test_gap_and_bound_are_shown_for_the_root_and_for_each_group",
    "spec.groups[].parent": f"{FIELDS}::test_groups_share_by_their_weights_whatever_is_below_them",
    "spec.groups[].weight": f"{FIELDS}::test_groups_share_by_their_weights_whatever_is_below_them",
    "spec.tenants[].name": f"{KEYS}::test_a_reply_says_whose_it_was_and_how_long_it_waited",
    "spec.tenants[].group": "tests/proxy/test_admin.py::test_behind_names_groups_as_well_as_tenants",
    "spec.tenants[].weight": f"{SHARES}::test_weights_1_and_3_share_1_to_3",
    "spec.tenants[].fairWithin": f"{USERS}::test_two_users_of_a_tenant_take_turns_though_one_floods",
    "spec.tenants[].apiKeySecretRefs[].name": f"{KEYS}::test_a_reply_says_whose_it_was_and_how_long_it_waited",
    "spec.tenants[].apiKeySecretRefs[].key": f"{KEYS}::test_a_reply_says_whose_it_was_and_how_long_it_waited",
    "spec.tenants[].subjects[].source": f"{IDENTITY}::test_each_source_has_its_own_ranges_and_its_own_subjects",
    "spec.tenants[].subjects[].value": f"{IDENTITY}::test_an_identity_is_a_tenants_only_as_the_policy_writes_it",
    "spec.tenants[].limits.maxInFlight": f"{SHARES}::test_a_tenant_capped_at_one_in_flight_costs_the_others_nothing",
    "spec.tenants[].limits.maxQueued": f"{BOUNDS}::"
    "test_a_tenant_over_its_own_bound_gets_429_and_is_told_when_to_come_again",
    "spec.tenants[].limits.tokensPerMinute": f"{USERS_LIMITS}::test_members_wait_until_what_another_has_overdrawn_is_paid",
    "spec.anonymous.weight": f"{FIELDS}::test_the_anonymous_class_has_the_weight_that_the_policy_gives_it",
    "spec.anonymous.perIdentity": f"{USERS}::test_identities_without_a_tenant_share_as_the_policy_says",
    "spec.anonymous.limits.maxInFlight": f"{USERS_LIMITS}::test_all_members_of_a_class_have_no_more_in_flight_than_its_limit",
    "spec.anonymous.limits.maxQueued": f"{USERS_LIMITS}::test_all_members_of_a_class_wait_within_its_bound",
    "spec.anonymous.limits.tokensPerMinute": f"{USERS_LIMITS}::test_members_wait_until_what_another_has_overdrawn_is_paid",
    "spec.cost.type": f"{FIELDS}::test_a_request_costs_what_the_policy_says",
    "spec.cost.inputToken": f"{FIELDS}::test_a_request_costs_what_the_policy_says",
    "spec.cost.outputToken": f"{FIELDS}::test_a_request_costs_what_the_policy_says",
    "spec.cost.request": f"{FIELDS}::test_a_request_costs_what_the_policy_says",
    "spec.cost.cachedInputPercent": "tests/proxy/test_cached_prompts.py::test_a_plain_reply_is_charged_what_its_prompt_costs_at_the_end",
    "spec.cost.prediction": f"{FIELDS}::test_what_is_reserved_at_the_start_is_the_policys_prediction",
    "spec.cost.quadratic.inputInputPerMillion": f"{FIELDS}::test_a_request_costs_what_the_policy_says",
    "spec.cost.quadratic.inputOutputPerMillion": f"{FIELDS}::test_a_request_costs_what_the_policy_says",
    "spec.cost.quadratic.outputOutputPerMillion": f"{FIELDS}::test_a_request_costs_what_the_policy_says",
    "spec.queue.maxRequests": f"{BOUNDS}::"
    "test_of_a_full_pod_the_newest_request_of_who_has_most_gives_way_to_the_arrival",
    "spec.queue.maxRequestsPerTenant": f"{FIELDS}::test_no_tenant_queues_more_than_each_of_them_may",
    "spec.queue.maxBytes": f"{BOUNDS}::test_a_flood_of_bytes_gives_way_even_while_it_is_still_being_sent",
    "spec.queue.maxBytesPerTenant": f"{BOUNDS}::test_a_tenant_over_its_bytes_gets_429_while_it_still_sends",
    "spec.queue.maxBodyBytes": "tests/proxy/test_bodies.py::test_a_body_over_the_limit_is_413_before_it_is_read",
    "spec.queue.holdHeaders": "tests/proxy/test_waiting.py::test_a_stream_that_waits_gets_200_and_comments_and_later_the_engines_bytes",
    "spec.queue.timeout": f"{BOUNDS}::test_who_waits_too_long_gets_504_and_is_told_not_to_try_again",
    "spec.backpressure.maxRequests": "tests/proxy/test_metrics.py::test_a_limit_names_where_it_comes_from",
    "spec.backpressure.maxTokens": "tests/proxy/test_admin.py::test_an_empty_queue_shows_the_budgets",
    "spec.backpressure.maxPrefillTokens": f"{FIELDS}::test_no_more_prompts_are_read_at_once_than_fit",
    "spec.backpressure.scrapeInterval": "tests/proxy/test_engine_watch.py::test_the_engine_is_never_looked_at_more_often_than_the_policys_scrape_interval",
    "spec.drain.timeout": "tests/proxy/test_draining_proxy.py::"
    "test_when_the_window_is_over_who_waits_is_refused_and_who_is_in_the_engine_is_not",
    # Written by the operator, which is not there yet: whatever is in them is passed over.
    "status.observedGeneration": STATUS,
    "status.configRevision": STATUS,
    "status.tenants": STATUS,
    "status.pods.matched": STATUS,
    "status.pods.unlabelled": STATUS,
    "status.pods.injected": STATUS,
    "status.pods.started": STATUS,
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
    assert name in names_in(file), f"name the test of {file} that shows {field}"
    assert field.rpartition(".")[2] in (ROOT / file).read_text(), f"{file} does not speak of {field}"

"""Whether a policy is accepted, what is said if not, and which document is left or put in force."""

import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_api import digest, parse_document
from fairqueue_operator.planning.judging import Judgement, access_denied, judge
from fairqueue_operator.planning.pod_facts import PodFacts
from fairqueue_operator.planning.policy_facts import PolicyFacts
from fairqueue_operator.planning.secrets_view import Denied, LabelledSecret, Open, SecretsView, Unknown
from planning.making import KEYS, api_keys, open_view, pod, policy, tenants

TWO = tenants("chat", "batch")
WITH_ENGINE_KEY = {"kind": "VLLM", "apiKeySecretRef": {"name": "engine", "key": "token"}}
JWT = {"name": "jwt", "type": "JWT", "jwt": {"issuer": "https://i", "audiences": ["a"], "tenantClaim": "t"}}


def judged(
    of: PolicyFacts | None = None,
    *rivals: PolicyFacts,
    pods: tuple[PodFacts, ...] = (),
    secrets: SecretsView | None = None,
    stored: str | None = None,
) -> Judgement:
    of = of or policy(tenants=TWO)
    return judge(of, [of, *rivals], pods, open_view() if secrets is None else secrets, stored)


def said(judgement: Judgement) -> tuple[str, str]:
    return judgement.accepted.status, judgement.accepted.reason


def stored_document(**data: bytes) -> str:
    document = judged(secrets=open_view(**data)).document
    assert document is not None
    return document


def digests(document: str | None) -> list[list[str]]:
    assert document is not None
    return [tenant["key_digests"] for tenant in json.loads(document)["tenants"]]


def test_a_policy_in_order_is_accepted_with_its_document() -> None:
    judgement = judged()
    assert said(judgement) == ("True", "Accepted")
    assert judgement.accepted.message == "The policy and its keys are in order."
    assert judgement.tenants == 2
    assert digests(judgement.document) == [[digest(b"batch-key")], [digest(b"chat-key")]]
    assert judgement.document is not None
    document = parse_document(judgement.document.encode()).document
    assert (document.policy, document.revision) == ("team/chat", judgement.revision)


def test_the_document_is_in_no_repr() -> None:
    secrets = Open({"engine": LabelledSecret(False, True, {"token": b"engine-key"})})
    judgement = judged(policy(engine=WITH_ENGINE_KEY), secrets=secrets)
    assert "engine-key" in (judgement.document or "")
    assert "engine-key" not in repr(judgement)


def test_what_an_accepted_policy_should_think_over_is_said() -> None:
    gateway = {"name": "gateway", "type": "Header", "header": {"name": "x-tenant", "trustedCIDRs": ["0.0.0.0/0"]}}
    judgement = judged(policy(identity={"sources": [gateway]}))
    assert said(judgement) == ("True", "Accepted")
    assert judgement.accepted.message.startswith(
        "The policy and its keys are in order. But spec.identity.sources[0].header.trustedCIDRs[0]: trusts every"
    )


def test_a_policy_that_breaks_rules_is_invalid_and_told_all_of_them() -> None:
    judgement = judged(policy(tenants=[{"name": "other"}, {"name": "a", "group": "nowhere"}]))
    assert said(judgement) == ("False", "Invalid")
    assert judgement.accepted.message.count("spec.tenants[") == 2
    assert (judgement.document, judgement.revision, judgement.tenants) == (None, "", 2)


def test_a_policy_of_a_newer_schema_is_invalid() -> None:
    judgement = judged(policy(fromTheFuture=1))
    assert said(judgement) == ("False", "Invalid")
    assert judgement.accepted.message.startswith("spec.fromTheFuture: ")
    assert judgement.tenants is None


def test_a_policy_that_asks_for_what_is_not_there_yet_is_not_supported() -> None:
    judgement = judged(policy(identity={"sources": [JWT]}))
    assert said(judgement) == ("False", "NotSupported")
    assert "JWT is not supported yet" in judgement.accepted.message


def test_a_policy_that_is_wrong_besides_is_invalid() -> None:
    assert said(judged(policy(identity={"sources": [JWT]}, tenants=[{"name": "other"}]))) == ("False", "Invalid")


def test_ever_so_many_problems_are_cut_to_what_a_condition_holds() -> None:
    subjects = [{"source": "nowhere", "value": f"v{index}"} for index in range(32)]
    message = judged(
        policy(tenants=[{"name": f"t{index}", "subjects": subjects} for index in range(256)])
    ).accepted.message
    assert 32_000 < len(message.encode()) <= 32_768
    assert message.endswith("…")


def test_a_secret_that_is_not_there_is_one_problem_with_the_commands_that_mend_it() -> None:
    judgement = judged(secrets=Open({}))
    assert said(judgement) == ("False", "UnresolvedSecret")
    assert judgement.accepted.message == (
        "Secret keys: is not there or has not the label fairqueue.dev/api-keys: "
        "kubectl -n team create secret generic keys --from-file=batch=FILE --from-file=chat=FILE; "
        "kubectl -n team label secret keys fairqueue.dev/api-keys=true, or mend spec.tenants[0].apiKeySecretRefs[0]"
    )


def test_each_missing_entry_is_said() -> None:
    message = judged(secrets=open_view(other=b"k")).accepted.message
    assert "has no entry chat" in message
    assert "has no entry batch" in message


def test_a_key_of_two_tenants_is_unresolved_and_not_repeated() -> None:
    judgement = judged(secrets=open_view(chat=b"same-key", batch=b"same-key"))
    assert said(judgement) == ("False", "UnresolvedSecret")
    assert judgement.accepted.message == (
        "spec.tenants[1].apiKeySecretRefs[0]: holds the same key as spec.tenants[0].apiKeySecretRefs[0]: "
        "give each tenant keys of its own"
    )


@pytest.mark.parametrize(
    "engine", [LabelledSecret(True, False, {"token": b"k"}), None], ids=["a Secret of clients' keys", "no Secret"]
)
def test_the_engines_key_comes_from_secrets_for_engines_only(engine: LabelledSecret | None) -> None:
    secrets = Open({} if engine is None else {"engine": engine})
    judgement = judged(policy(engine=WITH_ENGINE_KEY), secrets=secrets)
    assert said(judgement) == ("False", "UnresolvedSecret")
    assert "has not the label fairqueue.dev/engine-key" in judgement.accepted.message


def test_clients_keys_do_not_come_from_secrets_for_engines() -> None:
    judgement = judged(secrets=Open({"keys": LabelledSecret(False, True, KEYS)}))
    assert said(judgement) == ("False", "UnresolvedSecret")


def test_without_the_grant_the_command_is_said() -> None:
    judgement = judged(secrets=Denied("GET secrets: 403"))
    assert said(judgement) == ("False", "SecretAccessDenied")
    assert judgement.accepted.message == (
        "The operator has no right to the Secrets of namespace team (GET secrets: 403): "
        "kubectl apply -k manifests/overlays/tenant-namespace -n team"
    )
    assert judgement.accepted == access_denied("team", "GET secrets: 403")


def test_while_secrets_are_not_known_a_policy_that_needs_them_is_pending() -> None:
    assert said(judged(secrets=Unknown())) == ("Unknown", "Pending")
    assert said(judged(policy(engine=WITH_ENGINE_KEY), secrets=Unknown())) == ("Unknown", "Pending")


@pytest.mark.parametrize("secrets", [Unknown(), Denied("403")])
def test_a_policy_without_keys_needs_no_secrets(secrets: SecretsView) -> None:
    judgement = judged(policy(tenants=[{"name": "a"}]), secrets=secrets)
    assert said(judgement) == ("True", "Accepted")
    assert judgement.document is not None


OLD, NEW = policy("old", "2026-11-01T09:00:00Z"), policy("new", "2026-11-01T10:00:00Z")


def test_of_two_policies_that_select_a_pod_the_newer_is_conflicted() -> None:
    judgement = judged(NEW, OLD, pods=(pod("llm-2"), pod("llm-1")))
    assert said(judgement) == ("False", "Conflicted")
    assert judgement.accepted.message == (
        "Policy old, which is older, selects pod llm-1 too: write fairqueue.dev/policy: new or old into the labels of "
        "the pod template, or narrow a selector: kubectl -n team edit fpol new"
    )
    assert said(judged(OLD, NEW, pods=(pod(),))) == ("True", "Accepted")


def test_the_pod_and_the_policy_that_quarrel_are_named_among_others() -> None:
    web = policy("web", "2026-11-01T08:00:00Z", selector={"matchLabels": {"app": "web"}})
    wide = policy(
        "wide", selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]}, created="2026-11-01T11:00:00Z"
    )
    found = pod("a", {"app": "db"}), pod("b", {"app": "web"}), pod("c")
    assert judged(wide, OLD, web, pods=found).accepted.message.startswith(
        "Policy web, which is older, selects pod b too"
    )


def test_an_older_policy_that_cannot_be_read_is_in_the_way_too() -> None:
    """The injector would deny the pod for its sake."""
    older = policy("old", "2026-11-01T09:00:00Z", fromTheFuture=1)
    assert said(judged(NEW, older, pods=(pod(),))) == ("False", "Conflicted")


@pytest.mark.parametrize(
    "found",
    [
        pod(labels={"fairqueue.dev/policy": "new"}),
        pod(labels={"fairqueue.dev/inject": "false"}),
        pod(labels={"app": "web"}),
    ],
    ids=["says whose it is", "does not ask", "is not selected"],
)
def test_a_pod_that_no_two_policies_quarrel_about_makes_no_conflict(found: PodFacts) -> None:
    assert said(judged(NEW, OLD, pods=(found,))) == ("True", "Accepted")


def test_overlapping_selectors_without_a_pod_are_no_conflict() -> None:
    assert said(judged(NEW, OLD)) == ("True", "Accepted")


def test_a_policy_that_is_not_accepted_leaves_its_document_as_it_is() -> None:
    stored = stored_document()
    judgement = judged(policy(tenants=[{"name": "other"}]), stored=stored)
    assert judgement.document is None
    assert judgement.revision == json.loads(stored)["revision"]


def test_a_deleted_secrets_keys_are_taken_out_of_the_document() -> None:
    judgement = judged(secrets=Open({}), stored=stored_document())
    assert said(judgement) == ("False", "UnresolvedSecret")
    assert digests(judgement.document) == [[], []]
    assert judgement.revision == json.loads(judgement.document or "")["revision"]


def test_a_key_that_another_secret_still_has_stays() -> None:
    secrets = Open({"elsewhere": api_keys(x=b"chat-key")})
    assert digests(judged(secrets=secrets, stored=stored_document()).document) == [[], [digest(b"chat-key")]]


def test_a_key_is_revoked_while_the_policy_is_wrong_for_another_reason() -> None:
    judgement = judged(
        policy(tenants=[{"name": "other"}]), secrets=open_view(batch=b"batch-key"), stored=stored_document()
    )
    assert said(judgement) == ("False", "Invalid")
    assert digests(judgement.document) == [[digest(b"batch-key")], []]


def test_an_entry_that_is_no_key_any_more_revokes_the_key_that_was_there() -> None:
    judgement = judged(secrets=open_view(batch=b"batch-key", chat=b""), stored=stored_document())
    assert digests(judgement.document) == [[digest(b"batch-key")], []]


@pytest.mark.parametrize("secrets", [Unknown(), Denied("403")])
def test_secrets_that_cannot_be_read_are_not_deleted(secrets: SecretsView) -> None:
    stored = stored_document()
    judgement = judged(secrets=secrets, stored=stored)
    assert judgement.document is None
    assert judgement.revision == json.loads(stored)["revision"]


@pytest.mark.parametrize("stored", ["", "{}", '{"schema":2}', "\x00"])
def test_a_stored_document_that_cannot_be_read_is_as_none(stored: str) -> None:
    judgement = judged(secrets=Open({}), stored=stored)
    assert (judgement.document, judgement.revision) == (None, "")


ENTRIES = st.dictionaries(
    st.sampled_from(["chat", "batch", "x"]), st.sampled_from([b"chat-key", b"batch-key", b"z", b""])
)
VIEWS: st.SearchStrategy[Any] = st.one_of(
    st.just(Unknown()),
    st.just(Denied("403")),
    st.dictionaries(
        st.sampled_from(["keys", "more"]), st.builds(LabelledSecret, st.booleans(), st.booleans(), ENTRIES)
    ).map(Open),
)


@given(VIEWS, st.sampled_from([TWO, [{"name": "other"}]]), st.booleans())
def test_judging_again_what_it_has_stored_changes_nothing(secrets: SecretsView, spec: Any, has_stored: bool) -> None:
    """And without acceptance no key comes into force that was not in force."""
    stored = stored_document() if has_stored else None
    first = judged(policy(tenants=spec), secrets=secrets, stored=stored)
    after = stored if first.document is None else first.document
    again = judged(policy(tenants=spec), secrets=secrets, stored=after)
    assert again.accepted == first.accepted
    assert again.revision == first.revision
    assert again.document in (None, after)
    assert (after is None) == (first.revision == "")
    if not first.accepted.holds and after is not None and stored is not None:
        assert set(chain(*digests(after))) <= set(chain(*digests(stored)))

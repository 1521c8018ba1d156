"""The operator's calls to the API server, over real HTTP: what is sent, and what is made of each answer."""

from typing import Any

import pytest
from aiohttp import web

from fairqueue_api.models import LabelExpression, Selector
from fairqueue_operator.cluster_model import (
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    StoredDocument,
    StoredLease,
    Unauthenticated,
)
from fairqueue_operator.operator_cluster import OperatorCluster
from fairqueue_operator.selector_query import query_of
from injector.api_server import refusing
from injector.conftest import policy
from operating.storing_api_server import StoringApiServer

DOCUMENT = "/api/v1/namespaces/team/secrets/chat-fairqueue"
STATUS = "/apis/fairqueue.dev/v1alpha1/namespaces/team/fairnesspolicies/chat"
POD = "/api/v1/namespaces/team/pods/llm-0"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/system/leases/operator"
SELECTOR = Selector(matchLabels={"app": "llm"})
SPEC = {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 2}


async def test_it_says_that_it_is_the_operator(server: StoringApiServer, cluster: OperatorCluster) -> None:
    await cluster.list_policies()
    assert server.requests[0].headers["User-Agent"] == "fairqueue-operator"


async def test_a_document_is_applied_under_our_name_for_the_policy_to_own(
    server: StoringApiServer, cluster: OperatorCluster
) -> None:
    stored = await cluster.apply_document("team", "chat", "uid-1", '{"schema": 1}')
    seen = server.requests[-1]
    assert (seen.method, seen.path, seen.headers["Content-Type"]) == ("PATCH", DOCUMENT, "application/apply-patch+yaml")
    assert seen.query == {"fieldManager": "fairqueue-operator", "force": "true"}
    assert seen.body["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "fairqueue"}
    assert seen.body["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "fairqueue.dev/v1alpha1",
            "kind": "FairnessPolicy",
            "name": "chat",
            "uid": "uid-1",
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]
    assert seen.body["data"].keys() == {"document.json"}
    assert stored == StoredDocument('{"schema": 1}', ("uid-1",), "101")
    assert await cluster.read_document("team", "chat") == stored


async def test_what_is_stored_may_be_nothing_or_not_ours(server: StoringApiServer, cluster: OperatorCluster) -> None:
    assert await cluster.read_document("team", "chat") is None
    server.put_secret("chat-fairqueue", other=b"x")
    assert await cluster.read_document("team", "chat") == StoredDocument(None, (), "101", is_ours=False)
    server.put_secret("chat-fairqueue", **{"document.json": b"\xff"})
    found = await cluster.read_document("team", "chat")
    assert found is not None
    assert found.text == "\ufffd"


async def test_of_a_document_nothing_is_shown(server: StoringApiServer, cluster: OperatorCluster) -> None:
    stored = await cluster.apply_document("team", "chat", "uid-1", "hunter2")
    assert "hunter2" not in repr(stored)
    server.script["PATCH", DOCUMENT] = [refusing(422, "Invalid value: hunter2")]
    with pytest.raises(ClusterError, match=f"^PATCH {DOCUMENT}: 422$"):
        await cluster.apply_document("team", "chat", "uid-1", "hunter2")


async def test_without_a_grant_documents_and_secrets_are_forbidden(
    server: StoringApiServer, cluster: OperatorCluster
) -> None:
    server.grant("team", given=False)
    for call in (
        cluster.read_document("team", "chat"),
        cluster.apply_document("team", "chat", "uid-1", "x"),
        cluster.list_secrets("team"),
        anext(cluster.watch_secrets("team", "1", 60)),
    ):
        with pytest.raises(Forbidden):
            await call


async def test_status_is_applied_whole_and_nothing_else_is(server: StoringApiServer, cluster: OperatorCluster) -> None:
    server.objects[STATUS] = policy() | {"status": {"tenants": 1}}
    await cluster.apply_status("team", "chat", {"tenants": 2})
    seen = server.requests[-1]
    assert (seen.method, seen.path) == ("PATCH", f"{STATUS}/status")
    assert seen.query == {"fieldManager": "fairqueue-operator", "force": "true"}
    assert seen.body == {
        "apiVersion": "fairqueue.dev/v1alpha1",
        "kind": "FairnessPolicy",
        "metadata": {"name": "chat", "namespace": "team"},
        "status": {"tenants": 2},
    }
    assert server.objects[STATUS]["status"] == {"tenants": 2}
    del server.objects[STATUS]
    with pytest.raises(NotFound):
        await cluster.apply_status("team", "chat", {})


async def test_a_nudge_is_one_annotation(server: StoringApiServer, cluster: OperatorCluster) -> None:
    server.objects[POD] = {"metadata": {"annotations": {"a": "b"}, "resourceVersion": "1"}}
    await cluster.nudge_pod("team", "llm-0", "0123456789ab.1")
    assert server.requests[-1].body == {"metadata": {"annotations": {"fairqueue.dev/config-nudge": "0123456789ab.1"}}}
    assert server.objects[POD]["metadata"]["annotations"]["a"] == "b"
    with pytest.raises(NotFound):
        await cluster.nudge_pod("team", "llm-1", "x")


async def test_pods_that_ask_come_whole_and_to_the_last_page(
    server: StoringApiServer, cluster: OperatorCluster
) -> None:
    server.pods = [{"metadata": {"name": f"p{number}"}, "status": {"podIP": "10.0.0.7"}} for number in range(5)]
    server.page = 2
    assert [it["metadata"]["name"] async for it in cluster.asking_pods()] == ["p0", "p1", "p2", "p3", "p4"]
    assert len(server.requests) == 3
    for seen in server.requests:
        assert (seen.path, seen.query["labelSelector"]) == ("/api/v1/pods", "fairqueue.dev/inject=true")
        assert seen.query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"
        assert seen.headers["Accept"] == "application/json"


async def test_pods_that_do_not_ask_are_counted_by_their_metadata(
    server: StoringApiServer, cluster: OperatorCluster
) -> None:
    server.pods = [{"metadata": {}}] * 5
    server.page = 2
    assert await cluster.count_unlabelled_pods("team", SELECTOR) == 5
    seen = server.requests[-1]
    assert seen.path == "/api/v1/namespaces/team/pods"
    assert seen.query["labelSelector"] == "app=llm,fairqueue.dev/inject!=true"
    assert "PartialObjectMetadataList" in seen.headers["Accept"]


@pytest.mark.parametrize(
    ("selector", "query"),
    [
        (SELECTOR, "app=llm"),
        (Selector(matchLabels={"b": "", "a": "1"}), "a=1,b="),
        (Selector(matchExpressions=[LabelExpression(key="a", operator="In", values=["1", "2"])]), "a in (1,2)"),
        (Selector(matchExpressions=[LabelExpression(key="a", operator="NotIn", values=["1"])]), "a notin (1)"),
        (
            Selector(
                matchLabels={"app": "llm"},
                matchExpressions=[
                    LabelExpression(key="a.b/c", operator="Exists"),
                    LabelExpression(key="d", operator="DoesNotExist"),
                ],
            ),
            "app=llm,a.b/c,!d",
        ),
    ],
)
def test_selectors_are_queries(selector: Selector, query: str) -> None:
    assert query_of(selector) == query


async def test_secrets_are_listed_and_watched_as_metadata(server: StoringApiServer, cluster: OperatorCluster) -> None:
    server.page = 1
    server.put_secret("a", {"fairqueue.dev/api-keys": "true"}, key=b"x")
    server.put_secret("b", key=b"y")
    server.put_secret("c", namespace="other", key=b"z")
    listed = await cluster.list_secrets("team")
    assert [item["metadata"]["name"] for item in listed.items] == ["a", "b"]
    assert all("data" not in item for item in listed.items)
    events = cluster.watch_secrets("team", listed.resource_version, 45.4)
    server.delete_secret("a")
    event = await anext(events)
    assert (event.type, event.item["metadata"]["name"], "data" in event.item) == ("DELETED", "a", False)
    assert server.requests[-1].query["timeoutSeconds"] == "45"
    await events.aclose()
    server.forget()
    with pytest.raises(Gone):
        await anext(cluster.watch_secrets("team", "1", 45))
    assert server.read == []


async def test_a_lease_is_created_read_and_replaced(server: StoringApiServer, cluster: OperatorCluster) -> None:
    assert await cluster.read_lease("system", "operator") is None
    created = await cluster.create_lease("system", "operator", SPEC)
    assert created == StoredLease("a", 15, 2, "101")
    assert await cluster.read_lease("system", "operator") == created
    with pytest.raises(Conflict):
        await cluster.create_lease("system", "operator", SPEC)
    replaced = await cluster.replace_lease("system", "operator", SPEC | {"holderIdentity": ""}, "101")
    assert replaced == StoredLease("", 15, 2, "102")
    with pytest.raises(Conflict):
        await cluster.replace_lease("system", "operator", SPEC, "101")
    del server.objects[LEASE]
    with pytest.raises(NotFound):
        await cluster.replace_lease("system", "operator", SPEC, "102")


@pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None, "leaseDurationSeconds": None}, []])
async def test_a_lease_that_says_nothing_is_held_by_nobody(
    server: StoringApiServer, cluster: OperatorCluster, spec: Any
) -> None:
    server.objects[LEASE] = {"metadata": {"resourceVersion": "7"}, "spec": spec}
    assert await cluster.read_lease("system", "operator") == StoredLease("", 0, 0, "7")


async def test_credentials_that_are_refused_are_told_from_rights_that_are_missing(
    server: StoringApiServer, cluster: OperatorCluster
) -> None:
    server.script["GET", LEASE] = [refusing(401, "Unauthorized")]
    with pytest.raises(Unauthenticated, match="401 Unauthorized") as caught:
        await cluster.read_lease("system", "operator")
    assert not isinstance(caught.value, Forbidden)


async def test_names_do_not_lead_to_other_paths(server: StoringApiServer, cluster: OperatorCluster) -> None:
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.json_response({})

    server.script["PATCH", "/api/v1/namespaces/team/pods/../secrets/x"] = [note]
    await cluster.nudge_pod("team", "../secrets/x", "1")
    assert seen == ["/api/v1/namespaces/team/pods/..%2Fsecrets%2Fx"]


async def test_events_are_created_in_their_namespace(server: StoringApiServer, cluster: OperatorCluster) -> None:
    await cluster.create_event("team", {"note": "x"})
    assert server.events == [{"note": "x"}]

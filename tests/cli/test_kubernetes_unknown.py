"""What is said of what could not be found out."""

import pytest

from fairqueue_cli.kubernetes_unknown import Unknown, unknown
from fairqueue_operator.cluster_model import ClusterError, Forbidden, Unreachable

WHO = 'User "system:serviceaccount:team:viewer"'


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(
            Forbidden(f'GET /x: 403 {WHO} cannot get resource "pods/proxy" in API group "" in the namespace "team"'),
            Unknown("you have not the right to get pods/proxy in team", True),
            id="in a namespace",
        ),
        pytest.param(
            Forbidden(f'GET /x: 403 {WHO} cannot list resource "deployments" in API group "apps" at the cluster scope'),
            Unknown("you have not the right to list deployments.apps in the whole cluster", True),
            id="in the cluster",
        ),
        pytest.param(Forbidden("GET /x: 403"), Unknown("GET /x: 403", True), id="without a word"),
        pytest.param(Unreachable("GET /x: no answer in time"), Unknown("GET /x: no answer in time"), id="no answer"),
        pytest.param(
            ClusterError('GET /x: 400 cannot get resource "a" in API group ""'),
            Unknown('GET /x: 400 cannot get resource "a" in API group ""'),
            id="another error",
        ),
    ],
)
def test_a_right_that_is_missing_is_named_and_all_else_said_as_it_came(error: ClusterError, expected: Unknown) -> None:
    assert unknown(error) == expected

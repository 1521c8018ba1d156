"""Writes of a time are told by objects and by the API server's counters; what only others write is left out."""

from suite.api_writes import changed, counted, more
from suite.kubectl import Kubectl

METRICS = """\
# TYPE apiserver_request_total counter
apiserver_request_total{resource="fairnesspolicies",subresource="status",verb="APPLY",group="f",code="200"} 7
apiserver_request_total{resource="fairnesspolicies",subresource="",verb="WATCH",group="f",code="200"} 2
apiserver_request_total{resource="pods",subresource="",verb="PATCH",group="",code="200"} 3
apiserver_request_total{resource="pods",subresource="",verb="PATCH",group="",code="404"} 1
apiserver_request_total{resource="pods",subresource="status",verb="PATCH",group="",code="200"} 50
apiserver_request_total{resource="events",subresource="",verb="POST",group="",code="201"} 9
apiserver_request_total{resource="leases",subresource="",verb="PUT",group="coordination.k8s.io",code="200"} 4
"""


class Saying(Kubectl):
    """A cluster with these metrics."""

    def run(self, *_args: str, **_options: object) -> str:
        return METRICS


def test_writes_that_only_others_make_and_reads_are_not_counted() -> None:
    assert counted(Saying()) == {("fairnesspolicies", "status", "APPLY"): 7, ("pods", "", "PATCH"): 4}


def test_what_was_counted_since() -> None:
    before = {("pods", "", "PATCH"): 4.0, ("secrets", "", "APPLY"): 2.0}
    after = {("pods", "", "PATCH"): 4.0, ("secrets", "", "APPLY"): 5.0, ("events", "", "POST"): 1.0}
    assert more(before, after) == {("secrets", "", "APPLY"): 3, ("events", "", "POST"): 1}


def test_objects_that_are_new_others_or_gone_were_written_but_for_events_that_ran_out() -> None:
    before = {
        ("pods", "ns", "a"): "1",
        ("pods", "ns", "b"): "1",
        ("events", "ns", "old"): "1",
        ("secrets", "ns", "s"): "1",
    }
    after = {("pods", "ns", "a"): "1", ("pods", "ns", "b"): "2", ("events", "ns", "new"): "3"}
    assert changed(before, after) == ["events/ns/new", "pods/ns/b", "secrets/ns/s"]

"""The Secrets of a namespace as the operator sees them, over real HTTP: what is read, and what is never; what becomes
of the view when Secrets change, when the server fails, and when rights come and go."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from fairqueue_operator.operator_cluster import OperatorCluster
from fairqueue_operator.planning.secrets_view import Denied, LabelledSecret, Open, Unknown
from fairqueue_operator.secret_watch import LONGEST_SECONDS, SecretWatch
from injector.api_server import refusing, status
from injector.conftest import until
from operating.storing_api_server import StoringApiServer

KEYS, ENGINE = {"fairqueue.dev/api-keys": "true"}, {"fairqueue.dev/engine-key": ""}
LIST = "/api/v1/namespaces/team/secrets"


class Watched:
    """A watch that runs, with waits that are noted and soon over."""

    def __init__(self, cluster: OperatorCluster, server: StoringApiServer) -> None:
        self.changes: list[str | None] = []
        self.waits: list[float] = []
        self.held = asyncio.Event()
        self.held.set()
        self.watch = SecretWatch(cluster, "team", self.changed, random.Random(1))
        self._server = server

    def changed(self, policy: str | None) -> None:
        self.changes.append(policy)

    async def pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0.002)
        await self.held.wait()

    def start(self) -> None:
        self.task = asyncio.create_task(self.watch.run(self.pause))

    @property
    def contents(self) -> dict[str, dict[str, bytes]]:
        view = self.watch.view
        return {name: dict(it.data) for name, it in view.secrets.items()} if isinstance(view, Open) else {}

    async def shows(self, **contents: dict[str, bytes]) -> None:
        await until(lambda: self.contents == contents and isinstance(self.watch.view, Open))

    async def denied(self) -> Denied:
        await until(lambda: isinstance(self.watch.view, Denied))
        assert isinstance(self.watch.view, Denied)
        return self.watch.view

    async def broken_off(self, server: StoringApiServer) -> None:
        """Until its watch has ended and it pauses, for as long as `held` is not set."""
        self.held.clear()
        rounds = asyncio.create_task(self.rounds(1))
        await asyncio.sleep(0)
        server.break_watches()
        await rounds

    async def rounds(self, number: int) -> None:
        """Until it has tried again so often."""
        wanted = len(self.waits) + number
        await until(lambda: len(self.waits) >= wanted)


@pytest.fixture
async def watched(server: StoringApiServer, cluster: OperatorCluster) -> AsyncIterator[Watched]:
    watched = Watched(cluster, server)
    yield watched
    watched.task.cancel()
    await asyncio.gather(watched.task, return_exceptions=True)


@pytest.fixture
async def open_watch(server: StoringApiServer, watched: Watched) -> Watched:
    """One that watches, and knows of one Secret with keys."""
    server.put_secret("keys", KEYS, chat=b"one")
    watched.start()
    await watched.shows(keys={"chat": b"one"})
    await until(lambda: server.requests[-1].query.get("watch") == "true")
    return watched


async def test_until_they_are_listed_nothing_is_known(watched: Watched) -> None:
    assert watched.watch.view == Unknown()
    watched.start()
    await watched.shows()
    assert watched.changes == [None]


async def test_only_labelled_secrets_are_ever_read(server: StoringApiServer, watched: Watched) -> None:
    server.put_secret("both", KEYS | ENGINE, k=b"b")
    server.put_secret("engine", ENGINE, k=b"e")
    server.put_secret("keys", {"fairqueue.dev/api-keys": "false"}, k=b"k")
    server.put_secret("other", {"app": "x"}, k=b"secret")
    server.put_secret("chat-fairqueue", {"app.kubernetes.io/managed-by": "fairqueue"}, **{"document.json": b"{}"})
    server.put_secret("keys-elsewhere", KEYS, namespace="other", k=b"secret")
    watched.start()
    await until(lambda: isinstance(watched.watch.view, Open))
    assert watched.watch.view == Open(
        {
            "both": LabelledSecret(True, True, {"k": b"b"}),
            "engine": LabelledSecret(False, True, {"k": b"e"}),
            "keys": LabelledSecret(True, False, {"k": b"k"}),
        }
    )
    server.put_secret("other", {"app": "y"}, k=b"secret")
    server.put_secret("new", {}, k=b"secret")
    server.put_secret("keys", KEYS, k=b"2")
    await watched.shows(both={"k": b"b"}, engine={"k": b"e"}, keys={"k": b"2"})
    assert sorted(server.read) == ["both", "engine", "keys", "keys"]
    assert "secret" not in repr(vars(watched.watch._known))


async def test_changes_are_followed(server: StoringApiServer, open_watch: Watched) -> None:
    server.put_secret("keys", KEYS, chat=b"two", batch=b"three")
    await open_watch.shows(keys={"chat": b"two", "batch": b"three"})
    server.put_secret("more", ENGINE, key=b"e")
    await open_watch.shows(keys={"chat": b"two", "batch": b"three"}, more={"key": b"e"})
    server.put_secret("more", {}, key=b"e")
    await open_watch.shows(keys={"chat": b"two", "batch": b"three"})
    server.put_secret("more", KEYS, key=b"e")
    await open_watch.shows(keys={"chat": b"two", "batch": b"three"}, more={"key": b"e"})
    server.delete_secret("more")
    await open_watch.shows(keys={"chat": b"two", "batch": b"three"})
    assert open_watch.changes == [None] * 6
    assert server.requests_for(LIST) == 2, "one list, one watch"


async def test_a_secret_that_is_made_anew_is_the_new_one(server: StoringApiServer, open_watch: Watched) -> None:
    server.delete_secret("keys")
    server.put_secret("keys", KEYS, chat=b"new")
    await open_watch.shows(keys={"chat": b"new"})


async def test_a_new_version_of_the_same_is_no_change(server: StoringApiServer, open_watch: Watched) -> None:
    server.put_secret("keys", KEYS | {"app": "x"}, chat=b"one")
    server.put_secret("more", KEYS, chat=b"x")
    await open_watch.shows(keys={"chat": b"one"}, more={"chat": b"x"})
    assert open_watch.changes == [None, None]


@pytest.mark.parametrize("labels", [None, {}], ids=["gone", "unlabelled"])
async def test_a_secret_that_changes_before_it_is_read_is_what_it_is_by_then(
    server: StoringApiServer, open_watch: Watched, labels: Any
) -> None:
    content = {"metadata": {"resourceVersion": "999", "labels": labels}, "data": {"chat": "eA=="}}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(content, status=404 if labels is None else 200)

    server.script["GET", f"{LIST}/keys"] = [answer]
    server.put_secret("keys", KEYS, chat=b"two")
    await open_watch.shows()


async def test_without_the_right_the_view_is_denied_with_the_reason_and_opens_once_it_is_given(
    server: StoringApiServer, watched: Watched
) -> None:
    server.grant("team", given=False)
    server.put_secret("keys", KEYS, chat=b"one")
    watched.start()
    assert "403 secrets is forbidden" in (await watched.denied()).because
    await watched.rounds(8)
    assert watched.changes == [None]
    assert 0.5 <= watched.waits[0] <= 1
    assert all(LONGEST_SECONDS / 2 <= wait <= LONGEST_SECONDS for wait in watched.waits[5:])
    server.grant("team")
    await watched.shows(keys={"chat": b"one"})
    assert watched.changes == [None, None]


async def test_a_right_that_is_taken_away_is_missed_at_the_next_watch(
    server: StoringApiServer, open_watch: Watched
) -> None:
    server.grant("team", given=False)
    assert int(server.requests[-1].query["timeoutSeconds"]) <= 60
    server.break_watches()
    await open_watch.denied()
    server.grant("team")
    await open_watch.shows(keys={"chat": b"one"})
    assert server.read == ["keys", "keys"], "nothing is kept of what may not be read"


async def test_a_secret_that_may_be_seen_and_not_read_is_a_denial_too(
    server: StoringApiServer, open_watch: Watched
) -> None:
    server.script["GET", f"{LIST}/keys"] = [refusing(403, "hunter2")]
    open_watch.held.clear()
    server.put_secret("keys", KEYS, chat=b"two")
    assert (await open_watch.denied()).because == f"GET {LIST}/keys: 403"
    open_watch.held.set()
    await open_watch.shows(keys={"chat": b"two"})


async def test_when_the_server_has_forgotten_everything_is_listed_again(
    server: StoringApiServer, open_watch: Watched
) -> None:
    server.put_secret("stays", KEYS, k=b"s")
    await open_watch.shows(keys={"chat": b"one"}, stays={"k": b"s"})
    await open_watch.broken_off(server)
    server.delete_secret("keys")
    server.put_secret("new", KEYS, k=b"n")
    server.forget()
    open_watch.held.set()
    await open_watch.shows(stays={"k": b"s"}, new={"k": b"n"})
    assert server.read == ["keys", "stays", "new"], "what is known as it is, is not read again"


async def test_bookmarks_keep_the_version_young(server: StoringApiServer, open_watch: Watched) -> None:
    server.bookmark()
    server.forget()
    await open_watch.broken_off(server)
    server.put_secret("keys", KEYS, chat=b"two")
    open_watch.held.set()
    await open_watch.shows(keys={"chat": b"two"})
    assert server.requests_for(LIST) == 3, "one list, two watches"


async def test_a_server_that_ends_each_watch_at_once_is_not_asked_without_a_pause(
    server: StoringApiServer, watched: Watched
) -> None:
    server.closes_at_once = True
    watched.start()
    await watched.rounds(20)
    assert server.requests_for(LIST) <= len(watched.waits) + 2
    assert all(0 <= wait <= 1 for wait in watched.waits)
    assert max(watched.waits) > 0.5


@pytest.mark.parametrize("path", [LIST, f"{LIST}/keys"], ids=["watch", "content"])
async def test_a_server_that_fails_deletes_nothing(server: StoringApiServer, open_watch: Watched, path: str) -> None:
    before = open_watch.watch.view
    await open_watch.broken_off(server)
    server.script["GET", path] = [refusing(503, "etcd is away")] * 99
    server.put_secret("keys", KEYS, chat=b"two")
    open_watch.held.set()
    await open_watch.rounds(7)
    assert open_watch.watch.view is before
    assert open_watch.changes == [None]
    assert all(LONGEST_SECONDS / 2 <= wait <= LONGEST_SECONDS for wait in open_watch.waits[6:])
    server.script["GET", path] = []
    await open_watch.shows(keys={"chat": b"two"})


async def test_what_is_gone_is_gone_even_if_the_rest_cannot_be_read(
    server: StoringApiServer, open_watch: Watched
) -> None:
    server.put_secret("more", KEYS, k=b"m")
    await open_watch.shows(keys={"chat": b"one"}, more={"k": b"m"})
    await open_watch.broken_off(server)
    server.delete_secret("more")
    server.put_secret("keys", KEYS, chat=b"two")
    server.forget()
    server.script["GET", f"{LIST}/keys"] = [refusing(500, "no")] * 100
    open_watch.held.set()
    await open_watch.shows(keys={"chat": b"one"})
    server.script["GET", f"{LIST}/keys"] = []
    await open_watch.shows(keys={"chat": b"two"})


async def test_a_credential_that_is_not_known_is_no_denial(server: StoringApiServer, open_watch: Watched) -> None:
    server.script["GET", LIST] = [refusing(401, "Unauthorized")] * 99
    server.break_watches()
    await open_watch.rounds(7)
    assert open_watch.changes == [None]
    assert isinstance(open_watch.watch.view, Open)


async def test_a_watch_that_goes_on_failing_has_everything_listed(
    server: StoringApiServer, open_watch: Watched
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return status(500, "Too large resource version")
        return await server._list_secrets(request)

    await open_watch.broken_off(server)
    server.script["GET", LIST] = [answer] * 20_000
    server.delete_secret("keys")
    open_watch.held.set()
    await open_watch.shows()


async def test_of_stored_documents_the_versions_are_known(server: StoringApiServer, open_watch: Watched) -> None:
    watch, changes = open_watch.watch, open_watch.changes
    assert watch.version_of_document("chat") is None
    changes.clear()
    server.put_secret("chat-fairqueue", **{"document.json": b"{}"})
    await until(lambda: changes == ["chat"])
    first = watch.version_of_document("chat")
    assert first == server.objects[f"{LIST}/chat-fairqueue"]["metadata"]["resourceVersion"]
    server.put_secret("chat-fairqueue", **{"document.json": b"{}"})
    await until(lambda: changes == ["chat", "chat"])
    assert watch.version_of_document("chat") != first
    await open_watch.broken_off(server)
    server.delete_secret("chat-fairqueue")
    server.put_secret("b-fairqueue", x=b"")
    server.forget()
    open_watch.held.set()
    await until(lambda: len(changes) == 4)
    assert sorted(map(str, changes)) == ["b", "chat", "chat", "chat"]
    assert watch.version_of_document("chat") is None
    server.delete_secret("b-fairqueue")
    await until(lambda: changes[4:] == ["b"])
    assert server.read == ["keys"]


async def test_a_defect_is_logged_and_everything_listed_again(
    server: StoringApiServer, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    fails = [True]

    def changed(policy: str | None) -> None:
        if fails and fails.pop():
            raise ZeroDivisionError

    watched.watch._changed = changed
    watched.start()
    await watched.rounds(1)
    server.put_secret("keys", KEYS, chat=b"one")
    await watched.shows(keys={"chat": b"one"})
    assert "ZeroDivisionError" in caplog.text


async def test_what_fails_is_logged_once(
    server: StoringApiServer, open_watch: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    server.script["GET", LIST] = [refusing(503, "etcd is away")] * 99
    server.break_watches()
    await open_watch.rounds(5)
    server.grant("team", given=False)
    server.script["GET", LIST] = []
    assert caplog.text.count("secrets not followed") == 1
    await open_watch.denied()
    await open_watch.rounds(3)
    assert caplog.text.count("secrets may not be read") == 1

"""One stream's way through the proxy without its sockets: from the engine's bytes to what the client's transport is
given, by the real parts in between."""

import asyncio
import socket
from pathlib import Path
from typing import Any, cast

from fairqueue_api.address import Address
from fairqueue_proxy.client_head import client_head
from fairqueue_proxy.job import Job
from fairqueue_proxy.outflow import Outflow
from fairqueue_proxy.proxy import Proxy
from fairqueue_proxy.relay import Relay
from fairqueue_proxy.scheduler import Request
from fairqueue_proxy.upstream_connection import Connection, ConnectionOwner, Exchange
from proxy.scripted_engine import STREAM_HEAD, chunk
from proxy_stack import document_of

FIRST_TENANT = "alice"
LONGEST = 10**6

BODIES = {
    "TGI": ("/generate_stream", b'{"inputs":"Hello","parameters":{"max_new_tokens":1000000}}'),
    "VLLM": (
        "/v1/chat/completions",
        b'{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":true,"max_tokens":1000000}',
    ),
}
"""A stream's route and request, by kind of engine."""


def nth_event(kind: str, number: int) -> bytes:
    """As the engine writes it, when the proxy has asked for what it asks for."""
    if kind == "TGI":
        return (
            b'data:{"index":%d,"token":{"id":5,"text":" word","logprob":-0.1,"special":false},'
            b'"generated_text":null,"details":null}\n\n' % number
        )
    return (
        b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"m",'
        b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],'
        b'"usage":{"prompt_tokens":7,"total_tokens":%d,"completion_tokens":%d}}\n\n' % (7 + number, number)
    )


class Wire:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self._socket = socket.socket()

    def close(self) -> None:
        self._socket.close()

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> socket.socket:
        return self._socket

    def abort(self) -> None:
        return


class OneStream:
    """Of the first of a few tenants, dispatched, and its first event has come."""

    def __init__(self, folder: Path, kind: str) -> None:
        document = document_of(folder, kind=kind, tenants=[{"name": FIRST_TENANT}, {"name": "bob"}])
        self.proxy = Proxy(document, Address("127.0.0.1", 1), seed=1)
        self.kind = kind
        self.sent = 0
        self.engine_side, self.client_side = Wire(), Wire()
        runtime = self.proxy.runtime
        path, body = BODIES[kind]
        tenant = runtime.tenants.by_name[FIRST_TENANT]
        self.job = job = Job("r", tenant, runtime.clock())
        call = runtime.engine.parse(runtime.engine.route("POST", path), body)
        runtime.dispatcher.receive(job, len(body))
        job.call = call
        job.request = Request(tenant.leaf(runtime.dispatcher.scheduler, None), 7, LONGEST)
        runtime.dispatcher.submit(job)
        self._relay = relay = Relay(job, call, runtime.engine, runtime.dispatcher, runtime.stream_pace, runtime.clock)
        self._connection = Connection(cast(ConnectionOwner, None))
        self._connection.connection_made(cast(asyncio.Transport, self.engine_side))
        relay.exchange = Exchange(b"the request", relay, method="POST")
        self._connection.begin(relay.exchange)
        self._connection.data_received(STREAM_HEAD)
        self.receive(self.next())
        head = client_head("POST", (1, 1), 200, relay.headers, body_bytes=None, keep_alive=True, now=0.0)
        relay.attach(Outflow(runtime.outflows, cast(asyncio.Transport, self.client_side), head))

    def close(self) -> None:
        self.engine_side.close()
        self.client_side.close()

    def next(self) -> bytes:
        """The engine's next event, in a chunk of its own."""
        self.sent += 1
        return chunk(nth_event(self.kind, self.sent))

    def receive(self, data: bytes) -> None:
        """The engine's bytes come."""
        self._connection.data_received(data)

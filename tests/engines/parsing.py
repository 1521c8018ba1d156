"""Parses a request as the proxy does, for the tests of this folder."""

import json
from typing import Any

from fairqueue_proxy.engines import Call, engine_for


def parse(kind: str, path: str, body: dict[str, Any] | bytes) -> Call:
    engine = engine_for(kind)
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return engine.parse(engine.route("POST", path), encoded)


def sent(kind: str, path: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
    """What the engine reads."""
    received: dict[str, Any] = json.loads(parse(kind, path, body).body)
    return received

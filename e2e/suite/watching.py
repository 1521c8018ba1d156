"""Changes of the cluster's objects as they arrive: a list and a watch of the API server, by kubectl."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

from suite.kubectl import Json, Kubectl


@contextmanager
def watch(path: str, seen: Callable[[Json], None], *, selector: str = "") -> Iterator[None]:
    """Calls `seen` with each object at an API path that is there, then with each that is made or changed.

    The latter in a thread of its own, for as long as the block: for half an hour at most, as API servers end watches.
    """
    query = {"labelSelector": selector}
    there = json.loads(Kubectl().run("get", "--raw", f"{path}?{urlencode(query)}"))
    for item in there["items"]:
        seen(item)
    query |= {"watch": "true", "resourceVersion": there["metadata"]["resourceVersion"]}
    command = ["kubectl", "get", "--raw", f"{path}?{urlencode(query)}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout

        def read() -> None:
            for line in lines:
                # The last one may be cut off.
                event = json.loads(line) if line.endswith("\n") else {}
                if event.get("type") in ("ADDED", "MODIFIED"):
                    seen(event["object"])

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            process.kill()
            reader.join()

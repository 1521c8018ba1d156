"""What is asked of the API server while the node comes up. Not a client for anything else."""

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from one_node.kubernetes_config import API_URL
from one_node.layout import Layout

__all__ = ["ApiServer"]

_TIMEOUT_SECONDS = 3


class ApiServer:
    def __init__(self, layout: Layout) -> None:
        pki = layout.certificates
        self._tls = ssl.create_default_context(cafile=pki / "ca.crt")
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._address = urlsplit(API_URL)

    def is_ready(self) -> bool:
        status, _ = self._get("/readyz")
        return status == 200

    def node_is_ready(self, name: str) -> bool:
        status, body = self._get(f"/api/v1/nodes/{name}")
        conditions = json.loads(body)["status"].get("conditions", []) if status == 200 else []
        return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)

    def exists(self, path: str) -> bool:
        return self._get(path)[0] == 200

    def create(self, path: str, document: dict[str, Any]) -> bool:
        """Whether it is there now."""
        return self._ask("POST", path, json.dumps(document))[0] in (201, 409)

    def _get(self, path: str) -> tuple[int, bytes]:
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        """Status 0: no answer."""
        assert self._address.hostname
        connection = http.client.HTTPSConnection(
            self._address.hostname, self._address.port, timeout=_TIMEOUT_SECONDS, context=self._tls
        )
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

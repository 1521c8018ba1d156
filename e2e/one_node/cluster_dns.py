"""Names of Services for pods: a CoreDNS beside the other components. It knows the cluster's names and no others."""

import socket

from one_node.addresses import DNS_SERVICE, DOMAIN, NODE
from one_node.api_server import ApiServer
from one_node.layout import INSIDE

__all__ = ["announce_dns", "corefile", "dns_answers"]

_PORT = 53
_NAMESPACE = "kube-system"
_NAME = "kube-dns"


def corefile() -> str:
    return f"""\
.:{_PORT} {{
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {INSIDE}/config/dns.kubeconfig
    }}
}}
"""


def dns_answers() -> bool:
    """It listens once it knows what there is."""
    try:
        socket.create_connection((str(NODE), _PORT), timeout=1).close()
    except OSError:
        return False
    return True


def announce_dns(api: ApiServer) -> bool:
    """A Service whose one endpoint is the node. Whether it is there now."""
    ports = [{"name": f"dns-{it.lower()}", "port": _PORT, "protocol": it} for it in ("UDP", "TCP")]
    service = {"metadata": {"name": _NAME}, "spec": {"clusterIP": str(DNS_SERVICE), "ports": ports}}
    endpoints = {
        "metadata": {"name": _NAME, "labels": {"kubernetes.io/service-name": _NAME}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [str(NODE)], "conditions": {"ready": True}}],
    }
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{_NAMESPACE}/endpointslices"
    return api.create(f"/api/v1/namespaces/{_NAMESPACE}/services", service) and api.create(slices, endpoints)

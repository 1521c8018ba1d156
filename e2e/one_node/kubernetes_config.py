"""The configuration of the Kubernetes components: argument lists and files. Pure; paths are those inside the node.

Everything is as Kubernetes has it by default but for what this kind of machine cannot do: see the comments.
"""

import base64

import yaml

from one_node.addresses import DNS_SERVICE, DOMAIN, NODE, NODE_NAME, PODS, SERVICES
from one_node.certificates import Pair
from one_node.layout import INSIDE

__all__ = ["API_URL", "CONTAINERD_SOCKET", "arguments", "etcd_arguments", "kubeconfig", "kubelet_config"]

API_PORT = 6443
API_URL = f"https://{NODE}:{API_PORT}"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

_ETCD = "http://127.0.0.1:2379"
_ETCD_PEERS = "http://127.0.0.1:2380"
_PKI = INSIDE / "pki"
_CONFIG = INSIDE / "config"


def kubeconfig(authority_pem: bytes, client: Pair) -> str:
    def data(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    name = "fairqueue-e2e"
    user = {"client-certificate-data": data(client.certificate_pem), "client-key-data": data(client.key_pem)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": API_URL, "certificate-authority-data": data(authority_pem)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(document)


def kubelet_config() -> str:
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(_PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        # The tree of cgroups that pods are sorted into by class cannot be made on every machine.
        "cgroupsPerQOS": False,
        "clusterDNS": [str(DNS_SERVICE)],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "enforceNodeAllocatable": [],
        # A disk that is full of other things is no reason to drop images or to evict pods.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "resolvConf": str(_CONFIG / "resolv.conf"),
        "tlsCertFile": str(_PKI / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(_PKI / "kubelet-server.key"),
        # The default is a folder of the machine's, which the node shares.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }
    return yaml.safe_dump(document)


def etcd_arguments() -> list[str]:
    return _flags(
        {
            "data-dir": "/var/lib/etcd",
            "advertise-client-urls": _ETCD,
            "listen-client-urls": _ETCD,
            "initial-advertise-peer-urls": _ETCD_PEERS,
            "initial-cluster": f"default={_ETCD_PEERS}",
            "listen-peer-urls": _ETCD_PEERS,
            "logger": "zap",
            # Its data are gone with the node: they need not survive the machine.
            "unsafe-no-fsync": "true",
        }
    )


def arguments(component: str) -> list[str]:
    """What a component is called with, after its name."""
    return _flags(_COMPONENTS[component])


def _flags(values: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


_API_SERVER: dict[str, object] = {
    "advertise-address": NODE,
    "allow-privileged": "true",
    "authorization-mode": "Node,RBAC",
    "client-ca-file": _PKI / "ca.crt",
    "enable-admission-plugins": "NodeRestriction",
    "etcd-servers": _ETCD,
    "kubelet-certificate-authority": _PKI / "ca.crt",
    "kubelet-client-certificate": _PKI / "apiserver-kubelet-client.crt",
    "kubelet-client-key": _PKI / "apiserver-kubelet-client.key",
    "kubelet-preferred-address-types": "InternalIP",
    "proxy-client-cert-file": _PKI / "front-proxy-client.crt",
    "proxy-client-key-file": _PKI / "front-proxy-client.key",
    "requestheader-allowed-names": "front-proxy-client",
    "requestheader-client-ca-file": _PKI / "front-proxy-ca.crt",
    "requestheader-extra-headers-prefix": "X-Remote-Extra-",
    "requestheader-group-headers": "X-Remote-Group",
    "requestheader-username-headers": "X-Remote-User",
    "secure-port": API_PORT,
    "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
    "service-account-key-file": _PKI / "service-accounts.pub",
    "service-account-signing-key-file": _PKI / "service-accounts.key",
    "service-cluster-ip-range": SERVICES,
    "tls-cert-file": _PKI / "apiserver.crt",
    "tls-private-key-file": _PKI / "apiserver.key",
}


def _with_kubeconfig(name: str) -> dict[str, object]:
    file = _CONFIG / f"{name}.kubeconfig"
    return {"kubeconfig": file, "authentication-kubeconfig": file, "authorization-kubeconfig": file}


_COMPONENTS: dict[str, dict[str, object]] = {
    "kube-apiserver": _API_SERVER,
    "kube-controller-manager": {
        **_with_kubeconfig("controller-manager"),
        "bind-address": "127.0.0.1",
        "client-ca-file": _PKI / "ca.crt",
        "cluster-signing-cert-file": _PKI / "ca.crt",
        "cluster-signing-key-file": _PKI / "ca.key",
        # The one node's addresses are given to CNI, and there is no cloud.
        "controllers": "*,-nodeipam,-cloud-node-lifecycle",
        "leader-elect": "false",
        "requestheader-client-ca-file": _PKI / "front-proxy-ca.crt",
        "root-ca-file": _PKI / "ca.crt",
        "service-account-private-key-file": _PKI / "service-accounts.key",
        "use-service-account-credentials": "true",
    },
    "kube-scheduler": {
        **_with_kubeconfig("scheduler"),
        "bind-address": "127.0.0.1",
        "client-ca-file": _PKI / "ca.crt",
        "leader-elect": "false",
        "requestheader-client-ca-file": _PKI / "front-proxy-ca.crt",
    },
    "kubelet": {
        "config": _CONFIG / "kubelet.yaml",
        "hostname-override": NODE_NAME,
        "kubeconfig": _CONFIG / "kubelet.kubeconfig",
        "node-ip": NODE,
    },
    "kube-proxy": {
        "cluster-cidr": PODS,
        # Limits of connection tracking are the whole machine's.
        "conntrack-max-per-core": 0,
        "conntrack-tcp-timeout-close-wait": "0s",
        "conntrack-tcp-timeout-established": "0s",
        "hostname-override": NODE_NAME,
        "kubeconfig": _CONFIG / "proxy.kubeconfig",
        "proxy-mode": "iptables",
    },
}

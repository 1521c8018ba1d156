"""What the components are told. Golden files would only repeat it: these are the lines that something depends on."""

import base64
import json
import subprocess
import tomllib
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from one_node.addresses import API_SERVICE, DNS_SERVICE, HOST, LINK, NODE, PODS, SERVICES, taken_by
from one_node.certificates import Pair
from one_node.cluster_dns import corefile
from one_node.containerd import containerd_config, pod_network
from one_node.kubernetes_config import API_URL, arguments, etcd_arguments, kubeconfig, kubelet_config
from one_node.namespaces import KUBELET_WANTS, set_up_script


def test_a_kubeconfig_holds_all_that_a_client_needs() -> None:
    document = yaml.safe_load(kubeconfig(b"authority", Pair(b"certificate", b"key")))
    [cluster], [user], [context] = document["clusters"], document["users"], document["contexts"]
    assert document["current-context"] == context["name"]
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}
    assert cluster["cluster"]["server"] == API_URL == "https://10.77.32.2:6443"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == b"authority"
    assert base64.b64decode(user["user"]["client-certificate-data"]) == b"certificate"
    assert base64.b64decode(user["user"]["client-key-data"]) == b"key"


def test_the_api_server_authorizes_by_roles_and_leaves_admission_as_it_is() -> None:
    flags = arguments("kube-apiserver")
    assert "--authorization-mode=Node,RBAC" in flags
    assert not [it for it in flags if "disable-admission-plugins" in it or "feature-gates" in it]
    assert f"--service-cluster-ip-range={SERVICES}" in flags


@pytest.mark.parametrize(
    "component", ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"]
)
def test_a_component_reads_only_files_of_the_nodes_own(component: str) -> None:
    for flag in arguments(component):
        value = flag.partition("=")[2]
        assert not value.startswith("/") or value.startswith("/run/node/"), flag


def test_etcd_listens_on_the_nodes_loopback_only() -> None:
    listens = [it.partition("=")[2] for it in etcd_arguments() if it.startswith("--listen-")]
    assert len(listens) == 2
    assert all(it.startswith("http://127.0.0.1:") for it in listens)


def test_the_kubelet_asks_for_who_calls_and_writes_nothing_outside_of_the_node() -> None:
    document = yaml.safe_load(kubelet_config())
    assert document["authentication"]["anonymous"] == {"enabled": False}
    assert document["authorization"] == {"mode": "Webhook"}
    assert document["clusterDNS"] == [str(DNS_SERVICE)]
    assert document["volumePluginDir"].startswith("/var/lib/kubelet/")


def test_containerd_uses_our_pause_image_and_the_plugins_found() -> None:
    config = tomllib.loads(containerd_config("some/pause:1", Path("/opt/cni/bin")))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "some/pause:1"
    assert cri["cni"] == {"bin_dir": "/opt/cni/bin", "conf_dir": "/run/node/config/cni"}
    assert cri["restrict_oom_score_adj"] is True


def test_pods_get_addresses_of_the_range_that_the_host_has_a_route_to() -> None:
    plugins = {it["type"]: it for it in json.loads(pod_network())["plugins"]}
    assert plugins["ptp"]["ipam"]["ranges"] == [[{"subnet": str(PODS)}]]
    assert plugins["portmap"]["capabilities"] == {"portMappings": True}


def test_dns_knows_the_clusters_names_only() -> None:
    assert "kubernetes cluster.local" in corefile()
    assert "forward" not in corefile()


def test_the_set_up_of_the_namespaces_is_a_script_that_covers_each_kernel_setting() -> None:
    script = set_up_script()
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    for name, value in KUBELET_WANTS.items():
        assert f"echo {value} > /run/sys/{name}\n" in script
        assert f"mount --bind /run/sys/{name} /proc/sys/{name}\n" in script


def test_the_nodes_ranges_do_not_overlap() -> None:
    assert not any(one.overlaps(other) for one, other in ((PODS, SERVICES), (PODS, LINK), (SERVICES, LINK)))
    assert {HOST, NODE} == {IPv4Address("10.77.32.1"), IPv4Address("10.77.32.2")}
    assert API_SERVICE in SERVICES
    assert DNS_SERVICE in SERVICES


@pytest.mark.parametrize(
    ("routes", "taken"),
    [
        pytest.param([], None, id="none"),
        pytest.param(["default", "192.0.2.0/24", "10.0.0.0/16"], None, id="others"),
        pytest.param(["default", "10.0.0.0/8"], "10.0.0.0/8", id="one that holds ours"),
        pytest.param(["10.77.3.0/24"], "10.77.3.0/24", id="one inside the pods' range"),
        pytest.param(["10.77.32.2"], "10.77.32.2", id="the node's address"),
    ],
)
def test_a_route_to_the_nodes_addresses_is_noticed(routes: list[str], taken: str | None) -> None:
    assert taken_by(routes) == taken

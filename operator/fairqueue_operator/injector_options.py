"""The options of `python -m fairqueue_operator injector`: what they are, and whether what was given can be used."""

import argparse
import importlib.metadata
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fairqueue_api.address import Address, read_address

from .injection import InjectionSettings
from .injection.quantities import parse_quantity

HELP: Final = """Run the admission webhook that puts fairqueue's proxy into pods.

example:
  python -m fairqueue_operator injector --image example.org/fairqueue-proxy:0.1.0 --namespace fairqueue-system

It speaks to the cluster that it runs in, or to the one that the environment variable KUBECONFIG names. Its
certificate is made and renewed by itself, unless --certificate-files is given. SIGTERM or Ctrl-C stops it in order;
a second one stops it at once."""

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_QUANTITIES: Final = ("cpu_request", "memory_request", "memory_limit", "guaranteed_cpu")


class OptionError(ValueError):
    """An option that cannot be used; one line that names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was given, checked."""

    namespace: str
    service: str
    webhooks: str
    authority_secret: str
    leaf_secret: str
    certificate_files: Path | None
    key_directory: Path
    listen: Address
    health: Address
    shutdown_delay_seconds: float
    instance: str
    settings: InjectionSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the injector."""
    add = parser.add_argument
    add("--image", required=True, metavar="IMAGE", help="the proxy's image")
    add("--image-pull-policy", choices=("Always", "IfNotPresent", "Never"), help="as Kubernetes does by the tag")
    add("--namespace", metavar="NS", help="the injector's own (POD_NAMESPACE, else that of its service account)")
    add("--service", default="fairqueue-injector", metavar="NAME", help="the webhook's Service (%(default)s)")
    add(
        "--webhook-configuration",
        default="fairqueue-injector",
        metavar="NAME",
        help="the MutatingWebhookConfiguration whose caBundle is kept (%(default)s)",
    )
    add("--ca-secret", default="fairqueue-injector-ca", metavar="NAME", help="the authority's Secret (%(default)s)")
    add(
        "--certificate-secret",
        default="fairqueue-injector-tls",
        metavar="NAME",
        help="the serving certificate's Secret (%(default)s)",
    )
    add(
        "--certificate-files",
        type=Path,
        metavar="DIR",
        help="serve the tls.crt and tls.key there, which somebody else renews, and leave the caBundle alone",
    )
    add(
        "--key-directory",
        type=Path,
        default=Path("/dev/shm"),
        metavar="DIR",
        help="in memory: the private key is a file there while it is loaded (%(default)s)",
    )
    add("--listen", default="0.0.0.0:9443", metavar="HOST:PORT", help="admissions, over TLS (%(default)s)")
    add("--health", default="0.0.0.0:8080", metavar="HOST:PORT", help="health and metrics (%(default)s)")
    add(
        "--shutdown-delay",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long to serve on after SIGTERM, not ready, until no requests are sent here (%(default)s)",
    )
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--proxy-listen-address", default="0.0.0.0", metavar="HOST", help="[::] where pods have IPv6 only")
    add("--in-mesh", action="store_true", help="treat every pod as one of a service mesh")
    for name in _QUANTITIES:
        default = InjectionSettings.__dataclass_fields__[name].default
        add(f"--{name.replace('_', '-')}", default=default, metavar="QUANTITY", help="of the proxy (%(default)s)")


def read_options(given: argparse.Namespace, environment: Mapping[str, str]) -> Options:
    """The options, checked. Raises `OptionError`."""
    namespace = given.namespace or environment.get("POD_NAMESPACE") or own_namespace()
    if not namespace:
        raise OptionError("--namespace: not given, and not to be found out outside a cluster: give it")
    if not 0 <= given.shutdown_delay <= 300:
        raise OptionError(f"--shutdown-delay {given.shutdown_delay:g}: must be from 0 to 300 seconds")
    for name in _QUANTITIES:
        if parse_quantity(getattr(given, name)) is None:
            option = f"--{name.replace('_', '-')}"
            raise OptionError(f"{option} {getattr(given, name)}: must be a quantity, such as 100m or 512Mi")
    if given.certificate_files is not None and not given.certificate_files.is_dir():
        raise OptionError(f"--certificate-files {given.certificate_files}: must be a directory")
    if not given.key_directory.is_dir() or not os.access(given.key_directory, os.W_OK):
        raise OptionError(f"--key-directory {given.key_directory}: must be a directory that can be written to")
    return Options(
        namespace=namespace,
        service=given.service,
        webhooks=given.webhook_configuration,
        authority_secret=given.ca_secret,
        leaf_secret=given.certificate_secret,
        certificate_files=given.certificate_files,
        key_directory=given.key_directory,
        listen=address_of(given.listen, "--listen"),
        health=address_of(given.health, "--health"),
        shutdown_delay_seconds=given.shutdown_delay,
        instance=environment.get("POD_NAME") or socket.gethostname(),
        settings=_settings(given),
    )


def _settings(given: argparse.Namespace) -> InjectionSettings:
    return InjectionSettings(
        image=given.image,
        version=_version(),
        image_pull_policy=given.image_pull_policy,
        listen_address=given.proxy_listen_address,
        in_mesh=given.in_mesh,
        **{name: getattr(given, name) for name in _QUANTITIES},
    )


def _version() -> str:
    try:
        return importlib.metadata.version("fairqueue")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def own_namespace() -> str:
    """That of this pod's service account; empty outside a cluster."""
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError:
        return ""


def address_of(text: str, option: str) -> Address:
    """HOST:PORT. Raises `OptionError`."""
    try:
        return read_address(text, option, "0.0.0.0:9443")
    except ValueError as error:
        raise OptionError(str(error)) from None

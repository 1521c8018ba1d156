"""Which cluster a kubeconfig means, and with which credential; without one, the cluster that this pod runs in.

It reads files as kubectl does, several of them too, and runs credential plugins; what it does not know is to act as
somebody else (`as`). Its own texts are not passed on where they may repeat what stands in the file.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from .api_answers import one_line
from .cluster_model import ClusterError

_LIBRARY_LOG: Final = "kubernetes.aio.config.kube_config"
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The library names what is missing, and then all that stands beside it, credentials too.
_MISSING: Final = re.compile(r"Expected (?:object with name|key) (\S+) in ")


class Access(NamedTuple):
    """How to speak to the cluster, and the namespace that is meant where none is named."""

    configuration: Configuration
    namespace: str


async def load(kubeconfig: str | None = None, context: str | None = None) -> Access:
    """By that file (else KUBECONFIG, else ~/.kube/config, else the pod's service account) and that context of it (else
    its current one).

    Raises `ClusterError`, in one line, if there is no cluster or its kubeconfig cannot be used."""
    paths = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if not _is_there(paths):
        if not kubeconfig and not os.environ.get("KUBECONFIG") and _ACCOUNT.is_dir():
            return _in_cluster()
        raise ClusterError(f"no cluster: {paths} is not there: set KUBECONFIG, or give --kubeconfig FILE")
    configuration = Configuration()
    # As kubectl does: authorities of clusters seldom have all that Python's strict mode asks of them.
    configuration.disable_strict_ssl_verification = True
    with _said_by_library() as said:
        try:
            loader = await load_kube_config(  # type: ignore[no-untyped-call]
                paths, context=context, client_configuration=configuration, persist_config=False
            )
        except (ConfigException, OSError, ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError) as error:
            raise ClusterError(f"no cluster: {paths} cannot be used: {_reason(error)}") from None
    if not configuration.host:
        raise ClusterError(f"no cluster: {paths} cannot be used: server is not in it")
    if said:
        # A credential plugin that failed, which the library goes on without.
        raise ClusterError(f"no cluster: {paths} cannot be used: {one_line(said[0])}")
    return Access(configuration, _namespace(loader.current_context))


def _is_there(paths: str) -> bool:
    return any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path)


def _in_cluster() -> Access:
    configuration = Configuration()
    try:
        load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        return Access(configuration, (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or "default")
    except (ConfigException, OSError, ValueError) as error:
        raise ClusterError(f"no cluster: this pod's service account cannot be used: {one_line(str(error))}") from None


def _namespace(context: Any) -> str:
    inner = context.get("context") if isinstance(context, dict) else None
    return str((inner if isinstance(inner, dict) else {}).get("namespace") or "default")


def _reason(error: Exception) -> str:
    if missing := _MISSING.search(str(error)):
        return f"{missing[1]} is not in it"
    if isinstance(error, OSError):
        return f"{error.strerror or 'it cannot be read'}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1} is not YAML"
    return "it is not a complete kubeconfig (see `kubectl config view`)"


@contextmanager
def _said_by_library() -> Iterator[list[str]]:
    said: list[str] = []

    class _Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, listener = logging.getLogger(_LIBRARY_LOG), _Listener(logging.ERROR)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagated

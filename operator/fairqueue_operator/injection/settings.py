"""What whoever runs the injector chooses, the same for all pods; what differs by pod is in policies and annotations."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """Resources are quantities as Kubernetes writes them; a pod's annotations stand before them."""

    image: str
    version: str
    """The injector's own, for the status annotation."""
    image_pull_policy: str | None = None
    """None: as Kubernetes does by the image's tag."""
    listen_address: str = "0.0.0.0"
    """`[::]` where pods have IPv6 addresses only."""
    in_mesh: bool = False
    """Treat every pod as one of a mesh: a pod does not show it where its namespace's label asks for the mesh."""
    cpu_request: str = "100m"
    memory_request: str = "128Mi"
    memory_limit: str = "512Mi"
    guaranteed_cpu: str = "1"
    """In a pod of class Guaranteed, CPU is requested and limited to this, memory to `memory_limit`."""

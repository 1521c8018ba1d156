"""Every outcome of a decision, by name: one closed enumeration for the answer to the API server, Events and metrics.

A sentence says what is the matter and, of a denial, what to do; what it is in the pod at hand is said beside it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Outcome(StrEnum):
    INJECTED = "injected"
    ADMITTED = "admitted"
    DENIED = "denied"
    WARNING = "warning"
    """Said about a pod that was injected."""


class Reason(StrEnum):
    """The value is the metric's label, `event_reason` the Event's reason."""

    outcome: Outcome
    sentence: str

    def __new__(cls, value: str, outcome: Outcome, sentence: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.outcome = outcome
        member.sentence = sentence
        return member

    @property
    def event_reason(self) -> str:
        return "".join(word.capitalize() for word in self.value.split("_"))

    INJECTED = "injected", Outcome.INJECTED, "The proxy is in the pod."

    NOT_ASKED = "not_asked", Outcome.ADMITTED, 'The pod has no label fairqueue.dev/inject: "true".'
    ALREADY_INJECTED = "already_injected", Outcome.ADMITTED, "The proxy is in the pod already."
    DISABLED = "disabled", Outcome.ADMITTED, "The policy's spec.injection.mode is Disabled."
    MISSING_POLICY_ALLOWED = (
        "missing_policy_allowed",
        Outcome.ADMITTED,
        "No policy is there for the pod, and its annotation fairqueue.dev/on-missing-policy: Allow lets it in unfair.",
    )

    BAD_POD = "bad_pod", Outcome.DENIED, "The pod is not what the API of Kubernetes describes: correct the field."
    BAD_POLICY = "bad_policy", Outcome.DENIED, "The policy cannot be used: correct the field."
    MISSING_POLICY = (
        "missing_policy",
        Outcome.DENIED,
        "No FairnessPolicy of the namespace selects the pod: apply one that does, or remove the label "
        "fairqueue.dev/inject.",
    )
    SEVERAL_POLICIES = (
        "several_policies",
        Outcome.DENIED,
        "Several policies select the pod: name one in its label fairqueue.dev/policy, or narrow a selector.",
    )
    POLICY_NOT_FOUND = (
        "policy_not_found",
        Outcome.DENIED,
        "The label fairqueue.dev/policy names no FairnessPolicy of the namespace: apply it, or correct the label.",
    )
    POLICY_DOES_NOT_SELECT = (
        "policy_does_not_select",
        Outcome.DENIED,
        "The policy that the label fairqueue.dev/policy names does not select the pod: correct the label or the "
        "policy's spec.selector.",
    )
    HOST_NETWORK = (
        "host_network",
        Outcome.DENIED,
        "A pod on the node's network has no port of its own that could be guarded: remove hostNetwork.",
    )
    HOST_PORT = (
        "host_port",
        Outcome.DENIED,
        "Kubernetes maps no hostPort to a sidecar: remove it from the engine's port and use a Service.",
    )
    NAME_TAKEN = (
        "name_taken",
        Outcome.DENIED,
        "A container or volume has a name that the proxy's own must have: rename it.",
    )
    NO_ENGINE_CONTAINER = (
        "no_engine_container",
        Outcome.DENIED,
        "The policy's spec.engine.container names no container of the pod: correct it.",
    )
    ENGINE_AMBIGUOUS = (
        "engine_ambiguous",
        Outcome.DENIED,
        "Which container is the engine cannot be told: name it in the policy's spec.engine.container.",
    )
    ARGS_IN_IMAGE = (
        "args_in_image",
        Outcome.DENIED,
        "The engine's arguments are in its image, where none can be added: write them as command or args of the "
        "container, or use spec.injection.mode SidecarOnly.",
    )
    SHELL_COMMAND = (
        "shell_command",
        Outcome.DENIED,
        "A shell or script starts the engine and decides what it is told: write the engine's program and options as "
        "command and args, each a word of the list, or use spec.injection.mode SidecarOnly.",
    )
    UNKNOWN_VALUE = (
        "unknown_value",
        Outcome.DENIED,
        "The engine's port is a value that only the kubelet or nobody knows: write it out, or set the policy's "
        "spec.engine.port.",
    )
    PORT_UNCLEAR = (
        "port_unclear",
        Outcome.DENIED,
        "Which port the engine listens on is not clear: set the policy's spec.engine.port to what the container is "
        "told or declares.",
    )
    PORT_TAKEN = (
        "port_taken",
        Outcome.DENIED,
        "A port that the proxy must have is in use in the pod: give that container another one.",
    )
    PORT_NAME_SHARED = (
        "port_name_shared",
        Outcome.DENIED,
        "Another container has a port of the same name as the proxy's, so that a Service could not tell them apart: "
        "rename it.",
    )
    LISTEN_MISSING = (
        "listen_missing",
        Outcome.DENIED,
        "How this engine is told its address and its port is not known: set the policy's spec.engine.listen, one of "
        "hostEnv and hostArg and one of portEnv and portArg, or use spec.injection.mode SidecarOnly.",
    )
    NOT_PLAIN_HTTP = (
        "not_plain_http",
        Outcome.DENIED,
        "The engine is told to speak TLS or to listen on a Unix socket, and the proxy speaks plain HTTP to it: remove "
        "the option and let TLS end before the pod.",
    )
    BAD_ANNOTATION = (
        "bad_annotation",
        Outcome.DENIED,
        "An annotation that says how the proxy is to run cannot be used: correct it.",
    )

    OWN_PRE_STOP = (
        "own_pre_stop",
        Outcome.WARNING,
        "The engine has a preStop hook of its own and keeps it: it may be stopped before the proxy has drained.",
    )
    SYSCTL_LOWERED = (
        "sysctl_lowered",
        Outcome.WARNING,
        "The pod's sysctl net.ipv4.ip_unprivileged_port_start would have kept the proxy from its port and is 0 now.",
    )
    MESH_HIDES_PEERS = (
        "mesh_hides_peers",
        Outcome.WARNING,
        "The mesh's proxy is the TCP peer of every request: trustedCIDRs that hold a loopback address let any client "
        "name its tenant.",
    )


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that whoever runs the pod should know, though the proxy went in."""

    reason: Reason
    detail: str


class Refused(Exception):
    """The pod is denied; raised where the fact is known, and made a decision in one place."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

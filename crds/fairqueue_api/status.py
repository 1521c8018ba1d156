"""The status of a `FairnessPolicy`: what the operator found out and says. Nothing here reads it.

No figure of use is in it: those would be a write to the API server each time, and are metrics.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from .crd_markers import DATE_TIME, INT32, INT64, unique_by
from .model import Model

Count = Annotated[int, INT32]
Generation = Annotated[int, Field(ge=0), INT64]


class PodCounts(Model):
    matched: Count | None = Field(None, description="pods that the selector matches")
    unlabelled: Count | None = Field(None, description="of those, pods without the label that asks for a proxy")
    injected: Count | None = Field(None, description="pods that have a proxy")
    started: Count | None = Field(None, description="of those, pods whose proxy has started")
    current: Count | None = Field(None, description="pods whose proxy runs on the present policy and keys")


POD_STATES: Final = tuple(PodCounts.model_fields)
"""What pods are counted by: in the status, in the operator's metrics, in what is shown of a policy."""


class Condition(Model):
    """As `metav1.Condition`; the operator uses the types Accepted, Programmed and Ready."""

    type: Annotated[str, Field(max_length=316)] = Field(description="Accepted, Programmed or Ready")
    status: Literal["True", "False", "Unknown"] = Field(description="whether it holds")
    observed_generation: Generation | None = Field(None, description="the generation of the policy that it speaks of")
    last_transition_time: Annotated[str, DATE_TIME] = Field(description="when `status` last changed")
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")] = (
        Field(description="why, in one word")
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="why, in a sentence")


class Status(Model):
    observed_generation: Annotated[int, INT64] | None = Field(
        None, description="the generation of the policy that the status speaks of"
    )
    config_revision: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="the revision of the document that was rendered last"
    )
    tenants: Count | None = Field(None, description="how many tenants it has")
    pods: PodCounts | None = Field(None, description="how many pods it is for")
    conditions: Annotated[list[Condition], Field(max_length=8), unique_by("type")] = Field(
        [], description="what is well and what is not"
    )

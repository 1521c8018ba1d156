"""AdmissionReview (admission.k8s.io/v1): from the body of a request to what is asked, from a verdict to the answer.

Pure. What is asked is always about one pod that is being created; a pod in a review often has no name yet, only a
`generateName`, and seldom a namespace: the request's own stands.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from .verdict import FORBIDDEN, INTERNAL, UNAVAILABLE, Verdict

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
# What the API server passes on of one; it cuts longer ones in the middle of a word and says nothing of it.
_WARNING_CHARACTERS: Final = 256
_STATUS_REASONS: Final = {FORBIDDEN: "Forbidden", UNAVAILABLE: "ServiceUnavailable", INTERNAL: "InternalError"}

Json = dict[str, Any]


class MalformedReview(ValueError):
    """A body that is no AdmissionReview. `str()` is one line for whoever sent it, and repeats nothing of the body."""


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server asks. `pod` is None where it is about something else than the creation of a pod."""

    uid: str
    namespace: str
    name: str
    dry_run: bool
    pod: Json | None
    owner: Json | None
    """The `ownerReference` of the pod's controller, else of its first owner."""


def read_review(body: bytes) -> Review:
    """What is asked in the body of a request. Raises `MalformedReview`."""
    try:
        review = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise MalformedReview("the body is not JSON") from None
    review = _mapping(review, "the body")
    if review.get("kind") != KIND or review.get("apiVersion") != API_VERSION:
        raise MalformedReview(f"the body is not an {KIND} of {API_VERSION}")
    request = _mapping(review.get("request"), "request")
    uid = request.get("uid")
    if not isinstance(uid, str) or not uid:
        raise MalformedReview("request.uid is not a text")
    namespace = request.get("namespace", "")
    if not isinstance(namespace, str):
        raise MalformedReview("request.namespace is not a text")
    if not _is_new_pod(request):
        return Review(uid, namespace, "", request.get("dryRun") is True, None, None)
    if not namespace:
        raise MalformedReview("request.namespace is missing")
    pod = _mapping(request.get("object"), "request.object")
    metadata = _mapping(pod.get("metadata", {}), "request.object.metadata")
    name = request.get("name") or metadata.get("name") or metadata.get("generateName") or ""
    return Review(uid, namespace, str(name), request.get("dryRun") is True, pod, _owner(metadata))


def answer(review: Review, verdict: Verdict) -> Json:
    """The AdmissionReview that says it."""
    response: Json = {"uid": review.uid, "allowed": not verdict.is_denied}
    if verdict.code is not None:
        response["status"] = {
            "code": verdict.code,
            "reason": _STATUS_REASONS[verdict.code],
            "message": one_line(verdict.message),
        }
    elif verdict.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(verdict.patch)).decode()
    if verdict.warnings:
        response["warnings"] = [_shortened(one_line(warning.text)) for warning in verdict.warnings]
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def one_line(text: str) -> str:
    """The text without what would break a line, a header or a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "replace").decode()
        for character in text
    )


def _is_new_pod(request: Mapping[str, Any]) -> bool:
    kind = request.get("kind")
    of_pods = isinstance(kind, dict) and kind.get("group", "") == "" and kind.get("kind") == "Pod"
    return of_pods and request.get("operation") == "CREATE" and not request.get("subResource")


def _owner(metadata: Mapping[str, Any]) -> Json | None:
    references = metadata.get("ownerReferences")
    if not isinstance(references, list):
        return None
    owners = [reference for reference in references if isinstance(reference, dict)]
    owners.sort(key=lambda owner: owner.get("controller") is not True)
    return owners[0] if owners else None


def _mapping(value: object, name: str) -> Json:
    if not isinstance(value, dict):
        raise MalformedReview(f"{name} is not an object")
    return value


def _shortened(text: str) -> str:
    return text if len(text) <= _WARNING_CHARACTERS else text[: _WARNING_CHARACTERS - 1] + "…"

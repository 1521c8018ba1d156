"""Reads a rendered document, without pydantic: a sidecar starts on it, and must start fast.

Fields that this version does not know are passed over and named, so that a newer operator can speak to an older
proxy; all that it knows must be there, well formed, and fit together. The revision is taken as it stands: it may
cover fields that are not read.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import DecodeError, Struct, ValidationError, convert, json

from .cidrs import CidrError, parse_cidr
from .document import SCHEMA, Document
from .errors import DocumentError, Problem

_SOURCE = "document"


class ParsedDocument(NamedTuple):
    """A document and the paths of the fields that were passed over, sorted, for the log."""

    document: Document
    unknown_fields: list[str]


def parse_document(content: bytes) -> ParsedDocument:
    """Raises `DocumentError`, for a schema other than 1 too."""
    try:
        value = json.decode(content)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise _error("", "is not JSON", "render it again") from None
    if not isinstance(value, dict):
        raise _error("", "is not a JSON object", "render it again")
    schema = value.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise _error("schema", f"is not {SCHEMA}, the one that this version reads", "run a proxy that matches it")
    try:
        document = convert(value, Document)
    except ValidationError as error:
        raise _refusal(str(error)) from None
    problems = [Problem(_SOURCE, *finding, "render it again") for finding in _contradictions(document)]
    if problems:
        raise DocumentError(problems)
    return ParsedDocument(document, sorted(set(_unknown_fields(value, document, ""))))


def _refusal(text: str) -> DocumentError:
    """What msgspec says, as `DocumentError`: a message, and the place unless it is the whole document."""
    what, _, place = text.rpartition(" - at `$")
    path = re.sub(r"\[\d+\]", "[]", place.strip(".`")) if what else ""
    what = what or text
    if what.startswith(("Expected", "Object missing")):
        return _error(path, f"{what[0].lower()}{what[1:]}", "render it again")
    # Any other message may repeat the value.
    return _error(path, "has a value that this version does not know", "run a proxy that matches it")


def _unknown_fields(value: Any, known: object, path: str) -> Iterator[str]:
    """The paths of what is in `value` and not in `known`, which was read from it."""
    if isinstance(known, Struct):
        for name, item in value.items():
            place = f"{path}.{name}" if path else name
            if name in known.__struct_fields__:
                yield from _unknown_fields(item, getattr(known, name), place)
            else:
                yield place
    elif isinstance(known, tuple):
        for item, each in zip(value, known, strict=True):
            yield from _unknown_fields(item, each, f"{path}[]")


def _contradictions(document: Document) -> Iterator[tuple[str, str]]:
    yield from _tree_contradictions(document)
    yield from _identity_contradictions(document)
    if (document.cost.type == "Quadratic") != (document.cost.quadratic is not None):
        yield "cost.quadratic", "does not go with cost.type"


def _tree_contradictions(document: Document) -> Iterator[tuple[str, str]]:
    """What would break the tree of tenants."""
    parents = {group.name: group.parent for group in document.groups}
    if len(parents) != len(document.groups):
        yield "groups", "repeats a name"
    if len({tenant.name for tenant in document.tenants}) != len(document.tenants):
        yield "tenants", "repeats a name"
    for parent in parents.values():
        if parent is not None and parents.get(parent, parent) is not None:
            yield "groups[].parent", "names no top-level group"
    for tenant in document.tenants:
        if tenant.group is not None and tenant.group not in parents:
            yield "tenants[].group", "names no group"


def _identity_contradictions(document: Document) -> Iterator[tuple[str, str]]:
    """What would give one request to two tenants, or to nobody who is there."""
    kinds = {source.name: source.type for source in document.identity.sources}
    if len(kinds) != len(document.identity.sources):
        yield "identity.sources", "repeats a name"
    for source in document.identity.sources:
        if (source.type == "Header") != bool(source.trusted_cidrs):
            yield "identity.sources[].trusted_cidrs", "does not go with the source's type"
        if not all(map(_is_cidr, source.trusted_cidrs)):
            yield "identity.sources[].trusted_cidrs", "holds what is no range of addresses"
    if document.identity.on_unidentified == "Anonymous" and document.anonymous is None:
        yield "anonymous", "is missing, and identity.on_unidentified is Anonymous"
    owners: dict[object, str] = {}
    for tenant in document.tenants:
        if any(owners.setdefault(key, tenant.name) != tenant.name for key in tenant.key_digests):
            yield "tenants[].key_digests", "gives one key to two tenants"
        if any(owners.setdefault(subject, tenant.name) != tenant.name for subject in tenant.subjects):
            yield "tenants[].subjects", "gives one identity to two tenants"
        if any(kinds.get(subject.source) != "Header" for subject in tenant.subjects):
            yield "tenants[].subjects[].source", "names no source that verifies identities"
    key = document.engine.api_key
    # As a header's value, anything else could not be sent, or would be read as another header.
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        yield "engine.api_key", "is not what a header can carry"


def _is_cidr(text: str) -> bool:
    try:
        parse_cidr(text)
    except CidrError:
        return False
    return True


def _error(path: str, what: str, fix: str) -> DocumentError:
    return DocumentError([Problem(_SOURCE, path, what, fix)])

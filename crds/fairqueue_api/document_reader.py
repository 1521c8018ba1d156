"""Reads a rendered document, with the standard library alone: a sidecar starts on it, and must start fast.

Fields that this version does not know are passed over and named, so that a newer operator can speak to an older
proxy; all that it knows must be there, well formed, and fit together. The revision is taken as it stands: it may
cover fields that are not read.
"""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, cast, get_args, get_origin

from .cidrs import CidrError, parse_cidr
from .document import SCHEMA, Between, Document
from .errors import DocumentError, Problem

_SOURCE = "document"


class ParsedDocument(NamedTuple):
    """A document and the paths of the fields that were passed over, sorted, for the log."""

    document: Document
    unknown_fields: list[str]


def parse_document(content: bytes) -> ParsedDocument:
    """Raises `DocumentError`, for a schema other than 1 too."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise _error("", "is not JSON", "render it again") from None
    if not isinstance(value, dict):
        raise _error("", "is not a JSON object", "render it again")
    schema = value.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise _error("schema", f"is not {SCHEMA}, the one that this version reads", "run a proxy that matches it")
    decoder = _Decoder()
    document = cast("Document", decoder.decode(Document, value, ""))
    problems = [Problem(_SOURCE, *finding, "render it again") for finding in _contradictions(document)]
    if problems:
        raise DocumentError(problems)
    return ParsedDocument(document, sorted(decoder.unknown_fields))


class _Decoder:
    """Plain JSON values into what a type hint says; knows only the hints that documents use."""

    def __init__(self) -> None:
        self.unknown_fields: set[str] = set()

    def decode(self, hint: Any, value: object, path: str) -> object:
        origin = get_origin(hint)
        if is_dataclass(hint):
            return self._object(cast("type[object]", hint), value, path)
        if origin is Annotated:
            return self._within(hint, value, path)
        if origin is tuple:
            if not isinstance(value, list):
                raise _error(path, "is not a list", "render it again")
            return tuple(self.decode(get_args(hint)[0], item, f"{path}[]") for item in value)
        if origin is Literal:
            if not isinstance(value, str | int) or value not in get_args(hint):
                raise _error(path, "has a value that this version does not know", "run a proxy that matches it")
            return value
        if origin in (Union, UnionType):
            return None if value is None else self.decode(get_args(hint)[0], value, path)
        return _plain(hint, value, path)

    def _object(self, hint: type[object], value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise _error(path, "is not an object", "render it again")
        prefix = f"{path}." if path else ""
        hints = {field.name: field.type for field in fields(cast("Any", hint))}
        self.unknown_fields.update(f"{prefix}{name}" for name in value.keys() - hints.keys())
        missing = [name for name in hints if name not in value]
        if missing:
            raise _error(f"{prefix}{missing[0]}", "is missing", "render it again")
        return hint(**{name: self.decode(item, value[name], f"{prefix}{name}") for name, item in hints.items()})

    def _within(self, hint: Any, value: object, path: str) -> object:
        base, bounds = get_args(hint)
        number = self.decode(base, value, path)
        if isinstance(bounds, Between) and not bounds.minimum <= cast("float", number) <= bounds.maximum:
            raise _error(path, f"is not between {bounds.minimum} and {bounds.maximum}", "render it again")
        return number


def _plain(hint: type[object], value: object, path: str) -> object:
    # bool is a subclass of int, and a whole number of seconds may be written without a fraction.
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _error(path, f"is not of type {hint.__name__}", "render it again")
    return value


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

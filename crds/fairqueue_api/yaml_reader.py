"""Reads a policy file, YAML or JSON, into plain values; says where it is not what it should be.

Stricter than YAML: no aliases (a small file could unfold into gigabytes), no repeated field (the last
would win unseen), string keys only, and only the types that JSON has.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from yaml.constructor import SafeConstructor

from .errors import PolicyError, Problem

_MAX_FILE_BYTES = 1_048_576
_MAX_DEPTH = 64
# libyaml's reader is ten times as fast; it is absent only where PyYAML was built without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = SafeConstructor()
_GROUP = "fairqueue.dev/"
_LISTS = frozenset({"List", "FairnessPolicyList"})
_TAG = "tag:yaml.org,2002:"


class Resource:
    """One resource of a file: a YAML document, or an item of a `List`."""

    def __init__(self, node: yaml.Node, reader: "_Reader", label: str) -> None:
        self._node = node
        self._reader = reader
        self.label = label
        self.kind = _field(node, "kind")

    @property
    def is_policy(self) -> bool:
        """Whether it is a policy, or may be meant as one: it is of our group, or says nothing of what it is."""
        return not self.kind or self.kind == "FairnessPolicy" or _field(self._node, "apiVersion").startswith(_GROUP)

    def mapping(self, source: str) -> dict[str, object]:
        """Its fields as plain values; `source` is what problems call it. Raises `PolicyError`."""
        return _Reader(self._reader.text, source).mapping(self._node)


def read_mapping(path: Path) -> dict[str, object]:
    """The one mapping in the file. Raises `PolicyError`."""
    source = str(path)
    with _named_errors(source):
        reader = _Reader(_decoded(_content(path, source), source), source)
        nodes = reader.nodes()
        if len(nodes) > 1:
            raise _error(source, "", f"holds {len(nodes)} documents", "keep one FairnessPolicy in a file")
        return reader.mapping(nodes[0])


def read_resources(file: Path | BinaryIO, source: str) -> list[Resource]:
    """All resources in the file, of whatever kind. Raises `PolicyError` where it is no YAML at all."""
    with _named_errors(source):
        content = _content(file, source) if isinstance(file, Path) else file.read(_MAX_FILE_BYTES + 1)
        reader = _Reader(_decoded(content, source), source)
        nodes = reader.nodes()
    resources = []
    for number, node in enumerate(nodes, 1):
        label = f"document {number}" if len(nodes) > 1 else ""
        items = _items(node)
        if items is None:
            resources.append(Resource(node, reader, label))
        for index, item in enumerate(items or ()):
            resources.append(Resource(item, reader, f"{label} items[{index}]".lstrip()))
    return resources


@contextmanager
def _named_errors(source: str) -> Iterator[None]:
    try:
        yield
    except yaml.reader.ReaderError:
        raise _error(source, "", "is not a text file", "save the policy as UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(source, error) from None


def _content(path: Path, source: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _error(source, "", "file not found", "create it, or mend the path") from None
    except IsADirectoryError:
        raise _error(source, "", "is a directory", "name the policy file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise _error(source, "", f"cannot be read ({reason})", "mend the path or the file's rights") from None


def _decoded(content: bytes, source: str) -> str:
    if len(content) > _MAX_FILE_BYTES:
        raise _error(source, "", "is larger than 1 MiB", "keep nothing but the policy in it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _error(source, "", "is not a text file", "save the policy as UTF-8 text") from None


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self._source = source

    def nodes(self) -> list[yaml.Node]:
        """The documents that are not empty, one at least."""
        self._check_events()
        nodes = [node for node in yaml.compose_all(self.text, Loader=_LOADER) if not _is_empty(node)]
        if not nodes:
            raise _error(self._source, "", "is empty", "write a FairnessPolicy")
        return nodes

    def mapping(self, node: yaml.Node) -> dict[str, object]:
        value = self._value(node)
        if not isinstance(value, dict):
            raise _error(self._source, "", "is not a mapping", "start with apiVersion: fairqueue.dev/v1alpha1")
        return value

    def _check_events(self) -> None:
        # Before anything is composed: what is refused here costs memory or stack there.
        depth = 0
        for event in yaml.parse(self.text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise self._at(event, "aliases are not allowed", "write the value out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _MAX_DEPTH:
                raise self._at(event, f"is nested more than {_MAX_DEPTH} levels deep", "a policy needs ten")

    def _value(self, node: yaml.Node) -> object:
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return dict(self._fields(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._value(item) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise self._at(node, "has a tag", "remove the word that starts with '!'")

    def _fields(self, node: yaml.MappingNode) -> Iterator[tuple[str, object]]:
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                raise self._at(key, "the name of a field is not a string", "put it in quotes")
            if key.value in seen:
                raise self._at(key, f"the field {key.value} appears twice", "keep one")
            seen.add(key.value)
            yield key.value, self._value(value)

    def _scalar(self, node: yaml.ScalarNode) -> object:
        # YAML 1.1, as kubectl reads it: unquoted yes, no, on and off are truth values.
        kind = node.tag.removeprefix(_TAG)
        try:
            if kind == "str":
                return node.value
            if kind == "null":
                return None
            if kind == "bool":
                return SafeConstructor.bool_values[node.value.lower()]
            if kind == "int":
                return _SCALARS.construct_yaml_int(node)
            if kind == "float":
                return _SCALARS.construct_yaml_float(node)
        except (ValueError, KeyError):
            raise self._at(node, f"is not a valid {kind}", "mend the value") from None
        raise self._at(node, "is neither text nor a number", "put it in quotes")

    def _at(self, place: yaml.Event | yaml.Node, what: str, fix: str) -> PolicyError:
        mark = place.start_mark
        return _error(self._source, f"line {mark.line + 1}" if mark else "", what, fix)


def _field(node: yaml.Node, name: str) -> str:
    """The text of a top-level field, if it is a text."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(value, yaml.ScalarNode) and value.tag == _TAG + "str" and key.value == name:
            return str(value.value)
    return ""


def _items(node: yaml.Node) -> list[yaml.Node] | None:
    """What `kubectl get -o yaml` puts around several resources; None if the node is no such list."""
    if _field(node, "kind") in _LISTS and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "items" and isinstance(value, yaml.SequenceNode):
                return list(value.value)
    return None


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def _syntax_error(source: str, error: yaml.MarkedYAMLError) -> PolicyError:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    if "cannot start any token" in (error.problem or ""):
        return _error(source, place, "is not valid YAML", "indent with spaces, not tabs, and quote special characters")
    return _error(source, place, f"is not valid YAML ({error.problem or error.context})", "mend the line")


def _error(source: str, path: str, what: str, fix: str) -> PolicyError:
    return PolicyError([Problem(source, path, what, fix)])

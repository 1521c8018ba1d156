"""Reads a policy file, YAML or JSON, into plain values; says where it is not what it should be.

Stricter than YAML: one document, no aliases (a small file could unfold into gigabytes), no repeated field (the last
would win unseen), string keys only, and only the types that JSON has.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from .errors import PolicyError, Problem

_MAX_FILE_BYTES = 1_048_576
_MAX_DEPTH = 64
# libyaml's reader is ten times as fast; it is absent only where PyYAML was built without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = SafeConstructor()
_TAG = "tag:yaml.org,2002:"


def read_mapping(path: Path) -> dict[str, object]:
    """The one mapping in the file. Raises `PolicyError`."""
    source = str(path)
    try:
        return _Document(_read_text(path, source), source).mapping()
    except yaml.reader.ReaderError:
        raise _error(source, "", "is not a text file", "save the policy as UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(source, error) from None


def _read_text(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _error(source, "", "file not found", "create it, or mend the path") from None
    except IsADirectoryError:
        raise _error(source, "", "is a directory", "name the policy file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise _error(source, "", f"cannot be read ({reason})", "mend the path or the file's rights") from None
    if len(content) > _MAX_FILE_BYTES:
        raise _error(source, "", "is larger than 1 MiB", "keep nothing but the policy in it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _error(source, "", "is not a text file", "save the policy as UTF-8 text") from None


class _Document:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source

    def mapping(self) -> dict[str, object]:
        self._check_events()
        nodes = [node for node in yaml.compose_all(self._text, Loader=_LOADER) if not _is_empty(node)]
        if not nodes:
            raise _error(self._source, "", "is empty", "write a FairnessPolicy")
        if len(nodes) > 1:
            raise _error(self._source, "", f"holds {len(nodes)} documents", "keep one FairnessPolicy in a file")
        value = self._value(nodes[0])
        if not isinstance(value, dict):
            raise _error(self._source, "", "is not a mapping", "start with apiVersion: fairqueue.dev/v1alpha1")
        return value

    def _check_events(self) -> None:
        # Before anything is composed: what is refused here costs memory or stack there.
        depth = 0
        for event in yaml.parse(self._text, Loader=_LOADER):
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

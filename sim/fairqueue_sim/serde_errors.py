"""Says what is wrong with a JSON body in the words of serde_json, the parser of TGI's router, with line and column.

Only called for bodies that have already been found wrong, so it may be slow: it reads the body again, guided by the
msgspec struct that describes it, and stops at the first thing that serde would stumble over. Path, cause and position
are serde's; of the syntax errors the common ones are told apart.
"""

import re
from collections.abc import Iterator
from typing import NoReturn

import msgspec
from msgspec import inspect

__all__ = ["SerdeError", "explain"]

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STRING_START = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_WORDS = {b"t": b"true", b"f": b"false", b"n": b"null"}
_SPACE = b" \t\r\n"
# Untagged enums have no better message than their own name; these are the router's names.
_UNTAGGED = {"prompt": "PromptDeserializer", "content": "MessageContent"}


class SerdeError(Exception):
    """What serde says; `is_syntax` tells a body that is no JSON from one of the wrong shape."""

    def __init__(self, text: str, *, is_syntax: bool, is_placed: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.is_syntax = is_syntax
        self.is_placed = is_placed


def explain(body: bytes, kind: type) -> SerdeError | None:
    """The first error in a body that should be a `kind`; None if serde would find none."""
    try:
        _Reader(body).document(inspect.type_info(kind))
    except SerdeError as error:
        return error
    return None


class _Reader:
    """A recursive reader over the bytes; `_at` is how many of them are consumed, `_path` where in the value that is."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._path: list[str] = []

    def document(self, kind: inspect.Type) -> None:
        self._value(kind)
        if self._peek():
            self._syntax("trailing characters", ahead=1)

    def _value(self, kind: inspect.Type) -> None:
        first = self._peek()
        if not first:
            self._syntax("EOF while parsing a value")
        if isinstance(kind, inspect.UnionType):
            self._union(kind, first)
        elif isinstance(kind, inspect.StructType):
            self._struct(kind, first)
        elif isinstance(kind, inspect.ListType):
            if first != b"[":
                self._wrong_type("a sequence")
            self._list(kind.item_type)
        elif isinstance(kind, inspect.AnyType):
            self._skip()
        else:
            self._scalar(kind, first)

    def _union(self, kind: inspect.UnionType, first: bytes) -> None:
        choices = [choice for choice in kind.types if not isinstance(choice, inspect.NoneType)]
        if first == b"n" and len(choices) < len(kind.types):
            self._skip()
        elif len(choices) == 1:
            self._value(choices[0])
        else:
            self._untagged(choices)

    def _untagged(self, choices: list[inspect.Type]) -> None:
        """A value that may be one of several: serde reads it whole before it tries them."""
        start, path = self._at, list(self._path)
        self._skip()
        end = self._at
        for choice in choices:
            self._at, self._path = start, list(path)
            try:
                self._value(choice)
            except SerdeError:
                continue
            if self._at == end:
                if self._body[start:end].strip(_SPACE + b"[]") == b"" and path[-1:] == ["prompt"]:
                    self._unplaced("Empty array detected. Do not use an empty array for the prompt.")
                return
        self._at, self._path = end, path
        name = _UNTAGGED.get(path[-1] if path else "", "Value")
        self._unplaced(f"data did not match any variant of untagged enum {name}")

    def _struct(self, kind: inspect.StructType, first: bytes) -> None:
        if first != b"{":
            self._wrong_type(f"struct {kind.cls.__name__}")
        fields = {field.encode_name: field for field in kind.fields}
        seen: set[str] = set()
        try:
            for key in self._keys():
                seen.add(key)
                self._path.append(key)
                if key in fields:
                    self._value(fields[key].type)
                else:
                    self._skip()
                self._path.pop()
        except SerdeError as error:
            raise self._placed(error, b"}") from None
        missing = next((name for name, field in fields.items() if field.required and name not in seen), None)
        if missing is not None:
            # The closing brace is consumed by now.
            self._wrong(f"missing field `{missing}`")

    def _list(self, item: inspect.Type) -> None:
        self._at += 1
        index = 0
        parent = self._path.pop() if self._path else ""
        try:
            while self._peek() != b"]":
                self._path.append(parent)
                if index:
                    self._comma("a list", "]")
                if not self._peek():
                    self._syntax("EOF while parsing a list")
                self._path[-1] = f"{parent}[{index}]"
                self._value(item)
                self._path.pop()
                index += 1
        except SerdeError as error:
            raise self._placed(error, b"]") from None
        self._at += 1
        self._path.append(parent)

    def _keys(self) -> Iterator[str]:
        """The keys of an object; each is handed out with the reader before its value."""
        self._at += 1
        is_first = True
        while (mark := self._peek()) != b"}":
            if not is_first:
                self._comma("an object", "}")
                mark = self._peek()
            if not mark:
                self._syntax("EOF while parsing an object")
            if mark != b'"':
                self._syntax("trailing comma" if mark == b"}" else "key must be a string", ahead=1)
            key = self._string()
            mark = self._peek()
            if mark != b":":
                self._syntax("expected `:`" if mark else "EOF while parsing an object", ahead=1 if mark else 0)
            self._at += 1
            is_first = False
            yield key
        self._at += 1

    def _comma(self, where: str, closing: str) -> None:
        mark = self._peek()
        if not mark:
            self._syntax(f"EOF while parsing {where}")
        if mark != b",":
            self._syntax(f"expected `,` or `{closing}`", ahead=1)
        self._at += 1

    def _scalar(self, kind: inspect.Type, first: bytes) -> None:
        if isinstance(kind, inspect.StrType) and first == b'"':
            self._string()
        elif isinstance(kind, inspect.BoolType) and first in (b"t", b"f"):
            self._skip()
        elif isinstance(kind, inspect.IntType | inspect.FloatType) and self._starts_number():
            self._number(kind)
        else:
            self._wrong_type(_expected(kind))

    def _number(self, kind: inspect.IntType | inspect.FloatType) -> None:
        text = self._take(_NUMBER)
        if isinstance(kind, inspect.FloatType):
            return
        if not text.lstrip(b"-").isdigit():
            self._wrong(f"invalid type: floating point `{text.decode()}`, expected {_expected(kind)}")
        number = int(text)
        if (kind.ge is not None and number < kind.ge) or (kind.le is not None and number > kind.le):
            self._wrong(f"invalid value: integer `{number}`, expected {_expected(kind)}")

    def _wrong_type(self, expected: str) -> NoReturn:
        """An error at a value of the wrong kind: scalars are consumed before it, lists and objects are not."""
        first = self._peek()
        if first == b"{":
            found = "map"
        elif first == b"[":
            found = "sequence"
        else:
            start = self._at
            self._skip()
            found = _describe(self._body[start : self._at])
        self._wrong(f"invalid type: {found}, expected {expected}")

    def _skip(self) -> None:
        first = self._peek()
        if first == b"{":
            for _ in self._keys():
                self._skip()
        elif first == b"[":
            self._path.append("")
            self._list(inspect.AnyType())
            self._path.pop()
        elif first == b'"':
            self._string()
        elif self._starts_number():
            self._take(_NUMBER)
        elif first in _WORDS:
            self._word(_WORDS[first])
        elif first:
            self._syntax("expected value", ahead=1)
        else:
            self._syntax("EOF while parsing a value")

    def _word(self, word: bytes) -> None:
        for expected in word:
            found = self._body[self._at : self._at + 1]
            if not found:
                self._syntax("EOF while parsing a value")
            self._at += 1
            if found[0] != expected:
                self._syntax("expected ident")

    def _string(self) -> str:
        start = self._at
        self._take(_STRING_START)
        following = self._body[self._at : self._at + 2]
        if following[:1] == b'"':
            self._at += 1
            try:
                return str(msgspec.json.decode(self._body[start : self._at]))
            except ValueError:
                self._syntax("invalid unicode code point")
        if len(following) < 1 + (following[:1] == b"\\"):
            self._at = len(self._body)
            self._syntax("EOF while parsing a string")
        if following[:1] == b"\\":
            self._syntax("invalid escape", ahead=2)
        self._syntax("control character (\\u0000-\\u001F) found while parsing a string", ahead=1)

    def _starts_number(self) -> bool:
        return _NUMBER.match(self._body, self._at) is not None

    def _take(self, pattern: re.Pattern[bytes]) -> bytes:
        match = pattern.match(self._body, self._at)
        assert match is not None
        self._at = match.end()
        return match[0]

    def _peek(self) -> bytes:
        """The next byte that is no space, without consuming it; empty at the end."""
        while self._body[self._at : self._at + 1] and self._body[self._at] in _SPACE:
            self._at += 1
        return self._body[self._at : self._at + 1]

    def _syntax(self, message: str, ahead: int = 0) -> NoReturn:
        raise SerdeError(self._located(message, ahead), is_syntax=True)

    def _wrong(self, message: str) -> NoReturn:
        raise SerdeError(self._located(message), is_syntax=False)

    def _unplaced(self, message: str) -> NoReturn:
        """An error that gets its position only when what it is in comes to its end."""
        raise SerdeError(message, is_syntax=False, is_placed=False)

    def _placed(self, error: SerdeError, closing: bytes) -> SerdeError:
        if error.is_placed:
            return error
        if self._peek() == closing:
            self._at += 1
        return SerdeError(self._located(error.text), is_syntax=False)

    def _located(self, message: str, ahead: int = 0) -> str:
        read = self._body[: self._at + ahead]
        line, column = read.count(b"\n") + 1, len(read) - (read.rfind(b"\n") + 1)
        path = ".".join(part for part in self._path if part)
        return f"{path}{': ' if path else ''}{message} at line {line} column {column}"


def _expected(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.StrType):
        return "a string"
    if isinstance(kind, inspect.BoolType):
        return "a boolean"
    if isinstance(kind, inspect.FloatType):
        return "f32"
    if isinstance(kind, inspect.IntType) and kind.ge == 0:
        return "u64" if kind.le is None else "u32"
    return "i32"


def _describe(value: bytes) -> str:
    if value == b"null":
        return "null"
    if value in (b"true", b"false"):
        return f"boolean `{value.decode()}`"
    if value[:1] == b'"':
        return f"string {value.decode(errors='replace')}"
    kind = "integer" if value.lstrip(b"-").isdigit() else "floating point"
    return f"{kind} `{value.decode()}`"

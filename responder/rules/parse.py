"""YAML text to plain data and a map of positions.

Never here: what the data means (``schema``, ``compile``), or reading of files.

The decision a reader would question: the tree is built here from PyYAML's parse events instead of by its loader. The loader keeps the
last of two equal keys in silence, reads ``no``, ``012`` and ``1:30`` as false, ten and ninety, and forgets where a value stood. Built
from events, a document of any depth or with a thousand aliases of aliases is refused before it costs anything.

Plain scalars are read as YAML 1.2's core schema without its exotic spellings: ``true`` and ``false``, decimal numbers, ``null``;
everything else is the string that is written there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from responder.model.errors import RuleError

try:  # libyaml's parser is ten times faster and makes the same events
    from yaml import CSafeLoader as _Loader
except ImportError:  # pragma: no cover - wheels carry libyaml; a distribution's own build may not
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]  # same interface, other class

BIGGEST_BYTES = 256 * 1024
DEEPEST = 24
MOST_NODES = 20_000

Path = tuple[str | int, ...]
"""Keys and 0-based list indexes from the root, such as ``("ladder", 1, "within")``."""

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_STRING_TAG = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where something stands: 1-based line and column. ``text_column`` is where a one-line string's first character is, else 0."""

    line: int
    column: int
    text_column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """One document.

    Attributes:
        data: Plain dicts, lists, strings, numbers, booleans and None.
        values: Where each value stands.
        keys: Where each mapping's key stands, under the path of its value.
    """

    file: str
    data: Any
    values: Mapping[Path, Position] = field(default_factory=dict)
    keys: Mapping[Path, Position] = field(default_factory=dict)

    def error(self, problem: str, *path: str | int, at_key: bool = False, offset: int = 0) -> RuleError:
        """Return a located error.

        Args:
            problem: What is wrong and what was expected.
            path: To the culprit; parts that do not exist in the document are located at the nearest part that does.
            at_key: Point to the key instead of the value.
            offset: 0-based character within a one-line string, such as an expression, that is to blame.
        """
        position = self.position(path, at_key=at_key)
        column = position.text_column + offset if position.text_column else position.column
        shown = ".".join(str(part) for part in path)
        return RuleError(problem, file=self.file, line=position.line, column=column, path=shown)

    def position(self, path: Path, *, at_key: bool = False) -> Position:
        """Return where a path stands, or the nearest part of it that is in the document."""
        if at_key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return Position(line=1, column=1)


def parse(text: str, *, file: str = "<text>") -> Parsed:
    """Read one YAML document.

    Args:
        text: The whole file, one document.
        file: Its name, for errors.

    Raises:
        RuleError: Not YAML, more than one document or none, a duplicate key, a key that is not a string, an explicit tag, a merge key,
            an alias of something unfinished, too large, too deep. Only the first is reported: what follows would be noise.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RuleError(f"not text: a lone surrogate at character {error.start}; expected UTF-8", file=file) from error
    if size > BIGGEST_BYTES:
        raise RuleError(f"the file has {size} bytes; expected at most {BIGGEST_BYTES}", file=file)
    try:
        return _Composer(file, yaml.parse(text, Loader=_Loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise RuleError(f"not YAML: {said}{_advice(text, line, said)}", file=file, line=line, column=column) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise RuleError(f"not YAML: {' '.join(str(error).split())}", file=file) from error


def _advice(text: str, line: int, said: str) -> str:
    """Say what a mistake of YAML usually is, for those who read of a block mapping for the first time; "" when it could be anything."""
    around = text.split("\n")[max(0, line - 2) : line]
    if any("\t" in one[: len(one) - len(one.lstrip())] for one in around):
        return "; there is a tab: indent with spaces only"
    if "mapping values" in said or "expected" in said:
        return "; look at the indentation of this line and the one before, and put a text that holds ': ' or begins with a sign in quotes"
    return ""


class _Composer:
    """Builds one document from events; a class because anchors, positions and the node count live as long as the document."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self.file, self.events = file, events
        self.values: dict[Path, Position] = {}
        self.keys: dict[Path, Position] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0

    def document(self) -> Parsed:
        next(self.events)  # StreamStart
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            raise RuleError("the file is empty; expected one YAML document", file=self.file)
        data = self._node(next(self.events), ())
        next(self.events)  # DocumentEnd
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._refuse(after, "a second document begins here; expected one document per file")
        return Parsed(file=self.file, data=data, values=self.values, keys=self.keys)

    def _node(self, event: Any, path: Path) -> Any:
        if len(path) > DEEPEST:
            raise self._refuse(event, f"nested deeper than {DEEPEST} levels")
        self._count(event, 1)
        self.values[path] = _position(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
            self._remember(event, value, 1)
            return value
        if event.tag is not None:
            raise self._refuse(event, f"the tag {event.tag} is not supported; write the value without it")
        before = self.nodes
        value = self._sequence(path) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(path)
        self._remember(event, value, self.nodes - before)
        return value

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event)
            at = (*path, key)
            if key in entries:
                first = self.keys[at]
                raise self._refuse(event, f"duplicate key; it already stands in line {first.line}", at)
            self.keys[at] = _position(event)
            entries[key] = self._node(next(self.events), at)
        return entries

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse(event, "a key is not a plain word; expected a string")
        if event.value == "<<" and event.implicit[0]:
            raise self._refuse(event, "merge keys (<<) are not supported; write the keys, or use an alias for a whole value")
        self._count(event, 1)
        return str(event.value)  # a key is the text that is written: on, yes, 1 and null are words here

    def _scalar(self, event: Any) -> Any:
        if event.tag not in (None, "!", _STRING_TAG):
            raise self._refuse(event, f"the tag {event.tag} is not supported; write the value without it")
        text = str(event.value)
        return text if event.tag is not None or not event.implicit[0] else _plain(text)

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            raise self._refuse(event, f"the alias *{event.anchor} has no finished anchor before it")
        value, size = self.anchors[event.anchor]
        self._count(event, size)
        return value

    def _remember(self, event: Any, value: Any, size: int) -> None:
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, size)

    def _count(self, event: Any, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MOST_NODES:
            raise self._refuse(event, f"more than {MOST_NODES} values, aliases written out")

    def _refuse(self, event: Any, problem: str, path: Path = ()) -> RuleError:
        position = _position(event)
        shown = ".".join(str(part) for part in path)
        return RuleError(problem, file=self.file, line=position.line, column=position.column, path=shown)


def _plain(text: str) -> Any:
    """Read a plain scalar. ``True``, ``yes``, ``012``, ``1:30``, ``2026-01-01`` stay the strings they look like."""
    if text in {"", "~", "null"}:
        return None
    if text in {"true", "false"}:
        return text == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _position(event: Any) -> Position:
    start, end = event.start_mark, event.end_mark
    text_column = 0
    if isinstance(event, yaml.ScalarEvent) and start.line == end.line and event.style not in ("|", ">"):
        text_column = start.column + (2 if event.style in ("'", '"') else 1)
    return Position(line=start.line + 1, column=start.column + 1, text_column=text_column)

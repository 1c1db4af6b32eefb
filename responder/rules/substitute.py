"""``${...}``: values put into arguments and target templates.

Never here: which names there are to put in (``facts``), or what a missing argument means to an action.

The decision a reader would question: missing is a value, not "". ``workload: ${labels.app}`` with no such label must leave the key
out, so that the target stays unresolved; an empty string would be a name that fits nothing, or everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal

from responder.rules.durations import format_duration

_TEMPLATE = re.compile(
    r"""\$\$\{ | \$\{ \s* (?P<root>[a-z]+) (?: \. (?P<name>[A-Za-z0-9_./-]+) | \[\s*"(?P<quoted>[^"\\]+)"\s*\] ) \s* \}""",
    re.VERBOSE,
)
_ANYTHING = re.compile(r"(?<!\$)\$\{[^}]*\}?")


class Missing(Enum):
    """A value that is not there."""

    MISSING = "missing"

    def __bool__(self) -> Literal[False]:
        """Nothing is there."""
        return False


MISSING: Final = Missing.MISSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One ``${root.name}`` in a text: its root, its name, and the 0-based offset of its ``$``."""

    root: str
    name: str
    offset: int


def references(value: Any) -> Iterator[Reference]:
    """Yield every reference in a value, through lists and mappings."""
    if isinstance(value, str):
        for found in _TEMPLATE.finditer(value):
            if found["root"] is not None:
                yield Reference(root=found["root"], name=found["name"] or found["quoted"], offset=found.start())
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def malformed(text: str) -> int | None:
    """Return the offset of a ``${`` that is not ``${root.name}``, or None."""
    good = {found.start() for found in _TEMPLATE.finditer(text)}
    return next((found.start() for found in _ANYTHING.finditer(text) if found.start() not in good), None)


def whole(text: str) -> Reference | None:
    """Return the reference when the text is nothing but one: then the value keeps its type."""
    found = _TEMPLATE.fullmatch(text)
    if found is None or found["root"] is None:
        return None
    return Reference(root=found["root"], name=found["name"] or found["quoted"], offset=0)


def substitute(value: Any, variables: Mapping[str, Mapping[str, Any]], *, only: str = "") -> Any | Missing:
    """Put values in.

    Args:
        value: JSON: a string with any number of ``${root.name}``, or a list or mapping of such.
        variables: Roots to mappings: ``labels``, ``facts``, ``target``, ``alert``, ``incident``, ``params``. None counts as missing.
        only: Name of the one root to put in; references to others, and escapes, stay as they are. "" for all.

    Returns:
        The value. A text that is nothing but one reference becomes the referenced value with its type; inside a longer text, values are
        written as the language writes them (``5m``, ``true``). A missing reference makes its text missing; a mapping loses that key; a
        list becomes missing as a whole, since its places may mean something. ``$${`` stands for ``${``.
    """
    if isinstance(value, str):
        return _text(value, variables, only)
    if isinstance(value, Mapping):
        put = {key: substitute(item, variables, only=only) for key, item in value.items()}
        return {key: item for key, item in put.items() if item is not MISSING}
    if isinstance(value, list | tuple):
        items = [substitute(item, variables, only=only) for item in value]
        return MISSING if any(item is MISSING for item in items) else items
    return value


def _text(text: str, variables: Mapping[str, Mapping[str, Any]], only: str) -> Any | Missing:
    if "${" not in text:
        return text
    single = whole(text)
    if single is not None and only in ("", single.root):
        return _value(single, variables)
    parts: list[str] = []
    place = 0
    for found in _TEMPLATE.finditer(text):
        parts.append(text[place : found.start()])
        place = found.end()
        if found["root"] is None:
            parts.append(found[0] if only else "${")
        elif only and found["root"] != only:
            parts.append(found[0])
        else:
            value = _value(Reference(root=found["root"], name=found["name"] or found["quoted"], offset=0), variables)
            if value is MISSING:
                return MISSING
            parts.append(_written(value))
    return "".join([*parts, text[place:]])


def _value(reference: Reference, variables: Mapping[str, Mapping[str, Any]]) -> Any | Missing:
    value = variables.get(reference.root, {}).get(reference.name)
    return MISSING if value is None else value


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return ", ".join(_written(item) for item in value)
    return str(value)

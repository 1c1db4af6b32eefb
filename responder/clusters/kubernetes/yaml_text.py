"""Writes an API object as YAML, as ``kubectl get -o yaml`` shows it.

The decision a reader would question: not PyYAML's dumper. Evidence of a storm is mostly YAML, and PyYAML takes a millisecond for a pod, most of it for tags and
anchors that JSON does not have. What is not plainly a word stands in JSON's quotes, which are YAML's too.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Read as something else than text by YAML 1.1. Source: yaml.org/type/bool.html, yaml.org/type/null.html."""

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON leaves as it is and YAML does not take, or takes for a line's end."""

DEEPEST = 100


def dump(data: Any) -> bytes:
    """Return JSON data (maps with text keys, lists, text, numbers, booleans, None) as a block of YAML, in its own order.

    Raises:
        ValueError: It is nested deeper than ``DEEPEST``.
    """
    lines: list[str] = []
    _block(data, "", "", lines, 0)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _block(data: Any, lead: str, indent: str, lines: list[str], depth: int) -> None:
    """Append a value.

    Args:
        data: The value.
        lead: What its first line begins with.
        indent: What its further lines begin with.
        lines: What was written so far.
        depth: How deep it is nested.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST}")
    if isinstance(data, dict) and data:
        for key, value in data.items():
            name = f"{lead}{_scalar(key)}:"
            if value and isinstance(value, dict):
                lines.append(name)
                _block(value, f"{indent}  ", f"{indent}  ", lines, depth + 1)
            elif value and isinstance(value, list):
                lines.append(name)
                _block(value, indent, indent, lines, depth + 1)
            else:
                lines.append(f"{name} {_scalar(value)}")
            lead = indent
    elif isinstance(data, list) and data:
        for value in data:
            _block(value, f"{lead}- ", f"{indent}  ", lines, depth + 1)
            lead = indent
    else:
        lines.append(f"{lead}{_scalar(data)}")


def _scalar(data: Any) -> str:
    if isinstance(data, str) and _WORD.fullmatch(data) and data.lower() not in _RESERVED:
        return data
    said = msgspec.json.encode(data).decode()
    if isinstance(data, float) and "e" in said:  # YAML 1.1 wants a point before, and a sign after it
        number, _, power = said.partition("e")
        return f"{number if '.' in number else f'{number}.0'}e{power if power[0] == '-' else f'+{power}'}"
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", said) if isinstance(data, str) else said

"""How values and types are put into messages for people. Never here: a message itself."""

from __future__ import annotations

from typing import Any


def shown(value: Any) -> str:
    """Return a value as it is put into a message: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def with_article(word: object) -> str:
    """Return ``a string``, ``an int``."""
    text = str(word)
    return f"an {text}" if text[:1] in "aeiou" else f"a {text}"

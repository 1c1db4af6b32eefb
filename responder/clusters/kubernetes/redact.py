"""Takes secrets out before anything is kept: values of telling names in objects, and telling patterns in text.

Redaction is best effort; that is why reading evidence takes the role operate, and Secrets are never read at all.
"""

from __future__ import annotations

import re
from typing import Any

import re2

HIDDEN = "[redacted]"
_NAME = re.compile(
    r"pass(word|wd|phrase)?|secret|token|api[_-]?key|credential|private[_-]?key|connection[_-]?string|sas|auth", re.IGNORECASE
)
_TEXT = tuple(
    re2.compile(pattern)
    for pattern in (
        rb"(?i)(authorization:\s*(?:bearer|basic)\s+)[^\s\"']+()",
        rb"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{16,}()",
        rb"(?i)([\"']?\b(?:password|passwd|pwd|secret|client_secret|api[_-]?key|access[_-]?key|accountkey|sharedaccesskey|token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+()",
        rb"(?i)([?&](?:sig|token|code|key)=)[^\s&\"']+()",
        rb"(?i)([a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s@/]+(@)",
        rb"()eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*()",
    )
)
"""RE2, whose time is linear in the text: a backtracking engine stood still for minutes over one long line, and with it every lease."""

_TELLING = ("authorization", "bearer", "basic", "pass", "pwd", "secret", "key", "token", "sig=", "code=", "://", "eyj")
"""One of these is in everything that a pattern of ``_TEXT`` finds, whatever its case: what has none is not looked through."""

_TELLING_BYTES = tuple(one.encode() for one in _TELLING)


def text(content: bytes) -> bytes:
    """Return bytes with what looks like a secret hidden; everything else stays byte for byte."""
    lower = content.lower()
    if not any(one in lower for one in _TELLING_BYTES):
        return content
    for pattern in _TEXT:
        content = pattern.sub(rb"\1" + HIDDEN.encode() + rb"\2", content)
    return content


def value(data: Any) -> Any:
    """Return an object without managed fields and last-applied copies, and with telling env values hidden."""
    if isinstance(data, dict):
        clean: dict[str, Any] = {}
        for name, one in data.items():
            if name in {"managedFields", "kubectl.kubernetes.io/last-applied-configuration"}:
                continue
            clean[name] = value(one)
        named = clean.get("name")
        if isinstance(named, str) and _NAME.search(named) and isinstance(clean.get("value"), str):
            clean["value"] = HIDDEN
        return clean
    if isinstance(data, list):
        return [value(one) for one in data]
    if isinstance(data, str):
        lower = data.casefold()
        if not any(one in lower for one in _TELLING):
            return data
        return text(data.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
    return data

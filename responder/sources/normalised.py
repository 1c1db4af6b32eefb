"""What understanding a body gives, and the small readers that every format shares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from responder.model.alert import Normalised

LONGEST_VALUE = 4096
MOST_LABELS = 500
TEST = "responder_test"
"""A label (Alertmanager), or a key of an event's data, by which a sender's own test is known: it stops at the router. ``responder send-test`` sets it."""


def unknown(why: str) -> Normalised:
    """Return a body that is not understood."""
    return Normalised(understood=False, why=why)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return a JSON array, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """Return a scalar as a string; "" for null, objects and arrays."""
    if value is None or isinstance(value, (dict, list)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def lookup(data: Mapping[str, Any], name: str) -> Any:
    """Return a value by name, in any case (``alertRuleID`` and ``alertRuleId`` both exist)."""
    if name in data:
        return data[name]
    wanted = name.lower()
    return next((value for key, value in data.items() if key.lower() == wanted), None)


def labels_of(raw: Any, gaps: list[str]) -> dict[str, str]:
    """Return labels as strings, bounded: values of at most 4 KiB, at most 500 of them; a dictionary of the caller's own."""
    if isinstance(raw, dict) and len(raw) <= MOST_LABELS:  # nearly always nothing is to be changed
        for value in raw.values():
            if type(value) is not str or len(value) > LONGEST_VALUE:
                break
        else:
            return raw.copy()
    found: dict[str, str] = {}
    for name, value in mapping(raw).items():
        if len(found) >= MOST_LABELS:
            gaps.append(f"more than {MOST_LABELS} labels; the rest was left out")
            break
        said = text(value) if not isinstance(value, (dict, list)) else ""
        if len(said) > LONGEST_VALUE:
            gaps.append(f"label {name} has {len(said)} characters; cut at {LONGEST_VALUE}")
            said = said[: LONGEST_VALUE - 1] + "…"
        found[str(name)] = said
    return found


_SUBSCRIPTION = re.compile(r"/subscriptions/([^/\s]+)", re.IGNORECASE)


def subscriptions_of(*ids: str) -> tuple[str, ...]:
    """Return the lower-cased subscription ids that ARM ids name, each once, in order."""
    return tuple(dict.fromkeys(found.lower() for one in ids for found in _SUBSCRIPTION.findall(one)))


_FRACTION = re.compile(r"\.(\d{6})\d+")
_US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})[ T](\d{1,2}):(\d{2}):(\d{2})( ?[AP]M)?", re.IGNORECASE)


def instant(value: Any) -> datetime | None:
    """Return a timestamp as UTC; None for none, for year 1 ("not set"), and for what cannot be read.

    Takes RFC 3339 with any offset and any number of fractional digits, and US-style dates without a zone (taken as UTC), which
    log alerts of version 1 carry.
    """
    said = (value if type(value) is str else text(value)).strip()
    if not said or said.startswith("0001-01-01"):
        return None
    us = _US_DATE.fullmatch(said) if "/" in said else None
    try:
        if us is not None:
            month, day, year, hour, minute, second = (int(part) for part in us.groups()[:6])
            half = (us.group(7) or "").strip().upper()
            if half:
                hour = hour % 12 + (12 if half == "PM" else 0)
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        at = datetime.fromisoformat(_FRACTION.sub(r".\1", said) if "." in said else said)
        if at.tzinfo is UTC:
            return at
        return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_HUMAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(Ki|Mi|Gi|Ti|[numkKMGTPE%]|ms|s)?")
_FACTORS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 1024.0, "Mi": 1024.0**2, "Gi": 1024.0**3, "Ti": 1024.0**4, "ms": 1e-3, "s": 1.0, "%": 0.01,
}  # fmt: skip


def number(value: Any) -> float | None:
    """Return a number, also one written for people (``12.7m`` is 0.0127); None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 1e308 else None
    found = _HUMAN.fullmatch(text(value).strip().replace(",", ""))
    if found is None:
        return None
    return float(found[1]) * _FACTORS.get(found[2] or "", 1.0)

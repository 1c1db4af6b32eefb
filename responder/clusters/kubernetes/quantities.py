"""Kubernetes quantities, and counts given as a number or a share."""

from __future__ import annotations

import math
import re

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE])?")
_SUFFIX = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(text: str) -> float:
    """Return a quantity such as ``250m`` or ``64Mi`` in base units; 0 for what is none."""
    found = _QUANTITY.fullmatch(text.strip())
    return float(found[1]) * _SUFFIX[found[2] or ""] if found else 0.0


def resolved(value: int | str | None, desired: int, *, default: int | str, up: bool) -> int:
    """Return maxSurge (rounded up) or maxUnavailable (rounded down) as a count."""
    given = default if value is None else value
    if isinstance(given, int):
        return given
    if given.endswith("%") and given[:-1].isdigit():
        share = int(given[:-1]) * desired / 100
        return math.ceil(share) if up else math.floor(share)
    return int(given) if given.isdigit() else 0

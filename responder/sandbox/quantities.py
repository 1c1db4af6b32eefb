"""Resource quantities: ``500m``, ``64Mi``; what pods ask for. Source: apimachinery ``resource.Quantity``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from responder.sandbox.answers import Object

SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6),
    "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10),
    "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def number(text: str | float) -> Decimal:
    """Return a quantity as a number: cores, bytes, counts."""
    word = str(text).strip()
    digits = word.rstrip("numkMGTPEi")
    return Decimal(digits or "0") * SUFFIXES[word[len(digits) :]]


def written(value: Decimal) -> str:
    """Return a number as a quantity: whole, or in thousandths."""
    return str(int(value)) if value == value.to_integral_value() else f"{int((value * 1000).to_integral_value())}m"


def asked(spec: Object, what: str = "requests") -> Mapping[str, Decimal]:
    """Return what a pod asks for: the sum over its containers, or its largest init container where that is more."""
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        for name, value in ((container.get("resources") or {}).get(what) or {}).items():
            total[name] += number(value)  # type: ignore[assignment] # a Counter adds Decimals as well
    found: dict[str, Decimal] = {name: Decimal(value) for name, value in total.items()}
    for container in spec.get("initContainers") or ():
        for name, value in ((container.get("resources") or {}).get(what) or {}).items():
            found[name] = max(found.get(name, Decimal(0)), number(value))
    return found

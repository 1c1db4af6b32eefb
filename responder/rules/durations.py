"""The small quantities of the language: durations ``1h30m``, shares ``30%``, rates ``3/1h``; read and written.

Never here: anything that knows what a quantity is for.

The decision a reader would question: not ISO 8601 and not pydantic's ``timedelta`` (which takes ``PT5M`` and a bare ``300`` but not
``5m``). A bare number has no unit, and a reader at night must not have to guess it. Months and years do not exist: they have no length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

LONGEST = timedelta(days=3650)
"""Beyond this it is a slip of the finger: ten years."""

DURATION_PATTERN = r"^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
SHARE_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"
RATE_PATTERN = r"^[0-9]+/([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)
_RATE = re.compile(r"(\d{1,9})/(.+)", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read ``90s``, ``5m``, ``1h30m``, ``12h``, ``2d``: units d h m s, each at most once, largest first.

    Args:
        text: Digits and units without spaces; ``0s`` is zero.

    Raises:
        ValueError: It is anything else, or longer than ten years; the message says what was expected.

    Source: Prometheus' duration syntax without ms, w and y.
    """
    found = _DURATION.fullmatch(text) if len(text) <= 40 else None
    if not text or found is None:
        raise ValueError(f"{_shown(text)} is not a duration; expected for example 90s, 5m, 1h30m or 2d")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    if days * 86400 + hours * 3600 + minutes * 60 + seconds > LONGEST.total_seconds():
        raise ValueError(f"{_shown(text)} is longer than {LONGEST.days}d; expected a shorter duration")
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write a duration as the language reads it, whole seconds, largest units first: ``1h30m``; zero is ``0s``."""
    left = max(0, round(duration.total_seconds()))
    parts = []
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_share(text: str) -> float:
    """Read ``30%`` as 0.3.

    Raises:
        ValueError: It is not a number with a percent sign from 0% to 100%.
    """
    found = _SHARE.fullmatch(text)
    if found is None or float(found[1]) > 100:
        raise ValueError(f"{_shown(text)} is not a share; expected 0% to 100%, for example 30%")
    return float(found[1]) / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most ``count`` in any ``within``."""

    count: int
    within: timedelta

    def __str__(self) -> str:
        """As the language writes it: ``3/1h``."""
        return f"{self.count}/{format_duration(self.within)}"


def parse_rate(text: str) -> Rate:
    """Read ``3/1h`` or ``5/5m``: a count in a time.

    Raises:
        ValueError: It is anything else, or the time is zero.
    """
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{_shown(text)} is not a rate; expected a count in a time, for example 3/1h or 5/5m")
    within = parse_duration(found[2])
    if not within:
        raise ValueError(f"{_shown(text)} counts in no time; expected for example 3/1h")
    return Rate(count=int(found[1]), within=within)


def is_duration(value: Any) -> bool:
    """Tell whether a value is a string that reads as a duration."""
    return isinstance(value, str) and bool(value) and _DURATION.fullmatch(value) is not None


def is_share(value: Any) -> bool:
    """Tell whether a value is a string that reads as a share."""
    return isinstance(value, str) and _SHARE.fullmatch(value) is not None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _a_string(value: Any, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string with its unit; expected for example {example}")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def _duration(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else parse_duration(_a_string(value, "5m"))


def _rate(value: Any) -> str:
    parse_rate(_a_string(value, "3/1h"))
    return str(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "5m", "1h30m", "2d"]},
    ),
]
"""A duration in a pydantic model: ``timedelta`` inside, ``1h30m`` outside."""

RateText = Annotated[
    str, BeforeValidator(_rate), WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["3/1h"]})
]
"""A checked rate, kept as written."""


def _share(value: Any) -> str:
    parse_share(_a_string(value, "30%"))
    return str(value)


ShareText = Annotated[
    str, BeforeValidator(_share), WithJsonSchema({"type": "string", "pattern": SHARE_PATTERN, "examples": ["30%"]})
]
"""A checked share, kept as written."""

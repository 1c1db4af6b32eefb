"""Health and verdicts: answers with three values, each with its reason.

Unknown is never permission and never success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from responder.model.reason import Reason


class Health(StrEnum):
    """What a check answers."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReading:
    """What one check saw.

    Attributes:
        health: The answer.
        detail: One sentence for people with the numbers seen, such as "1 of 3 ready, rollout complete".
        restarts: Container restarts per pod UID, where the check watches restarts; a rise between two reads breaks the hold.
    """

    health: Health
    detail: str = ""
    restarts: Mapping[str, int] = field(default_factory=dict)


class Ruling(StrEnum):
    """What a guard answers; only allow acts."""

    ALLOW = "allow"
    REFUSE = "refuse"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard's answer, why, and the numbers it saw."""

    ruling: Ruling
    reason: Reason
    detail: str = ""


def together(readings: Mapping[str, CheckReading]) -> CheckReading:
    """Join several checks: one unhealthy is unhealthy, else one unknown is unknown, else healthy; none at all is unknown.

    Source: RULES.md, key ``healthy``.
    """
    if not readings:
        return CheckReading(health=Health.UNKNOWN, detail="no check was read")
    restarts: dict[str, int] = {}
    for reading in readings.values():
        restarts.update(reading.restarts)
    for health in (Health.UNHEALTHY, Health.UNKNOWN):
        said = [f"{name}: {reading.detail or health}" for name, reading in readings.items() if reading.health is health]
        if said:
            return CheckReading(health=health, detail="; ".join(said), restarts=restarts)
    said = [f"{name}: {reading.detail or Health.HEALTHY}" for name, reading in readings.items()]
    return CheckReading(health=Health.HEALTHY, detail="; ".join(said), restarts=restarts)

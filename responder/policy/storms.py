"""Many at once: what a storm's parent incident is, whom it holds, how often its children are looked at, and when it is over.

One parent a cluster and mode, whatever made it one: two causes at once are one page. Source: ARCHITECTURE.md "Many at once"; kubernetes.md A15.4.
Never here: when a child asks for a parent (``decide``), counting, reading.

The decision a reader would question: a storm of one symptom is over when no more than the limit of its children are left unhealthy, and not when
its window has passed. Otherwise two thousand children of a registry that is down would be let go after five minutes, to be restarted or paged one by one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from responder.model.alert import Severity
from responder.model.health import Ruling, Verdict
from responder.model.incident import Incident, Mode, Phase
from responder.model.reason import Reason
from responder.model.storing import StormCounts
from responder.model.target import Target, TargetKind
from responder.policy import guards
from responder.policy.grouping import key_of
from responder.policy.guards import Limits

STORM = "storm:"
"""Prefix of the symptom of a parent incident."""

UNHEALTHY_NODES = "unhealthy_nodes"
UNREACHABLE = "unreachable"
SAMPLES = 5
"""Children of a storm whose evidence is taken. Source: RULES.md, ``same_symptom``."""

CHILD_EVERY = timedelta(seconds=60)
"""A child is looked at this often, and later the more there are: all of them together cost a cluster one or two reads a second."""

UNREACHABLE_PAGES_AFTER = timedelta(minutes=2)
"""As any other unknown: a restart of an API server calls nobody."""

_SYMPTOM = "same_symptom:"
_OVER = frozenset({Phase.RECOVERED, Phase.CLOSED})


def of_symptom(symptom: str) -> str:
    """Return the cause: too many targets with this symptom."""
    return f"{_SYMPTOM}{symptom}"


def symptom_of(cause: str) -> str:
    """Return the symptom of a cause; "" when it is another kind of cause."""
    return cause.removeprefix(_SYMPTOM) if cause.startswith(_SYMPTOM) else ""


def is_parent(incident: Incident) -> bool:
    """Tell whether an incident is a storm's parent."""
    return incident.symptom.startswith(STORM)


def parent_key(cluster: str, mode: Mode) -> str:
    """Return the key of the one parent that a cluster may have in a mode."""
    return key_of(mode, _target(cluster))


def _target(cluster: str) -> Target:
    return Target(kind=TargetKind.NONE, cluster=cluster, name="storm")


def parent_of(child: Incident, cause: str, *, detail: str, identity: str, now: datetime) -> Incident:
    """Return the parent that a child asks for.

    Args:
        child: Whose cluster and mode it is for.
        cause: What makes it a storm.
        detail: For people: what was counted.
        identity: Its id, if it is the first.
        now: The instant.
    """
    target = _target(child.cluster)
    return Incident(
        id=identity,
        key=key_of(child.mode, target),
        mode=child.mode,
        effective=child.mode,
        cluster=child.cluster,
        target=target,
        symptom=f"{STORM}{child.cluster}",
        title=f"Storm in {child.cluster or 'no known cluster'}",
        severity=Severity.CRITICAL,
        opened_at=now,
        phase_since=now,
        detail=said_of(cause, detail),
        evidence_at=now,
        causes=(cause,),
    )


def said_of(cause: str, detail: str) -> str:
    """Say a cause to people."""
    symptom = symptom_of(cause)
    if symptom:
        return f"{symptom}: {detail}"
    return f"{cause.replace('_', ' ')}: {detail}"


def holds(parent: Incident, child: Incident) -> bool:
    """Tell whether a parent has a child: one of its symptom, or any in its cluster when nodes or the cluster are the cause."""
    if parent.phase in _OVER or is_parent(child):
        return False
    if (parent.cluster, parent.mode) != (child.cluster, child.mode):
        return False
    return covers(parent.causes, child.symptom)


def covers(causes: tuple[str, ...], symptom: str) -> bool:
    """Tell whether causes hold an incident with this symptom."""
    return any(not symptom_of(cause) or symptom_of(cause) == symptom for cause in causes)


def look_at(child: Incident, *, children: int) -> datetime:
    """Return when a child is looked at again by itself: spread by its id, so that not all of them come at once.

    Args:
        child: Waiting for its storm.
        children: How many there are, as far as is known.
    """
    spread = max(60, children)
    return (child.read_at or child.phase_since) + CHILD_EVERY + timedelta(seconds=zlib.crc32(child.id.encode()) % spread)


def standing(
    parent: Incident, counts: StormCounts, limits: Limits, *, nodes: Verdict | None, reached: Verdict | None
) -> Mapping[str, Verdict]:
    """Return for each cause of a parent whether it is over (allow), stands (refuse), or is not known.

    Args:
        parent: As stored.
        counts: Of its symptoms.
        limits: The installation's.
        nodes: What ``guards.unhealthy_nodes`` says now; None when it was not asked.
        reached: Whether the cluster answers; None when it was not asked.
    """
    found: dict[str, Verdict] = {}
    unknown = Verdict(Ruling.UNKNOWN, Reason.UNKNOWN, "not read")
    for cause in parent.causes:
        symptom = symptom_of(cause)
        if symptom:
            left = counts.waiting.get(symptom, 0)
            asked = guards.same_symptom(limits, targets=max(left, counts.opened.get(symptom, 0)))
            found[cause] = Verdict(asked.ruling, asked.reason, f"{asked.detail}, {left} still wait")
        elif cause == UNHEALTHY_NODES:
            found[cause] = nodes or unknown
        elif cause == UNREACHABLE:
            found[cause] = reached or unknown
        else:  # of a newer release, whose storms only a newer release can end; a person can
            found[cause] = unknown
    return found


def pages_at(parent: Incident) -> datetime:
    """Return when people are told of a parent: at once, but for a cluster that does not answer, which may only be restarting."""
    return parent.opened_at + UNREACHABLE_PAGES_AFTER if set(parent.causes) == {UNREACHABLE} else parent.opened_at


__all__ = [
    "CHILD_EVERY", "SAMPLES", "STORM", "UNHEALTHY_NODES", "UNREACHABLE", "covers", "holds", "is_parent", "look_at", "of_symptom", "pages_at",
    "parent_key", "parent_of", "said_of", "standing", "symptom_of",
]  # fmt: skip

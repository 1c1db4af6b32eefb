"""What the hands need for writes to the cloud: what to read, what became of our operations, and whether a write may have been begun already.

Never here: sending. The one function that writes is ``hands.carry_out``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from responder.model.action import Plan, Write
from responder.model.cloud import CloudAsk, OperationResult, OperationState
from responder.model.cluster import Snapshot
from responder.model.errors import GoneError, RejectedError, RemoteError
from responder.model.incident import Attempt, Incident
from responder.ports import Cloud

FOLLOW_WITHIN = timedelta(seconds=8)
SHOWS_WITHIN = timedelta(seconds=90)
"""So long after a write of unknown fate its effect would show in what the cloud says; then a person decides."""

FRESH = timedelta(seconds=10)
"""What the cloud said longer ago is read again before a write. Source: ARCHITECTURE.md "Act once"."""


def ask_for(plan: Plan, *, fresh: bool) -> CloudAsk:
    """Return what to read of the cloud for carrying a plan out, also when the target itself is gone."""
    machine = str(plan.values.get("machine_id", "") or "")
    pool = str(plan.values.get("pool", "") or "")
    return CloudAsk(
        machine=machine, machines=(pool,) if machine and pool else (), health=plan.action.startswith("cluster."), fresh=fresh
    )


def stale(snapshot: Snapshot, *, now: datetime) -> bool:
    """Tell whether what the cloud said is too old to write by."""
    return snapshot.cloud is not None and now - snapshot.cloud.read_at > FRESH


def attempt_of(incident: Incident, key: str) -> Attempt | None:
    """Return the attempt at a write, by its key."""
    attempts = incident.command.attempts if incident.command is not None else ()
    return next((one for one in attempts if one.key == key), None)


def with_attempt(incident: Incident, attempt: Attempt) -> Incident:
    """Return the incident with an attempt noted in its command, in place of an earlier one of the same write."""
    command = incident.command
    if command is None:
        return incident
    others = tuple(one for one in command.attempts if one.key != attempt.key)
    return replace(incident, command=replace(command, attempts=(*others, attempt)))


def without_attempt(incident: Incident, write: Write) -> Incident:
    """Return the incident without the attempt at this write: the cloud said that nothing was begun."""
    command = incident.command
    if command is None or attempt_of(incident, write.key) is None:
        return incident
    return replace(incident, command=replace(command, attempts=tuple(one for one in command.attempts if one.key != write.key)))


async def followed(clouds: Mapping[str, Cloud], incident: Incident, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with what became of our operations; one that cannot be asked about is left out, and the world decides."""
    command = incident.command
    cloud = clouds.get(incident.cluster)
    if command is None or cloud is None or snapshot.cloud is None:
        return snapshot
    found: dict[str, OperationResult] = {}
    for attempt in command.attempts:
        if not attempt.token:
            continue
        try:
            found[attempt.key] = await cloud.follow(attempt.token, within=FOLLOW_WITHIN)
        except (GoneError, RejectedError):
            continue  # ARM forgets operations after a while, and they lie on the subscription, where we may have no role: the pool's state says it too
        except RemoteError as error:
            found[attempt.key] = OperationResult(state=OperationState.RUNNING, message=str(error))
    return replace(snapshot, cloud=replace(snapshot.cloud, operations=found)) if found else snapshot

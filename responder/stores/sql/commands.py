"""Intentions, claims, counts and debts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Connection, bindparam, delete, distinct, func, insert, select, update

from responder.model.action import Change
from responder.model.errors import InvariantError
from responder.model.incident import Command, Incident
from responder.model.reason import Reason
from responder.model.storing import Counts, Scopes, StoredChange
from responder.stores.sql import damage, parents, tables
from responder.stores.sql.codec import instant, pack, span, unpack
from responder.stores.sql.dialect import insert_new, take_turns

K = tables.commands
C = tables.claims
D = tables.changes
NOT_RUN = ("stopped", "refused", "rejected")
"""Outcomes of rungs that count as not run: they use up no limit."""

# Built once: every judgement asks them, and building a statement costs more than running it.
_HOLDER = (
    select(C.c.incident, C.c.identity)
    .where(C.c.identity.in_(bindparam("identities", expanding=True)), C.c.incident != bindparam("incident_"))
    .order_by(C.c.at, C.c.identity)
    .limit(1)
)
_RUNNING = select(func.count(distinct(C.c.incident))).where(
    C.c.scope == bindparam("scope_"), C.c.incident != bindparam("incident_")
)
_RECENT = (
    select(func.count())
    .select_from(K)
    .where(
        K.c.cluster == bindparam("cluster_"), K.c.rule == bindparam("rule_"), K.c.grade >= 1,
        K.c.begun_at > bindparam("since"), K.c.outcome.not_in(NOT_RUN),
    )
)  # fmt: skip


def denied(db: Connection, now: int, incident: Incident, scopes: Scopes) -> tuple[Reason, str] | None:
    """Return why an intention is not granted, with the other incident or the numbers; None when it is. Stores nothing.

    From here to the end of the transaction nobody else is granted anything in this cluster: what was counted stays so.
    """
    if not scopes.target:
        return None
    take_turns(db, tables.cluster_turns, "cluster", scopes.cluster)
    parent = parents.held_by(db, incident, scopes)
    if parent is not None:
        return parent
    other = _holder(db, scopes.target, incident.id)
    if other is not None:
        return Reason.ANOTHER_HAND, f"{other[0]} holds {other[1]}"
    if scopes.in_flight is not None:
        running = _running(db, scopes.scope, incident.id)
        if running >= scopes.in_flight:
            return Reason.IN_FLIGHT, f"{running} of {scopes.in_flight} run in {scopes.scope}"
    if scopes.max_actions is not None:
        recent = _recent(db, now, scopes)
        if recent >= scopes.max_actions:
            return Reason.MAX_ACTIONS, f"{recent} of {scopes.max_actions} in {scopes.window}"
    return None


def intend(db: Connection, now: int, incident: Incident, command: Command, scopes: Scopes, fence: int) -> None:
    """Take the claims and store the intention; only after ``denied`` said None in the same transaction."""
    for identity in sorted(set(scopes.target)):
        db.execute(delete(C).where(C.c.identity == identity, C.c.incident == incident.id))
        db.execute(
            insert(C).values(
                identity=identity, incident=incident.id, cluster=scopes.cluster, scope=scopes.scope, fence=fence, at=now
            )
        )
    insert_new(
        db,
        K,
        {
            "key": command.key,
            "incident": incident.id,
            "cluster": scopes.cluster,
            "rule": scopes.rule,
            "grade": command.grade,
            "begun_at": now,
            "body": pack(command),
            "fence": fence,
        },
        key="key",
    )


def _holder(db: Connection, identities: Sequence[str], incident: str) -> tuple[str, str] | None:
    """Return another incident that holds one of these, and which."""
    row = db.execute(_HOLDER, {"identities": list(identities), "incident_": incident}).first()
    return None if row is None else (row.incident, row.identity)


def _running(db: Connection, scope: str, incident: str) -> int:
    return int(db.execute(_RUNNING, {"scope_": scope, "incident_": incident}).scalar() or 0)


def _recent(db: Connection, now: int, scopes: Scopes) -> int:
    asked = {"cluster_": scopes.cluster, "rule_": scopes.rule, "since": now - span(scopes.window)}
    return int(db.execute(_RECENT, asked).scalar() or 0)


def counts(db: Connection, now: int, incident: Incident, scopes: Scopes, symptom_window: timedelta) -> Counts:
    """Count what limits are judged by."""
    return counts_of(db, now, incident, {"": scopes}, symptom_window)[""]


def counts_of(
    db: Connection, now: int, incident: Incident, scopes: Mapping[str, Scopes], symptom_window: timedelta
) -> dict[str, Counts]:
    """Count what limits are judged by, for several rules at once: only what is counted by rule is counted for each."""
    same = parents.opened_lately(db, now, incident, symptom_window)
    held: dict[tuple[str, ...], str] = {}
    running: dict[str, int] = {}
    found: dict[str, Counts] = {}
    for name, one in scopes.items():
        if one.target not in held:
            other = _holder(db, one.target, incident.id)
            held[one.target] = other[0] if other else ""
        if one.scope not in running:
            running[one.scope] = _running(db, one.scope, incident.id)
        found[name] = Counts(
            in_flight=running[one.scope],
            recent_actions=_recent(db, now, one),
            claimed_by=held[one.target],
            same_symptom=same,
        )
    return found


def owe(db: Connection, now: int, incident: Incident, command: str, changes: Sequence[Change]) -> None:
    """Record what must be given back, with the intention."""
    for change in changes:
        db.execute(insert(D).values(incident=incident.id, command=command, cluster=incident.cluster, at=now, body=pack(change)))


def owed(db: Connection, now: int, incident: str) -> list[StoredChange]:
    """Return what was not given back, newest first; of all incidents when none is named. One that cannot be read is listed as damaged instead."""
    query = select(D).where(D.c.undone_at.is_(None)).order_by(D.c.id.desc())
    if incident:
        query = query.where(D.c.incident == incident)
    found: list[StoredChange] = []
    for row in db.execute(query).all():
        try:
            change = unpack(row.body, Change)
        except InvariantError as error:
            damage.listed(db, now, D, row.id, error, incident=row.incident)
            continue
        one = StoredChange(
            id=row.id, incident=row.incident, command=row.command, change=change, cluster=row.cluster, at=instant(row.at)
        )
        found.append(one)
    return found


def undone(db: Connection, now: int, changes: Sequence[int]) -> None:
    """Mark changes as given back."""
    if changes:
        db.execute(update(D).where(D.c.id.in_(list(changes))).values(undone_at=now))


def finish(db: Connection, key: str, outcome: str) -> None:
    """Record what came of a command."""
    db.execute(update(K).where(K.c.key == key).values(outcome=outcome))


def release(db: Connection, incident: str) -> None:
    """Free an incident's claims."""
    db.execute(delete(C).where(C.c.incident == incident))

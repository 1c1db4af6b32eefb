"""Storms and what contains: the parent that a child asks for, who holds whom, and letting children go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from responder.model.errors import InvariantError
from responder.model.incident import EntryKind, Incident, Phase, SignalKind
from responder.model.reason import Reason
from responder.model.storing import Scopes, StormCounts
from responder.policy import storms
from responder.stores.sql import incidents, tables
from responder.stores.sql.codec import pack, span, unpack

T = tables.incidents
S = tables.signals
OVER = ("recovered", "closed")
_UNCLOSED = select(T.c.id, T.c.phase, T.c.state, T.c.state_v).where(T.c.key == bindparam("key_"), tables.UNCLOSED)
MOST_COUNTED = 1_000
"""Targets that share a symptom: what matters is whether they are a storm. How many wait for their parent is counted whole."""

_LATELY = select(func.count()).select_from(
    select(T.c.target)
    .where(
        T.c.cluster == bindparam("cluster_"), T.c.symptom == bindparam("symptom_"), T.c.mode == bindparam("mode_"),
        T.c.opened_at > bindparam("since"),
    )
    .distinct().limit(MOST_COUNTED).subquery()
)  # fmt: skip
_OPENED = select(func.count()).select_from(
    select(T.c.target)
    .where(
        T.c.cluster == bindparam("cluster_"), T.c.symptom == bindparam("symptom_"), T.c.mode == bindparam("mode_"),
        T.c.opened_at > bindparam("since"), T.c.phase.not_in(OVER),
    )
    .distinct().limit(MOST_COUNTED).subquery()
)  # fmt: skip
_LAST = select(func.max(T.c.closed_at)).where(
    T.c.cluster == bindparam("cluster_"),
    T.c.symptom == bindparam("symptom_"),
    T.c.mode == bindparam("mode_"),
    T.c.phase == "closed",
)
_CLOSED = (
    select(tables.timeline.c.body)
    .where(tables.timeline.c.incident == bindparam("parent_"), tables.timeline.c.reason == bindparam("reason_"))
    .order_by(tables.timeline.c.id.desc())
    .limit(1)
)
_TOLD = select(S.c.body).where(S.c.incident == bindparam("parent_"), S.c.kind == str(SignalKind.FIRED))


def ask(db: Connection, now: int, child: str, seed: Incident) -> str:
    """Open a parent, or tell the one that has its key of a cause that is new to it; return its id.

    "" while the last storm's parent is recovered and not closed yet, or cannot be read: it takes nobody any more, and whoever asks looks again.
    """
    row = db.execute(_UNCLOSED, {"key_": seed.key}).first()
    if row is None:
        incidents.open_new(db, now, seed)
        data = {"causes": list(seed.causes), "child": child}
        incidents.note(db, seed.id, now, EntryKind.DECISION, Reason.OPENED, seed.detail, data)
        return seed.id
    if row.phase in OVER:
        return ""
    parent = incidents.readable(row)
    if parent is None:  # nobody works on it: who waited for it would wait in silence
        return ""
    known = set(parent.causes)
    for cause in seed.causes:
        if cause not in known and not _told(db, row.id, cause):
            body = pack({"cause": cause, "detail": seed.detail, "child": child})
            values = {"incident": row.id, "kind": str(SignalKind.FIRED), "at": now, "by": "responder", "body": body}
            db.execute(insert(S).values(**values))
            db.execute(update(T).where(T.c.id == row.id).values(wake_at=now, wake=T.c.wake + 1))
    return str(row.id)


def _told(db: Connection, parent: str, cause: str) -> bool:
    """Tell whether a parent was told of a cause already; a storm's hundreds ask, so only what names it is read as JSON."""
    said = pack(cause)
    bodies = db.execute(_TOLD, {"parent_": parent}).scalars().all()
    return any(_read(body).get("cause") == cause for body in bodies if said in body)


def _read(body: bytes) -> dict[str, Any]:
    """Return what was said; nothing when it cannot be read."""
    try:
        return unpack(body, dict)
    except InvariantError:
        return {}


def held_by(db: Connection, incident: Incident, scopes: Scopes) -> tuple[Reason, str] | None:
    """Return the incident that has this one meanwhile, and as what; None when none has.

    One for what contains the target has it also when it cannot be read (damaged, or a newer release's): somebody may be at work there. A storm's that
    cannot be read has nobody, because nobody knows of what; what shares its symptom is held back by the count of them.
    """
    if not scopes.parents:
        return None
    query = select(T.c.id, T.c.key, T.c.target, T.c.state, T.c.state_v)
    query = query.where(T.c.key.in_(list(scopes.parents)), tables.UNCLOSED, T.c.phase.not_in(OVER), T.c.id != incident.id)
    for row in db.execute(query.order_by(T.c.id)):
        one = incidents.readable(row)
        if one is None:
            if row.key == storms.parent_key(incident.cluster, incident.mode):
                continue
            return Reason.CONTAINED, f"{row.id} is for {row.target}, and cannot be read"
        if not storms.is_parent(one):
            return Reason.CONTAINED, f"{one.id} is for {one.target}"
        if storms.covers(one.causes, scopes.symptom):
            return Reason.STORM, f"its storm is {one.id}"
    return None


def let_go(db: Connection, now: int, parent: Incident) -> None:
    """Tell every child of an incident that is over, and wake it; of a storm that a person closed, who it was."""
    children = select(T.c.id).where(T.c.parent == parent.id, T.c.parent != "", tables.UNCLOSED)
    ids = list(db.execute(children.order_by(T.c.id)).scalars())
    said: dict[str, str] = {"parent": parent.id, "text": f"{parent.id} is {parent.phase}"}
    if ids and parent.person_closed and storms.is_parent(parent):
        last = db.execute(_CLOSED, {"parent_": parent.id, "reason_": str(Reason.CLOSED_BY_PERSON)}).scalar()
        said["closed_by"] = str(_read(last).get("data", {}).get("by", "")) or "somebody" if last is not None else "somebody"
    body = pack(said)
    for start in range(0, len(ids), incidents.AT_ONCE):
        some = ids[start : start + incidents.AT_ONCE]
        rows = [{"incident": one, "kind": str(SignalKind.RELEASED), "at": now, "by": "responder", "body": body} for one in some]
        db.execute(insert(S), rows)
        db.execute(update(T).where(T.c.id.in_(some)).values(wake_at=now, wake=T.c.wake + 1, parent=""))


def opened_lately(db: Connection, now: int, child: Incident, window: timedelta) -> int:
    """Return how many distinct targets share a child's symptom, at most ``MOST_COUNTED``: of its mode, opened within the window and after the last storm."""
    since = _since(db, now, child, window)
    asked = {"cluster_": child.cluster, "symptom_": child.symptom, "mode_": str(child.mode), "since": since}
    return int(db.execute(_LATELY, asked).scalar() or 0)


def _since(db: Connection, now: int, one: Incident, window: timedelta) -> int:
    """A storm that is over has had its incidents: a person who closed it is not told of the same ones again."""
    asked = {"cluster_": one.cluster, "symptom_": f"{storms.STORM}{one.cluster}", "mode_": str(one.mode)}
    return max(now - span(window), db.execute(_LAST, asked).scalar() or 0)


def storm(db: Connection, now: int, parent: Incident, window: timedelta) -> StormCounts:
    """Count how a storm stands; of each symptom at most ``MOST_COUNTED`` targets that opened."""
    since = _since(db, now, parent, window)
    symptoms = [symptom for symptom in map(storms.symptom_of, parent.causes) if symptom]
    asked = {"cluster_": parent.cluster, "mode_": str(parent.mode), "since": since}
    opened = {one: int(db.execute(_OPENED, {**asked, "symptom_": one}).scalar() or 0) for one in symptoms}
    waiting = select(T.c.symptom, func.count()).where(
        T.c.parent == parent.id, T.c.parent != "", T.c.phase.in_([str(Phase.WAITING), str(Phase.OPEN)])
    )
    left = {str(symptom): int(count) for symptom, count in db.execute(waiting.group_by(T.c.symptom))}
    return StormCounts(opened=opened, waiting=left)

"""Finds rows that nothing would ever look at again, and puts them right. Every statement may run twice, on every replica.

Never here: what a person must do (``inspecting`` tells), or anything that writes outside the store.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, and_, delete, exists, func, literal_column, or_, select, update

from responder.model.incident import STATE_VERSION, EntryKind, Mode
from responder.model.reason import Reason
from responder.model.storing import Audit, SourceHeard
from responder.stores.sql import damage, incidents, tables
from responder.stores.sql.codec import instant, span
from responder.stores.sql.inspecting import LONGEST_LEASE, OVERDUE

AT_ONCE = 200
STILL_FIRES = timedelta(hours=24)
"""An instance not heard of for longer does not count as firing (``policy.grouping``)."""

FAILED_FOR = timedelta(hours=24)
SETTLED = timedelta(minutes=2)


def audit(db: Connection, now: int) -> Audit:
    """Look for what fell out of the order, and repair what can be repaired.

    Repaired: an unclosed incident without a wake-up is woken; one that is leased for longer than any lease lasts is freed; claims of incidents that
    are closed, gone or recovered are freed; a firing alert that was matched and that no unclosed incident holds is judged again; a damaged row that is
    well again or gone is listed no longer. Only counted: what is late because nobody works.
    """
    damage.look_again(db, now)
    return Audit(
        no_wake_up=_no_wake_up(db, now),
        leased_too_long=_leased_too_long(db, now),
        orphaned_claim=_orphaned_claims(db, now),
        unheld_alert=_unheld_alerts(db, now),
        overdue=_overdue(db, now),
    )


def _no_wake_up(db: Connection, now: int) -> int:
    I = tables.incidents  # noqa: N806, E741 - a table reads as a name of its own
    ids = list(db.execute(select(I.c.id).where(tables.UNCLOSED, I.c.wake_at.is_(None)).order_by(I.c.id).limit(AT_ONCE)).scalars())
    if ids:
        db.execute(update(I).where(I.c.id.in_(ids)).values(wake_at=now, wake=I.c.wake + 1))
    for one in ids:
        _say(db, now, one, "nobody would have looked at it again; woken")
    return len(ids)


def _leased_too_long(db: Connection, now: int) -> int:
    I = tables.incidents  # noqa: N806, E741
    late = I.c.lease_until > now + span(LONGEST_LEASE)
    held = I.c.lease_until > literal_column("0")  # as the index says it: the many that nobody holds are not looked at
    ids = list(db.execute(select(I.c.id).where(tables.UNCLOSED, held, late).order_by(I.c.lease_until).limit(AT_ONCE)).scalars())
    if ids:
        db.execute(update(I).where(I.c.id.in_(ids)).values(lease_until=now))
    for one in ids:
        _say(db, now, one, "it was held for longer than any lease lasts; freed")
    return len(ids)


def _orphaned_claims(db: Connection, now: int) -> int:
    """A recovered incident is proven and holds nothing; one commit frees it, so an old claim of one was left over."""
    C, I = tables.claims, tables.incidents  # noqa: N806, E741
    holds = exists().where(I.c.id == C.c.incident, I.c.phase.not_in(["closed", "recovered"]))
    old = C.c.at < now - span(SETTLED)
    identities = list(db.execute(select(C.c.identity).where(~holds, old).order_by(C.c.identity).limit(AT_ONCE)).scalars())
    if identities:
        db.execute(delete(C).where(C.c.identity.in_(identities)))
    return len(identities)


def _unheld_alerts(db: Connection, now: int) -> int:
    """A person's closing stands; so does that of a shadow incident, whose alerts are told of again when they fire anew."""
    A, I = tables.alerts, tables.incidents  # noqa: N806, E741
    held = exists().where(or_(I.c.id == A.c.incident, I.c.id == A.c.shadow_incident), tables.UNCLOSED)
    by_person = exists().where(or_(I.c.id == A.c.incident, I.c.id == A.c.shadow_incident), I.c.person_closed)
    shadow_only = and_(A.c.incident == "", A.c.shadow_incident != "")
    lost = [
        A.c.status == "firing",
        A.c.why == "",
        A.c.wake_at.is_(None),
        A.c.seen_at > now - span(STILL_FIRES),
        A.c.seen_at < now - span(SETTLED),
        ~held,
        ~by_person,
        ~shadow_only,
    ]
    found = list(db.execute(select(A.c.instance).where(*lost).order_by(A.c.instance).limit(AT_ONCE)).scalars())
    if found:
        db.execute(update(A).where(A.c.instance.in_(found)).values(wake_at=now))
    return len(found)


def _overdue(db: Connection, now: int) -> int:
    I, D, O = tables.incidents, tables.deliveries, tables.outbox  # noqa: N806, E741
    late = now - span(OVERDUE)
    wheres = (
        (I, [tables.UNCLOSED, I.c.wake_at < late, I.c.lease_until <= now, I.c.state_v <= STATE_VERSION]),
        (D, [tables.NEW, D.c.wake_at < late, D.c.lease_until <= now]),
        (O, [tables.WAITING, O.c.wake_at < late, O.c.lease_until <= now, O.c.tries == 0]),
    )
    return sum(int(db.execute(select(func.count()).select_from(table).where(*where)).scalar() or 0) for table, where in wheres)


def _say(db: Connection, now: int, incident: str, what: str) -> None:
    incidents.note(db, incident, now, EntryKind.DECISION, Reason.REPAIRED, f"found by the auditor: {what}", {})


def unsettled(db: Connection, now: int) -> list[int]:
    """Return ids of changes that nobody will give back any more: their incident is over, and has been for two minutes."""
    D, I = tables.changes, tables.incidents  # noqa: N806, E741
    late = now - span(SETTLED)
    alive = exists().where(
        I.c.id == D.c.incident,
        or_(I.c.phase.not_in(["closed", "recovered"]), I.c.lease_until > now, and_(I.c.phase == "closed", I.c.closed_at > late)),
    )
    shadow = exists().where(I.c.id == D.c.incident, I.c.mode == str(Mode.SHADOW))
    query = select(D.c.id).where(D.c.undone_at.is_(None), D.c.at < late, ~alive, ~shadow)
    return list(db.execute(query.order_by(D.c.id.desc()).limit(AT_ONCE)).scalars())


def heard(db: Connection, now: int, names: list[str]) -> list[SourceHeard]:
    """Return when each of these senders was last heard, and how many of its deliveries failed for good within a day."""
    D = tables.deliveries  # noqa: N806
    found = []
    for name in names:
        last = db.execute(select(func.max(D.c.received_at)).where(D.c.source_name == name)).scalar()
        found.append(SourceHeard(name=name, at=None if last is None else instant(last)))
    failed = select(D.c.source_name, func.count(), func.max(D.c.received_at)).where(
        D.c.state == "failed", D.c.received_at > now - span(FAILED_FOR)
    )
    for name, count, at in db.execute(failed.group_by(D.c.source_name)):
        found.append(SourceHeard(name=name, at=instant(at), failed=int(count)))
    return found

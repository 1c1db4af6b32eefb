"""Evidence within its bounds, modes, the memory of healthy revisions, and what is forgotten when.

Source of bounds: ARCHITECTURE.md "Bounds": 1 MiB an item, 16 MiB an incident.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection, delete, func, insert, select

from responder.model.evidence import EvidenceItem
from responder.model.incident import Mode
from responder.model.storing import ModeRow
from responder.stores.sql import incidents, tables
from responder.stores.sql.codec import instant, maybe_millis, millis, span, squeeze, stretch
from responder.stores.sql.dialect import insert_new, upsert

E = tables.evidence
ITEM_BYTES = 1 << 20
INCIDENT_BYTES = 16 << 20
FORGET_DELIVERIES = timedelta(days=30)
FORGET_INCIDENTS = timedelta(days=400)
FORGET_BATCH = 500


def keep_evidence(db: Connection, now: int, incident: str, opening: int, items: Sequence[EvidenceItem]) -> None:
    """Store evidence by content; what goes over the bounds is cut, and says so."""
    used = int(db.execute(select(func.sum(E.c.size_bytes)).where(E.c.incident == incident)).scalar() or 0)
    for one in items:
        room = max(0, min(ITEM_BYTES, INCIDENT_BYTES - used))
        content = one.content[:room]
        cut = len(content) < len(one.content)
        digest = ""
        if content:
            digest = hashlib.blake2b(content, digest_size=20).hexdigest()
            insert_new(db, tables.blobs, {"digest": digest, "body": squeeze(content), "at": now}, key="digest")
        db.execute(delete(E).where(E.c.incident == incident, E.c.opening == opening, E.c.name == one.name))
        db.execute(
            insert(E).values(
                incident=incident,
                opening=opening,
                name=one.name,
                media_type=one.media_type,
                digest=digest,
                size_bytes=len(content),
                truncated=one.truncated or cut,
                problem=one.problem or ("the incident's evidence is full" if cut and not content else ""),
                at=millis(one.taken_at),
            )
        )
        used += len(content)


def evidence(db: Connection, now: int, incident: str) -> list[EvidenceItem]:
    """Return all evidence of an incident."""
    del now
    B = tables.blobs  # noqa: N806
    rows = db.execute(
        select(E, B.c.body).join(B, B.c.digest == E.c.digest, isouter=True).where(E.c.incident == incident).order_by(E.c.id)
    )
    return [
        EvidenceItem(
            name=row.name,
            media_type=row.media_type,
            content=stretch(row.body) if row.body is not None else b"",
            truncated=bool(row.truncated),
            taken_at=instant(row.at),
            problem=row.problem,
        )
        for row in rows
    ]


def modes(db: Connection, now: int) -> list[ModeRow]:
    """Return all switches."""
    del now
    rows = db.execute(select(tables.modes).order_by(tables.modes.c.scope))
    return [
        ModeRow(scope=row.scope, mode=Mode(row.mode), by=row.by, at=instant(row.at) if row.at else None, why=row.why)
        for row in rows
    ]


def set_mode(db: Connection, now: int, row: ModeRow) -> None:
    """Set a switch and wake every unclosed incident."""
    row = replace(row, at=row.at or instant(now))
    upsert(
        db,
        tables.modes,
        {"scope": row.scope, "mode": str(row.mode), "by": row.by, "at": maybe_millis(row.at), "why": row.why},
        key="scope",
    )
    incidents.wake_all(db, now)


def remember_healthy(db: Connection, now: int, revisions: Sequence[str]) -> None:
    """Remember revisions that were seen healthy."""
    for one in revisions:
        upsert(db, tables.healthy_revisions, {"revision": one, "seen_at": now}, key="revision")


def seen_healthy(db: Connection, now: int, revisions: Sequence[str]) -> list[str]:
    """Return those that were ever seen healthy."""
    del now
    H = tables.healthy_revisions  # noqa: N806
    return list(db.execute(select(H.c.revision).where(H.c.revision.in_(list(revisions)))).scalars())


def prune(db: Connection, now: int) -> int:
    """Forget what is old enough, in one small batch; return how many rows went."""
    gone = 0
    old = now - span(FORGET_DELIVERIES)
    D, A, I, L = tables.deliveries, tables.alerts, tables.incidents, tables.timeline  # noqa: N806, E741
    ids = list(db.execute(select(D.c.id).where(D.c.received_at < old, D.c.state != "new").limit(FORGET_BATCH)).scalars())
    gone += db.execute(delete(D).where(D.c.id.in_(ids))).rowcount if ids else 0
    names = list(db.execute(select(A.c.instance).where(A.c.seen_at < old).limit(FORGET_BATCH)).scalars())
    gone += db.execute(delete(A).where(A.c.instance.in_(names))).rowcount if names else 0
    evidence_ids = list(db.execute(select(E.c.id).where(E.c.at < old).limit(FORGET_BATCH)).scalars())
    gone += db.execute(delete(E).where(E.c.id.in_(evidence_ids))).rowcount if evidence_ids else 0
    B = tables.blobs  # noqa: N806
    unused = list(
        db.execute(select(B.c.digest).where(B.c.at < old, B.c.digest.not_in(select(E.c.digest))).limit(FORGET_BATCH)).scalars()
    )
    gone += db.execute(delete(B).where(B.c.digest.in_(unused))).rowcount if unused else 0
    older = now - span(FORGET_INCIDENTS)
    closed = list(db.execute(select(I.c.id).where(I.c.phase == "closed", I.c.closed_at < older).limit(FORGET_BATCH)).scalars())
    if closed:
        gone += db.execute(delete(L).where(L.c.incident.in_(closed))).rowcount
        gone += db.execute(delete(I).where(I.c.id.in_(closed))).rowcount
    return gone

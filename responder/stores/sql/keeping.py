"""Evidence within its bounds, modes, and the memory of healthy revisions.

Source of bounds: ARCHITECTURE.md "Bounds": 1 MiB an item, 16 MiB an incident.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from responder.model.errors import InvariantError
from responder.model.evidence import EvidenceItem
from responder.model.incident import Mode
from responder.model.storing import ModeRow
from responder.stores.sql import incidents, tables
from responder.stores.sql.codec import instant, maybe_millis, millis, squeeze, stretch, word
from responder.stores.sql.dialect import insert_new_rows, insert_rows, upsert, upsert_all

E = tables.evidence
ITEM_BYTES = 1 << 20
INCIDENT_BYTES = 16 << 20
FULL = "not kept: the incident's evidence is full (16 MiB)"
MADE_ROOM = "dropped to make room for a newer opening's evidence (16 MiB an incident)"
AT_ONCE = 500
_COLUMNS = ("incident", "opening", "name", "media_type", "digest", "size_bytes", "truncated", "problem", "at")


_REPLACED = delete(E).where(
    E.c.incident == bindparam("incident_"), E.c.opening == bindparam("opening_"), E.c.name.in_(bindparam("names", expanding=True))
)
_USED = select(func.sum(E.c.size_bytes)).where(E.c.incident == bindparam("incident_"))


def keep_evidence(db: Connection, now: int, incident: str, opening: int, items: Sequence[EvidenceItem]) -> None:
    """Store evidence by content; what goes over the bounds is cut, and says so.

    When an incident is full, what was captured for its earlier openings gives way, oldest first: people need what was seen before the
    newest rung. Within one opening the first items stay: they were seen before anything was done. An item captured again (a crash between
    capture and commit) takes its old one's place.
    """
    unique = {item.name: item for item in items}
    db.execute(_REPLACED, {"incident_": incident, "opening_": opening, "names": sorted(unique)})
    used = int(db.execute(_USED, {"incident_": incident}).scalar() or 0)
    rows: list[tuple[Any, ...]] = []
    blobs: list[tuple[Any, ...]] = []
    for one in unique.values():
        wanted = min(ITEM_BYTES, len(one.content))
        if used + wanted > INCIDENT_BYTES:
            used -= _make_room(db, incident, opening, used + wanted - INCIDENT_BYTES)
        content = one.content[: max(0, min(ITEM_BYTES, INCIDENT_BYTES - used))]
        cut = len(content) < len(one.content)
        digest = ""
        if content:
            digest = hashlib.blake2b(content, digest_size=20).hexdigest()
            blobs.append((digest, squeeze(content), now))
        problem = one.problem or (FULL if cut and not content else "")
        rows.append(
            (
                incident, opening, one.name, one.media_type, digest, len(content), one.truncated or cut, problem, millis(one.taken_at)
            )
        )  # fmt: skip
        used += len(content)
    insert_new_rows(db, tables.blobs, ("digest", "body", "at"), blobs)
    insert_rows(db, E, _COLUMNS, rows)


def _make_room(db: Connection, incident: str, opening: int, wanted: int) -> int:
    """Drop the content of earlier openings, oldest first, until that many bytes are free; return how many are."""
    older = select(E.c.id, E.c.size_bytes).where(E.c.incident == incident, E.c.opening < opening, E.c.size_bytes > 0)
    freed = 0
    for row in db.execute(older.order_by(E.c.opening, E.c.id)).all():
        if freed >= wanted:
            break
        db.execute(update(E).where(E.c.id == row.id).values(digest="", size_bytes=0, truncated=True, problem=MADE_ROOM))
        freed += row.size_bytes
    return freed


def evidence(db: Connection, now: int, incident: str) -> list[EvidenceItem]:
    """Return all evidence of an incident."""
    del now
    B = tables.blobs  # noqa: N806
    rows = db.execute(
        select(E, B.c.body).join(B, B.c.digest == E.c.digest, isouter=True).where(E.c.incident == incident).order_by(E.c.id)
    )
    return [_item(row) for row in rows]


def _item(row: Row[Any]) -> EvidenceItem:
    """Return a row as a value; one whose content cannot be read without it, and says so."""
    content, problem = b"", row.problem
    try:
        content = stretch(row.body) if row.body is not None else b""
    except InvariantError as error:
        problem = f"{problem}; damaged in the store: {error}".lstrip("; ")
    return EvidenceItem(
        name=row.name,
        media_type=row.media_type,
        content=content,
        truncated=bool(row.truncated),
        taken_at=instant(row.at),
        problem=problem,
    )


_MODES = select(tables.modes).order_by(tables.modes.c.scope)
_SEEN = select(tables.healthy_revisions.c.revision).where(
    tables.healthy_revisions.c.revision.in_(bindparam("revisions", expanding=True))
)


def modes(db: Connection, now: int) -> list[ModeRow]:
    """Return all switches; one that says what is no mode is off: what was meant is not known, and nothing is done where it holds."""
    del now
    rows = db.execute(_MODES)
    return [
        ModeRow(
            scope=row.scope, mode=word(Mode, row.mode, Mode.OFF), by=row.by, at=instant(row.at) if row.at else None, why=row.why
        )
        for row in rows
    ]


def set_mode(db: Connection, now: int, row: ModeRow) -> int:
    """Set a switch and wake those incidents that somebody has in hand; return how many others are to be woken."""
    row = replace(row, at=row.at or instant(now))
    upsert(
        db,
        tables.modes,
        {"scope": row.scope, "mode": str(row.mode), "by": row.by, "at": maybe_millis(row.at), "why": row.why},
        key="scope",
    )
    return incidents.wake_held(db, now)


def remember_healthy(db: Connection, now: int, revisions: Sequence[str]) -> None:
    """Remember revisions that were seen healthy."""
    upsert_all(db, tables.healthy_revisions, [{"revision": one, "seen_at": now} for one in revisions], key="revision")


def seen_healthy(db: Connection, now: int, revisions: Sequence[str]) -> list[str]:
    """Return those that were ever seen healthy."""
    del now
    found: list[str] = []
    for start in range(0, len(revisions), AT_ONCE):
        found += db.execute(_SEEN, {"revisions": list(revisions[start : start + AT_ONCE])}).scalars()
    return found

"""Alerts say of what kind they are and how old, so that an incident reads those that stand for all it holds, and not thousands.

What an older release stores beside this one has no kind and is read one by one. What it stores anew of an alert that has one keeps that: if the alert's
severity or rules were others by then, the incident judges by the former until the next repeat. No release was made without these columns.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from responder.model.errors import InvariantError
from responder.model.incident import Instance
from responder.stores.sql.alert_rows import instance, kind, place

revision = "0006"
down_revision = "0005"

AT_ONCE = 1_000


def upgrade() -> None:
    """Add columns, fill them for what incidents hold, and put wider indexes in the place of two."""
    for name in ("kind", "place"):
        op.add_column("alerts", sa.Column(name, sa.BigInteger(), nullable=True))
    _fill()
    for name, column in (("alerts_held_by", "incident"), ("alerts_held_in_shadow_by", "shadow_incident")):
        held = sa.text(f"{column} != ''")
        stands = [column, "kind", "status", "place", "seen_at"]
        op.create_index(name, "alerts", stands, sqlite_where=held, postgresql_where=held)
    for name in ("alerts_held", "alerts_held_in_shadow"):
        op.drop_index(name, "alerts")


def _fill() -> None:
    db = op.get_bind()
    names = ("instance", "fingerprint", "name", "status", "why", "incident", "shadow_incident", "body")
    alerts = sa.table("alerts", *(sa.column(name) for name in (*names, "kind", "place")))
    A = alerts.c  # noqa: N806 - a table reads as a name of its own
    query = sa.select(*(A[name] for name in names)).where(sa.or_(A.incident != "", A.shadow_incident != "")).order_by(A.instance)
    fill = (
        sa.update(alerts)
        .where(A.instance == sa.bindparam("key"))
        .values(kind=sa.bindparam("a_kind"), place=sa.bindparam("a_place"))
    )
    last = ""
    while rows := db.execute(query.where(A.instance > last).limit(AT_ONCE)).all():
        held = [one for row in rows if (one := _readable(row)) is not None]
        if held:
            db.execute(fill, [{"key": one.instance, "a_kind": kind(one), "a_place": place(one)} for one in held])
        last = rows[-1].instance


def _readable(row: sa.Row[Any]) -> Instance | None:
    """Return an alert; None for one whose bytes are damaged: it stays without a kind, and must not keep the service from starting."""
    try:
        return instance(row)
    except InvariantError:
        return None

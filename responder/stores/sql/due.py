"""When the next row of a table may be claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, case, func, literal_column, select


def later_of(wake_at: ColumnElement[Any], lease_until: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the later of two columns; the databases have no common word for it."""
    return case((wake_at > lease_until, wake_at), else_=lease_until)


def earliest(table: Table, live: ColumnElement[bool]) -> Callable[[Connection, int], int | None]:
    """Return the question when the next live row may be claimed: its time has come and nobody holds it; its answer is None when there is none.

    Two index probes (engine.md O6): the first free row by ``wake_at``, and the few rows that are held. A held row must not hide a free one
    behind it, nor be reported as due while it is held: the caller would spin. Built once: the loops ask it all the time.
    """
    wake_at, lease_until = table.c.wake_at, table.c.lease_until
    now: ColumnElement[Any] = bindparam("now_")
    free = select(wake_at).where(live, wake_at.is_not(None), lease_until <= now).order_by(wake_at).limit(1)
    held = select(func.min(later_of(wake_at, lease_until))).where(
        live, wake_at.is_not(None), lease_until > literal_column("0"), lease_until > now
    )

    def asked(db: Connection, at: int) -> int | None:
        found = (db.execute(free, {"now_": at}).scalar(), db.execute(held, {"now_": at}).scalar())
        return min((one for one in found if one is not None), default=None)

    return asked

"""Looks over a database and tells what is wrong with it; writes it out. Changes nothing.

The same questions that the running service answers row by row, asked of all rows at once: for a person before an upgrade, after a restore,
or when something waits that should not. Never here: a repair; what is repaired by itself is the auditor's.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, MetaData, RowMapping, Table, exists, func, or_, select, text

from responder.model.errors import InvariantError, SettingsError
from responder.model.incident import STATE_VERSION
from responder.stores.sql import damage, tables
from responder.stores.sql.codec import instant, span, unpack_incident
from responder.stores.sql.migrate import least_revision, newest, revision

OVERDUE = timedelta(minutes=2)
"""A running service is never this late: it polls every second, and a lease ends after 30 s."""

LONGEST_LEASE = timedelta(minutes=1)
AT_ONCE = 500
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    Attributes:
        what: One word of a closed list, see ``inspected``.
        count: Rows concerned.
        detail: The first few of them, or the database's own words.
        advice: What to do.
    """

    what: str
    count: int
    detail: str
    advice: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        schema, known: The database's revision ("" for none) and that of this release.
        rows: Table to number of rows.
        findings: Empty when all is well.
    """

    schema: str
    known: str
    rows: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def inspected(db: Connection, now: int) -> Inspection:
    """Look everything over.

    Findings: ``schema``, ``integrity``, ``unreadable``, ``newer_state``, ``rule_missing``, ``no_wake_up``, ``overdue``, ``leased_too_long``,
    ``delivery_overdue``, ``delivery_failed``, ``message_overdue``, ``orphan``.

    Args:
        db: In a transaction that only reads.
        now: The store's time, in milliseconds.
    """
    known, present = newest(), revision(db) or ""
    found = [*_schema(db, present, known), *_integrity(db)]
    if present < known:
        return Inspection(schema=present, known=known, findings=tuple(found))
    found += [*_states(db), *_unreadable(db), *_incidents(db, now), *_deliveries(db, now), *_outbox(db, now), *_orphans(db)]
    rows = {table.name: int(db.execute(select(func.count()).select_from(table)).scalar() or 0) for table in _own_tables()}
    return Inspection(schema=present, known=known, rows=rows, findings=tuple(found))


def _own_tables() -> list[Table]:
    return list(tables.METADATA.sorted_tables)


def _schema(db: Connection, present: str, known: str) -> Iterator[Finding]:
    if present < known:
        said = f"the schema is {present}, older than {known}" if present else "there is no schema"
        yield Finding("schema", 1, said, "run responder db migrate, or start the service: it migrates by itself")
    elif present > known and (least_revision(db) or present) > known:
        yield Finding("schema", 1, f"the schema is {present}, this release knows {known}", "run the newer release")


def _integrity(db: Connection) -> Iterator[Finding]:
    advice = "restore a backup beside it and compare; keep the damaged one"
    if db.dialect.name == "sqlite":
        said = [str(one) for one in db.execute(text("pragma integrity_check")).scalars() if one != "ok"]
        strays = len(db.execute(text("pragma foreign_key_check")).all())
        if strays:
            said.append(f"{strays} rows refer to rows that are not there")
    else:
        said = list(
            db.execute(text("select indexrelid::regclass::text || ' is invalid' from pg_index where not indisvalid")).scalars()
        )
        failed = db.execute(text("select checksum_failures from pg_stat_database where datname = current_database()")).scalar()
        if failed:
            said.append(f"{failed} pages with a wrong checksum")
    if said:
        yield Finding("integrity", len(said), "; ".join(said[:5]), advice)


def _states(db: Connection) -> Iterator[Finding]:
    """Read every incident as the service would."""
    I, P = tables.incidents, tables.pinned_rules  # noqa: N806, E741 - a table reads as a name of its own
    unreadable, newer, ruleless = [], [], []
    digests = set(db.execute(select(P.c.digest)).scalars())
    for row in _pages(db, I):
        closed = row["phase"] == "closed"
        if row["state_v"] > STATE_VERSION:
            newer += [] if closed else [row["id"]]
            continue
        try:
            incident = unpack_incident(row["state"], row["state_v"])
        except InvariantError:
            unreadable.append(row["id"])
            continue
        if not closed and any(one.digest not in digests for one in incident.candidates):
            ruleless.append(row["id"])
    if unreadable:
        yield _of(
            "unreadable",
            unreadable,
            "nobody works on them; look at them with responder db export, close them by hand in the cluster",
        )
    if newer:
        yield _of(
            "newer_state", newer, "a newer release wrote them and has to end them: start one replica of it, or roll forward"
        )
    if ruleless:
        yield _of("rule_missing", ruleless, "their pinned rules are gone: close them; they open again with the rules in force")


_ADVICE = {
    "alerts": "each counts as firing as long as it would have, without its labels; a repeat by its sender makes it whole again",
    "deliveries": "what they said is lost unless their sender repeats it; they are not routed",
    "signals": "their kind counts, what was said with them is lost",
    "changes": "what was to be given back is not known: look at the incident's timeline, and give it back by hand",
    "pinned_rules": "incidents of these rules are not worked on: close them; they open again with the rules in force",
    "timeline": "these lines of the history are lost",
    "blobs": "this evidence is lost",
}


def _unreadable(db: Connection) -> Iterator[Finding]:
    """Read every other row as the service would."""
    for table, advice in _ADVICE.items():
        ids: list[str] = []
        count = 0
        key = damage.key_of(tables.METADATA.tables[table]).name
        for row in _pages(db, tables.METADATA.tables[table]):
            if damage.problem(tables.METADATA.tables[table], SimpleNamespace(**row)):
                count += 1
                ids += [str(row[key])] if count <= SHOWN else []
        if count:
            yield Finding("unreadable", count, f"{table}: {', '.join(ids)}", advice)


def _incidents(db: Connection, now: int) -> Iterator[Finding]:
    I = tables.incidents  # noqa: N806, E741
    late = now - span(OVERDUE)
    held = I.c.lease_until > now
    yield from _rows(
        db,
        "no_wake_up",
        I.c.id,
        [tables.UNCLOSED, I.c.wake_at.is_(None)],
        "nobody looks at them; say something to each, such as a note",
    )
    advice = "does a service run on this store, and does its log say store_failed or incident_failed?"
    yield from _rows(db, "overdue", I.c.id, [tables.UNCLOSED, I.c.wake_at < late, ~held, I.c.state_v <= STATE_VERSION], advice)
    too_long = [tables.UNCLOSED, I.c.lease_until > now + span(LONGEST_LEASE)]
    yield from _rows(
        db,
        "leased_too_long",
        I.c.id,
        too_long,
        "the store's clock went back; a running replica brings it in order at its next heartbeat",
    )


def _deliveries(db: Connection, now: int) -> Iterator[Finding]:
    D = tables.deliveries  # noqa: N806
    late = [tables.NEW, D.c.wake_at < now - span(OVERDUE), D.c.lease_until <= now]
    yield from _rows(db, "delivery_overdue", D.c.id, late, "does a service run on this store? its router is behind or stuck")
    failed = [D.c.state == "failed"]
    yield from _rows(
        db, "delivery_failed", D.c.id, failed, "each was tried three times and is kept: GET /v1/deliveries?state=failed says why"
    )


def _outbox(db: Connection, now: int) -> Iterator[Finding]:
    O = tables.outbox  # noqa: N806, E741
    late = [tables.WAITING, O.c.wake_at < now - span(OVERDUE), O.c.lease_until <= now, O.c.tries == 0]
    yield from _rows(
        db,
        "message_overdue",
        O.c.id,
        late,
        "never tried: does a service run on this store, or does an older message of its lane fail?",
    )


def _orphans(db: Connection) -> Iterator[Finding]:
    I, E, B, A = tables.incidents, tables.evidence, tables.blobs, tables.alerts  # noqa: N806, E741
    C = tables.claims  # noqa: N806
    advice = "a bug of ours: please report it with responder db export of these rows"
    unheld = ~exists().where(I.c.id == C.c.incident, tables.UNCLOSED)
    yield from _rows(
        db, "orphan", C.c.identity, [unheld], f"claims that no unclosed incident holds: nothing acts on these targets; {advice}"
    )
    yield from _rows(
        db,
        "orphan",
        E.c.id,
        [E.c.digest != "", ~exists().where(B.c.digest == E.c.digest)],
        f"evidence without its content; {advice}",
    )
    nowhere = or_(
        *(((column != "") & ~exists().where(I.c.id == column)) for column in (A.c.incident, A.c.shadow_incident)),
    )
    yield from _rows(
        db, "orphan", A.c.instance, [A.c.status == "firing", nowhere], f"firing alerts of incidents that are not there; {advice}"
    )


def _rows(db: Connection, what: str, key: ColumnElement[Any], where: list[ColumnElement[bool]], advice: str) -> Iterator[Finding]:
    count = int(db.execute(select(func.count()).select_from(select(key).where(*where).subquery())).scalar() or 0)
    if count:
        first = db.execute(select(key).where(*where).order_by(key).limit(5)).scalars()
        yield Finding(what, count, ", ".join(map(str, first)), advice)


def _of(what: str, ids: list[str], advice: str) -> Finding:
    return Finding(what, len(ids), ", ".join(ids[:5]), advice)


def _pages(db: Connection, table: Table) -> Iterator[RowMapping]:
    """Return all rows in the order of the primary key, a page at a time: a year of incidents fits in no memory."""
    keys = list(table.primary_key.columns)  # of one column in every table of ours
    query = select(table).order_by(*keys).limit(AT_ONCE)
    last: Any = None
    while True:
        page = db.execute(query if last is None else query.where(keys[0] > last)).mappings().all()
        yield from page
        if len(page) < AT_ONCE:
            return
        last = page[-1][keys[0].name]


def exported(db: Connection, now: int, write: Callable[[bytes], object]) -> dict[str, int]:
    """Write every table out, one JSON object a line; the first line says what it is.

    JSON that is stored as bytes becomes part of its line, compressed bodies text where they are text, all other bytes base64. Also
    columns that only a newer release knows. Secrets are not in the store.

    Args:
        db: In a transaction that sees one moment.
        now: The store's time, in milliseconds.
        write: Takes one line with its end.

    Returns:
        Table to number of rows.

    Raises:
        SettingsError: A table is lost that the schema has: what would be written is not all of it, and nothing is.
    """
    line = msgspec.json.Encoder().encode
    found = MetaData()
    found.reflect(db)
    present = revision(db)
    lost = sorted(set(tables.METADATA.tables) - set(found.tables)) if present == newest() else []
    if lost:
        raise SettingsError(f"the store's schema is {present} and lacks {', '.join(lost)}; restore a backup")
    write(line({"responder": "export", "schema": present or "", "exported_at": instant(now)}) + b"\n")
    rows: dict[str, int] = {}
    for table in found.sorted_tables:
        if table.name == "alembic_version":
            continue
        rows[table.name] = 0
        for row in _pages(db, table):
            values = {str(name): _readable(value) for name, value in row.items()}
            write(line({"table": str(table.name), "row": values}) + b"\n")
            rows[table.name] += 1
    return rows


def _readable(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        value = zlib.decompress(value)
        return value.decode()
    except (zlib.error, UnicodeDecodeError):
        return {"base64": base64.b64encode(value).decode()}

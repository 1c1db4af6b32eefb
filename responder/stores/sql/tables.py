"""The tables. Source: ARCHITECTURE.md "Storage, crash safety, scale". Times are epoch milliseconds, 0 is "at once".

Votes stand in the incident's state (one person, one vote is decided in the core), so there is no table ``approvals``; pinned rule
documents are content-addressed in ``pinned_rules``.

The decision a reader would question: the conditions of partial indexes are written as literals (``NEW``, ``UNCLOSED``, ``HELD``, ``WAITING``) and
not as bound parameters. A planner may use a partial index only when it can prove its condition, and of a parameter it knows nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    literal_column,
    text,
)

METADATA = MetaData()


class Words(TypeDecorator[str]):
    """Text as both databases hold it: PostgreSQL's has no NUL, and senders' and receivers' may. It is told by a replacement character."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        del dialect
        return value.replace("\x00", "\ufffd") if value is not None and "\x00" in value else value


_ID = BigInteger().with_variant(Integer, "sqlite")

deliveries = Table(
    "deliveries",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("source", Words, nullable=False),
    Column("source_name", Words, nullable=False),
    Column("retry_key", Words, nullable=False, unique=True),
    Column("body", LargeBinary, nullable=False),
    Column("sender", Words, nullable=False, server_default=""),
    Column("received_at", BigInteger, nullable=False),
    Column("state", Words, nullable=False),
    Column("shape", Words, nullable=False, server_default=""),
    Column("note", Words, nullable=False, server_default=""),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("wake_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
)
Index(
    "deliveries_due",
    deliveries.c.wake_at,
    deliveries.c.id,
    sqlite_where=text("state = 'new'"),
    postgresql_where=text("state = 'new'"),
)
Index("deliveries_sender", deliveries.c.source, deliveries.c.source_name, deliveries.c.id)
Index("deliveries_received", deliveries.c.received_at)
Index(
    "deliveries_leased", deliveries.c.lease_until, sqlite_where=text("lease_until > 0"), postgresql_where=text("lease_until > 0")
)

alerts = Table(
    "alerts",
    METADATA,
    Column("instance", Words, primary_key=True),
    Column("fingerprint", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("why", Words, nullable=False, server_default=""),
    Column("started_at", BigInteger),
    Column("seen_at", BigInteger, nullable=False),
    Column("wake_at", BigInteger),
    Column("incident", Words, nullable=False, server_default=""),
    Column("shadow_incident", Words, nullable=False, server_default=""),
    Column("kind", BigInteger),
    Column("place", BigInteger),
    Column("body", LargeBinary, nullable=False),
)
_STANDS = (alerts.c.kind, alerts.c.status, alerts.c.place, alerts.c.seen_at)
"""All that a claim asks of the alerts that an incident holds, before it reads the few that it needs (``routing.standing``)."""

Index("alerts_due", alerts.c.wake_at, sqlite_where=text("wake_at is not null"), postgresql_where=text("wake_at is not null"))
Index(
    "alerts_held_by",
    alerts.c.incident,
    *_STANDS,
    sqlite_where=text("incident != ''"),
    postgresql_where=text("incident != ''"),
)
Index(
    "alerts_held_in_shadow_by",
    alerts.c.shadow_incident,
    *_STANDS,
    sqlite_where=text("shadow_incident != ''"),
    postgresql_where=text("shadow_incident != ''"),
)
Index("alerts_seen", alerts.c.seen_at)

incidents = Table(
    "incidents",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("key", Words, nullable=False),
    Column("mode", Words, nullable=False),
    Column("cluster", Words, nullable=False),
    Column("target", Words, nullable=False),
    Column("symptom", Words, nullable=False),
    Column("parent", Words, nullable=False, server_default=""),
    Column("phase", Words, nullable=False),
    Column("severity", Words, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("person_closed", Boolean, nullable=False, server_default=false()),
    Column("state", LargeBinary, nullable=False),
    Column("state_v", Integer, nullable=False),
    Column("wake_at", BigInteger),
    Column("wake", Integer, nullable=False, server_default="0"),
    Column("owner", Words, nullable=False, server_default=""),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
)
Index(
    "incidents_key",
    incidents.c.key,
    unique=True,
    sqlite_where=text("phase != 'closed'"),
    postgresql_where=text("phase != 'closed'"),
)
Index("incidents_due", incidents.c.wake_at, sqlite_where=text("phase != 'closed'"), postgresql_where=text("phase != 'closed'"))
Index("incidents_leased", incidents.c.lease_until, sqlite_where=text("lease_until > 0"), postgresql_where=text("lease_until > 0"))
Index("incidents_opened", incidents.c.opened_at)
Index(
    "incidents_unclosed",
    incidents.c.opened_at,
    incidents.c.id,
    sqlite_where=text("phase != 'closed'"),
    postgresql_where=text("phase != 'closed'"),
)
Index("incidents_closed", incidents.c.closed_at)
Index("incidents_parent", incidents.c.parent, sqlite_where=text("parent != ''"), postgresql_where=text("parent != ''"))
Index("incidents_symptom", incidents.c.cluster, incidents.c.symptom, incidents.c.opened_at)

signals = Table(
    "signals",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("incident", Words, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Words, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Words, nullable=False, server_default=""),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # consumed signals are deleted: a new one must never get an old one's id
)
Index("signals_incident", signals.c.incident, signals.c.id)

commands = Table(
    "commands",
    METADATA,
    Column("key", Words, primary_key=True),
    Column("incident", Words, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("cluster", Words, nullable=False),
    Column("rule", Words, nullable=False),
    Column("grade", Integer, nullable=False),
    Column("begun_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("outcome", Words, nullable=False, server_default=""),
    Column("fence", Integer, nullable=False),
)
Index("commands_incident", commands.c.incident)
Index("commands_counted", commands.c.cluster, commands.c.rule, commands.c.begun_at)

changes = Table(
    "changes",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("incident", Words, nullable=False),
    Column("command", Words, nullable=False),
    Column("cluster", Words, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("undone_at", BigInteger),
)
Index("changes_owed", changes.c.incident, sqlite_where=text("undone_at is null"), postgresql_where=text("undone_at is null"))

claims = Table(
    "claims",
    METADATA,
    Column("identity", Words, primary_key=True),
    Column("incident", Words, nullable=False),
    Column("cluster", Words, nullable=False),
    Column("scope", Words, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
)
Index("claims_scope", claims.c.scope)
Index("claims_incident", claims.c.incident)

outbox = Table(
    "outbox",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("incident", Words, nullable=False),
    Column("channel", Words, nullable=False),
    Column("original_channel", Words, nullable=False, server_default=""),
    Column("kind", Words, nullable=False),
    Column("level", Integer, nullable=False),
    Column("reason", Words, nullable=False),
    Column("opening", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("wake_at", BigInteger),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("answer", Words, nullable=False, server_default=""),
    Column("state", Words, nullable=False, server_default="waiting"),
)
Index("outbox_due", outbox.c.wake_at, sqlite_where=text("state = 'waiting'"), postgresql_where=text("state = 'waiting'"))
Index(
    "outbox_lane",
    outbox.c.channel,
    outbox.c.incident,
    outbox.c.id,
    sqlite_where=text("state = 'waiting'"),
    postgresql_where=text("state = 'waiting'"),
)
Index("outbox_incident", outbox.c.incident)

timeline = Table(
    "timeline",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("incident", Words, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
Index("timeline_incident", timeline.c.incident, timeline.c.id)

blobs = Table(
    "blobs",
    METADATA,
    Column("digest", Words, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
)
Index("blobs_at", blobs.c.at)

evidence = Table(
    "evidence",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("incident", Words, nullable=False),
    Column("opening", Integer, nullable=False),
    Column("name", Words, nullable=False),
    Column("media_type", Words, nullable=False),
    Column("digest", Words, nullable=False, server_default=""),
    Column("size_bytes", Integer, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("problem", Words, nullable=False),
    Column("at", BigInteger, nullable=False),
    UniqueConstraint("incident", "opening", "name"),
)
Index("evidence_digest", evidence.c.digest)
Index("evidence_at", evidence.c.at)

pinned_rules = Table(
    "pinned_rules", METADATA, Column("digest", Words, primary_key=True), Column("document", LargeBinary, nullable=False)
)

silences = Table(
    "silences",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("starts_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
)

replicas = Table(
    "replicas",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
    Column("incarnation", Words, nullable=False, server_default=""),
    Column("version", Words, nullable=False, server_default=""),
)

cluster_turns = Table("cluster_turns", METADATA, Column("cluster", Words, primary_key=True))
"""One row a cluster, locked while an intention is granted there: limits hold across replicas."""

compatibility = Table(
    "compatibility",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("least_revision", Words, nullable=False),
)
"""One row: the newest revision known to the oldest release that can work with this schema (``migrate``)."""

modes = Table(
    "modes",
    METADATA,
    Column("scope", Words, primary_key=True),
    Column("mode", Words, nullable=False),
    Column("by", Words, nullable=False, server_default=""),
    Column("at", BigInteger),
    Column("why", Words, nullable=False, server_default=""),
)

healthy_revisions = Table(
    "healthy_revisions", METADATA, Column("revision", Words, primary_key=True), Column("seen_at", BigInteger, nullable=False)
)

damaged = Table(
    "damaged",
    METADATA,
    Column("row", Words, primary_key=True),
    Column("incident", Words, nullable=False, server_default=""),
    Column("problem", Words, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""Rows that cannot be read, by table and key such as ``alerts/event/1`` (``damage``)."""

NEW = deliveries.c.state == literal_column("'new'")
UNCLOSED = incidents.c.phase != literal_column("'closed'")
HELD = alerts.c.incident != literal_column("''")
HELD_IN_SHADOW = alerts.c.shadow_incident != literal_column("''")
WAITING = outbox.c.state == literal_column("'waiting'")

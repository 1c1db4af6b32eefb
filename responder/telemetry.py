"""The one vocabulary of log events and metrics.

Log lines are one constant event name plus key-value pairs, as JSON; metric labels come from closed sets and are initialised to
zero. Never here: secrets, or a formatted sentence as an event name.

The decision a reader would question: structlog would load ``rich`` for its console renderer, which is not used here (4 MiB and a twentieth of a
second at every start). While it is imported, ``rich`` is as if it were not installed, which it allows for.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from responder.model.action import Outcome
from responder.model.incident import Phase
from responder.model.notice import NoticeKind
from responder.model.reason import Reason

_RICH = "rich"
_aside = _RICH not in sys.modules
if _aside:
    sys.modules[_RICH] = None  # type: ignore[assignment] # "not there", in the import system's own words

import structlog  # noqa: E402 - only now

if _aside:
    del sys.modules[_RICH]

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

DAMAGED_TABLES: Final = ("alerts", "changes", "deliveries", "incidents", "pinned_rules")
"""Tables whose rows are listed when they cannot be read (``stores.sql.damage``)."""

EVENTS: Final = frozenset(
    {
        "service_started",
        "service_stopping",
        "service_stopped",
        "source_connected",
        "source_disconnected",
        "message_lock_lost",
        "message_dead_lettered",
        "delivery_accepted",
        "delivery_refused",
        "delivery_routed",
        "delivery_failed",
        "delivery_not_understood",
        "source_asked",
        "source_not_asked",
        "alert_refused",
        "subscription_validated",
        "subscription_refused",
        "token_refused",
        "keys_fetched",
        "keys_not_fetched",
        "target_unresolved",
        "incident_opened",
        "incident_joined",
        "incident_decided",
        "incident_failed",
        "evidence_captured",
        "write_carried_out",
        "write_failed",
        "action_finished",
        "change_given_back",
        "change_not_given_back",
        "notice_sent",
        "notice_failed",
        "mode_changed",
        "rules_loaded",
        "rules_refused",
        "lease_lost",
        "identity_unusable",
        "clock_unsteady",
        "schema_ahead",
        "row_damaged",
        "store_failed",
        "store_back",
        "cluster_failed",
        "permission_missing",
        "home_found",
        "request_failed",
        "observation_failed",
        "watch_failed",
        "watch_not_stored",
        "symptoms_said",
        "loop_failed",
        "loop_ended",
        "audit_found",
        "rows_forgotten",
        "beat_withheld",
        "beat_failed",
    }
)
"""Every event name that is logged; past tense. A test compares them with the source."""


class Metrics:
    """All metrics of one process, on a registry of its own so that tests can have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "responder_deliveries_total",
            "Deliveries by source and what became of them",
            ["source", "state"],
            registry=self.registry,
        )
        self.refused = Counter(
            "responder_deliveries_refused_total", "Deliveries refused, by HTTP status", ["status"], registry=self.registry
        )
        self.alerts = Counter("responder_alerts_total", "Alerts routed, by source", ["source"], registry=self.registry)
        self.decisions = Counter(
            "responder_decisions_total",
            "Decisions that changed an incident, by phase and reason",
            ["phase", "reason"],
            registry=self.registry,
        )
        self.outcomes = Counter("responder_rungs_total", "Rungs that ended, by outcome", ["outcome"], registry=self.registry)
        self.writes = Counter("responder_writes_total", "Writes to clusters, by result", ["result"], registry=self.registry)
        self.notices = Counter(
            "responder_notices_total", "Messages to people, by kind and result", ["kind", "result"], registry=self.registry
        )
        self.errors = Counter(
            "responder_incident_errors_total", "Bugs and surprises caught at the incident boundary", registry=self.registry
        )
        self.unclosed = Gauge("responder_incidents_unclosed", "Unclosed incidents", registry=self.registry)
        self.commits = Gauge(
            "responder_store_commits", "Writing transactions that were committed since the start", registry=self.registry
        )
        self.backlog = Gauge("responder_deliveries_waiting", "Deliveries that wait to be routed", registry=self.registry)
        self.replicas = Gauge("responder_replicas", "Replicas that said within 15 s that they live", registry=self.registry)
        self.repaired = Counter(
            "responder_audit_repaired_total", "What the auditor put right, by what it was", ["what"], registry=self.registry
        )
        self.overdue = Gauge("responder_overdue", "Incidents, deliveries and messages that are late", registry=self.registry)
        self.damaged = Gauge(
            "responder_damaged_rows", "Rows of the store that cannot be read, by table", ["table"], registry=self.registry
        )
        self.forgotten = Counter("responder_rows_forgotten_total", "Rows that were old enough to go", registry=self.registry)
        self.beats = Counter("responder_heartbeats_total", "Outgoing heartbeats, by result", ["result"], registry=self.registry)
        self.armed = Gauge("responder_armed", "1 armed, 0.5 shadow, 0 off: the global mode", registry=self.registry)
        self.rules_ok = Gauge("responder_rules_last_load_ok", "Whether the last load of the rules worked", registry=self.registry)
        self.rules_at = Gauge(
            "responder_rules_loaded_timestamp_seconds", "When the rules in force were loaded", registry=self.registry
        )
        self.bus_messages = Counter(
            "responder_service_bus_messages_total",
            "Messages of a Service Bus source: received, then completed, dead_lettered, abandoned or lock_lost; known are repeats",
            ["source", "event"],
            registry=self.registry,
        )
        self.bus_connected = Gauge(
            "responder_service_bus_connected",
            "Receivers of a Service Bus source that are connected",
            ["source"],
            registry=self.registry,
        )
        self.asked = Counter(
            "responder_source_asked_total",
            "How often a sender was asked what holds now, by result: asked, in_part, failed",
            ["source", "result"],
            registry=self.registry,
        )
        self.found = Counter(
            "responder_source_found_total",
            "What was found by asking that no delivery had said: alerts that fire, alerts that are over",
            ["source", "what"],
            registry=self.registry,
        )
        self.accept_seconds = Histogram("responder_accept_seconds", "From request to durable", registry=self.registry)
        self.action_seconds = Histogram(
            "responder_rung_seconds",
            "From a rung's start to its end",
            buckets=(1, 5, 15, 30, 60, 120, 300, 600, 1800),
            registry=self.registry,
        )
        for phase in Phase:
            for reason in Reason:
                self.decisions.labels(phase, reason)
        for outcome in Outcome:
            self.outcomes.labels(outcome)
        for kind in NoticeKind:
            for result in ("sent", "failed"):
                self.notices.labels(kind, result)
        for what in ("no_wake_up", "leased_too_long", "orphaned_claim", "unheld_alert", "debt"):
            self.repaired.labels(what)
        for table in DAMAGED_TABLES:
            self.damaged.labels(table)
        for result in ("sent", "failed", "withheld"):
            self.beats.labels(result)
        for result in ("ok", "gone", "contested", "blocked", "throttled", "forbidden", "rejected", "unknown"):
            self.writes.labels(result)


def configure_logging(*, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Log JSON lines to standard error (or a stream); call once."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger() -> FilteringBoundLogger:
    """Return the logger; bind ``incident``, ``rule``, ``target`` once per work item through structlog's context variables."""
    log: FilteringBoundLogger = structlog.get_logger()
    return log

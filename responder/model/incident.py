"""Incidents: one target being worked on, with everything that was decided about it.

An ``Incident`` is the whole state that survives a crash: ``policy.decide`` maps one to the next, the store keeps it as versioned
JSON. Never here: which transition follows which (``policy.ladder``), or how it is stored (``stores``).

The decision a reader would question: pinned rules are referenced by digest, not embedded. The documents are content-addressed
in the store, so a storm of a thousand incidents of one rule stores it once, and editing a rule never changes a running ladder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from responder.model.action import Outcome, Plan
from responder.model.alert import AlertStatus, Severity
from responder.model.health import Health
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.target import Target

STATE_VERSION = 1
"""Of the stored JSON; raised with an up-caster when a field changes its meaning."""


class Phase(StrEnum):
    """Where an incident stands. Source: ARCHITECTURE.md "How an incident lives"."""

    OPEN = "open"
    ACTING = "acting"
    VERIFYING = "verifying"
    WAITING = "waiting"
    EXHAUSTED = "exhausted"
    RECOVERED = "recovered"
    CLOSED = "closed"


class Mode(StrEnum):
    """How much may be done; the effective mode is the least of all that apply."""

    OFF = "off"
    SHADOW = "shadow"
    ARMED = "armed"

    @property
    def rank(self) -> int:
        """0 for off up to 2 for armed."""
        return list(Mode).index(self)


class SignalKind(StrEnum):
    """What may be said to an incident from outside its worker."""

    FIRED = "fired"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    APPROVED = "approved"
    REJECTED = "rejected"
    PAUSED = "paused"
    RESUMED = "resumed"
    CLOSED = "closed"
    NOTED = "noted"
    MOVED = "moved"
    ARMED = "armed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing said to an incident; insert-only, consumed by its worker in id order.

    Attributes:
        by: A person's or sender's name.
        body: ``text`` for notes, ``digest`` for votes, ``alert`` (instance) for fired and resolved, ``rules`` for fired: matched
            rules as name to digest.
    """

    id: int = 0
    incident: str
    kind: SignalKind
    at: datetime
    by: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A rule that matched an alert of the incident, pinned. ``manual``: a person triggered it, so it is asked first."""

    rule: str
    digest: str
    priority: int = 0
    manual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rung that was begun, skipped or, in shadow, would have been run.

    Attributes:
        rule, rung, index: Which; index is 0-based in its rule's ladder.
        actions: Names, in order.
        attempt: 1-based; a rung begins by itself once more at most.
        started_at, ended_at: None while it runs; a skipped rung has both the same.
        prove_by: Start plus ``within`` (time waiting for people added).
        outcome: None while it runs, and for skipped rungs.
        skipped: Its ``when`` was false, or another rung had done it already.
        counted: It counts as run: never again in this incident.
        reason, detail: Why it was skipped, or what came of it.
    """

    rule: str
    rung: str
    index: int
    actions: tuple[str, ...] = ()
    attempt: int = 1
    started_at: datetime
    ended_at: datetime | None = None
    prove_by: datetime | None = None
    outcome: Outcome | None = None
    skipped: bool = False
    counted: bool = False
    shadow: bool = False
    reason: Reason = Reason.ALLOWED
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One named person's answer."""

    by: str
    approve: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A question to people, bound to the digest of a plan."""

    rule: str
    rung: str
    digest: str
    people: int
    asked_at: datetime
    expires_at: datetime
    diff: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A level of an escalation policy: so long after the first page, these channels at once."""

    after: timedelta
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who is told, in what order, after how long.

    Attributes:
        levels: Ascending ``after``; the first usually at zero.
        report: Channels that are told how it ended, page or not.
    """

    name: str
    levels: tuple[Level, ...]
    report: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """How far people have been told about one opening of an incident.

    Attributes:
        policy: Pinned by value at the first page.
        paged_at: The first page; None while nobody was called.
        reason: The newest reason that people were told.
        levels: How many levels have been told.
    """

    policy: Policy | None = None
    paged_at: datetime | None = None
    reason: Reason | None = None
    levels: int = 0
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A write to the cloud that was sent, or may have been.

    Attributes:
        key: The write's.
        at: Right before it was sent.
        token: By which the cloud's operation is asked about, also in another life; "" while it is not known whether anything was begun.
    """

    key: str
    at: datetime
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The intention in flight: a rung with its plans.

    Attributes:
        key: Unique per incident, opening, rule, rung and attempt; written to objects that can hold it.
        plans: One an action, all made before the first write.
        step: 0-based index of the action now at work.
        stop: Why no further write may be made, once a stop was seen.
        attempts: Writes to the cloud, whose operations outlive this process.
    """

    key: str
    rule: str
    rung: str
    index: int
    grade: int
    plans: tuple[Plan, ...]
    step: int = 0
    begun_at: datetime
    stop: Reason | None = None
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One target being worked on. A value: ``policy.decide`` returns the next one.

    Attributes:
        id: Sortable and unique, such as ``inc-01JD…``; people read it aloud, so lower case and short.
        key: Mode, cluster and target: unique while not closed.
        mode: As opened: armed or shadow, never off.
        effective: The least mode when last judged.
        literal: The target is as the alert named it; the cluster has not confirmed it yet.
        unresolved: The alert does not name one thing that exists; the target is the narrowest thing known, and nothing is done to it.
        resolution: How the target was found, or which label is missing.
        symptom: The first matching rule: what a storm is counted by.
        opened_at: Survives ``moved``. opening: 1, then one more each time it is reopened. reopened_at: of the newest opening.
        phase, phase_since, reason, detail: Where it stands, since when, and why.
        candidates: In the order they are asked: manual, then priority, then name.
        leader: Rule that leads, "" when none does.
        runs: Every rung begun or skipped, in order, over all openings.
        command: The intention in flight; None otherwise.
        health, health_detail: As last read.
        healthy_since, healthy_reads, restarts: The unbroken healthy streak and the restart counts at its start.
        unknown_since: Since when health or ``when`` is unknown; None when known.
        waiting_since: Since when it waits for a reason that counts towards the 10 minutes; None otherwise.
        evidence_at: Of this opening; None while not taken.
        gone: How often the target was gone.
        told_disagrees: ``check_disagrees`` was told.
        facts: As last read, for people.
        pool: Of a node: its agent pool, for when the node is gone; "" for none known.
        displaced: Of a node: the workloads whose pods had or have to leave it; what ``pods.rescheduled`` is about. At most 200.
        parent: The incident that has this one meanwhile: the storm's, or that of the thing it is contained in; "" when none has.
        causes: Of a storm's parent: what made it one (``policy.storms``); empty for all others.
        read_at: When health was last read.
        person_closed: A person closed it: its firing instances do not open another.
    """

    id: str
    key: str
    mode: Mode
    effective: Mode = Mode.SHADOW
    cluster: str
    target: Target
    literal: bool = False
    unresolved: bool = False
    resolution: str = ""
    symptom: str = ""
    title: str = ""
    severity: Severity
    opened_at: datetime
    opening: int = 1
    reopened_at: datetime | None = None
    phase: Phase = Phase.OPEN
    phase_since: datetime
    reason: Reason = Reason.OPENED
    detail: str = ""
    candidates: tuple[Candidate, ...] = ()
    leader: str = ""
    runs: tuple[Run, ...] = ()
    command: Command | None = None
    health: Health | None = None
    health_detail: str = ""
    healthy_since: datetime | None = None
    healthy_reads: int = 0
    restarts: Mapping[str, int] = field(default_factory=dict)
    unknown_since: datetime | None = None
    waiting_since: datetime | None = None
    evidence_at: datetime | None = None
    gone: int = 0
    approval: Approval | None = None
    paused_by: str = ""
    resumed_at: datetime | None = None
    escalation: Escalation = field(default_factory=Escalation)
    told_disagrees: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    displaced: tuple[Target, ...] = ()
    pool: str = ""
    recovered_at: datetime | None = None
    closed_at: datetime | None = None
    person_closed: bool = False
    parent: str = ""
    causes: tuple[str, ...] = ()
    read_at: datetime | None = None
    drill: bool = False


class Instance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One firing as the store holds it: an alert with what became of it.

    Attributes:
        rules: Names of the rules that it matched.
        seen_at: Last received. first_seen_at: First received.
        incident, shadow_incident: "" when none holds it.
        why: Why no incident holds it: silenced, unmatched, test, waiting for a ``for``; None when one does.
        problem: Why its stored bytes cannot be read, "" when they can: then only names, status, times and who holds it are known. Its severity and
            labels are not, and no rule may conclude anything from their absence.
    """

    instance: str
    fingerprint: str
    source: str
    source_name: str
    name: str
    status: AlertStatus
    severity: Severity
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    value: float | None = None
    started_at: datetime | None
    first_seen_at: datetime
    seen_at: datetime
    resolves: bool = True
    rules: tuple[str, ...] = ()
    incident: str = ""
    shadow_incident: str = ""
    why: Reason | None = None
    count: int = 1
    link: str = ""
    problem: str = ""


class EntryKind(StrEnum):
    """What a timeline entry records."""

    ALERT = "alert"
    DECISION = "decision"
    EVIDENCE = "evidence"
    INTENT = "intent"
    WRITE = "write"
    OUTCOME = "outcome"
    PAGE = "page"
    DELIVERED = "delivered"
    PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of an incident's timeline: the audit record."""

    kind: EntryKind
    at: datetime
    reason: Reason
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Somebody is to be told; becomes rows of the outbox, rendered when sent.

    Attributes:
        level: 1-based; 0 for reports and shadow.
        channels: By name.
        due_at: When it was to be told; sent later than a minute after that, it is marked late.
    """

    kind: NoticeKind
    level: int
    channels: tuple[str, ...]
    reason: Reason
    due_at: datetime

"""What goes into and comes out of the store, as plain values.

Never here: SQL. The store's operations are ``ports.Store``; one call is one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from responder.model.action import Change
from responder.model.alert import Alert
from responder.model.incident import Command, Entry, Incident, Instance, Mode, Signal, Tell
from responder.model.reason import Reason


class DeliveryState(StrEnum):
    """What became of a delivery."""

    NEW = "new"
    ROUTED = "routed"
    NOT_UNDERSTOOD = "not_understood"
    FAILED = "failed"


class Work(StrEnum):
    """What is due, by who does it: the router's deliveries and instances, the worker's incidents, the outbox' messages."""

    ROUTING = "routing"
    INCIDENTS = "incidents"
    MESSAGES = "messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A delivery as received.

    Attributes:
        source: The format, such as ``alertmanager``. source_name: The path's last segment.
        retry_key: The same for a sender's repeat within ten minutes; absorbs retries and nothing else.
        body: The bytes as received; stored compressed.
        unique: The sender never gives this key to another delivery (a broker's message): one that is stored already is a repeat, whatever
            came between. Otherwise only the sender's newest delivery absorbs.
        held: How long nobody may claim it from the store: whoever stores it has it routed here.
    """

    source: str
    source_name: str
    retry_key: str
    body: bytes
    received_at: datetime
    sender: str = ""
    unique: bool = False
    held: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A stored delivery. ``tries`` counts failed routings; ``note`` says why it was not understood or failed, or its gaps."""

    id: int
    source: str
    source_name: str
    body: bytes
    received_at: datetime
    state: DeliveryState = DeliveryState.NEW
    tries: int = 0
    note: str = ""
    shape: str = ""


class RoutedAlert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One alert of a delivery, judged, on its way into the store.

    Attributes:
        alert: As normalised.
        rules: Names of the rules that it matched.
        seeds: The incidents to join or open while it fires: at most one armed and one shadow; empty when nothing is to be opened.
        why: Why there are none; None when there are.
        wake_at: When the instance must be judged again (the end of a rule's ``for``); None for never.
        pinned: Rule digest to document, for the candidates of the seeds.
        again: A stored instance judged again by ourselves (the end of a ``for``, a moved incident), not received: it is not counted, and
            what its sender said meanwhile stands.
    """

    alert: Alert
    rules: tuple[str, ...] = ()
    seeds: tuple[Incident, ...] = ()
    why: Reason | None = None
    wake_at: datetime | None = None
    pinned: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedResult:
    """What storing one routed alert did: ids of incidents opened, joined, and merely told (repeat, resolved)."""

    opened: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedDelivery:
    """A delivery that was judged: what becomes of it, and its alerts in the order it named them."""

    delivery: Delivery
    state: DeliveryState
    alerts: Sequence[RoutedAlert] = ()
    note: str = ""
    shape: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """An incident that this worker holds until its lease ends.

    Attributes:
        fence: Grows with every claim; a commit with an older one is refused.
        wake: Compared at commit: a signal that came meanwhile wakes the incident at once.
        due_at: Since when anybody might have claimed it.
        signals: Unconsumed, in id order.
        instances: Which stand for all that joined it, oldest first: of each kind (name, severity, rules, whether its sender ever resolves) the
            oldest that fires and the oldest that does not, each as lately seen as any of its kind.
        rules: Pinned documents of its candidates, by rule name.
    """

    incident: Incident
    fence: int
    wake: int
    lease_until: datetime
    due_at: datetime | None = None
    signals: tuple[Signal, ...] = ()
    instances: tuple[Instance, ...] = ()
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """What a disruptive rung takes hold of, and how much of it there may be; checked in the transaction that stores the intention.

    Attributes:
        target: Identities claimed (the incident's target and what the actions act on).
        scope: Where ``in_flight`` is counted, such as ``prod/namespace/shop``.
        in_flight: Most rungs at once in that scope; None for no limit.
        rule, max_actions, window: Most commands of this rule in this cluster within the window; None for no limit.
        symptom, parents: Keys of incidents that hold this one while they are neither recovered nor closed: its storm's, if that one's causes
            hold the symptom, and those of the things that it is contained in.
    """

    cluster: str
    target: tuple[str, ...]
    scope: str
    in_flight: int | None
    rule: str
    max_actions: int | None
    window: timedelta
    symptom: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step of an incident, stored whole or not at all.

    Attributes:
        incident: The new state.
        fence, wake: From the claim.
        wake_at: When to look again; None only for closed.
        keep: Keep the lease (the work goes on); False gives it back.
        consumed: Ids of signals that the new state took in.
        intend: Store this command as an intention, take its claims and count it; the transition is refused as a whole when that is not granted.
        scopes: For ``intend``.
        changes: What must be given back, stored with the intention.
        undone: Ids of changes that were given back.
        finished: Key and outcome of a command that ended.
        release: Free the incident's claims.
        storm: A parent to open, or to tell of one more cause when its key is taken; this incident becomes its child.
    """

    incident: Incident
    fence: int
    wake: int
    wake_at: datetime | None
    keep: bool = False
    consumed: tuple[int, ...] = ()
    entries: tuple[Entry, ...] = ()
    tells: tuple[Tell, ...] = ()
    intend: Command | None = None
    scopes: Scopes | None = None
    changes: tuple[Change, ...] = ()
    undone: tuple[int, ...] = ()
    finished: tuple[str, str] | None = None
    release: bool = False
    storm: Incident | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What came of a transition.

    Attributes:
        stored: False when the fence was lost (drop the work, never retry) or the intention was denied.
        denied: Why an intention was not granted: ANOTHER_HAND, IN_FLIGHT, MAX_ACTIONS, STORM or CONTAINED; None otherwise.
        wake: The counter to give to the next commit of this work: that of the claim, so that the commit that ends it still sees whether
            anything came meanwhile.
        parent: The storm's incident that has this one now; "" when none.
    """

    stored: bool
    denied: Reason | None = None
    detail: str = ""
    wake: int = 0
    parent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What limits are judged by, as stored now.

    Attributes:
        in_flight: Claims held in the scope by other incidents.
        recent_actions: Commands of the rule in the cluster within its window.
        claimed_by: Incident that has its hand on the target; "" when none other.
        same_symptom: Distinct targets of incidents of this mode with this symptom that opened within the window and after the last storm ended,
            this one included.
    """

    in_flight: int = 0
    recent_actions: int = 0
    claimed_by: str = ""
    same_symptom: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StormCounts:
    """How a storm stands, by symptom: targets that opened lately (as in ``Counts``), and children that still wait for it."""

    opened: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """Something not yet given back."""

    id: int
    incident: str
    command: str
    change: Change
    cluster: str
    at: datetime
    undone_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One message to one channel. ``tries`` counts failed attempts; ``fence`` protects its claim."""

    id: int
    incident: str
    channel: str
    tell: Tell
    opening: int
    tries: int = 0
    fence: int = 0
    original_channel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A process that works on this store.

    Attributes:
        id: Its name in leases, of this life of it only. incarnation: Where it runs: host and process.
        seen_at: When it last said that it lives.
    """

    id: str
    incarnation: str = ""
    version: str = ""
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeRow:
    """A switch: ``scope`` is ``global`` or ``cluster/<name>``."""

    scope: str
    mode: Mode
    by: str = ""
    at: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the auditor found: rows repaired, and ``overdue`` ones that are only counted."""

    no_wake_up: int = 0
    leased_too_long: int = 0
    orphaned_claim: int = 0
    unheld_alert: int = 0
    overdue: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedRow:
    """A row that cannot be read.

    Attributes:
        table, key: Which; the primary key as text.
        incident: Whose it is; "" for none.
        problem: What its bytes are not.
        at: When it was first found.
    """

    table: str
    key: str
    incident: str = ""
    problem: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHeard:
    """A sender, when it was last heard (None for never), and how many of its deliveries failed for good within a day."""

    name: str
    at: datetime | None
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what is kept. Source of the defaults: ARCHITECTURE.md "Bounds".

    Attributes:
        deliveries, alerts, evidence: From receiving, from last seen, from capture; never of an unclosed incident.
        incidents: From closing, with timeline, messages and commands.
        evidence_bytes: Most evidence in all; the oldest closed incidents' goes first.
    """

    deliveries: timedelta = timedelta(days=30)
    alerts: timedelta = timedelta(days=30)
    evidence: timedelta = timedelta(days=30)
    incidents: timedelta = timedelta(days=400)
    evidence_bytes: int = 2 << 30

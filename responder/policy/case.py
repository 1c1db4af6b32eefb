"""What ``decide`` is given and what it returns, as values.

Never here: how a case is gathered (``service.worker``) or judged (``decide``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from responder.actions.catalogue import ActionCatalogue
from responder.actions.planning import PlanSettings
from responder.model.alert import Severity
from responder.model.cluster import Reading
from responder.model.health import Verdict
from responder.model.incident import Command, Entry, Incident, Instance, Mode, Policy, Tell
from responder.model.reason import Reason
from responder.model.rule import Rule
from responder.model.storing import Counts, Scopes
from responder.policy.guards import Limits

APPROVAL_LASTS = timedelta(hours=1)
"""How long a question to people stands. Source: ARCHITECTURE.md, "Approval"."""

JUDGED_EVERY = timedelta(seconds=15)
"""A waiting incident is judged again this often. Source: ARCHITECTURE.md, the phase table."""

LOOKED_AT_EVERY = timedelta(minutes=1)
"""Exhausted incidents, and recovered ones that still fire."""

DISAGREES_AFTER = timedelta(minutes=30)
"""An alert that fires on this long after recovery is told once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What holds for every incident of an installation, as configured now.

    Attributes:
        routes: Policy by severity; a severity without a route is told nobody (settings refuse that).
        home: The configured name of the cluster that hosts this program; "" when it is none of them.
        shadow_channel: Told what shadow would have done; "" for none.
    """

    catalogue: ActionCatalogue
    limits: Limits = field(default_factory=Limits)
    routes: Mapping[Severity, Policy] = field(default_factory=dict)
    home: str = ""
    shadow_channel: str = ""
    planning: PlanSettings = field(default_factory=PlanSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that one decision is judged by.

    Attributes:
        rules: The candidates, compiled, by name.
        instances: Which stand for all that joined the incident, oldest first (``storing.Claimed``): not to be counted.
        reading: None when nothing could be read; ``reading_problem`` then says why.
        switch: The least of the global and the cluster's mode.
        armed: Candidates that ``act:`` arms for this target now.
        counts: By candidate.
        storm: The storm's parent incident that has this one; "" when none.
        parked: Its storm has it, and it is not its time to be looked at: nothing was read.
        sample: It is one of those whose evidence is taken if it is part of a storm.
        children: How many its storm has, as far as is known; for a parent, its own.
        causes: Of a parent: whether each of its causes is over.
        late: How long nobody was there after its wake-up: the store was gone, or all of us; zero for what is usual.
        silent: Since when the cluster does not answer, when several incidents wait for it; "" while it does, and for a single one.
        nodes: Whether too many of the cluster's nodes are not Ready; None when nothing about the target asks for it.
        container: The armed incident for what all its failing parts are in ("" for a lost node without one) and what to say of it.
        denied: Why the store did not grant the intention of the last decision; None otherwise.
        denied_detail: Whose it is.
    """

    incident: Incident
    now: datetime
    house: House
    rules: Mapping[str, Rule]
    instances: tuple[Instance, ...] = ()
    reading: Reading | None = None
    reading_problem: str = ""
    switch: Mode = Mode.ARMED
    armed: frozenset[str] = frozenset()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    storm: str = ""
    parked: bool = False
    sample: bool = True
    children: int = 0
    causes: Mapping[str, Verdict] = field(default_factory=dict)
    late: timedelta = timedelta(0)
    silent: str = ""
    nodes: Verdict | None = None
    container: tuple[str, str] | None = None
    denied: Reason | None = None
    denied_detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where the incident now stands, what to do, why, and when to look again.

    Attributes:
        incident: The next state.
        wake_at: None only when closed.
        capture: Capture evidence now, then decide again.
        intend: Store this command, then carry it out.
        scopes: For ``intend``.
        give_back: Give back what the incident holds (recovered or closed).
        release: Free its claims.
        storm: Open the storm's parent incident for this cause (``policy.storms``); "" for none.
        storm_detail: What was counted.
        resolve_again: Resolve the target again.
        finished: Key and outcome of the command that ended.
        again: Nothing to wait for: decide again at once on a fresh reading.
        entries: For the timeline.
        tells: For the outbox.
    """

    incident: Incident
    wake_at: datetime | None
    capture: bool = False
    intend: Command | None = None
    scopes: Scopes | None = None
    give_back: bool = False
    release: bool = False
    storm: str = ""
    storm_detail: str = ""
    resolve_again: bool = False
    finished: tuple[str, str] | None = None
    again: bool = False
    entries: tuple[Entry, ...] = ()
    tells: tuple[Tell, ...] = ()

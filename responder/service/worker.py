"""The worker: claims due incidents, gathers their case, stores what ``decide`` says, and carries it out.

Never here: judgement. The one broad ``except`` of the program is here, round one incident: a surprise in one is recorded, counted
and looked at again later, and delays no other.

The decision a reader would question: an incident in hand is worked on in one task until it has to wait for time; then it is given back
with its ``wake_at``. A waiting incident costs a row, not a task.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from responder.model.cluster import Snapshot
from responder.model.errors import InvariantError, RemoteError, StoreUnavailableError, TransientError
from responder.model.evidence import EvidenceItem
from responder.model.health import Verdict
from responder.model.incident import Entry, EntryKind, Incident, Mode, Phase, SignalKind
from responder.model.reason import Reason
from responder.model.rule import Rule
from responder.model.storing import Claimed, Counts, Transition
from responder.policy import guards, storms
from responder.policy.case import Case, Decision, House
from responder.policy.decide import conclude, decide, wanted
from responder.policy.permission import counting_scopes
from responder.policy.signals import take_in
from responder.ports import Clock, Store
from responder.service.cloud_evidence import said_by_arm, seen_inside
from responder.service.contacts import Contacts
from responder.service.hands import Ended, Hands, Held
from responder.service.moves import Moves
from responder.service.pinning import Pins
from responder.service.reading import Reader
from responder.service.storms import Storms
from responder.service.switches import Switches
from responder.telemetry import Metrics, logger

LEASE = timedelta(seconds=15)
MOST_IN_HAND = 256
MOST_OF_A_CLUSTER = 96
"""In hand at once: six for each of its slots. The other clusters' incidents find room, however slow this one is."""

MOST_JUDGED = 48
"""Of those, whose rung does not run: three for each slot. More would wait with all their alerts in memory and are judged no sooner."""

MOST_STEPS = 12
"""Decisions in a row for one incident before it is given back: a bound against a circle."""

EVIDENCE_WITHIN = timedelta(seconds=60)
YOUNG = timedelta(seconds=5)
"""What was read this lately is judged by once more after evidence was taken; before a write all is read anew."""

NOBODY_WAS_THERE = timedelta(seconds=30)
"""A wake-up is taken up within a second, that of a dead replica within this; what comes of a later one is told as late."""

LEAST_SILENT = 2
"""Incidents that wait for a silent cluster before it is a storm: one alone says itself that nothing is known of it."""

AFTER_A_SURPRISE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What the worker works with."""

    store: Store
    clock: Clock
    reader: Reader
    hands: Hands
    pins: Pins
    switches: Switches
    house: House
    metrics: Metrics
    moves: Moves
    storms: Storms
    contacts: Contacts


class Worker:
    """Works on due incidents.

    Attributes:
        owner: This process' name in leases.
    """

    def __init__(self, parts: WorkerParts, *, owner: str) -> None:
        self._parts = parts
        self._store = parts.store
        self._clock = parts.clock
        self.owner = owner
        self._in_hand: dict[str, Held | None] = {}
        self._clusters: dict[str, str] = {}

    async def work_due(self, group: asyncio.TaskGroup) -> int:
        """Claim what is due and begin a task for each; return how many."""
        in_hand = Counter(self._clusters.values())
        judged = Counter(cluster for incident, cluster in self._clusters.items() if not self._acts(incident))
        full = tuple(one for one, count in in_hand.items() if count >= MOST_OF_A_CLUSTER or judged[one] >= MOST_JUDGED)
        free = MOST_IN_HAND - len(self._in_hand)
        if free <= 0:
            return 0
        began = (
            self._clock.boottime()
        )  # before the store is asked: a process that is stopped right after must not believe in a lease long over
        claimed = await self._store.claim_incidents(
            owner=self.owner, limit=min(free, MOST_JUDGED), lease=LEASE, own=tuple(self._in_hand), full=full
        )
        for one in claimed:
            self._in_hand[one.incident.id] = None
            self._clusters[one.incident.id] = one.incident.cluster
            group.create_task(self._one(one, began + LEASE.total_seconds()), name=f"incident {one.incident.id}")
        return len(claimed)

    def _acts(self, incident: str) -> bool:
        held = self._in_hand.get(incident)
        return held is not None and held.incident.phase is Phase.ACTING

    @property
    def busy(self) -> int:
        """Return how many incidents are in hand."""
        return len(self._in_hand)

    async def heartbeat(self) -> None:
        """Renew the leases of everything in hand; what is not renewed is lost and writes nothing more."""
        began = self._clock.boottime()
        asked = tuple(self._in_hand)  # what is claimed while the store answers is in nobody's answer, and not lost
        if not asked:
            return
        renewed = await self._store.renew(owner=self.owner, ids=asked, lease=LEASE)
        for incident in asked:
            held = self._in_hand.get(incident)
            if held is None:
                continue
            if incident in renewed:
                held.lease_until = began + LEASE.total_seconds()
            else:
                held.lost = True
                logger().warning("lease_lost", incident=incident)

    async def _one(self, claimed: Claimed, lease_until: float) -> None:
        incident = claimed.incident
        try:
            with structlog.contextvars.bound_contextvars(incident=incident.id, target=str(incident.target)):
                await self._work(claimed, lease_until)
        except StoreUnavailableError as error:
            logger().error("store_failed", problem=str(error))  # the lease runs out by itself and the incident is due again
        except Exception as error:  # noqa: BLE001 - the incident boundary: record, count, carry on with the others
            self._parts.metrics.errors.inc()
            logger().exception("incident_failed", incident=incident.id, problem=str(error))
            await self._set_aside(claimed, error)
        finally:
            self._in_hand.pop(incident.id, None)
            self._clusters.pop(incident.id, None)

    async def _set_aside(self, claimed: Claimed, error: Exception) -> None:
        """After a surprise: write it down and look again in a minute; people are told when it waits too long."""
        now = self._clock.now()
        entry = Entry(
            kind=EntryKind.DECISION,
            at=now,
            reason=Reason.FAILED,
            text=f"a bug or surprise of ours, looked at again in a minute: {error!r}",
        )
        try:
            held = self._in_hand.get(claimed.incident.id)
            await self._store.commit(
                Transition(
                    incident=held.incident if held else claimed.incident,
                    fence=claimed.fence,
                    wake=held.wake if held else claimed.wake,
                    wake_at=now + AFTER_A_SURPRISE,
                    entries=(entry,),
                )
            )
        except StoreUnavailableError as problem:
            logger().error("store_failed", problem=str(problem))

    async def _work(self, claimed: Claimed, lease_until: float) -> None:
        rules = {name: self._parts.pins.compile(digest, document) for name, (digest, document) in _documents(claimed).items()}
        incident, told = take_in(claimed.incident, claimed.signals)
        if any(one.rule not in rules for one in incident.candidates):
            rules = await self._parts.pins.rules(incident)
        held = Held(
            incident=incident,
            claimed=claimed,
            rules=rules,
            instances=claimed.instances,
            wake=claimed.wake,
            lease_until=lease_until,
            late=self._late(claimed),
        )
        self._in_hand[incident.id] = held
        consumed = tuple(signal.id for signal in claimed.signals)
        denied: tuple[Reason, str] | None = None
        for _ in range(MOST_STEPS):
            decision = await self._decide(held, denied)
            if decision is None:
                return
            denied = None
            if decision.capture:
                decision = await self._with_evidence(held, decision)
                # The evidence is stored; that it is, is stored with what is decided by it.
                if not (decision.tells or decision.finished or decision.release):
                    held.incident, told = decision.incident, (*told, *decision.entries)
                    continue
            committed_incident = held.incident
            held.incident = decision.incident
            keep = decision.intend is not None or decision.again or decision.give_back
            result = await self._store.commit(
                Transition(
                    incident=decision.incident,
                    fence=claimed.fence,
                    wake=held.wake,
                    wake_at=decision.wake_at,
                    keep=keep and decision.wake_at is not None,
                    consumed=consumed,
                    entries=(*told, *decision.entries),
                    tells=decision.tells,
                    intend=decision.intend,
                    scopes=decision.scopes,
                    changes=tuple(
                        change for plan in (decision.intend.plans if decision.intend else ()) for change in plan.changes
                    ),
                    finished=decision.finished,
                    release=decision.release,
                    storm=self._asked(decision),
                )
            )
            if not result.stored:
                if result.denied is None:
                    logger().warning("lease_lost", incident=incident.id)
                    return
                held.incident = committed_incident
                denied = (result.denied, result.detail)
                continue
            held.wake = result.wake
            held.incident = replace(decision.incident, parent=result.parent)
            consumed, told = (), ()
            self._say(committed_incident, decision)
            if decision.resolve_again:
                await self._parts.moves.resolve_again(held)
            if decision.give_back or decision.finished:
                await self._give_back(held, decision)
            if not keep or decision.incident.phase is Phase.CLOSED:
                return
            if decision.intend is None and not decision.again:
                await self._let_go(held, decision)
                return
        await self._let_go(held, None)

    def _late(self, claimed: Claimed) -> timedelta:
        overdue = self._clock.now() - (claimed.due_at or self._clock.now())
        return overdue if overdue >= NOBODY_WAS_THERE else timedelta(0)

    async def _decide(self, held: Held, denied: tuple[Reason, str] | None) -> Decision | None:
        """Return what to do next; None when the lease was lost in the middle of a rung.

        Then nothing is stored, also when the store would still take it: whether the last write took effect is not known here. The incident
        stays ``acting``, and whoever claims it next looks at the world first, as after a crash.
        """
        incident = held.incident
        if incident.phase is Phase.ACTING and incident.command is not None:
            began = self._clock.now()
            ended = await self._parts.hands.carry_out_rung(held)
            self._parts.metrics.outcomes.labels(ended.outcome).inc()
            self._parts.metrics.action_seconds.observe((self._clock.now() - began).total_seconds())
            logger().info(
                "action_finished", rung=incident.command.rung, outcome=ended.outcome, reason=ended.reason, detail=ended.detail
            )
            if ended.reason is Reason.LEASE_LOST:
                logger().warning("lease_lost", incident=incident.id)
                return None
            return await self._conclude(held, ended)
        case = await self._case(held, denied)
        held.snapshot = case.reading.snapshot if case.reading is not None else None
        decision = decide(case)
        held.reading = case.reading if decision.capture else None
        return decision

    async def _conclude(self, held: Held, ended: Ended) -> Decision:
        case = await self._case(held, None)
        return conclude(case, outcome=ended.outcome, reason=ended.reason, detail=ended.detail)

    async def _case(self, held: Held, denied: tuple[Reason, str] | None) -> Case:
        incident = held.incident
        parts = self._parts
        if storms.is_parent(incident):
            return await self._parent_case(held)
        parent: Incident | None = None

        async def still() -> bool:  # asked when its turn has come: a storm shows itself while hundreds wait for theirs
            nonlocal parent
            parent = await parts.storms.parent_of(incident)
            return parent is None or not self._parked(held, parent)

        reading, problem = held.reading, ""
        held.reading = None
        if reading is not None and self._clock.now() - reading.read_at < YOUNG:
            parent = await parts.storms.parent_of(incident)
        elif incident.phase is not Phase.CLOSED:
            reading, problem = await parts.reader.read(incident, wanted(incident, held.rules), held.instances, still=still)
        else:
            reading = None
        parked = parent is not None and self._parked(held, parent)
        snapshot = reading.snapshot if reading is not None else None
        container = None if parked or parent is not None else await parts.storms.container_of(incident, snapshot)
        silent = parts.contacts.silent(incident.cluster) if reading is None and problem and parent is None else ""
        if silent and parts.contacts.waits(incident.cluster, incident.mode, incident.target.identity) < LEAST_SILENT:
            silent = ""
        counts = {} if parked else await self._counts(incident, held.rules)
        sample = not parked and parts.storms.take_sample(incident)
        return Case(
            incident=incident,
            now=self._clock.now(),
            house=parts.house,
            rules=held.rules,
            instances=held.instances,
            late=held.late,
            reading=reading,
            reading_problem=problem,
            switch=await parts.switches.least(incident.cluster),
            armed=frozenset(name for name in held.rules if parts.switches.armed(name, incident.target)),
            counts=counts,
            storm=parent.id if parent is not None else "",
            parked=parked,
            sample=sample,
            children=_children(parent, counts),
            silent=silent,
            nodes=await self._nodes(incident, snapshot),
            container=container,
            denied=denied[0] if denied else None,
            denied_detail=denied[1] if denied else "",
        )

    def _asked(self, decision: Decision) -> Incident | None:
        if not decision.storm:
            return None
        return self._parts.storms.asked(decision.incident, decision.storm, decision.storm_detail)

    def _parked(self, held: Held, parent: Incident) -> bool:
        """Tell whether an incident is left alone by its storm: nothing was said to it that asks for a look, and its own time has not come."""
        incident = held.incident
        if incident.phase not in {Phase.OPEN, Phase.WAITING} or any(
            signal.kind is not SignalKind.FIRED for signal in held.claimed.signals
        ):
            return False
        if self._parts.storms.wants_sample(incident):
            return False
        waits = incident.phase is Phase.WAITING and incident.reason is Reason.STORM
        return not waits or self._clock.now() < storms.look_at(incident, children=_children(parent, {}))

    async def _nodes(self, incident: Incident, snapshot: Snapshot | None) -> Verdict | None:
        """Ask whether too many nodes are unhealthy, where something about the target says that one is."""
        limits = self._parts.house.limits
        if snapshot is None or all(one.ready == "True" for one in snapshot.nodes):
            return None
        if snapshot.node is not None and "nodes" not in snapshot.gaps:
            return guards.unhealthy_nodes(limits, snapshot.nodes)
        return guards.unhealthy_nodes(limits, await self._parts.reader.nodes(incident.cluster))

    async def _parent_case(self, held: Held) -> Case:
        """Gather what a storm's parent is judged by: its causes, counted and read anew."""
        incident, parts = held.incident, self._parts
        limits = parts.house.limits
        counts = await self._store.storm(incident, symptom_window=limits.same_symptom.window)
        return Case(
            incident=incident,
            now=self._clock.now(),
            house=parts.house,
            rules=held.rules,
            instances=held.instances,
            late=held.late,
            switch=await parts.switches.least(incident.cluster),
            causes=storms.standing(
                incident,
                counts,
                limits,
                nodes=guards.unhealthy_nodes(limits, await parts.reader.nodes(incident.cluster))
                if storms.UNHEALTHY_NODES in incident.causes
                else None,
                reached=await parts.reader.answers(incident.cluster) if storms.UNREACHABLE in incident.causes else None,
            ),
            children=sum(counts.waiting.values()),
        )

    async def _counts(self, incident: Incident, rules: Mapping[str, Rule]) -> dict[str, Counts]:
        """Count for each candidate; only where a rung may be judged."""
        window = self._parts.house.limits.same_symptom.window
        if incident.phase not in {Phase.OPEN, Phase.WAITING, Phase.VERIFYING, Phase.RECOVERED}:
            return {}
        scopes = {name: counting_scopes(incident, name, self._parts.house.limits, rule) for name, rule in rules.items()}
        return dict(await self._store.counts_of(incident, scopes, symptom_window=window)) if scopes else {}

    async def _with_evidence(self, held: Held, decision: Decision) -> Decision:
        """Capture evidence (at most 60 s are waited for it), keep it, and note it on the incident."""
        incident = held.incident
        items: Sequence[EvidenceItem] = ()
        problem = ""
        began_at = self._clock.now()
        if self._parts.reader.view(incident.cluster) is not None and not incident.unresolved and incident.target.name:
            try:
                async with asyncio.timeout(EVIDENCE_WITHIN.total_seconds()):
                    items, problem = await self._seen(held, incident)
            except TimeoutError:
                problem = f"not finished within {EVIDENCE_WITHIN.total_seconds():.0f} s"
            except RemoteError as error:
                problem = str(error)
        try:
            if items:
                await self._store.keep_evidence(incident.id, opening=incident.opening, items=items)
        except StoreUnavailableError as error:  # a full disk drops evidence first; if all is gone, the next commit says so
            items, problem = (), f"{problem}; not kept: {error}".lstrip("; ")
        now = self._clock.now()
        size = sum(len(item.content) for item in items)
        text = f"evidence: {len(items)} items, {size} bytes" + (f"; {problem}" if problem else "")
        entry = Entry(
            kind=EntryKind.EVIDENCE,
            at=now,
            reason=Reason.DONE,
            text=text,
            data={"items": [item.name for item in items], "seconds": (now - began_at).total_seconds()},
        )
        logger().info("evidence_captured", items=len(items), size_bytes=size, problem=problem)
        return replace(
            decision,
            incident=replace(decision.incident, evidence_at=now),
            entries=(*decision.entries, entry),
            capture=False,
            again=True,
        )

    async def _seen(self, held: Held, incident: Incident) -> tuple[Sequence[EvidenceItem], str]:
        """Take what the cluster and its cloud show; a silent API server is looked behind with a command, where something may be done at all."""
        parts, now = self._parts, self._clock.now()
        cloud = parts.reader.cloud(incident.cluster)
        items: list[EvidenceItem] = []
        problem = ""
        silent = False
        try:
            snapshot = held.snapshot or await parts.reader.snapshot(incident.target)
            silent = snapshot.reach is not None and snapshot.reach.answers is not True
            items += said_by_arm(snapshot, now=now)
            items += await parts.reader.evidence(snapshot) if snapshot.reach is None else ()
        except (TransientError, TimeoutError) as error:
            silent, problem = True, str(error) or "reading took too long"
        except RemoteError as error:
            problem = str(error)
        armed = incident.mode is Mode.ARMED and await parts.switches.least(incident.cluster) is Mode.ARMED
        if silent and cloud is not None and armed:
            items.append(await seen_inside(cloud, now=now))
        return items, problem

    async def _give_back(self, held: Held, decision: Decision) -> None:
        """Give back what is owed: all of it at recovery or close, of a rung that did not end done what it set for itself, of any what a step left."""
        owed = list(await self._store.owed(incident=held.incident.id))
        if not decision.give_back:
            if decision.finished is None:
                return
            if decision.incident.reason in {Reason.KILL_SWITCH, Reason.LEASE_LOST}:
                return  # nothing more is written; the debt stays listed
            ends = {"step"} if decision.finished[1] == "done" else {"step", "rung"}
            owed = [one for one in owed if one.command == decision.finished[0] and one.change.until in ends]
        if not owed:
            return
        settled, entries = await self._parts.hands.give_back(held, owed)
        if settled:
            await self._store.give_back(settled)
        if entries and decision.incident.phase is not Phase.CLOSED:
            await self._parts.hands.store_progress(held, *entries)

    async def _let_go(self, held: Held, decision: Decision | None) -> None:
        """Give the lease back when the last commit kept it."""
        wake_at: datetime | None = decision.wake_at if decision is not None else self._clock.now() + timedelta(seconds=5)
        await self._store.commit(
            Transition(incident=held.incident, fence=held.claimed.fence, wake=held.wake, wake_at=wake_at or self._clock.now())
        )

    def _say(self, before: Incident, decision: Decision) -> None:
        after = decision.incident
        if (before.phase, before.reason) != (after.phase, after.reason):
            self._parts.metrics.decisions.labels(after.phase, after.reason).inc()
            logger().info(
                "incident_decided",
                phase=after.phase,
                reason=after.reason,
                detail=after.detail,
                rule=after.leader,
                mode=after.mode,
                wake_at=decision.wake_at,
            )


def _children(parent: Incident | None, counts: Mapping[str, Counts]) -> int:
    """Return how many children a storm has, as far as is known before its parent has counted them."""
    counted = int(parent.facts.get("children", 0)) if parent is not None else 0
    return max([counted, *(one.same_symptom for one in counts.values())])


def _documents(claimed: Claimed) -> dict[str, tuple[str, Mapping[str, object]]]:
    digests = {one.rule: one.digest for one in claimed.incident.candidates}
    found = {name: (digests[name], document) for name, document in claimed.rules.items() if name in digests}
    missing = set(digests) - set(found)
    if missing:
        raise InvariantError(f"the store lost the pinned rules {', '.join(sorted(missing))} of {claimed.incident.id}")
    return found

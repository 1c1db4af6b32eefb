"""Plays a rule test: hours of an incident in milliseconds, on virtual time, through the same ``decide`` as in production.

Never here: another judgement than production's. What is simulated is the shell round it: an alert is matched by the same index, its target
found by the same resolution, its incident joined by the same key; an action takes no time unless the test says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import structs

from responder.actions.catalogue import ActionCatalogue
from responder.model.action import Outcome
from responder.model.alert import Alert, AlertStatus, Severity, SourceKind, fingerprint, severity_of
from responder.model.cluster import Reading
from responder.model.health import CheckReading, Health
from responder.model.incident import Candidate, Incident, Instance, Level, Mode, Phase, Policy, Signal, SignalKind
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.rule import Rule
from responder.model.storing import Counts
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.policy.case import Case, Decision, House
from responder.policy.decide import conclude, decide, wanted
from responder.policy.escalate import REFUSALS, UNKNOWNS
from responder.policy.grouping import fires, key_of, merge
from responder.policy.permission import scope_of
from responder.policy.signals import in_order, take_in
from responder.policy.specimen import HEALTHY_FACTS, snapshot_of
from responder.policy.targets import Ask, ClusterIdentity, Exporters, Resolved, Unresolved, resolve
from responder.rules.durations import parse_duration
from responder.rules.facts import FACTS
from responder.rules.index import RuleIndex
from responder.rules.testfile import AlertStep, Change, Expected, RuleTest

BEGINS_AT = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ENDS_AFTER = timedelta(hours=14)
MOST_STEPS = 20_000
SILENT_WAITS = UNKNOWNS | {
    Reason.GROUP_WAIT,
    Reason.APPROVAL,
    Reason.NO_RULE_FITS,
    Reason.TARGET_UNRESOLVED,
    Reason.BEGUN_TWICE,
    Reason.REJECTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One thing that happened: did, waits, refused, ask or page."""

    at: timedelta
    kind: str
    what: str
    target: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        more = ", ".join(f"{name}: {value}" for name, value in self.data.items())
        return f"{_clock(self.at)} {self.target} {self.kind}: {self.what}" + (f" ({more})" if more else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A test that was played. ``problems`` is empty when everything expected happened, and nothing else."""

    test: RuleTest
    problems: tuple[str, ...]
    happened: tuple[Happened, ...]
    states: tuple[tuple[timedelta, str, str], ...]


@dataclass(slots=True)
class _Live:
    incident: Incident
    wake_at: datetime | None
    signals: list[Signal] = field(default_factory=list)
    acting_until: datetime | None = None
    claimed: bool = False
    digests: dict[str, str] = field(default_factory=dict)


class _Theatre:
    """The shell, simulated."""

    def __init__(self, test: RuleTest, rules: Sequence[Rule], catalogue: ActionCatalogue) -> None:
        self.test = test
        self.rules = {rule.name: rule for rule in rules}
        self.index = RuleIndex(rules)
        policy = Policy(name="rehearsal", levels=(Level(after=timedelta(0), channels=("people",)),))
        self.house = House(catalogue=catalogue, routes=dict.fromkeys(Severity, policy))
        self.now = BEGINS_AT
        self.facts: dict[str, Any] = dict(HEALTHY_FACTS)
        self.unread: set[str] = set()
        self.checks: dict[str, str] = {}
        self.operation: tuple[object, datetime] = (None, BEGINS_AT)
        self.pending: list[tuple[datetime, int, Change | AlertStep | Alert | tuple[str, str]]] = []
        self.live: list[_Live] = []
        self.instances: dict[str, Instance] = {}
        self.alerts: list[Alert] = []
        self.owners: dict[str, str] = {}
        self.happened: list[Happened] = []
        self.states: list[tuple[timedelta, str, str]] = []
        self.counts: list[tuple[timedelta, int]] = []
        self.actions: list[tuple[datetime, str]] = []
        self.failing = {change.after: change for change in test.test.world if change.after and change.outcome == "failed"}
        for number, change in enumerate(test.test.world):
            if change.at is not None:
                self.pending.append((BEGINS_AT + change.at, number - 1000, change))
        for number, step in enumerate(test.test.alerts):
            self.pending.append((BEGINS_AT + step.at, number, step))
        for number, vote in enumerate(test.test.approvals):
            self.pending.append((BEGINS_AT + vote.at, number + 1000, (vote.by, vote.answer)))

    def play(self) -> None:
        """Play until nothing happens any more."""
        ends_at = (
            BEGINS_AT
            + max([timedelta(minutes=5), *((one.by or one.at or timedelta(0)) for one in self.test.test.expect)])
            + timedelta(minutes=1)
        )
        for _ in range(MOST_STEPS):
            due = [at for at, _, _ in self.pending] + [one.wake_at for one in self.live if one.wake_at is not None]
            if not due or min(due) > ends_at:
                return
            self.now = max(self.now, min(due))
            self._arrive()
            for one in list(self.live):
                if one.wake_at is not None and one.wake_at <= self.now:
                    self._work(one)
        raise RuntimeError(f"{self.test.test.name}: more than {MOST_STEPS} steps; the rule never comes to rest")

    @property
    def at(self) -> timedelta:
        """Return the time since the test began."""
        return self.now - BEGINS_AT

    def _arrive(self) -> None:
        due = sorted((one for one in self.pending if one[0] <= self.now), key=lambda one: (one[0], one[1]))
        self.pending = [one for one in self.pending if one[0] > self.now]
        for _, _, what in due:
            match what:
                case Change():
                    self._change(what)
                case AlertStep():
                    self._alert(what)
                case Alert():
                    self._ripen(what)
                case (by, answer):
                    self._vote(by, answer)

    def _change(self, change: Change) -> None:
        for name, value in change.set.items():
            if not name.startswith("facts."):
                self.checks[name] = str(value)
            elif value == "missing":
                self.facts.pop(name.removeprefix("facts."), None)
                self.unread.add(name.removeprefix("facts."))
            else:
                self.unread.discard(name.removeprefix("facts."))
                self.facts[name.removeprefix("facts.")] = _typed(name.removeprefix("facts."), value)

    def _alert(self, step: AlertStep) -> None:
        if step.same:
            alert = structs.replace(self.alerts[step.same - 1], status=AlertStatus(step.status))
        else:
            source = SourceKind(step.source)
            mark = fingerprint(step.source, step.labels)
            alert = Alert(
                source=source,
                source_name="test",
                name=step.labels.get("alertname", ""),
                status=AlertStatus(step.status),
                severity=severity_of(label=step.labels.get("severity", ""), sender=""),
                labels=step.labels,
                fingerprint=mark,
                instance=f"{mark}/{len(self.alerts)}",
                started_at=self.now,
                resolves=source is not SourceKind.EVENT_GRID,
            )
        self.owners |= step.owner
        self.alerts.append(alert)
        matched = self.index.candidates(alert)
        held = self.instances.get(alert.instance)
        one = merge(held, alert, now=self.now, rules=tuple(rule.name for rule, _ in matched))
        self.instances[alert.instance] = one
        if alert.status is AlertStatus.RESOLVED or one.incident:
            for live in self.live:
                if live.incident.id == one.incident:
                    kind = SignalKind.RESOLVED if alert.status is AlertStatus.RESOLVED else SignalKind.FIRED
                    self._tell(live, kind, {})
            return
        aimed = [one for one in matched if one[0].target.kind is not TargetKind.NONE] or list(matched)
        waits = sorted({match.for_ for _, match in aimed if match.for_})
        self.pending += [(self.now + wait, 0, alert) for wait in waits]
        self._open(alert, [rule for rule, match in aimed if not match.for_])

    def _ripen(self, alert: Alert) -> None:
        """An alert has fired for as long as a rule wants: its incident opens now, unless it was resolved."""
        if self.instances[alert.instance].status is AlertStatus.RESOLVED:
            return
        fired_for = self.now - (alert.started_at or self.now)
        self._open(alert, [rule for rule, match in self.index.candidates(alert) if match.for_ <= fired_for])

    def _open(self, alert: Alert, matched: Sequence[Rule]) -> None:
        aimed = [rule for rule in matched if rule.target.kind is not TargetKind.NONE] or list(matched)
        found = [(rule, self._resolve(rule, alert)) for rule in aimed]
        if not found:
            return
        first = next((pair for pair in found if isinstance(pair[1], Resolved)), found[0])
        target = first[1].target if isinstance(first[1], Resolved) else first[1].narrowest
        same = [
            rule
            for rule, result in found
            if (result.target if isinstance(result, Resolved) else result.narrowest).identity == target.identity
        ]
        candidates = [Candidate(rule=rule.name, digest=rule.digest, priority=rule.priority) for rule in same]
        key = key_of(Mode.ARMED, target)
        live = next((one for one in self.live if one.incident.key == key and one.incident.phase is not Phase.CLOSED), None)
        if live is None:
            unresolved = not isinstance(first[1], Resolved)
            incident = Incident(
                id=f"inc-{len(self.live) + 1}",
                key=key,
                mode=Mode.ARMED,
                cluster=target.cluster,
                target=target,
                unresolved=unresolved,
                resolution=first[1].how if isinstance(first[1], Resolved) else first[1].detail,
                symptom=first[0].name,
                severity=first[0].severity or alert.severity,
                opened_at=self.now,
                phase_since=self.now,
                candidates=in_order(candidates),
            )
            live = _Live(incident=incident, wake_at=self.now)
            self.live.append(live)
            self.counts.append((self.at, len(self.live)))
        else:
            rules = {one.rule: {"digest": one.digest, "priority": one.priority} for one in candidates}
            self._tell(live, SignalKind.FIRED, rules)
        self.instances[alert.instance] = structs.replace(self.instances[alert.instance], incident=live.incident.id)

    def _resolve(self, rule: Rule, alert: Alert) -> Resolved | Unresolved:
        cluster = alert.labels.get("cluster", "test")
        answers: dict[Lookup, LookupAnswer] = {}
        for _ in range(8):
            found = resolve(rule.target, alert, clusters=[ClusterIdentity(name=cluster)], exporters=Exporters(), answers=answers)
            if not isinstance(found, Ask):
                return found
            answers |= {one: self._look_up(one) for one in found.lookups}
        return Unresolved(detail="too many look-ups", narrowest=Target(kind=TargetKind.NONE, name=alert.name))

    def _look_up(self, lookup: Lookup) -> LookupAnswer:
        """Answer from ``owner``; workloads, services and nodes named outright exist, pods and controllers without an owner do not."""
        owner = self.owners.get(lookup.name)
        if owner is not None:
            kind, _, name = owner.partition("/")
            target = Target(
                kind=TargetKind.WORKLOAD, cluster=lookup.cluster, namespace=lookup.namespace, name=name, owner_kind=kind
            )
            return LookupAnswer(presence=Presence.FOUND, targets=(target,), detail=owner)
        kinds = {"Service": TargetKind.SERVICE, "Node": TargetKind.NODE}
        if lookup.kind in kinds or lookup.kind in {"Deployment", "StatefulSet", "DaemonSet"}:
            target = Target(
                kind=kinds.get(lookup.kind, TargetKind.WORKLOAD),
                cluster=lookup.cluster,
                namespace=lookup.namespace,
                name=lookup.name,
                owner_kind="" if lookup.kind in kinds else lookup.kind,
            )
            return LookupAnswer(presence=Presence.FOUND, targets=(target,), detail=f"{lookup.kind} {lookup.name}")
        return LookupAnswer(presence=Presence.ABSENT, detail=f"the test gives {lookup.name} no owner")

    def _tell(self, live: _Live, kind: SignalKind, rules: Mapping[str, Any], *, by: str = "test", **body: Any) -> None:
        signal = Signal(
            id=len(live.signals) + 1, incident=live.incident.id, kind=kind, at=self.now, by=by, body={"rules": rules, **body}
        )
        live.signals.append(signal)
        live.wake_at = self.now

    def _vote(self, by: str, answer: str) -> None:
        kind = SignalKind.APPROVED if answer == "approve" else SignalKind.REJECTED
        for live in self.live:
            if live.incident.approval is not None:
                self._tell(live, kind, {}, by=by, digest=live.incident.approval.digest)

    # --- one incident

    def _work(self, live: _Live) -> None:
        for _ in range(12):
            incident, _entries = take_in(live.incident, live.signals)
            live.signals = []
            live.incident = incident
            if incident.phase is Phase.CLOSED and live.wake_at is None:
                return
            if incident.phase is Phase.ACTING:
                decision = self._act(live)
                if decision is None:
                    return
            else:
                decision = decide(self._case(live))
            self._take(live, decision)
            if not decision.again and decision.intend is None:
                return

    def _act(self, live: _Live) -> Decision | None:
        """Carry the rung out: every action at once, unless the test says that one takes time and fails."""
        command = live.incident.command
        assert command is not None
        failing = next(
            (self.failing[name] for name in (command.rung, *(plan.action for plan in command.plans)) if name in self.failing),
            None,
        )
        if failing is not None and live.acting_until is None:
            live.acting_until = self.now + failing.within
            live.wake_at = live.acting_until
            if failing.within:
                self._did(live, command.plans[0].action)
                return None
        if failing is None:
            for plan in command.plans:
                self._did(live, plan.action)
            self._after(command.rung)
        live.acting_until = None
        outcome = Outcome.FAILED if failing is not None else Outcome.DONE
        return conclude(self._case(live), outcome=outcome, reason=Reason(str(outcome)), detail="")

    def _did(self, live: _Live, action: str) -> None:
        self.actions.append((self.now, live.incident.leader))
        self._say(live, "did", action)
        self._after(action)

    def _after(self, name: str) -> None:
        for number, change in enumerate(self.test.test.world):
            if change.after == name and not change.outcome:
                self.pending.append((self.now + change.within, number - 500, change))

    def _case(self, live: _Live) -> Case:
        incident = live.incident
        instances = tuple(one for one in self.instances.values() if one.incident == incident.id)
        rules = {one.rule: self.rules[one.rule] for one in incident.candidates}
        counts = {
            name: Counts(
                in_flight=sum(
                    1 for one in self.live if one is not live and one.claimed and scope_of(one.incident) == scope_of(incident)
                ),
                recent_actions=sum(
                    1 for at, rule in self.actions if rule == name and self.now - at < self.house.limits.max_actions.window
                ),
                same_symptom=len({one.incident.target.identity for one in self.live if one.incident.symptom == incident.symptom}),
            )
            for name in rules
        }
        return Case(
            incident=incident,
            now=self.now,
            house=self.house,
            rules=rules,
            instances=instances,
            reading=self._reading(incident, rules, instances),
            armed=frozenset(rules),
            counts=counts,
        )

    def _reading(self, incident: Incident, rules: Mapping[str, Rule], instances: Sequence[Instance]) -> Reading:
        checks: dict[str, CheckReading] = {}
        for call in wanted(incident, rules):
            said = self.checks.get(call.canonical, self.checks.get(call.name))
            if said is None and call.name == "alert.resolved":
                said = "unhealthy" if any(fires(one, now=self.now) for one in instances) else "healthy"
            checks[call.canonical] = CheckReading(health=Health(said or "healthy"), detail=f"the test says {said or 'healthy'}")
        kind = incident.target.kind
        known = kind not in {TargetKind.REGION, TargetKind.NONE}
        said_of = (self.facts.get("operation"), self.facts.get("operation_age"))
        if self.operation[0] != said_of:  # an operation has begun once, however often it is looked at
            self.operation = (said_of, self.now)
        none = {one.name for one in FACTS.values() if one.optional and one.belongs_to(kind)} - set(self.facts) - self.unread
        return Reading(
            read_at=self.now,
            facts=dict(self.facts),
            had_none=frozenset(none),
            checks=checks,
            snapshot=snapshot_of(incident.target, self.facts, now=self.now, said_at=self.operation[1]) if known else None,
        )

    def _take(self, live: _Live, decision: Decision) -> None:
        before = live.incident
        if decision.capture:
            self._say(live, "did", "evidence")
            live.incident = replace(decision.incident, evidence_at=self.now)
            live.wake_at = self.now
            return
        live.incident = decision.incident
        live.wake_at = decision.wake_at
        live.claimed = (live.claimed and not decision.release) or decision.intend is not None
        after = live.incident
        changed = (before.phase, before.reason) != (after.phase, after.reason)
        if before.phase is not after.phase:
            self.states.append((self.at, after.id, str(after.phase)))
        if after.phase is Phase.WAITING and changed:
            if after.reason in REFUSALS:
                rung = after.detail.removeprefix("rung ").partition(":")[0]
                self._say(live, "refused", str(after.reason), rung=rung)
            elif after.reason is Reason.APPROVAL and after.approval is not None:
                self._say(live, "ask", after.approval.rung, people=after.approval.people)
            elif after.reason not in SILENT_WAITS:
                self._say(live, "waits", str(after.reason))
        for tell in decision.tells:
            if tell.kind in {NoticeKind.PAGE, NoticeKind.UPDATE} and tell.level == 1:
                tried = [action for run in after.runs if run.outcome is not None for action in run.actions]
                self._say(live, "page", str(tell.reason), severity=str(after.severity), tried=tried)

    def _say(self, live: _Live, kind: str, what: str, **data: Any) -> None:
        self.happened.append(Happened(at=self.at, kind=kind, what=what, target=str(live.incident.target), data=data))


def rehearse(test: RuleTest, rules: Sequence[Rule], catalogue: ActionCatalogue) -> Played:
    """Play one test against a set of rules, all of them armed.

    Args:
        test: From ``rules.testfile.load_tests``.
        rules: Everything that is loaded together; rules that match the same alerts are candidates too, as in production.
        catalogue: The actions and checks.
    """
    theatre = _Theatre(test, rules, catalogue)
    theatre.play()
    problems = _compare(test, theatre)
    return Played(test=test, problems=tuple(problems), happened=tuple(theatre.happened), states=tuple(theatre.states))


def _compare(test: RuleTest, theatre: _Theatre) -> list[str]:
    problems: list[str] = []
    left = list(theatre.happened)
    for place, expected in enumerate(test.test.expect):
        where = f"{test.file}:{test.lines[place] if place < len(test.lines) else test.line}"
        for kind, what, data in _events(expected):
            if not left:
                problems.append(f"{where}: expected {kind} {what}, but nothing more happened")
                continue
            seen = left.pop(0)
            problem = _differs(seen, kind, what, data, expected)
            if problem:
                problems.append(f"{where}: {problem}")
        problems += [f"{where}: {one}" for one in _state_problems(expected, theatre)]
    problems += [f"{test.file}:{test.line}: not expected: {one}" for one in left]
    return problems


def _events(expected: Expected) -> list[tuple[str, str, Mapping[str, Any]]]:
    found: list[tuple[str, str, Mapping[str, Any]]] = []
    if expected.did:
        found.append(("did", expected.did, {}))
    if expected.waits:
        found.append(("waits", expected.waits, {}))
    if expected.refused:
        found.append(("refused", expected.refused.get("reason", ""), {}))
    if expected.ask:
        found.append(
            ("ask", str(expected.ask.get("rung", "")), {name: value for name, value in expected.ask.items() if name != "rung"})
        )
    if expected.page:
        found.append(
            (
                "page",
                str(expected.page.get("reason", "")),
                {name: value for name, value in expected.page.items() if name != "reason"},
            )
        )
    return found


def _differs(seen: Happened, kind: str, what: str, data: Mapping[str, Any], expected: Expected) -> str:
    if seen.kind != kind or (what and seen.what != what):
        return f"expected {kind} {what}, but {seen}"
    for name, value in data.items():
        if seen.data.get(name) != value:
            return f"expected {kind} with {name} {value}, but {seen}"
    if expected.target and seen.target != expected.target:
        return f"expected target {expected.target}, but {seen}"
    if expected.by is not None and seen.at > expected.by:
        return f"expected by {_clock(expected.by)}, but {seen}"
    if expected.at is not None and seen.at != expected.at:
        return f"expected at {_clock(expected.at)}, but {seen}"
    return ""


def _state_problems(expected: Expected, theatre: _Theatre) -> list[str]:
    problems = []
    until = expected.by if expected.by is not None else expected.at or timedelta(0)
    if expected.state:
        states = [state for at, _, state in theatre.states if at <= until]
        now = states[-1] if states else "open"
        held = expected.state in states if expected.by is not None else now == expected.state
        if not held:
            problems.append(
                f"expected state {expected.state} at {_clock(until)}, but it was {now} (states: {', '.join(states) or 'open'})"
            )
    if expected.incidents is not None:
        count = max([number for at, number in theatre.counts if at <= until], default=0)
        if count != expected.incidents:
            problems.append(f"expected {expected.incidents} incidents, but there were {count}")
    return problems


def _typed(name: str, value: Any) -> Any:
    if isinstance(HEALTHY_FACTS.get(name), timedelta) or name.endswith(("_age", "_for")):
        return parse_duration(str(value))
    return value


def _clock(at: timedelta) -> str:
    seconds = int(at.total_seconds())
    hours, rest = divmod(seconds, 3600)
    return (f"{hours}h" if hours else "") + f"{rest // 60}m{rest % 60:02d}s"

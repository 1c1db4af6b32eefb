"""``decide``: the one judgement of an incident. It looks at the incident, the facts and the time, and returns a decision.

Reads top down as the phase table of ARCHITECTURE.md. Never here: gathering facts, storing, acting. Everything that moves a phase
goes through ``ladder.advance``.

The decision a reader would question: a decision is made from the whole case every time, never from the event that woke the
incident (level, not edge). Waking it twice, late, or for no reason changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from responder.model.action import Outcome, Plan, Refusal
from responder.model.cluster import Reading
from responder.model.health import CheckReading, Health, Ruling, together
from responder.model.incident import Approval, Command, EntryKind, Incident, Mode, Phase, Run
from responder.model.reason import SENTENCES, Reason
from responder.model.rule import DEFAULT_PAGE, Call, PageWhen, Rule, Rung
from responder.model.target import Target, TargetKind
from responder.policy import guards, leading, storms
from responder.policy.case import APPROVAL_LASTS, DISAGREES_AFTER, JUDGED_EVERY, LOOKED_AT_EVERY, Case, Decision
from responder.policy.desk import Desk
from responder.policy.escalate import UNKNOWNS, escalate, next_page_at, page_reason, stand_down
from responder.policy.grouping import fires
from responder.policy.guards import tighten
from responder.policy.ladder import LadderEvent
from responder.policy.permission import disarmed, permission, pools_in_scope, scopes_of
from responder.policy.signals import STICKY
from responder.policy.storms import STORM
from responder.rules.compile import DEFAULT_HEALTHY

MOST_ATTEMPTS = 2
"""A rung that ended without having run begins by itself once more at most. Source: ARCHITECTURE.md, phase ``acting``."""

LEAST_HEALTHY_READS = 3
"""``hold`` counts healthy reads, not two times. Source: ARCHITECTURE.md "Storage, crash safety, scale"."""

MOST_DISPLACED = 200
"""Workloads that an incident remembers; a node carries at most 250 pods."""


def wanted(incident: Incident, rules: Mapping[str, Rule]) -> tuple[Call, ...]:
    """Return the checks that the next judgement needs: of every candidate, and the target kind's default."""
    calls = {call.canonical: call for call in _default_checks(incident)}
    for candidate in incident.candidates:
        rule = rules.get(candidate.rule)
        if rule is not None:
            calls |= {call.canonical: call for call in rule.healthy}
    return tuple(calls.values())


def decide(case: Case) -> Decision:
    """Judge an incident once.

    The result's incident is the case's own when nothing changed. An acting incident is not judged here: its hands are at work,
    and ``conclude`` takes what came of it.
    """
    desk = Desk(case)
    match case.incident.phase:
        case Phase.CLOSED:
            desk.end(case.incident.reason)
            return desk.decision(wake_at=None)
        case Phase.ACTING:
            return desk.decision(wake_at=case.now)
        case Phase.OPEN:
            _judge(desk)
        case Phase.WAITING:
            _wait(desk)
        case Phase.VERIFYING:
            _verify(desk)
        case Phase.EXHAUSTED:
            _watch_exhausted(desk)
        case Phase.RECOVERED:
            _watch_recovered(desk)
    return _tell_people(desk)


def conclude(case: Case, *, outcome: Outcome, reason: Reason, detail: str) -> Decision:
    """Take what came of the rung in flight.

    Args:
        case: The incident still acting, with a fresh reading.
        outcome: What came of it.
        reason: Why: the refusal's, the stop's, or DONE, FAILED and so on.
        detail: For people.
    """
    desk = Desk(case)
    incident = case.incident
    command = incident.command
    counted = outcome in {Outcome.DONE, Outcome.ALREADY_SO, Outcome.FAILED, Outcome.CANNOT_BE_KNOWN}
    runs = list(incident.runs)
    if runs and runs[-1].outcome is None and not runs[-1].skipped:
        runs[-1] = replace(runs[-1], ended_at=case.now, outcome=outcome, reason=reason, detail=detail, counted=counted)
    desk.change(runs=tuple(runs), command=None, approval=None)
    if command is not None:
        desk.finished = (command.key, str(outcome))
    desk.release = outcome is not Outcome.DONE
    desk.note(EntryKind.OUTCOME, reason, f"{command.rung if command else 'rung'}: {outcome}. {detail}".rstrip(". "))
    healthy = _health(desk, _leader(desk)).health is Health.HEALTHY
    match outcome:
        case Outcome.DONE | Outcome.ALREADY_SO | Outcome.FAILED:
            desk.change(healthy_since=None, healthy_reads=0, restarts={})
            desk.move(LadderEvent.ENDED, reason, detail)
        case Outcome.REFUSED | Outcome.REJECTED | Outcome.STOPPED:
            desk.move(LadderEvent.NOT_RUN_HEALTHY if healthy else LadderEvent.NOT_RUN, reason, detail)
        case Outcome.GONE:
            gone = incident.gone + 1
            desk.change(gone=gone)
            desk.move(LadderEvent.TARGET_GONE if gone == 1 else LadderEvent.TARGET_GONE_AGAIN, Reason.TARGET_GONE, detail)
            desk.resolve_again = gone == 1
        case Outcome.CANNOT_BE_KNOWN:
            desk.move(LadderEvent.CANNOT_BE_KNOWN, Reason.CANNOT_BE_KNOWN, detail)
    return _tell_people(desk)


# --- the phases -------------------------------------------------------------------------------------------------------


def _judge(desk: Desk) -> None:
    """Phase open: evidence, leader, health, then the next rung."""
    case, incident = desk.case, desk.incident
    if storms.is_parent(incident):
        desk.move(LadderEvent.NO_RUNG_LEFT, Reason.STORM, incident.detail)
        if incident.mode is Mode.SHADOW:
            desk.tell_shadow()
        return
    if case.parked:
        desk.hold_back(Reason.STORM, f"its storm is {case.storm}")
        return
    crowd = _crowd(desk, case.rules.get(incident.symptom))
    if incident.evidence_at is None and (case.sample or not (crowd or case.storm)) and not case.silent:
        desk.capture = True
        return
    choice = leading.choose(incident, case.rules, case.instances, case.reading, now=case.now)
    if incident.unresolved or incident.literal:
        choice = replace(choice, rule=None)
    leader = choice.rule
    desk.change(leader=leader.name if leader else "")
    _take_severity(desk)
    health = _read_health(desk, leader)
    if health.health is Health.HEALTHY:
        acted = any(run.outcome is not None and run.started_at >= desk.opened_at for run in incident.runs)
        desk.move(LadderEvent.HEALTHY, Reason.HEALTHY if acted else Reason.ALREADY_HEALTHY, health.detail)
        _count_healthy(desk, health)
        return
    if _one_of_many(desk, crowd or _crowd(desk, leader)):
        return
    if incident.unresolved:
        desk.hold_back(Reason.TARGET_UNRESOLVED, incident.resolution)
        return
    if incident.literal:
        desk.resolve_again = True
        desk.hold_back(Reason.UNKNOWN, incident.resolution or "the cluster did not answer while the target was resolved")
        return
    held = _held_back(desk, health)
    if held is not None:
        desk.hold_back(*held)
        return
    if leader is None:
        asked = ", ".join(f"{name}: {'false' if answer is False else 'unknown'}" for name, answer in choice.asked.items())
        desk.hold_back(Reason.NO_RULE_FITS, f"{health.detail}; conditions: {asked or 'no rule'}")
        return
    if choice.unknown:
        desk.hold_back(Reason.WHEN_UNKNOWN, f"{leader.name}: {leader.when.text if leader.when else ''}{_gaps(desk)}")
        return
    _climb(desk, leader)


def _one_of_many(desk: Desk, crowd: str) -> bool:
    """Hold back what is part of something greater, whatever else would be said of it: contained, or one of a storm's."""
    case = desk.case
    if case.storm:
        desk.hold_back(Reason.STORM, f"its storm is {case.storm}")
    elif case.container is not None and case.container[0]:
        desk.hold_back(Reason.CONTAINED, case.container[1])
    elif case.nodes is not None and case.nodes.ruling is Ruling.REFUSE:
        _begin_storm(desk, storms.UNHEALTHY_NODES, case.nodes.detail)
    elif case.silent:
        _begin_storm(desk, storms.UNREACHABLE, case.silent)
    elif crowd:
        _begin_storm(desk, storms.of_symptom(desk.incident.symptom), crowd)
    elif case.container is not None:
        desk.hold_back(Reason.CONTAINED, case.container[1])
    else:
        return False
    return True


def _begin_storm(desk: Desk, cause: str, detail: str) -> None:
    desk.storm = cause
    desk.storm_detail = detail
    desk.hold_back(Reason.STORM, storms.said_of(cause, detail))


def _climb(desk: Desk, leader: Rule) -> None:
    case, incident = desk.case, desk.incident
    offered = leading.next_rung(incident, leader, case.instances, case.reading, now=case.now)
    if offered.unknown is not None:
        text = offered.unknown.when.text if offered.unknown.when else ""
        desk.hold_back(Reason.WHEN_UNKNOWN, f"rung {offered.unknown.name}: {text}{_gaps(desk)}")
        return
    rung = offered.rung
    if rung is None:
        _record_skipped(desk, leader, offered.skipped)
        reason = Reason.EXHAUSTED if leader.ladder else Reason.NO_LADDER
        desk.move(LadderEvent.NO_RUNG_LEFT, reason, desk.incident.health_detail)
        return
    begun = [
        run
        for run in incident.runs
        if (run.rule, run.rung, run.counted, run.skipped) == (leader.name, rung.name, False, False)
        and (incident.resumed_at is None or run.started_at > incident.resumed_at)
        and run.started_at >= desk.opened_at
    ]
    if len(begun) >= MOST_ATTEMPTS:
        desk.hold_back(Reason.BEGUN_TWICE, f"rung {rung.name}: {begun[-1].detail or begun[-1].reason}")
        return
    verdict = permission(case, leader, rung)
    if verdict.ruling is not Ruling.ALLOW:
        desk.hold_back(verdict.reason, verdict.detail)
        return
    plans = _plan(desk, leader, rung, attempt=len(begun) + 1)
    if isinstance(plans, Refusal):
        desk.hold_back(plans.reason, f"rung {rung.name}: {plans.detail}".rstrip(": "))
        return
    within = pools_in_scope(case, plans)
    if within.ruling is not Ruling.ALLOW:
        desk.hold_back(within.reason, f"rung {rung.name}: {within.detail}")
        return
    if incident.mode is Mode.ARMED and not _approved(desk, leader, rung, plans):
        return
    _record_skipped(desk, leader, offered.skipped)
    _begin(desk, leader, rung, plans, attempt=len(begun) + 1)


def _begin(desk: Desk, leader: Rule, rung: Rung, plans: tuple[Plan, ...], *, attempt: int) -> None:
    case, incident = desk.case, desk.incident
    shadow = incident.mode is Mode.SHADOW
    diff = "; ".join(line for plan in plans for line in plan.diff)
    within = max(rung.within, *(plan.takes for plan in plans))
    run = Run(
        rule=leader.name,
        rung=rung.name,
        index=rung.index,
        actions=tuple(call.name for call in rung.do),
        attempt=attempt,
        started_at=case.now,
        prove_by=case.now + within,
        ended_at=case.now if shadow else None,
        shadow=shadow,
        counted=shadow,
        reason=Reason.SHADOW if shadow else Reason.ALLOWED,
        detail=diff,
    )
    desk.change(runs=(*desk.incident.runs, run))
    if shadow:
        desk.move(LadderEvent.SHADOW_RUNG, Reason.SHADOW, f"would have run {rung.name}: {diff}".rstrip(": "))
        desk.tell_shadow()
        return
    command = Command(
        key=_command_key(incident, leader, rung, attempt),
        rule=leader.name,
        rung=rung.name,
        index=rung.index,
        grade=rung.grade,
        plans=plans,
        begun_at=case.now,
    )
    desk.change(command=command)
    if incident.target.kind is TargetKind.NODE:
        _displace(desk, [one for plan in plans for one in plan.touches])
    desk.intend = command
    desk.scopes = scopes_of(case, leader, rung, plans)
    desk.move(LadderEvent.ALLOWED, Reason.ALLOWED, f"rung {rung.name}: {diff}".rstrip(": "))


def _wait(desk: Desk) -> None:
    """Phase waiting: judged again as if open; what stays the same is not said again."""
    before = desk.incident
    if before.reason in STICKY:
        health = _read_health(desk, _leader(desk))
        if health.health is Health.HEALTHY:
            desk.move(LadderEvent.HEALTHY, Reason.HEALTHY, health.detail)
            _count_healthy(desk, health)
        return
    desk.reopen_quietly()
    _judge(desk)
    desk.settle_quietly(before)


def _verify(desk: Desk) -> None:
    case = desk.case
    health = _read_health(desk, _leader(desk))
    run = _last_run(desk.incident)
    proving = run is not None and run.prove_by is not None and run.started_at >= desk.opened_at
    proving = proving and run is not None and (run.shadow or run.outcome is Outcome.DONE) and run.reason is not Reason.NOT_PROVEN
    running = proving and run is not None and run.prove_by is not None and case.now < run.prove_by
    if health.health is Health.HEALTHY:
        if _count_healthy(desk, health):
            _recover(desk, health)
        return
    _break_streak(desk)
    if running:
        return
    if run is not None and run.shadow and proving:
        desk.change_run(reason=Reason.NOT_PROVEN)
        desk.move(LadderEvent.NO_RUNG_LEFT, Reason.EXHAUSTED, f"shadow: not healthy after {run.rung} would have had its time")
        return
    if health.health is Health.UNKNOWN:
        return
    if proving and run is not None:
        desk.change_run(reason=Reason.NOT_PROVEN, detail=f"not proven in time: {health.detail}")
    desk.release = True
    desk.move(LadderEvent.NOT_PROVEN, Reason.NOT_PROVEN if proving else Reason.UNHEALTHY, health.detail)
    _judge(desk)


def _watch_exhausted(desk: Desk) -> None:
    if storms.is_parent(desk.incident):
        _watch_storm(desk)
        return
    health = _read_health(desk, _leader(desk))
    if health.health is not Health.HEALTHY:
        _break_streak(desk)
    elif _count_healthy(desk, health):
        _recover(desk, health)


def _watch_storm(desk: Desk) -> None:
    """Judge a parent incident: it is over when every one of its causes has been over for a while."""
    case = desk.case
    known = {cause: case.causes[cause] for cause in desk.incident.causes if cause in case.causes}
    said = "; ".join(storms.said_of(cause, one.detail) for cause, one in known.items())
    over = len(known) == len(desk.incident.causes) and all(one.ruling is Ruling.ALLOW for one in known.values())
    health = CheckReading(health=Health.HEALTHY if over else Health.UNHEALTHY, detail=said or "not counted")
    desk.change(health=health.health, health_detail=health.detail, facts={"children": case.children})
    if not over:
        _break_streak(desk)
    elif _count_healthy(desk, health):
        _recover(desk, CheckReading(health=Health.HEALTHY, detail=f"the limits hold again ({said})"))


def _watch_recovered(desk: Desk) -> None:
    case, incident = desk.case, desk.incident
    firing = [one for one in case.instances if fires(one, now=case.now)]
    leader = _leader(desk)
    recovered_at = incident.recovered_at or case.now
    storm = storms.is_parent(incident)  # closed at once: the next storm is an incident, and a page, of its own
    if storm or not firing:
        reopen_within = leader.reopen_within if leader else timedelta(hours=12)
        if storm or case.now - recovered_at >= reopen_within:
            desk.change(closed_at=case.now)
            desk.move(LadderEvent.QUIET, Reason.QUIET)
            desk.give_back = desk.release = True
        return
    if case.reading is None:
        return
    health = _read_health(desk, leader)
    if health.health is Health.UNHEALTHY:
        desk.move(LadderEvent.UNHEALTHY_AGAIN, Reason.REOPENED, health.detail)
        desk.begin_opening()
        _judge(desk)
    elif health.health is Health.HEALTHY and not incident.told_disagrees and case.now - recovered_at >= DISAGREES_AFTER:
        desk.change(told_disagrees=True)
        names = ", ".join(sorted({one.name for one in firing}))
        desk.note(EntryKind.DECISION, Reason.CHECK_DISAGREES, f"{names} fires on; {health.detail}")
        desk.tell_disagreement()


# --- parts ------------------------------------------------------------------------------------------------------------


def _held_back(desk: Desk, health: CheckReading) -> tuple[Reason, str] | None:
    """Return why nothing is judged further although the target is not healthy, or None."""
    case, incident = desk.case, desk.incident
    if health.health is Health.UNKNOWN:
        return Reason.UNKNOWN, health.detail
    if incident.paused_by:
        return Reason.PAUSED, f"by {incident.paused_by}"
    stop = disarmed(case, incident.leader)
    if stop is not None:
        return stop
    if case.denied is not None:
        return case.denied, case.denied_detail
    return None


def _crowd(desk: Desk, rule: Rule | None) -> str:
    """Return what was counted when too many targets have this symptom: a common cause; "" when not."""
    counts = desk.case.counts.get(desk.incident.leader or desk.incident.symptom) or next(iter(desk.case.counts.values()), None)
    if counts is None:
        return ""
    limits = tighten(desk.case.house.limits, rule.guards) if rule is not None else desk.case.house.limits
    verdict = guards.same_symptom(limits, targets=counts.same_symptom)
    return "" if verdict.ruling is Ruling.ALLOW else verdict.detail


def _plan(desk: Desk, leader: Rule, rung: Rung, *, attempt: int) -> tuple[Plan, ...] | Refusal:
    """Plan every action of a rung before the first write."""
    case, incident = desk.case, desk.incident
    command = _command_key(incident, leader, rung, attempt)
    roots = leading.variables(incident, leader, case.instances, case.reading, now=case.now)
    plans: list[Plan] = []
    for number, call in enumerate(rung.do):
        planned = case.house.catalogue.plan(
            call,
            snapshot=case.reading.snapshot if case.reading else None,
            facts=case.reading.facts if case.reading else {},
            variables=roots,
            command=command if len(rung.do) == 1 else f"{command}/{number}",
            target=incident.target,
            now=case.now,
            settings=case.house.planning,
        )
        if isinstance(planned, Refusal):
            return planned
        plans.append(planned)
    return tuple(plans)


def _approved(desk: Desk, leader: Rule, rung: Rung, plans: tuple[Plan, ...]) -> bool:
    """Tell whether the people that the rung needs have approved this very plan; ask them otherwise."""
    case = desk.case
    if rung.approve <= 0:
        return True
    digest = "".join(plan.digest(leader.name)[:16] for plan in plans)[:64]
    asked = desk.incident.approval
    if asked is not None and asked.rung == rung.name and asked.rule == leader.name and asked.digest == digest:
        if any(not vote.approve for vote in asked.votes):
            desk.hold_back(
                Reason.REJECTED, f"rung {rung.name}: {', '.join(vote.by for vote in asked.votes if not vote.approve)} rejected it"
            )
            return False
        if len({vote.by for vote in asked.votes}) >= asked.people:
            return True
        if case.now <= asked.expires_at:
            desk.hold_back(Reason.APPROVAL, _question(rung, asked))
            return False
    elif asked is not None:
        desk.note(EntryKind.DECISION, Reason.PLAN_CHANGED, f"rung {rung.name}: the plan is another one now, so it is asked anew")
    fresh = Approval(
        rule=leader.name,
        rung=rung.name,
        digest=digest,
        people=rung.approve,
        asked_at=case.now,
        expires_at=case.now + APPROVAL_LASTS,
        diff=tuple(line for plan in plans for line in plan.diff),
    )
    desk.change(approval=fresh)
    desk.hold_back(Reason.APPROVAL, _question(rung, fresh))
    return False


def _question(rung: Rung, asked: Approval) -> str:
    voted = len({vote.by for vote in asked.votes})
    return f"rung {rung.name} needs {asked.people - voted} of {asked.people}: {'; '.join(asked.diff)} (plan {asked.digest[:12]})"


def _record_skipped(desk: Desk, leader: Rule, skipped: tuple[tuple[Rung, str], ...]) -> None:
    known = {(run.rule, run.rung) for run in desk.incident.runs if run.skipped and run.started_at >= desk.opened_at}
    for rung, why in skipped:
        if (leader.name, rung.name) in known:
            continue
        run = Run(
            rule=leader.name,
            rung=rung.name,
            index=rung.index,
            actions=tuple(call.name for call in rung.do),
            started_at=desk.case.now,
            ended_at=desk.case.now,
            skipped=True,
            reason=Reason.RAN_ALREADY if " did the same" in why else Reason.WHEN_FALSE,
            detail=why,
        )
        desk.change(runs=(*desk.incident.runs, run))
        desk.note(EntryKind.DECISION, run.reason, f"rung {rung.name} skipped: {why}")


def _recover(desk: Desk, health: CheckReading) -> None:
    ran = any(run.outcome is not None and run.started_at >= desk.opened_at for run in desk.incident.runs)
    if ran:
        desk.change_run(reason=Reason.DONE, only_if=Reason.NOT_PROVEN)
    desk.move(LadderEvent.PROVEN, Reason.RECOVERED, health.detail)
    desk.change(recovered_at=desk.case.now, approval=None, unknown_since=None, waiting_since=None)
    desk.give_back = desk.release = True
    desk.end(Reason.RECOVERED)


def _last_run(incident: Incident) -> Run | None:
    begun = [run for run in incident.runs if not run.skipped]
    return begun[-1] if begun else None


def _leader(desk: Desk) -> Rule | None:
    return desk.case.rules.get(desk.incident.leader)


def _first(desk: Desk) -> Rule | None:
    """Return the rule that gives page and severity: the leader, else the first candidate."""
    leader = _leader(desk)
    if leader is not None:
        return leader
    return next((desk.case.rules[one.rule] for one in desk.incident.candidates if one.rule in desk.case.rules), None)


def _default_checks(incident: Incident) -> tuple[Call, ...]:
    if incident.unresolved or incident.target.kind is TargetKind.NONE:
        return (Call(name="alert.resolved"),)
    return tuple(Call(name=name) for name in DEFAULT_HEALTHY.get(incident.target.kind, ("alert.resolved",)))


def _health(desk: Desk, leader: Rule | None) -> CheckReading:
    reading = desk.case.reading
    if reading is None:
        return CheckReading(health=Health.UNKNOWN, detail=desk.case.reading_problem or "nothing could be read")
    if reading.snapshot is not None and reading.snapshot.gone and desk.incident.target.kind is not TargetKind.NODE:
        if any(fires(one, now=desk.case.now) for one in desk.case.instances):
            return CheckReading(
                health=Health.UNKNOWN, detail=f"{desk.incident.target} does not exist any more, yet its alert fires"
            )
        return CheckReading(health=Health.HEALTHY, detail=f"{desk.incident.target} does not exist any more and no alert fires")
    calls = leader.healthy if leader is not None and not desk.incident.unresolved else _default_checks(desk.incident)
    missing = CheckReading(health=Health.UNKNOWN, detail="not read")
    return together({call.canonical: reading.checks.get(call.canonical, missing) for call in calls})


def _read_health(desk: Desk, leader: Rule | None) -> CheckReading:
    """Read health and note it, with since when it is unknown."""
    health = _health(desk, leader)
    since = desk.incident.unknown_since
    if health.health is Health.UNKNOWN:
        since = since or desk.case.now
    elif desk.incident.reason not in UNKNOWNS:
        since = None
    desk.change(health=health.health, health_detail=health.detail, unknown_since=since)
    if desk.case.reading is not None:
        desk.change(facts=dict(desk.case.reading.facts), read_at=desk.case.reading.read_at)
        _remember_displaced(desk, desk.case.reading)
        pool = desk.case.reading.snapshot.pool if desk.case.reading.snapshot is not None else ""
        desk.change(pool=pool or desk.incident.pool)
    return health


def _remember_displaced(desk: Desk, reading: Reading) -> None:
    """Remember which workloads a node that is not Ready carried: once their pods are gone from it, nothing else says so."""
    snapshot = reading.snapshot
    if snapshot is None or snapshot.node is None or snapshot.node.node.ready == "True":
        return
    _displace(desk, [one.target for one in snapshot.moved if not one.gone])


def _displace(desk: Desk, targets: Sequence[Target]) -> None:
    known = {one.identity: one for one in (*desk.incident.displaced, *targets)}
    desk.change(displaced=tuple(known.values())[:MOST_DISPLACED])


def _count_healthy(desk: Desk, health: CheckReading) -> bool:
    """Go on with the healthy streak and tell whether it has held; a restart since its start breaks it."""
    incident, now = desk.incident, desk.case.now
    leader = _leader(desk)
    hold = leader.hold if leader else timedelta(minutes=2)
    known = incident.restarts
    rose = any(count > known.get(uid, 0) for uid, count in health.restarts.items()) if incident.healthy_since else False
    if incident.healthy_since is None or rose:
        desk.change(healthy_since=now, healthy_reads=1, restarts=dict(health.restarts), unknown_since=None)
        return False
    desk.change(healthy_reads=incident.healthy_reads + 1, restarts=dict(health.restarts), unknown_since=None)
    return now - incident.healthy_since >= hold and desk.incident.healthy_reads >= LEAST_HEALTHY_READS


def _break_streak(desk: Desk) -> None:
    desk.change(healthy_since=None, healthy_reads=0, restarts={})


def _take_severity(desk: Desk) -> None:
    rule = _first(desk)
    if rule is None:
        return
    told = [one.severity for one in desk.case.instances if not one.problem]
    if len(told) < len(desk.case.instances):  # one cannot be read: it may have been what made the incident as severe as it is
        told.append(desk.incident.severity)
    worst = min(told, key=lambda severity: severity.rank, default=desk.incident.severity)
    desk.change(severity=rule.severity or worst, title=rule.title)


def _gaps(desk: Desk) -> str:
    reading = desk.case.reading
    gaps = dict(reading.snapshot.gaps) if reading and reading.snapshot else {}
    return "; not read: " + ", ".join(f"{name} ({why})" for name, why in sorted(gaps.items())) if gaps else ""


def _command_key(incident: Incident, leader: Rule, rung: Rung, attempt: int) -> str:
    return f"{incident.id}/{incident.opening}/{leader.name}/{rung.name}/{attempt}"


def _tell_people(desk: Desk) -> Decision:
    """Escalate what is due, and say when to look again."""
    case = desk.case
    if desk.capture:
        return desk.decision(wake_at=case.now)
    _keep_clocks(desk)
    _keep_parent(desk)
    rule = _first(desk)
    page = (rule.page if rule else None) or DEFAULT_PAGE[desk.incident.severity]
    if storms.is_parent(desk.incident):
        page = PageWhen.OPEN
    wait = case.house.limits.group_wait
    reason = page_reason(desk.incident, page=page, group_wait=wait, now=case.now)
    before = desk.incident.escalation
    if desk.incident.parent or (case.storm and reason is Reason.OPENED):  # also of a child that is healthy again and proves it
        reason = None
    later = storms.pages_at(desk.incident) if storms.is_parent(desk.incident) else case.now
    if not desk.incident.parent and later <= case.now:  # a child's levels keep their times, and go on when it is let go
        policy = case.house.routes.get(desk.incident.severity)
        incident, tells = escalate(desk.incident, reason=reason, policy=policy, now=case.now, late=case.late)
        desk.incident = incident
        desk.tells += tells
    else:
        incident, tells = desk.incident, ()
    for tell in tells:
        channels = ", ".join(tell.channels)
        desk.note(EntryKind.PAGE, tell.reason, f"{tell.kind} level {tell.level} to {channels}: {SENTENCES[tell.reason]}")
    if later <= case.now and reason is not None and before.paged_at is None and incident.escalation.paged_at is None:
        desk.say_once(EntryKind.PAGE, Reason.UNDELIVERED, f"no policy is configured for severity {incident.severity}")
    wake_at = desk.look_again_at()
    paged = None if incident.parent else next_page_at(incident, page=page, group_wait=wait, now=case.now)
    if later > case.now:
        paged = later
    if wake_at is not None and paged is not None:
        wake_at = min(wake_at, paged)
    return desk.decision(wake_at=wake_at)


def _keep_parent(desk: Desk) -> None:
    """Keep who has this incident meanwhile; one that proves what it did still does so, and calls nobody."""
    incident = desk.incident
    waits = incident.phase is Phase.WAITING and incident.reason is Reason.STORM
    verifies = incident.phase in {Phase.VERIFYING, Phase.OPEN, Phase.ACTING} and incident.health is not Health.HEALTHY
    inside = incident.phase is Phase.WAITING and incident.reason is Reason.CONTAINED
    container = desk.case.container[0] if inside and desk.case.container is not None else ""
    desk.change(parent=desk.case.storm if waits or verifies else container)


def _keep_clocks(desk: Desk) -> None:
    """Keep since when it waits and since when it knows nothing, across repeated judgements."""
    incident, now = desk.incident, desk.case.now
    waiting = incident.waiting_since if incident.phase is Phase.WAITING else None
    if incident.phase is Phase.WAITING:
        waiting = waiting or now
    unknown = incident.unknown_since
    if incident.phase is Phase.WAITING and incident.reason in UNKNOWNS:
        unknown = unknown or now
    elif incident.health is not Health.UNKNOWN:
        unknown = None
    desk.change(waiting_since=waiting, unknown_since=unknown)


__all__ = ["JUDGED_EVERY", "LOOKED_AT_EVERY", "STORM", "conclude", "decide", "stand_down", "wanted"]

"""May this rung begin now? Joins mode, limits and guards in the order of RULES.md.

Never here: what a limit is (``guards``) or what follows from the answer (``decide``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from responder.model.action import Plan
from responder.model.health import Ruling, Verdict
from responder.model.incident import Incident, Mode
from responder.model.reason import Reason
from responder.model.rule import Rule, Rung
from responder.model.storing import Counts, Scopes
from responder.model.target import TargetKind
from responder.policy import guards, storms
from responder.policy.case import Case
from responder.policy.containment import containers
from responder.policy.grouping import key_of
from responder.policy.guards import Limits, tighten


def least_mode(case: Case, leader: str) -> Mode:
    """Return the least of: as opened, what ``act:`` says of the leader now, the cluster's and the global switch."""
    armed = Mode.ARMED if not leader or leader in case.armed else Mode.SHADOW
    return min((case.incident.mode, armed, case.switch), key=lambda mode: mode.rank)


def disarmed(case: Case, leader: str) -> tuple[Reason, str] | None:
    """Return why an armed incident may not act any more, or None. Shadow incidents write nothing anyway."""
    if case.incident.mode is not Mode.ARMED:
        return None
    if case.switch is Mode.OFF:
        return Reason.KILL_SWITCH, "global or cluster mode is off"
    if case.switch is not Mode.ARMED:
        return Reason.DISARMED, "global or cluster mode is shadow"
    if leader and leader not in case.armed:
        return Reason.DISARMED, f"act: does not arm {leader} for this target"
    return None


def permission(case: Case, rule: Rule, rung: Rung) -> Verdict:
    """Ask every limit that applies to the rung's grade; the first that does not allow is the answer."""
    if rung.grade < 1:
        return Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, "changes nothing")
    limits = tighten(case.house.limits, rule.guards)
    incident, reading = case.incident, case.reading
    snapshot = reading.snapshot if reading else None
    facts = reading.facts if reading else {}
    actions = tuple(call.name for call in rung.do)
    opened_at = incident.reopened_at or incident.opened_at
    ours = any(run.outcome is not None and run.started_at >= opened_at for run in incident.runs)
    asked = [
        guards.fresh(reading.read_at if reading else None, now=case.now),
        guards.scope(limits, incident.target, pool=str(facts.get("pool", "")) if incident.target.kind is TargetKind.NODE else ""),
        guards.own_cluster(incident.target, home=case.house.home, snapshot=snapshot, actions=actions),
        guards.hands_off(snapshot),
        guards.keep_ready(limits, snapshot=snapshot, actions=actions, now=case.now),
    ]
    if incident.target.kind is TargetKind.NODE and rung.grade <= 3:
        asked += [guards.control_plane_doubt(snapshot), guards.unhealthy_nodes(limits, snapshot.nodes if snapshot else None)]
    if incident.mode is Mode.ARMED:
        counts = case.counts.get(rule.name, Counts())
        asked += [
            guards.same_symptom(limits, targets=counts.same_symptom),
            guards.group_wait(limits, opened_at=opened_at, now=case.now),
            guards.max_actions(limits, recent=counts.recent_actions),
            guards.in_flight(limits, running=counts.in_flight),
        ]
        if counts.claimed_by:
            asked.append(Verdict(Ruling.REFUSE, Reason.ANOTHER_HAND, counts.claimed_by))
    asked.append(guards.cloud_activity(snapshot, actions=actions))
    asked.append(guards.maintenance_window(limits, snapshot, grade=rung.grade, actions=actions, now=case.now))
    asked.append(guards.foreign_activity(snapshot, facts=facts, actions=actions, ours=ours))
    return next((one for one in asked if one.ruling is not Ruling.ALLOW), Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS))


def pools_in_scope(case: Case, plans: Sequence[Plan]) -> Verdict:
    """Refuse plans that change a node pool which no entry of ``limits.scope`` names, whoever's incident it is."""
    asked = (guards.scope(case.house.limits, one.target) for one in plans if one.target.kind is TargetKind.NODE_POOL)
    return next((one for one in asked if one.ruling is not Ruling.ALLOW), Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS))


def scope_of(incident: Incident, facts: Mapping[str, Any] | None = None) -> str:
    """Return where ``in_flight`` is counted: the namespace of pods, workloads and services, the pool of nodes, else the cluster.

    ``facts``: as read now; the incident's last ones otherwise.
    """
    target = incident.target
    if target.kind in {TargetKind.POD, TargetKind.WORKLOAD, TargetKind.SERVICE}:
        return f"{incident.cluster}/namespace/{target.namespace}"
    if target.kind is TargetKind.NODE:
        return f"{incident.cluster}/node_pool/{(facts or incident.facts).get('pool', '')}"
    return f"{incident.cluster}/{target.kind}"


def counting_scopes(incident: Incident, rule_name: str, limits: Limits, rule: Rule | None = None) -> Scopes:
    """Return what is counted for a candidate before a rung is judged."""
    strict = tighten(limits, rule.guards) if rule is not None else limits
    return Scopes(
        cluster=incident.cluster,
        target=(incident.target.identity,),
        scope=scope_of(incident),
        in_flight=strict.in_flight,
        rule=rule_name,
        max_actions=strict.max_actions.count,
        window=strict.max_actions.window,
    )


def scopes_of(case: Case, rule: Rule, rung: Rung, plans: tuple[Plan, ...]) -> Scopes:
    """Return what the rung takes hold of; grade 0 takes nothing and counts nowhere."""
    scopes = counting_scopes(case.incident, rule.name, case.house.limits, rule)
    held = [one for plan in plans for one in (plan.target, *plan.touches)]
    identities = tuple(dict.fromkeys((case.incident.target.identity, *(one.identity for one in held))))
    if rung.grade >= 1:
        inside = containers(case.incident, case.reading.snapshot if case.reading else None, now=case.now)
        parents = (
            storms.parent_key(case.incident.cluster, case.incident.mode),
            *(key_of(Mode.ARMED, one) for one in inside),
        )
        scope = scope_of(case.incident, case.reading.facts if case.reading else None)
        return replace(scopes, target=identities, scope=scope, symptom=case.incident.symptom, parents=parents)
    return Scopes(cluster=scopes.cluster, target=(), scope="", in_flight=None, rule="", max_actions=None, window=scopes.window)

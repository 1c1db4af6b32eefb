"""Renders what people are told: an incident's state as a ``Notice``, at the moment it is sent.

Never here: whether to tell (``policy.escalate``), a channel's format (``notifiers``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

from responder.model.alert import AlertStatus
from responder.model.incident import Incident, Instance, Phase, Run, Tell
from responder.model.notice import Notice, TriedRung
from responder.model.reason import SENTENCES, Reason
from responder.model.rule import Rule
from responder.model.target import TargetKind

LATE_AFTER = timedelta(minutes=1)
ALERTS_SHOWN = 20
LABELS_SHOWN = 400
"""Characters of an alert's labels in its line."""


def dedup_key(incident: str, opening: int, level: int) -> str:
    """Return PagerDuty's key: incident, opening and level (a second trigger on an open key calls nobody)."""
    return f"{incident}/{opening}/{level}"


def render(
    incident: Incident,
    tell: Tell,
    *,
    opening: int,
    rules: Mapping[str, Rule],
    instances: Sequence[Instance],
    now: datetime,
    base_url: str,
    sped_up: float = 1.0,
) -> Notice:
    """Return the notice of one tell, from the incident as it is now.

    Args:
        incident: As stored now.
        tell: What is to be told.
        opening: The opening it belongs to.
        rules: Its candidates, compiled.
        instances: Its alerts, oldest first; one more than ``ALERTS_SHOWN`` says that there are more.
        now: The instant of sending.
        base_url: Where this installation's pages are reached, such as ``https://responder.example``; "" leaves our links out.
        sped_up: Factor of the clock.
    """
    rule = rules.get(incident.leader) or next((rules[one.rule] for one in incident.candidates if one.rule in rules), None)
    return Notice(
        kind=tell.kind,
        incident=incident.id,
        opening=opening,
        level=tell.level,
        dedup_key=dedup_key(incident.id, opening, tell.level),
        at=now,
        severity=incident.severity,
        title=f"{rule.title if rule else incident.title or 'Alert'}: {incident.target}",
        state=state_of(incident),
        reason=tell.reason,
        rule=rule.name if rule else "",
        owner=rule.owner if rule else "",
        target=str(incident.target),
        cluster=incident.cluster,
        opened_at=incident.opened_at,
        seen=seen(incident),
        tried=tuple(_tried(run) for run in incident.runs),
        running=running(incident),
        left=left(incident, rule),
        asks=asks(incident) or _needed(incident),
        alerts=_alert_lines(instances, labels=nameless(incident)),
        links=links(incident, rule, instances, base_url),
        late=now - tell.due_at > LATE_AFTER,
        sped_up=sped_up,
    )


def state_of(incident: Incident) -> str:
    """Say in one sentence where the incident stands and why."""
    detail = f" ({incident.detail})" if incident.detail else ""
    words = {
        Phase.OPEN: "Being judged",
        Phase.ACTING: "Acting",
        Phase.VERIFYING: "Verifying",
        Phase.WAITING: "Waiting",
        Phase.EXHAUSTED: "Nothing more is done automatically",
        Phase.RECOVERED: "Recovered",
        Phase.CLOSED: "Closed",
    }
    return f"{words[incident.phase]}: {SENTENCES[incident.reason]}{detail}"


def seen(incident: Incident) -> tuple[str, ...]:
    """Say what was seen: cause, container, message, numbers, health."""
    facts = incident.facts
    said: list[str] = []
    if "cause" in facts and facts["cause"] != "none":
        where = f" in container {facts['container']}" if facts.get("container") else ""
        code = f", exit code {facts['exit_code']}" if "exit_code" in facts else ""
        said.append(f"cause: {facts['cause']}{where}{code}")
    if facts.get("service_cause") not in {None, "none"}:
        said.append(f"service: {facts['service_cause']}")
    if facts.get("message"):
        said.append(f"message: {facts['message']}")
    if "desired" in facts and "ready" in facts:
        said.append(f"{facts['ready']} of {facts['desired']} pods ready, {facts.get('failing', 0)} failing")
    if incident.health is not None:
        said.append(f"health: {incident.health}" + (f", {incident.health_detail}" if incident.health_detail else ""))
    if incident.unresolved or incident.literal:
        said.append(f"target: {incident.resolution}")
    return tuple(said)


def _tried(run: Run) -> TriedRung:
    outcome = "skipped" if run.skipped else "would have run" if run.shadow else str(run.outcome or "running")
    if run.reason is Reason.NOT_PROVEN and not run.skipped:
        outcome = f"{outcome}, not proven"
    return TriedRung(rung=run.rung, action=", ".join(run.actions), outcome=outcome, detail=run.detail, at=run.started_at)


def running(incident: Incident) -> str:
    """Say which rung runs now and when it must be proven; "" when none."""
    begun = [run for run in incident.runs if not run.skipped]
    if not begun or incident.phase not in {Phase.ACTING, Phase.VERIFYING} or begun[-1].prove_by is None:
        return ""
    run = begun[-1]
    if incident.phase is Phase.VERIFYING and run.reason is Reason.NOT_PROVEN:
        return ""
    doing = "is being carried out" if incident.phase is Phase.ACTING else "was carried out and is being proven"
    return f"{run.rung} {doing}; must be proven by {run.prove_by:%H:%M:%S} UTC" if run.prove_by else ""


def left(incident: Incident, rule: Rule | None) -> tuple[str, ...]:
    """Return names of the rungs that may still run."""
    if rule is None or incident.phase in {Phase.EXHAUSTED, Phase.RECOVERED, Phase.CLOSED}:
        return ()
    top = max((run.index for run in incident.runs if run.rule == rule.name and not run.skipped), default=-1)
    return tuple(rung.name for rung in rule.ladder[top + 1 :])


def asks(incident: Incident) -> str:
    """Say what is asked of people; "" when nothing."""
    asked = incident.approval
    if asked is None or incident.reason is not Reason.APPROVAL:
        return ""
    voted = len({vote.by for vote in asked.votes})
    return (
        f"Approve {asked.rung} ({'; '.join(asked.diff)}): {asked.people - voted} of {asked.people} needed by {asked.expires_at:%H:%M} UTC. "
        f"responder approve {incident.id} --plan {asked.digest[:12]}"
    )


def _needed(incident: Incident) -> str:
    """Say what a person who is called must do, where nothing goes on by itself; "" where it does."""
    if incident.phase is Phase.EXHAUSTED and incident.reason is Reason.STORM:
        return (
            "Look for what they have in common (a node, a release, a registry, the network); responder incidents lists them. Nothing is written "
            "to them meanwhile; when it is over each goes on by itself"
        )
    if incident.phase is Phase.EXHAUSTED:
        return f"Take over: nothing more is done automatically, and it ends by itself when health is proven. responder report {incident.id}"
    if incident.reason is Reason.TARGET_UNRESOLVED:
        return "Take over: nothing is done while the alert does not name one thing; its labels are below, and Now says which one is missing or fits nothing"
    return ""


def links(incident: Incident, rule: Rule | None, instances: Sequence[Instance], base_url: str) -> tuple[tuple[str, str], ...]:
    """Return what a page links to: acknowledge page, report, runbook, the sender's page."""
    found: list[tuple[str, str]] = []
    if base_url:
        here = f"{base_url.rstrip('/')}/incidents/{quote(incident.id)}"
        if incident.phase not in {Phase.RECOVERED, Phase.CLOSED}:
            found.append(("Acknowledge", f"{here}/acknowledge"))
        found.append(("Report", f"{here}/report"))
    if rule is not None and rule.runbook:
        found.append(("Runbook", rule.runbook))
    found += [("Alert", one.link) for one in instances[:1] if one.link]
    return tuple(found)


def _alert_lines(instances: Sequence[Instance], *, labels: bool) -> tuple[str, ...]:
    firing_first = sorted(instances, key=lambda one: one.status is not AlertStatus.FIRING)
    lines = tuple(_alert_line(one, labels=labels) for one in firing_first[:ALERTS_SHOWN])
    return (*lines, "and more: the report lists them") if len(instances) > ALERTS_SHOWN else lines


def _alert_line(one: Instance, *, labels: bool) -> str:
    since = f" since {one.started_at:%Y-%m-%d %H:%M:%S} UTC" if one.started_at else ""
    state = "firing" if one.status is AlertStatus.FIRING else "resolved"
    times = f", received {one.count} times" if one.count > 1 else ""
    if one.problem:
        return f"{one.name} {state}{since}; the rest of it is damaged in the store (responder db check)"
    return f"{one.name} ({one.source}/{one.source_name}) {state}{since}{times}" + (labels_of(one) if labels else "")


def nameless(incident: Incident) -> bool:
    """Tell whether an incident has no target that says where the trouble is, so that its alerts' labels must."""
    return incident.unresolved or incident.target.kind is TargetKind.NONE


def labels_of(one: Instance) -> str:
    """Return what an alert says of itself, where no target does; "" when nothing, and never longer than a page takes."""
    said = ", ".join(
        f"{name}={value}" for name, value in sorted(one.labels.items()) if name not in {"alertname", "severity"} and value
    )
    return f": {said[:LABELS_SHOWN]}{'…' if len(said) > LABELS_SHOWN else ''}" if said else ""

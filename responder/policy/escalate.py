"""The second, parallel table: when people are told, at which level, and when it is over.

Never here: what a message says (``service.notices``) or how it is sent (``notifiers``).

The decision a reader would question: levels run by the time since the first page and not since the last one, so an outage of
ours never shifts them: every level that is due goes out at once, marked late by its own due time.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from responder.model.incident import Escalation, Incident, Mode, Phase, Policy, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.rule import PageWhen

UNKNOWN_PAGES_AFTER = timedelta(minutes=2)
WAITING_PAGES_AFTER = timedelta(minutes=10)

AT_ONCE = frozenset(
    {
        Reason.TARGET_UNRESOLVED,
        Reason.NO_RULE_FITS,
        Reason.APPROVAL,
        Reason.REJECTED,
        Reason.BEGUN_TWICE,
        Reason.CANNOT_BE_KNOWN,
        Reason.TARGET_GONE,
    }
)
"""Waits that call people at once, under their own name."""

REFUSALS = frozenset(
    {
        Reason.REFUSED,
        Reason.HANDS_OFF,
        Reason.OUT_OF_SCOPE,
        Reason.KEEP_READY,
        Reason.MAX_ACTIONS,
        Reason.OWN_CLUSTER,
        Reason.GITOPS_OWNER,
        Reason.WORKLOAD_PAUSED,
        Reason.ON_DELETE_STRATEGY,
        Reason.QUOTA_EXCEEDED,
        Reason.CAUSE_NOT_CURABLE,
        Reason.NO_HEALTHY_REVISION,
        Reason.IMAGE_TOO_OLD,
        Reason.LAST_READY_REPLICA,
        Reason.BARE_POD,
        Reason.JOB_POD,
        Reason.NO_FAILING_POD,
        Reason.KIND_NOT_SUPPORTED,
        Reason.AUTOSCALED,
        Reason.NEEDS_FREEZE,
        Reason.BUDGET_BLOCKS,
        Reason.DRAIN_BLOCKED,
        Reason.MACHINE_NOT_OFF,
        Reason.ARGUMENT_MISSING,
        Reason.FORBIDDEN,
    }
)
"""An action or a limit said no: people are told at once that it was ``refused``, the detail says by what."""

NEVER_PAGES = frozenset({Reason.PAUSED, Reason.SILENCED, Reason.STORM, Reason.CONTAINED})
"""Waits in which somebody has it already."""

UNKNOWNS = frozenset({Reason.UNKNOWN, Reason.WHEN_UNKNOWN, Reason.STALE_READING})


def page_reason(incident: Incident, *, page: PageWhen, group_wait: timedelta, now: datetime) -> Reason | None:
    """Return why people must be told now, or None.

    Args:
        incident: As it stands after this decision.
        page: Of the leader, else of the first candidate.
        group_wait: No page for a mere opening before the incident is this old.
        now: The instant of the decision.

    Source: RULES.md, key ``page``; ARCHITECTURE.md, "Pages".
    """
    if page is PageWhen.NEVER or incident.mode is Mode.SHADOW or incident.phase in {Phase.RECOVERED, Phase.CLOSED}:
        return None
    if incident.phase is Phase.EXHAUSTED:
        return Reason.STORM if incident.reason is Reason.STORM else Reason.EXHAUSTED
    if _has_somebody(incident):
        return None
    unknown = incident.unknown_since is not None and now - incident.unknown_since >= UNKNOWN_PAGES_AFTER
    if incident.phase in {Phase.WAITING, Phase.VERIFYING} and unknown:
        return Reason.UNKNOWN
    if incident.phase is Phase.WAITING:
        if incident.reason in AT_ONCE:
            return incident.reason
        if incident.reason in REFUSALS:
            return Reason.REFUSED
        if incident.waiting_since is not None and now - incident.waiting_since >= WAITING_PAGES_AFTER:
            return Reason.STUCK
    opened_at = incident.reopened_at or incident.opened_at
    if page is PageWhen.OPEN and incident.leader and now - opened_at >= group_wait:
        return Reason.OPENED
    return None


def _has_somebody(incident: Incident) -> bool:
    """Tell whether somebody has it already; inside of a node that has no incident of its own, nobody has."""
    if incident.phase is not Phase.WAITING or incident.reason not in NEVER_PAGES:
        return False
    return incident.reason is not Reason.CONTAINED or bool(incident.parent)


def next_page_at(incident: Incident, *, page: PageWhen, group_wait: timedelta, now: datetime) -> datetime | None:
    """Return when time alone will change ``page_reason`` or make a level due; None for never."""
    due: list[datetime] = []
    if page is not PageWhen.NEVER and incident.mode is not Mode.SHADOW and incident.phase not in {Phase.RECOVERED, Phase.CLOSED}:
        if incident.unknown_since is not None:
            due.append(incident.unknown_since + UNKNOWN_PAGES_AFTER)
        if incident.phase is Phase.WAITING and incident.waiting_since is not None and not _has_somebody(incident):
            due.append(incident.waiting_since + WAITING_PAGES_AFTER)
        if page is PageWhen.OPEN:
            due.append((incident.reopened_at or incident.opened_at) + group_wait)
    told = incident.escalation
    if told.policy and told.paged_at and not told.acknowledged_at and told.levels < len(told.policy.levels):
        due.append(told.paged_at + told.policy.levels[told.levels].after)
    later = [at for at in due if at > now]
    return min(later) if later else None


def escalate(
    incident: Incident, *, reason: Reason | None, policy: Policy | None, now: datetime, late: timedelta = timedelta(0)
) -> tuple[Incident, tuple[Tell, ...]]:
    """Tell people what is due now.

    A first page pins the policy by value. A newer reason updates the levels already told. Each level that is due goes to its
    channels, until somebody acknowledges. After recovery or close every level told is resolved.

    Args:
        incident: After the decision.
        reason: From ``page_reason``; None when there is nothing new to page for.
        policy: For the incident's severity now; None when nobody is configured.
        now: The instant of the decision. Levels run from the first page, however late that is.
        late: How long after its time this is judged: the store, or all of us, were gone.
    """
    told = incident.escalation
    if incident.phase in {Phase.RECOVERED, Phase.CLOSED}:
        return incident, ()
    tells: list[Tell] = []
    if reason is not None and told.paged_at is None:
        if policy is None:
            return incident, ()
        told = replace(told, policy=policy, paged_at=now, reason=reason)
    elif reason is not None and told.policy and reason is not told.reason and reason is not Reason.OPENED:
        told = replace(told, reason=reason)
        tells += [
            Tell(
                kind=NoticeKind.UPDATE, level=number + 1, channels=told.policy.levels[number].channels, reason=reason, due_at=now
            )
            for number in range(told.levels)
            if told.policy
        ]
    if told.policy and told.paged_at and told.acknowledged_at is None:
        for number in range(told.levels, len(told.policy.levels)):
            level = told.policy.levels[number]
            due_at = told.paged_at + level.after
            if due_at > now:
                break
            why = (told.reason or Reason.OPENED) if number == 0 else Reason.LEVEL_DUE
            if told.paged_at == now:
                due_at -= late
            tells.append(Tell(kind=NoticeKind.PAGE, level=number + 1, channels=level.channels, reason=why, due_at=due_at))
            told = replace(told, levels=number + 1)
    return replace(incident, escalation=told), tuple(tells)


def stand_down(incident: Incident, *, reason: Reason, policy: Policy | None, now: datetime) -> tuple[Tell, ...]:
    """Resolve every level that was told, and report the end where the policy says so.

    Args:
        incident: Recovered or closed.
        reason: How it ended.
        policy: For its severity, when it was never paged.
        now: The instant of the decision.
    """
    told: Escalation = incident.escalation
    used = told.policy or policy
    if used is None or incident.mode is Mode.SHADOW:
        return ()
    tells = [
        Tell(kind=NoticeKind.RESOLVE, level=number + 1, channels=used.levels[number].channels, reason=reason, due_at=now)
        for number in range(told.levels)
        if number < len(used.levels)
    ]
    acted = any(run.outcome is not None for run in incident.runs)
    if used.report and (acted or told.levels):
        tells.append(Tell(kind=NoticeKind.INFO, level=0, channels=used.report, reason=reason, due_at=now))
    return tuple(tells)

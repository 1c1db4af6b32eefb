"""What people and senders said to an incident, taken into its state.

Pure: signals in id order, one at a time. Never here: judging the ladder (``decide``). A signal never starts an action; it only
changes what the next judgement sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from responder.model.incident import Candidate, Entry, EntryKind, Incident, Phase, Signal, SignalKind, Vote
from responder.model.reason import Reason
from responder.policy.ladder import LadderEvent, advance

STICKY = frozenset({Reason.REJECTED, Reason.BEGUN_TWICE, Reason.CANNOT_BE_KNOWN, Reason.TARGET_GONE})
"""Waits that only health or a person ends. Source: ARCHITECTURE.md, the phase table."""

_CLOSERS: Mapping[SignalKind, Reason] = {
    SignalKind.CLOSED: Reason.CLOSED_BY_PERSON,
    SignalKind.MOVED: Reason.MOVED,
    SignalKind.ARMED: Reason.ARMED,
}


def take_in(incident: Incident, signals: Sequence[Signal]) -> tuple[Incident, tuple[Entry, ...]]:
    """Return the incident after these signals, and what the timeline says of each.

    A vote counts when it names the digest that is asked now, came before the deadline, and its person has not voted yet.
    Unknown or late ones are recorded and change nothing.
    """
    entries: list[Entry] = []
    for signal in signals:
        if incident.phase is Phase.CLOSED:
            break
        incident, reason, text, kind = _one(incident, signal)
        entries.append(Entry(kind=kind, at=signal.at, reason=reason, text=text, data={"by": signal.by, **signal.body}))
    return incident, tuple(entries)


def _one(incident: Incident, signal: Signal) -> tuple[Incident, Reason, str, EntryKind]:
    person = EntryKind.PERSON
    by = signal.by or "somebody"
    text = str(signal.body.get("text", ""))
    match signal.kind:
        case SignalKind.FIRED if "cause" in signal.body:
            return _widen(incident, signal)
        case SignalKind.FIRED:
            return join(incident, signal), Reason.JOINED, f"{_alerts(signal)} joined", EntryKind.ALERT
        case SignalKind.RESOLVED:
            said = f"{_alerts(signal)} resolved, says its sender; health decides"
            return incident, Reason.HEALTHY, said, EntryKind.ALERT
        case SignalKind.ACKNOWLEDGED:
            if incident.escalation.acknowledged_at is not None:
                return incident, Reason.ACKNOWLEDGED, f"{by} acknowledged it too", person
            told = replace(incident.escalation, acknowledged_by=by, acknowledged_at=signal.at)
            return replace(incident, escalation=told), Reason.ACKNOWLEDGED, f"{by} has it: no further level is called", person
        case SignalKind.APPROVED | SignalKind.REJECTED:
            return _vote(incident, signal)
        case SignalKind.PAUSED:
            return replace(incident, paused_by=by), Reason.PAUSED, f"{by} paused the ladder {text}".rstrip(), person
        case SignalKind.RESUMED:
            return _resume(incident, signal), Reason.RESUMED, f"{by} let the ladder go on {text}".rstrip(), person
        case SignalKind.NOTED:
            return incident, Reason.NOTED, f"{by}: {text}", person
        case SignalKind.RELEASED:
            return _released(incident, signal)
        case SignalKind.CLOSED | SignalKind.MOVED | SignalKind.ARMED:
            reason = _CLOSERS[signal.kind]
            closed = replace(
                incident,
                phase=advance(incident.phase, LadderEvent.CLOSED),
                phase_since=signal.at,
                reason=reason,
                detail=text,
                closed_at=signal.at,
                command=None,
                person_closed=signal.kind is SignalKind.CLOSED,
            )
            return closed, reason, f"closed by {by} {text}".rstrip(), person


def _released(incident: Incident, signal: Signal) -> tuple[Incident, Reason, str, EntryKind]:
    """Let an incident go from its storm. Who closed the storm has what is left of it: thousands of pages would tell that person nothing new.

    Its ladder goes on within the limits, and it is listed under that name until it recovers; what opens again calls people as ever.
    """
    free = replace(incident, parent="")
    closer = str(signal.body.get("closed_by", ""))
    if not closer:
        return free, Reason.STORM_OVER, "its storm is over", EntryKind.DECISION
    told = free.escalation
    if told.acknowledged_at is None:
        told = replace(told, acknowledged_by=closer, acknowledged_at=signal.at)
    said = f"its storm was closed by {closer}, who has this one too: nobody is called, and the ladder goes on within the limits"
    return replace(free, escalation=told), Reason.ACKNOWLEDGED, said, EntryKind.DECISION


def _widen(incident: Incident, signal: Signal) -> tuple[Incident, Reason, str, EntryKind]:
    """Take one more cause into a storm's parent."""
    cause, said = str(signal.body["cause"]), str(signal.body.get("detail", ""))
    if cause in incident.causes:
        return incident, Reason.REPEATED, f"{said}, found by another child", EntryKind.DECISION
    wider = replace(incident, causes=(*incident.causes, cause), healthy_since=None, healthy_reads=0)
    detail = f"{incident.detail}; {said}" if incident.detail else said
    return replace(wider, detail=detail), Reason.STORM, f"another cause: {said}", EntryKind.DECISION


def _alerts(signal: Signal) -> str:
    """Return which alerts say it: the first by name, and how many others came with it."""
    others = len(signal.body.get("others", ()))
    return f"alert {signal.body.get('name', '')}" + (f" and {others} more" if others else "")


def join(incident: Incident, signal: Signal) -> Incident:
    """Add the rules of a firing alert to the candidates, in the order they are asked."""
    known = {candidate.rule for candidate in incident.candidates}
    fresh = [
        Candidate(
            rule=str(rule), digest=str(said["digest"]), priority=int(said.get("priority", 0)), manual=bool(said.get("manual"))
        )
        for rule, said in dict(signal.body.get("rules", {})).items()
        if rule not in known
    ]
    return replace(incident, candidates=in_order([*incident.candidates, *fresh])) if fresh else incident


def in_order(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return candidates as they are asked: those a person triggered, then by priority, then by name."""
    return tuple(sorted(candidates, key=lambda one: (not one.manual, -one.priority, one.rule)))


def _vote(incident: Incident, signal: Signal) -> tuple[Incident, Reason, str, EntryKind]:
    approve = signal.kind is SignalKind.APPROVED
    word = "approved" if approve else "rejected"
    asked = incident.approval
    ignored = f"{signal.by} {word}, which changes nothing: "
    if asked is None:
        return incident, Reason.NOTED, ignored + "nothing is asked now", EntryKind.PERSON
    if str(signal.body.get("digest", "")) not in {asked.digest, asked.digest[:12]}:
        return incident, Reason.PLAN_CHANGED, ignored + "the vote is for another plan", EntryKind.PERSON
    if signal.at > asked.expires_at:
        return incident, Reason.APPROVAL_EXPIRED, ignored + "it came after the deadline", EntryKind.PERSON
    if any(vote.by == signal.by for vote in asked.votes):
        return incident, Reason.NOTED, ignored + "one person has one vote", EntryKind.PERSON
    voted = replace(asked, votes=(*asked.votes, Vote(by=signal.by, approve=approve, at=signal.at)))
    reason = Reason.APPROVED if approve else Reason.REJECTED
    return replace(incident, approval=voted), reason, f"{signal.by} {word} {asked.rung}", EntryKind.PERSON


def _resume(incident: Incident, signal: Signal) -> Incident:
    resumed = replace(incident, paused_by="", resumed_at=signal.at, gone=0)
    asked = resumed.approval
    if asked is not None and any(not vote.approve for vote in asked.votes):
        resumed = replace(resumed, approval=None)
    sticky = incident.phase is Phase.WAITING and incident.reason in STICKY
    if sticky or incident.phase is Phase.EXHAUSTED:
        return replace(
            resumed,
            phase=advance(incident.phase, LadderEvent.RESUMED),
            phase_since=signal.at,
            reason=Reason.RESUMED,
            detail=f"by {signal.by}",
            waiting_since=None,
        )
    return resumed

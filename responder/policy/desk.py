"""The desk at which one decision is written: the incident as it becomes, and what goes with it.

A local helper of ``decide`` and nothing else; the only mutable thing in the core. Never here: judgement.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from responder.model.incident import Command, Entry, EntryKind, Escalation, Incident, Mode, Phase, Tell
from responder.model.notice import NoticeKind
from responder.model.reason import SENTENCES, Reason
from responder.model.storing import Scopes
from responder.policy.case import JUDGED_EVERY, LOOKED_AT_EVERY, Case, Decision
from responder.policy.escalate import stand_down
from responder.policy.grouping import fires
from responder.policy.ladder import LadderEvent, advance
from responder.policy.permission import least_mode
from responder.policy.storms import is_parent, look_at

SOON = timedelta(seconds=5)
"""The shortest pause between two looks at one incident."""


class Desk:
    """Collects one decision. ``decision()`` hands it over as a value."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.incident: Incident = case.incident
        self.entries: list[Entry] = []
        self.tells: list[Tell] = []
        self.capture = False
        self.intend: Command | None = None
        self.scopes: Scopes | None = None
        self.give_back = False
        self.release = False
        self.storm = ""
        self.storm_detail = ""
        self.resolve_again = False
        self.finished: tuple[str, str] | None = None

    @property
    def opened_at(self) -> datetime:
        """Return when the present opening began."""
        return self.incident.reopened_at or self.incident.opened_at

    def change(self, **values: Any) -> None:
        """Set fields of the incident that are not its phase."""
        self.incident = replace(self.incident, **values)

    def change_run(self, *, only_if: Reason | None = None, **values: Any) -> None:
        """Change the last run that was begun."""
        runs = list(self.incident.runs)
        for number in range(len(runs) - 1, -1, -1):
            if not runs[number].skipped:
                if only_if is None or runs[number].reason is only_if:
                    runs[number] = replace(runs[number], **values)
                break
        self.change(runs=tuple(runs))

    def move(self, event: LadderEvent, reason: Reason, detail: str = "") -> None:
        """Move the phase by the table and say so."""
        phase = advance(self.incident.phase, event)
        self.incident = replace(self.incident, phase=phase, phase_since=self.case.now, reason=reason, detail=detail)
        self.note(EntryKind.DECISION, reason, f"{phase}: {SENTENCES[reason]}" + (f" ({detail})" if detail else ""))

    def hold_back(self, reason: Reason, detail: str = "") -> None:
        """Move to waiting, with the reason."""
        self.move(LadderEvent.HELD_BACK, reason, detail)

    def reopen_quietly(self) -> None:
        """Judge a waiting incident as if it were open, without a line on the timeline yet."""
        self.incident = replace(self.incident, phase=advance(Phase.WAITING, LadderEvent.REASON_OVER))

    def settle_quietly(self, before: Incident) -> None:
        """When it waits on for the same reason, nothing has happened: keep since when, and say nothing."""
        if self.incident.phase is Phase.WAITING and self.incident.reason is before.reason:
            self.incident = replace(self.incident, phase_since=before.phase_since)
            self.entries = [
                entry for entry in self.entries if not (entry.kind is EntryKind.DECISION and entry.reason is before.reason)
            ]
        elif self.capture:
            self.incident = replace(before, leader=self.incident.leader)

    def note(self, kind: EntryKind, reason: Reason, text: str, **data: Any) -> None:
        """Add a line to the timeline; decisions carry the facts that they were made from."""
        if kind is EntryKind.DECISION:
            data.setdefault("leader", self.incident.leader)
            data.setdefault("health", str(self.incident.health or ""))
            if self.case.reading is not None:
                data.setdefault("facts", dict(self.case.reading.facts))
        self.entries.append(Entry(kind=kind, at=self.case.now, reason=reason, text=text, data=data))

    def say_once(self, kind: EntryKind, reason: Reason, text: str) -> None:
        """Add a line unless this phase already began before now (it was said then)."""
        if self.incident.phase_since == self.case.now:
            self.note(kind, reason, text)

    def begin_opening(self) -> None:
        """A reopened incident: evidence and escalation anew, the ladder goes on where it was."""
        self.change(
            opening=self.incident.opening + 1,
            reopened_at=self.case.now,
            evidence_at=None,
            escalation=Escalation(),
            told_disagrees=False,
            recovered_at=None,
            approval=None,
            healthy_since=None,
            healthy_reads=0,
            restarts={},
            waiting_since=None,
            unknown_since=None,
        )

    def tell_shadow(self) -> None:
        """One message to the channel ``shadow``."""
        channel = self.case.house.shadow_channel
        if channel:
            self.tells.append(
                Tell(kind=NoticeKind.SHADOW, level=0, channels=(channel,), reason=Reason.SHADOW, due_at=self.case.now)
            )

    def tell_disagreement(self) -> None:
        """One message without escalation."""
        policy = self.case.house.routes.get(self.incident.severity)
        if policy is None or self.incident.mode is Mode.SHADOW:
            return
        channels = policy.report or (policy.levels[0].channels if policy.levels else ())
        if channels:
            self.tells.append(
                Tell(kind=NoticeKind.INFO, level=0, channels=channels, reason=Reason.CHECK_DISAGREES, due_at=self.case.now)
            )

    def end(self, reason: Reason) -> None:
        """Recovered or closed: resolve pages, report, give back and let go."""
        self.give_back = self.release = True
        self.tells += stand_down(
            self.incident, reason=reason, policy=self.case.house.routes.get(self.incident.severity), now=self.case.now
        )

    def look_again_at(self) -> datetime | None:
        """Return when the phase wants to be judged again."""
        incident, now = self.incident, self.case.now
        rule = self.case.rules.get(incident.leader)
        hold = rule.hold if rule else timedelta(minutes=2)
        proving = min(JUDGED_EVERY, max(SOON, hold / 4))
        match incident.phase:
            case Phase.OPEN | Phase.ACTING:
                return now
            case Phase.VERIFYING:
                ends = [run.prove_by for run in incident.runs[-1:] if run.prove_by is not None and run.prove_by > now]
                return min([now + proving, *ends])
            case Phase.WAITING:
                if incident.reason is Reason.STORM or (incident.reason is Reason.CONTAINED and incident.parent):
                    return max(now + SOON, look_at(incident, children=self.case.children))
                young = self.opened_at + self.case.house.limits.group_wait
                return young if incident.reason is Reason.GROUP_WAIT and young > now else now + JUDGED_EVERY
            case Phase.EXHAUSTED:
                return now + (proving if incident.healthy_since else LOOKED_AT_EVERY)
            case Phase.RECOVERED:
                return self._recovered_until()
            case Phase.CLOSED:
                return None

    def _recovered_until(self) -> datetime:
        now = self.case.now
        if any(fires(one, now=now) for one in self.case.instances):
            return now + LOOKED_AT_EVERY
        if is_parent(self.incident):
            return now
        rule = self.case.rules.get(self.incident.leader)
        reopen_within = rule.reopen_within if rule else timedelta(hours=12)
        return max(now + SOON, (self.incident.recovered_at or now) + reopen_within)

    def decision(self, *, wake_at: datetime | None) -> Decision:
        """Hand the decision over."""
        incident = replace(self.incident, effective=least_mode(self.case, self.incident.leader))
        return Decision(
            incident=incident,
            wake_at=wake_at,
            capture=self.capture,
            intend=self.intend,
            scopes=self.scopes,
            give_back=self.give_back,
            release=self.release,
            storm=self.storm,
            storm_detail=self.storm_detail,
            resolve_again=self.resolve_again,
            finished=self.finished,
            again=incident.phase is Phase.OPEN or self.capture,
            entries=tuple(self.entries),
            tells=tuple(self.tells),
        )

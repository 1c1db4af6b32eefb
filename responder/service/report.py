"""The incident report: what happened, what was seen, what was done, how long it took; Markdown, and a summary for lists.

Never here: HTML (``web.pages`` renders the same data) or judgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from responder.model.incident import Entry, EntryKind, Incident, Instance, Phase, Run
from responder.model.reason import SENTENCES, Reason
from responder.model.rule import Rule
from responder.policy.signals import STICKY
from responder.ports import Clock, Store
from responder.service.notices import asks, labels_of, left, links, nameless, running, seen, state_of
from responder.service.pinning import Pins

SHOWN_FACTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything a report shows."""

    incident: Incident
    rule: Rule | None
    instances: Sequence[Instance]
    timeline: Sequence[Entry]
    evidence: Sequence[tuple[str, int, str]]
    owed: Sequence[str]
    now: datetime


class Reporter:
    """Gathers and renders reports."""

    def __init__(self, *, store: Store, pins: Pins, clock: Clock, base_url: str = "", sped_up: float = 1.0) -> None:
        self._store = store
        self._pins = pins
        self._clock = clock
        self._base_url = base_url
        self._sped_up = sped_up

    def summary(self, incident: Incident) -> dict[str, Any]:
        """Return one line of a list, as JSON-ready values."""
        return {
            "id": incident.id,
            "phase": incident.phase,
            "mode": incident.mode,
            "reason": incident.reason,
            "state": state_of(incident),
            "severity": incident.severity,
            "cluster": incident.cluster,
            "target": str(incident.target),
            "rule": incident.leader or (incident.candidates[0].rule if incident.candidates else ""),
            "opened_at": incident.opened_at,
            "acknowledged_by": incident.escalation.acknowledged_by,
            "paged": incident.escalation.levels,
            "tried": [f"{run.rung}: {_outcome(run)}" for run in incident.runs],
            "asks": asks(incident),
            "needs_person": incident.phase is Phase.EXHAUSTED or (incident.phase is Phase.WAITING and incident.reason in STICKY),
        }

    async def data(self, incident: Incident) -> ReportData:
        """Gather what a report shows."""
        rules = await self._pins.rules(incident)
        rule = rules.get(incident.leader) or next((rules[one.rule] for one in incident.candidates if one.rule in rules), None)
        items = await self._store.evidence(incident.id)
        owed = [
            f"{one.change.target} {one.change.field}: {one.change.before} → {one.change.after}"
            for one in await self._store.owed(incident=incident.id)
        ]
        return ReportData(
            incident=incident,
            rule=rule,
            instances=await self._store.held(incident.id),
            timeline=await self._store.timeline(incident.id),
            evidence=[(one.name, len(one.content), one.problem) for one in items],
            owed=owed,
            now=self._clock.now(),
        )

    async def markdown(self, incident: Incident) -> str:
        """Return the report as Markdown."""
        data = await self.data(incident)
        lines = [
            f"# {data.rule.title if data.rule else incident.title or 'Alert'}: {incident.target}",
            "",
            f"Incident `{incident.id}` in cluster `{incident.cluster or '-'}`, severity {incident.severity}, mode {incident.mode}.",
            *([f"*The clock ran {self._sped_up:g} times faster than real time.*"] if self._sped_up != 1.0 else []),
            "",
            f"**{state_of(incident)}**",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in facts_of_record(data)),
            "",
            "## What was seen",
            "",
            *[f"- {line}" for line in seen(incident)],
            "",
            "## What was tried",
            "",
            *([f"- {line_of(run)}" for run in incident.runs] or ["- nothing"]),
            *([f"- now: {running(incident)}"] if running(incident) else []),
            *([f"- left: {', '.join(left(incident, data.rule))}"] if left(incident, data.rule) else []),
            *([f"- asked: {asks(incident)}"] if asks(incident) else []),
            *([f"- not given back yet: {one}" for one in data.owed]),
            "",
            "## Alerts",
            "",
            *[f"- {alert_line(one, labels=nameless(incident))}" for one in data.instances],
            "",
            "## Evidence",
            "",
            *([f"- `{name}`: {problem or f'{size} bytes'}" for name, size, problem in data.evidence] or ["- none"]),
            "",
            "## Timeline",
            "",
            "| Time (UTC) | What | Why |",
            "| --- | --- | --- |",
            *(f"| {_when(entry.at)} | {_cell(entry.text)} | {entry.reason} |" for entry in data.timeline),
            "",
        ]
        found = links(incident, data.rule, data.instances, self._base_url)
        if found:
            lines += ["## Links", "", *[f"- [{text}]({url})" for text, url in found], ""]
        return "\n".join(lines)


def facts_of_record(data: ReportData) -> list[tuple[str, str]]:
    """Return the times and people of an incident, for the head of a report."""
    incident = data.incident
    told = incident.escalation
    rows = [("Opened", _when(incident.opened_at)), ("Target", f"{incident.target} ({incident.resolution})")]
    if data.rule is not None:
        rows += [("Rule", f"{data.rule.name}, owner {data.rule.owner}")]
    if incident.recovered_at is not None:
        rows.append(("Recovered", f"{_when(incident.recovered_at)}, after {_span(incident.recovered_at - incident.opened_at)}"))
    if told.paged_at is not None:
        rows.append(("First page", f"{_when(told.paged_at)}, {told.levels} level(s): {SENTENCES[told.reason or Reason.OPENED]}"))
    if told.acknowledged_at is not None:
        rows.append(("Acknowledged", f"{_when(told.acknowledged_at)} by {told.acknowledged_by}"))
    writes = [entry for entry in data.timeline if entry.kind is EntryKind.WRITE]
    rows.append(("Writes", str(len(writes))))
    return rows


def line_of(run: Run) -> str:
    """Return one line about a rung."""
    detail = f": {run.detail}" if run.detail else ""
    return f"{_when(run.started_at)} **{run.rung}** ({', '.join(run.actions)}) {_outcome(run)}{detail}"


def _outcome(run: Run) -> str:
    if run.skipped:
        return "skipped"
    word = "would have run" if run.shadow else str(run.outcome or "running")
    return f"{word}, not proven" if run.reason is Reason.NOT_PROVEN else word


def alert_line(one: Instance, *, labels: bool = False) -> str:
    """Say of an alert who sent it, whether it fires, since when and how often it was received, and its labels where no target says where."""
    if one.problem:
        return f"{one.name}: {one.status}, started {_when(one.started_at)}; the rest of it is damaged in the store (responder db check)"
    times = f", received {one.count} times" if one.count > 1 else ""
    said = labels_of(one) if labels else ""
    return f"{one.name} from {one.source}/{one.source_name}: {one.status}, started {_when(one.started_at)}{times}{said}"


def _when(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at is not None else "unknown"


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min {seconds % 60} s"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""Which rule leads, what its rungs' conditions say, and which rung is next.

Pure. Never here: limits (``guards``) or transitions (``ladder``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from responder.model.alert import AlertStatus
from responder.model.cluster import Reading
from responder.model.incident import Incident, Instance, Run
from responder.model.rule import Expression, Rule, Rung


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """Who leads.

    Attributes:
        rule: None when no candidate's ``when`` is other than false.
        unknown: Its ``when`` could not be decided: it leads without a rung.
        asked: Rule to answer (True, False, None), for the audit record.
    """

    rule: Rule | None
    unknown: bool = False
    asked: Mapping[str, bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRung:
    """What the ladder offers next.

    Attributes:
        rung: None when none is left, or when its condition is unknown.
        unknown: The rung whose ``when`` could not be decided; the ladder waits there.
        skipped: Rungs passed over on the way, each with why: "false" or the rung that did the same.
    """

    rung: Rung | None
    unknown: Rung | None = None
    skipped: tuple[tuple[Rung, str], ...] = ()


def variables(
    incident: Incident, rule: Rule, instances: tuple[Instance, ...], reading: Reading | None, *, now: datetime
) -> dict[str, Any]:
    """Return the roots of every expression and template: alert, labels, params, target, facts, incident (FACTS.md).

    ``alert`` and ``labels`` are those of the oldest firing instance that the rule matched, else of the oldest it matched. One whose stored bytes cannot
    be read is asked last, and only for its name.
    """
    told = [one for one in instances if not one.problem]
    matched = [one for one in told if rule.name in one.rules] or told or list(instances)
    firing = [one for one in matched if one.status is AlertStatus.FIRING]
    one = next(iter(firing or matched), None)
    alert: dict[str, Any] = {}
    labels: Mapping[str, str] = {}
    if one is not None:
        labels = one.labels
        alert = {"name": one.name} if one.problem else {"name": one.name, "source": one.source, "severity": str(one.severity)}
        if one.value is not None:
            alert["value"] = one.value
        if one.started_at is not None:
            alert["started_at"] = one.started_at
    target = incident.target
    return {
        "alert": alert,
        "labels": dict(labels),
        "params": dict(rule.params),
        "target": {
            "kind": str(target.kind),
            "cluster": target.cluster,
            "namespace": target.namespace,
            "name": target.name,
            "owner_kind": target.owner_kind,
            "region": target.region,
        },
        "facts": dict(reading.facts) if reading else {},
        "incident": {
            "age": now - incident.opened_at,
            "done": [run.rung for run in incident.runs if run.counted and run.outcome is not None],
            "drill": incident.drill,
            "reopened": incident.opening > 1,
        },
    }


def ask(expression: Expression | None, roots: Mapping[str, Any], reading: Reading | None) -> bool | None:
    """Evaluate a ``when``: True when there is none, None for unknown."""
    if expression is None:
        return True
    return expression.evaluate(roots, reading.had_none if reading else frozenset())


def choose(
    incident: Incident, rules: Mapping[str, Rule], instances: tuple[Instance, ...], reading: Reading | None, *, now: datetime
) -> Leading:
    """Ask the candidates in order; the first whose ``when`` is not false leads."""
    asked: dict[str, bool | None] = {}
    for candidate in incident.candidates:
        rule = rules.get(candidate.rule)
        if rule is None:
            continue
        answer = ask(rule.when, variables(incident, rule, instances, reading, now=now), reading)
        asked[rule.name] = answer
        if answer is not False:
            return Leading(rule=rule, unknown=answer is None, asked=asked)
    return Leading(rule=None, asked=asked)


def has_run(rung: Rung, rule: Rule, runs: tuple[Run, ...]) -> Run | None:
    """Return the run that makes this rung count as run: its own, or another rule's that did all its actions; else None.

    Reads and waits (grade 0) do not count as the same: two rules may both wait.
    """
    actions = {call.name for call in rung.do}
    for run in runs:
        if not run.counted:
            continue
        if run.rule == rule.name and run.rung == rung.name:
            return run
        if rung.grade > 0 and run.rule != rule.name and actions <= set(run.actions):
            return run
    return None


def next_rung(
    incident: Incident, rule: Rule, instances: tuple[Instance, ...], reading: Reading | None, *, now: datetime
) -> NextRung:
    """Return the first rung above those the rule has run whose ``when`` is not false."""
    roots = variables(incident, rule, instances, reading, now=now)
    top = max((run.index for run in incident.runs if run.rule == rule.name and run.counted), default=-1)
    skipped: list[tuple[Rung, str]] = []
    for rung in rule.ladder[top + 1 :]:
        ran = has_run(rung, rule, incident.runs)
        if ran is not None:
            skipped.append((rung, f"{ran.rule} did the same ({ran.rung})"))
            continue
        answer = ask(rung.when, roots, reading)
        if answer is None:
            return NextRung(rung=None, unknown=rung, skipped=tuple(skipped))
        if answer:
            return NextRung(rung=rung, skipped=tuple(skipped))
        skipped.append((rung, because(rung, roots)))
    return NextRung(rung=None, skipped=tuple(skipped))


def because(rung: Rung, roots: Mapping[str, Any]) -> str:
    """Say why a rung's condition is false: the condition with the facts that it names."""
    text = rung.when.text if rung.when else ""
    facts = roots["facts"]
    asked = set(re.findall(r"facts\.([a-z0-9_]+)", text))
    named = [f"{name} is {_shown(facts[name])}" for name in sorted(asked & set(facts))]
    return f"{text}: " + (", ".join(named) if named else "false")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "total_seconds"):
        seconds = int(value.total_seconds())
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
            if seconds >= 2 * size:
                return f"{seconds // size}{unit}"
        return f"{seconds}s"
    return str(value)

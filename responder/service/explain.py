"""``responder explain``: what a payload would lead to, and for each rule why it matched or not.

What would come of an alert is what the router's own judgement says of it, never a second telling of its rules; opens nothing, stores nothing, and reads
clusters only to resolve targets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from msgspec import structs

from responder.model.alert import Alert, AlertStatus, SourceKind
from responder.model.incident import Incident, Mode
from responder.model.rule import Rule
from responder.model.storing import RoutedAlert
from responder.policy.grouping import key_of
from responder.ports import Clock, Understands
from responder.rules.index import why_not
from responder.service.rulebook import Rulebook
from responder.service.targeting import Targeting


class Explainer:
    """Explains payloads."""

    def __init__(
        self,
        *,
        sources: Mapping[SourceKind, Understands],
        rulebook: Rulebook,
        targeting: Targeting,
        judge: Callable[[Sequence[Alert]], Awaitable[Sequence[RoutedAlert]]],
        clock: Clock,
    ) -> None:
        """Take what the router takes, and its judgement (``judge``)."""
        self._sources = sources
        self._rulebook = rulebook
        self._targeting = targeting
        self._judge = judge
        self._clock = clock

    async def explain(self, payload: Any, *, source: SourceKind | None) -> dict[str, Any]:
        """Return the normalised alerts, and for each every rule with why it matched or not, its target and how it was found.

        Args:
            payload: Parsed JSON as its sender sends it.
            source: The format; None tries each and takes the first that understands it.
        """
        kinds = [source] if source is not None else list(self._sources)
        tried = [(kind, self._sources[kind](payload, source_name="explain", received_at=self._clock.now())) for kind in kinds]
        kind, normalised = next(((kind, one) for kind, one in tried if one.understood), tried[0])
        return {
            "source": str(kind),
            "shape": normalised.shape,
            "understood": normalised.understood,
            "why_not": normalised.why,
            "gaps": list(normalised.gaps),
            "alerts": [await self._alert(one) for one in normalised.alerts],
        }

    async def _alert(self, alert: Alert) -> dict[str, Any]:
        matched = {rule.name: match for rule, match in self._rulebook.index.candidates(alert)}
        rules = []
        for rule in sorted(self._rulebook.rules.values(), key=lambda one: (one.name not in matched, -one.priority, one.name)):
            if rule.name in matched:
                rules.append(await self._matched(rule, alert, matched[rule.name].for_))
            else:
                rules.append({"rule": rule.name, "matched": False, "why": list(why_not(rule, alert))})
        (judged,) = await self._judge([structs.replace(alert, test=False)])
        would = _would(judged)
        return {
            "name": alert.name,
            "status": str(alert.status),
            "severity": str(alert.severity),
            "sender_severity": alert.sender_severity,
            "instance": alert.instance,
            "fingerprint": alert.fingerprint,
            "started_at": alert.started_at,
            "value": alert.value,
            "labels": dict(alert.labels),
            "test": alert.test,
            "resolves": alert.resolves,
            "rules": rules,
            "outcome": "a sender's test: recorded, never acted on" if alert.test else would,
            "would": would,
        }

    async def _matched(self, rule: Rule, alert: Alert, waits: timedelta) -> dict[str, Any]:
        found = await self._targeting.find(rule, alert)
        armed = self._rulebook.armed(rule.name, found.target)
        return {
            "rule": rule.name,
            "matched": True,
            "priority": rule.priority,
            "for": waits.total_seconds(),
            "when": rule.when.text if rule.when else "",
            "target": str(found.target),
            "resolved": found.resolved,
            "how": found.how,
            "looked_up": [
                {
                    "asked": f"{one.kind} {one.namespace}/{one.name}".replace(" /", " "),
                    "answer": str(answer.presence),
                    "detail": answer.detail,
                }
                for one, answer in found.looked_up.items()
            ],
            "mode": "armed" if armed else "shadow",
            "key": key_of(Mode.ARMED if armed else Mode.SHADOW, found.target),
            "ladder": [
                {"rung": rung.name, "when": rung.when.text if rung.when else "", "approve": rung.approve} for rung in rule.ladder
            ],
        }


def _would(judged: RoutedAlert) -> str:
    """Say to people what comes of a judged alert; of a test too."""
    if judged.alert.status is AlertStatus.RESOLVED:
        return "a Resolved opens nothing: an incident that this alert is in reads the health of its target again"
    opened = "; ".join(_said(one) for one in judged.seeds)
    if judged.wake_at is not None:
        later = f"judged again at {judged.wake_at:%H:%M:%S} UTC, if it still fires then (a rule's for)"
        return f"{opened}; {later}" if opened else later
    return opened or "no rule matches: recorded and listed under unmatched"


def _said(seed: Incident) -> str:
    """Say what an alert joins or opens, and who is asked first."""
    first, *others = [one.rule for one in seed.candidates]
    joined = f" (also candidates: {', '.join(others)})" if others else ""
    said = f"joins or opens {seed.key}, asked first: {first}{joined}"
    if seed.unresolved:
        page = "evidence and a page target_unresolved" if seed.mode is Mode.ARMED else "evidence"
        return f"{said}; no target resolves: {page}, nothing is done"
    return f"{said}; the cluster does not say what its target is: evidence, and looked at again" if seed.literal else said

"""``responder explain``: what a payload would lead to, and for each rule why it matched or not.

Uses the very functions of the router; opens nothing, stores nothing, and reads clusters only to resolve targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from responder.model.alert import Alert, SourceKind
from responder.model.incident import Mode
from responder.model.rule import Rule
from responder.policy.grouping import key_of
from responder.ports import Clock, Understands
from responder.rules.index import why_not
from responder.service.rulebook import Rulebook
from responder.service.targeting import Targeting


class Explainer:
    """Explains payloads."""

    def __init__(
        self, *, sources: Mapping[SourceKind, Understands], rulebook: Rulebook, targeting: Targeting, clock: Clock
    ) -> None:
        self._sources = sources
        self._rulebook = rulebook
        self._targeting = targeting
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
            "outcome": "a sender's test: recorded, never acted on" if alert.test else self._outcome(rules),
            "would": self._outcome(rules),
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

    @staticmethod
    def _outcome(rules: list[dict[str, Any]]) -> str:
        """Return what would come of an alert, for people; a test's too."""
        matched = [one for one in rules if one["matched"]]
        if not matched:
            return "no rule matches: recorded and listed under unmatched"
        aimed = [one for one in matched if one["resolved"] and not str(one["target"]).startswith("none")] or [
            one for one in matched if one["resolved"]
        ]
        if not aimed:
            return "no target resolves: evidence and a page target_unresolved, nothing is done"
        first = aimed[0]
        others = [one["rule"] for one in aimed[1:] if one["key"] == first["key"]]
        joined = f" (also candidates: {', '.join(others)})" if others else ""
        return f"joins or opens {first['key']}, asked first: {first['rule']}{joined}"

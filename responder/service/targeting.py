"""Finds the target of a matching rule: asks ``policy.targets`` what to look up, looks it up, asks again.

Never here: which label names what (``policy.targets``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from responder.model.alert import Alert
from responder.model.rule import Rule
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.policy.targets import Ask, ClusterIdentity, Exporters, Resolved, Unresolved, resolve
from responder.ports import ClusterView
from responder.telemetry import logger

RESOLVE_WITHIN = timedelta(seconds=2)
"""Source: ARCHITECTURE.md, "Router"."""

MOST_ROUNDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found.

    Attributes:
        resolved: The target exists and is the one.
        literal: The cluster did not answer; the target is as the alert names it.
        how: How it was found, or which label is missing.
        looked_up: Every question with its answer, for ``responder explain``.
    """

    target: Target
    resolved: bool
    literal: bool
    how: str
    looked_up: Mapping[Lookup, LookupAnswer]


class Targeting:
    """Resolves targets against all configured clusters."""

    def __init__(self, *, views: Mapping[str, ClusterView], clusters: Sequence[ClusterIdentity], exporters: Exporters) -> None:
        self._views = views
        self._clusters = clusters
        self._exporters = exporters

    async def find(self, rule: Rule, alert: Alert) -> Found:
        """Find the target of ``rule`` for ``alert`` within two seconds; what a cluster does not answer by then is unknown."""
        answers: dict[Lookup, LookupAnswer] = {}
        try:
            async with asyncio.timeout(RESOLVE_WITHIN.total_seconds()):
                for _ in range(MOST_ROUNDS):
                    result = resolve(rule.target, alert, clusters=self._clusters, exporters=self._exporters, answers=answers)
                    if not isinstance(result, Ask):
                        break
                    asked = await asyncio.gather(*(self._look_up(one) for one in result.lookups))
                    answers |= dict(zip(result.lookups, asked, strict=True))
        except TimeoutError:
            pass
        result = resolve(rule.target, alert, clusters=self._clusters, exporters=self._exporters, answers=answers)
        if isinstance(result, Ask):
            unknown = LookupAnswer(presence=Presence.UNKNOWN, detail=f"no answer within {RESOLVE_WITHIN.total_seconds():.0f} s")
            answers |= dict.fromkeys(result.lookups, unknown)
            result = resolve(rule.target, alert, clusters=self._clusters, exporters=self._exporters, answers=answers)
        match result:
            case Resolved():
                return Found(target=result.target, resolved=True, literal=False, how=result.how, looked_up=answers)
            case Unresolved():
                logger().info("target_unresolved", rule=rule.name, alert=alert.name, why=result.detail)
                return Found(
                    target=result.narrowest, resolved=False, literal=result.unknown, how=result.detail, looked_up=answers
                )
            case Ask():
                target = Target(kind=TargetKind.NONE, name=alert.name)
                return Found(target=target, resolved=False, literal=False, how="too many look-ups", looked_up=answers)

    async def _look_up(self, lookup: Lookup) -> LookupAnswer:
        view = self._views.get(lookup.cluster)
        if view is None:
            return LookupAnswer(presence=Presence.UNKNOWN, detail=f"cluster {lookup.cluster} is not configured")
        return await view.look_up(lookup)

"""Finds the target of a matching rule: asks ``policy.targets`` what to look up, looks it up, asks again.

Never here: which label names what (``policy.targets``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from responder.model.alert import Alert
from responder.model.rule import Rule
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.policy.targets import Ask, ClusterIdentity, Exporters, Resolved, Unresolved, resolve, telling
from responder.ports import ClusterView
from responder.service.contacts import Contacts
from responder.telemetry import logger

RESOLVE_WITHIN = timedelta(seconds=2)
"""Source: ARCHITECTURE.md, "Router"."""

MOST_ROUNDS = 6
ANSWERS_LAST = 10.0
"""Seconds. Owners hardly change, and an incident reads its target anew before anything is done; a storm's thousand alerts ask once."""

MOST_ANSWERS = 20_000


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

    def __init__(
        self,
        *,
        views: Mapping[str, ClusterView],
        clusters: Sequence[ClusterIdentity],
        exporters: Exporters,
        contacts: Contacts | None = None,
    ) -> None:
        self._views = views
        self._contacts = contacts
        self._clusters = clusters
        self._exporters = exporters
        self._answers: dict[Lookup, tuple[float, asyncio.Future[LookupAnswer]]] = {}
        self._telling: dict[str, tuple[str, ...] | None] = {}
        self._found: dict[tuple[object, ...], tuple[float, Found]] = {}

    def known(self, rule: Rule, alert: Alert) -> tuple[Found | None, float]:
        """Return what was found within the last seconds for an alert that names the same thing, and the loop time until which it counts.

        None when it is to be found.
        """
        name = self._name(rule, alert)
        held = self._found.get(name) if name is not None else None
        if held is None or asyncio.get_running_loop().time() >= held[0]:
            return None, 0.0
        return held[1], held[0]

    def telling(self, rule: Rule) -> tuple[str, ...] | None:
        """Return the labels that alone tell the targets of a rule's alerts from each other, beside name, source and ``resource_ids``; None for all."""
        if rule.digest not in self._telling:
            if len(self._telling) >= MOST_ANSWERS:
                self._telling.clear()
            self._telling[rule.digest] = telling(rule.target, self._clusters)
        return self._telling[rule.digest]

    def _name(self, rule: Rule, alert: Alert) -> tuple[object, ...] | None:
        """Return what tells the alert's target from others; None when all of the alert does."""
        labels = self.telling(rule)
        return (
            None
            if labels is None
            else (rule.digest, alert.name, alert.source, alert.resource_ids, *map(alert.labels.get, labels))
        )

    def _remember(self, rule: Rule, alert: Alert, found: Found) -> Found:
        """Keep what resolved for as long as its oldest answer lasts."""
        name = self._name(rule, alert)
        asked = [self._answers.get(one) for one in found.looked_up]
        now = asyncio.get_running_loop().time()
        until = min((one[0] if one is not None else now for one in asked), default=now + ANSWERS_LAST)
        if name is not None and until > now:
            if len(self._found) >= MOST_ANSWERS:
                self._found.clear()
            self._found[name] = (until, found)
        return found

    async def find(self, rule: Rule, alert: Alert) -> Found:
        """Find the target of ``rule`` for ``alert`` within two seconds; what a cluster does not answer by then is unknown."""
        answers: dict[Lookup, LookupAnswer] = {}
        result = resolve(rule.target, alert, clusters=self._clusters, exporters=self._exporters, answers=answers)
        while isinstance(result, Ask) and (known := self._known(result.lookups)) is not None and len(answers) < MOST_ROUNDS:
            answers |= known
            result = resolve(rule.target, alert, clusters=self._clusters, exporters=self._exporters, answers=answers)
        if isinstance(result, Ask):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESOLVE_WITHIN.total_seconds()):
                    for _ in range(MOST_ROUNDS):
                        asked = await asyncio.gather(*(self._look_up(one) for one in result.lookups))
                        answers |= dict(zip(result.lookups, asked, strict=True))
                        result = resolve(rule.target, alert, clusters=self._clusters, exporters=self._exporters, answers=answers)
                        if not isinstance(result, Ask):
                            break
        if isinstance(result, Ask):
            unknown = LookupAnswer(presence=Presence.UNKNOWN, detail=f"no answer within {RESOLVE_WITHIN.total_seconds():.0f} s")
            answers |= dict.fromkeys(result.lookups, unknown)
            result = resolve(rule.target, alert, clusters=self._clusters, exporters=self._exporters, answers=answers)
        match result:
            case Resolved():
                return self._remember(
                    rule, alert, Found(target=result.target, resolved=True, literal=False, how=result.how, looked_up=answers)
                )
            case Unresolved():
                logger().info("target_unresolved", rule=rule.name, alert=alert.name, why=result.detail)
                return Found(
                    target=result.narrowest, resolved=False, literal=result.unknown, how=result.detail, looked_up=answers
                )
            case Ask():
                target = Target(kind=TargetKind.NONE, name=alert.name)
                return Found(target=target, resolved=False, literal=False, how="too many look-ups", looked_up=answers)

    def _known(self, lookups: Sequence[Lookup]) -> dict[Lookup, LookupAnswer] | None:
        """Return the answers when all were given within the last seconds: a storm then waits for nothing."""
        now = asyncio.get_running_loop().time()
        found: dict[Lookup, LookupAnswer] = {}
        for one in lookups:
            held = self._answers.get(one)
            if held is None or now >= held[0] or not held[1].done() or held[1].cancelled() or held[1].exception() is not None:
                return None
            found[one] = held[1].result()
        return found

    async def _look_up(self, lookup: Lookup) -> LookupAnswer:
        """Ask once for all who ask at the same time and within the next seconds; what was not answered is asked anew."""
        view = self._views.get(lookup.cluster)
        if view is None:
            return LookupAnswer(presence=Presence.UNKNOWN, detail=f"cluster {lookup.cluster} is not configured")
        now = asyncio.get_running_loop().time()
        held = self._answers.get(lookup)
        if held is None or now >= held[0]:
            if self._contacts is not None and (silent := self._contacts.silent(lookup.cluster)):
                return LookupAnswer(presence=Presence.UNKNOWN, detail=silent)
            if len(self._answers) >= MOST_ANSWERS:
                self._answers = {one: kept for one, kept in self._answers.items() if now < kept[0]}
                if len(self._answers) >= MOST_ANSWERS:
                    self._answers.clear()
            held = self._answers[lookup] = (now + ANSWERS_LAST, asyncio.ensure_future(view.look_up(lookup)))
        try:
            answer = await asyncio.shield(held[1])
        except BaseException:
            self._forget(lookup, held)
            raise
        if answer.presence is Presence.UNKNOWN:
            self._forget(lookup, held)
        return answer

    def _forget(self, lookup: Lookup, held: tuple[float, asyncio.Future[LookupAnswer]]) -> None:
        if self._answers.get(lookup) is held:
            del self._answers[lookup]

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
from responder.policy.targets import Ask, ClusterIdentity, Exporters, Resolved, Unresolved, resolve
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
                return Found(target=result.target, resolved=True, literal=False, how=result.how, looked_up=answers)
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

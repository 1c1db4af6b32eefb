"""What is left at the end of a run, and what of it a death must not have changed.

Invariants: nothing lost (every alert is taken in the end, routed, and held by an incident); nothing done twice (no write takes effect more often than in
the life without a death); every open incident has a wake-up; every message reaches its channel at least once, with the same key; every level at its
original time, but for the time of being dead; every change given back or listed; the incident ends as it ends without a death.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from responder.model.incident import Incident
from responder.model.reason import Reason
from tests.crash.world import Outdoors, Sent

LATE = timedelta(seconds=60)
"""A death costs three seconds, a lease of its name's keeper at most 15 s more, a message in hand its 30 s lease; looks are two seconds apart."""


@dataclass(frozen=True, slots=True)
class End:
    """What is left at the end of a run."""

    phases: tuple[str, ...]
    effects: Counter[str]
    sent: tuple[Sent, ...]
    rows: dict[str, Any]
    unsent_alerts: int
    points: tuple[str, ...]
    lives: int
    began_at: datetime


def ended(
    world: Outdoors, incidents: Sequence[Incident], rows: Mapping[str, Any], *, points: Sequence[str], began_at: datetime
) -> End:
    """Return what is left. An incident that moved to what its target turned out to be is no end: it goes on as another."""
    return End(
        phases=tuple(sorted(f"{one.mode} {one.phase}" for one in incidents if one.reason is not Reason.MOVED)),
        effects=world.seen(),
        sent=tuple(world.sent),
        rows={**rows, "floor": world.floor()},
        unsent_alerts=len(world.events),
        points=tuple(points),
        lives=world.lives,
        began_at=began_at,
    )


def violations(clean: End, crashed: End) -> list[str]:
    """Return what a death must not have changed, in words; empty when all is well."""
    found = [f"{what}: {crashed.rows[what]}" for what in ("asleep", "not_routed", "unheld") if crashed.rows[what]]
    if crashed.unsent_alerts:
        found.append(f"{crashed.unsent_alerts} alerts were never taken")
    for effect, count in crashed.effects.items():
        if count > clean.effects[effect]:
            found.append(f"done twice: {effect} took effect {count} times instead of {clean.effects[effect]}")
    if crashed.phases != clean.phases:
        found.append(f"ended as {crashed.phases} instead of {clean.phases}")
    if crashed.rows["floor"] != clean.rows["floor"] and not crashed.rows["owed"]:
        found.append(f"a change was neither given back nor is it listed: {crashed.rows['floor']}")
    found += _messages(clean, crashed)
    return found


def _messages(clean: End, crashed: End) -> Iterable[str]:
    for one in clean.sent:
        same = [two for two in crashed.sent if (two.channel, two.kind, two.level) == (one.channel, one.kind, one.level)]
        if not same:
            yield f"never told: {one.kind} level {one.level} to {one.channel}"
            continue
        keys = {re.sub(r"inc-[^/]+", "inc", two.key) for two in same}
        if len({two.key for two in same}) > len(
            {two.key for two in clean.sent if (two.channel, two.kind, two.level) == (one.channel, one.kind, one.level)}
        ):
            yield f"called twice: {one.kind} level {one.level} to {one.channel} with keys {sorted(keys)}"
        late = (min(two.at for two in same) - crashed.began_at) - (one.at - clean.began_at)
        if one.level and late > LATE:
            yield f"late: {one.kind} level {one.level} by {late}"

"""What is left at the end of a run, and what of it a death must not have changed.

Invariants: nothing lost (every alert is taken in the end, routed, and held by an incident); nothing done twice (no write takes effect more often than in
the life without a death); every open incident has a wake-up; every message reaches its channel at least once, with the same key; every level at its
original time, but for the time of being dead; every change given back or listed; the incident ends as it ends without a death, proven or with a page.

Of the cloud besides: nothing is sent again before the cluster and its pools were looked at in the same life, nor while an operation is in progress; a
machine is asked to be deleted once, and never under pods. A death between the note that a machine is about to be deleted and the request is the one
that may change the end: nothing of it can be seen, so nothing is sent, and a person is told that it cannot be known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from responder.model.incident import Incident
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from tests.crash.arm import Call
from tests.crash.world import Outdoors, Sent

LATE = timedelta(seconds=60)
"""For each death: it costs three seconds, a lease of its name's keeper at most 15 s more, a message in hand its 30 s lease; looks are two seconds apart."""

LOOK = timedelta(minutes=1)
"""What people have is looked at so often, an incident whose ladder is at its end or a storm: a resolve may miss one look more."""

PROVEN = ("recovered", "closed")
AT_MOST_ONCE = "/deleteMachines"


@dataclass(frozen=True, slots=True)
class End:
    """What is left at the end of a run."""

    phases: tuple[str, ...]
    reasons: tuple[str, ...]
    effects: Counter[str]
    sent: tuple[Sent, ...]
    rows: dict[str, Any]
    unsent_alerts: int
    points: tuple[str, ...]
    lives: int
    began_at: datetime
    calls: tuple[Call, ...] = ()


def ended(
    world: Outdoors, incidents: Sequence[Incident], rows: Mapping[str, Any], *, points: Sequence[str], began_at: datetime
) -> End:
    """Return what is left. An incident that moved to what its target turned out to be is no end: it goes on as another."""
    mine = [one for one in incidents if one.reason is not Reason.MOVED]
    return End(
        phases=tuple(sorted(f"{one.mode} {one.phase}" for one in mine)),
        reasons=tuple(sorted(str(one.reason) for one in mine)),
        effects=world.seen(),
        sent=tuple(world.sent),
        rows={**rows, "floor": world.floor()},
        unsent_alerts=len(world.events),
        points=tuple(points),
        lives=world.lives,
        began_at=began_at,
        calls=tuple(world.arm.calls) if world.arm is not None else (),
    )


def violations(clean: End, crashed: End) -> list[str]:
    """Return what a death must not have changed, in words; empty when all is well."""
    found = [f"{what}: {crashed.rows[what]}" for what in ("asleep", "not_routed", "unheld") if crashed.rows[what]]
    if crashed.unsent_alerts:
        found.append(f"{crashed.unsent_alerts} alerts were never taken")
    for effect, count in crashed.effects.items():
        if count > clean.effects[effect]:
            found.append(f"done twice: {effect} took effect {count} times instead of {clean.effects[effect]}")
    asked = _asked_a_person(crashed)
    if crashed.phases != clean.phases and not asked:
        found.append(f"ended as {crashed.phases} {crashed.reasons} instead of {clean.phases}")
    if any(one.startswith("armed") and not one.endswith(PROVEN) for one in crashed.phases) and not _paged(crashed):
        found.append(f"neither proven nor paged: {crashed.phases}")
    if crashed.rows["floor"] != clean.rows["floor"] and not crashed.rows["owed"]:
        found.append(f"a change was neither given back nor is it listed: {crashed.rows['floor']}")
    found += _blind(crashed.calls)
    found += _messages(clean, crashed, all_of_them=not asked)
    return found


def _paged(end: End) -> bool:
    return any(one.kind in {NoticeKind.PAGE, NoticeKind.UPDATE} for one in end.sent)


def _asked_a_person(end: End) -> bool:
    """Tell whether it ended with a person because a write that is sent at most once may have been, and nothing of it is seen.

    It is what a death between the note "it is sent now" and the request must lead to; with anything to be seen it would be wrong.
    """
    unknown = str(Reason.CANNOT_BE_KNOWN)
    told = any(one.kind in {NoticeKind.PAGE, NoticeKind.UPDATE} and one.reason == unknown for one in end.sent)
    sent = any(AT_MOST_ONCE in one.what for one in end.calls)
    return end.reasons == (unknown,) and end.phases == ("armed waiting",) and told and not sent


def _blind(calls: Sequence[Call]) -> Iterable[str]:
    """What no request to a cloud may be, whatever a life without a death does."""
    last: dict[str, int] = {}
    for number, one in enumerate(calls):
        if one.wrong:
            yield one.wrong
        if not one.what:
            continue
        if one.busy and not one.what.endswith("abort"):
            yield f"sent while an operation was in progress: {one.what}"
        before = last.get(one.what)
        if not any(two.lists and two.life == one.life for two in calls[0 if before is None else before + 1 : number]):
            yield f"sent without a look: {one.what}"
        if before is not None and AT_MOST_ONCE in one.what and not 400 <= calls[before].status < 500:
            yield f"sent twice, which is at most once: {one.what}"
        last[one.what] = number


def _messages(clean: End, crashed: End, *, all_of_them: bool) -> Iterable[str]:
    for one in clean.sent:
        same = [two for two in crashed.sent if (two.channel, two.kind, two.level) == (one.channel, one.kind, one.level)]
        if not same and not all_of_them:
            continue
        if not same:
            yield f"never told: {one.kind} level {one.level} to {one.channel}"
            continue
        keys = {re.sub(r"inc-[^/]+", "inc", two.key) for two in same}
        if len({two.key for two in same}) > len(
            {two.key for two in clean.sent if (two.channel, two.kind, two.level) == (one.channel, one.kind, one.level)}
        ):
            yield f"called twice: {one.kind} level {one.level} to {one.channel} with keys {sorted(keys)}"
        late = (min(two.at for two in same) - crashed.began_at) - (one.at - clean.began_at)
        most = LATE + LOOK if one.kind is NoticeKind.RESOLVE else LATE
        if one.level and late > most * max(1, crashed.lives - 1):
            yield f"late: {one.kind} level {one.level} by {late}"

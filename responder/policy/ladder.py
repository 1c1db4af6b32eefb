"""The one table of an incident's phases: ``(phase, event) → phase``.

Everything that changes a phase goes through ``advance``; a pair without a row is a bug in us and raises. Source: ARCHITECTURE.md
"How an incident lives"; the form is h11's. Never here: when an event happens (``decide``).

The decision a reader would question: events are verdicts ("allowed", "not proven"), not inputs ("alert came"). An alert that
resolves while acting is no event at all: health decides, and the table shows that by having no column for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from responder.model.errors import InvariantError
from responder.model.incident import Phase


class LadderEvent(StrEnum):
    """What was found about an incident; what each means stands beside its rows in the table."""

    HEALTHY = "healthy"
    ALLOWED = "allowed"
    NO_RUNG_LEFT = "no_rung_left"
    HELD_BACK = "held_back"
    ENDED = "ended"
    NOT_RUN_HEALTHY = "not_run_healthy"
    NOT_RUN = "not_run"
    TARGET_GONE = "target_gone"
    TARGET_GONE_AGAIN = "target_gone_again"
    CANNOT_BE_KNOWN = "cannot_be_known"
    SHADOW_RUNG = "shadow_rung"
    PROVEN = "proven"
    NOT_PROVEN = "not_proven"
    REASON_OVER = "reason_over"
    RESUMED = "resumed"
    UNHEALTHY_AGAIN = "unhealthy_again"
    QUIET = "quiet"
    CLOSED = "closed"


class IllegalTransitionError(InvariantError):
    """An event met a phase that has no row for it: a bug in us."""


_P, _E = Phase, LadderEvent

TRANSITIONS: Mapping[tuple[Phase, LadderEvent], Phase] = {
    # open: evidence taken, leader chosen, health read, the next rung judged
    (_P.OPEN, _E.HEALTHY): _P.VERIFYING,
    (_P.OPEN, _E.ALLOWED): _P.ACTING,
    (_P.OPEN, _E.SHADOW_RUNG): _P.VERIFYING,  # what it would have run; verifying watches for the scorecard
    (_P.OPEN, _E.NO_RUNG_LEFT): _P.EXHAUSTED,
    (_P.OPEN, _E.HELD_BACK): _P.WAITING,  # refused, unknown, no rule fits, approval, another hand, group_wait, pause, storm
    (_P.OPEN, _E.CLOSED): _P.CLOSED,
    # acting: intention and plan are stored, steps are carried out
    (_P.ACTING, _E.ENDED): _P.VERIFYING,  # done, already so, failed
    (_P.ACTING, _E.NOT_RUN_HEALTHY): _P.VERIFYING,  # refused, rejected, stopped; and healthy
    (_P.ACTING, _E.NOT_RUN): _P.WAITING,  # refused, rejected, stopped
    (_P.ACTING, _E.TARGET_GONE): _P.OPEN,  # resolved again
    (_P.ACTING, _E.TARGET_GONE_AGAIN): _P.WAITING,  # the second time it is refused
    (_P.ACTING, _E.CANNOT_BE_KNOWN): _P.WAITING,  # paged, counts as run
    (_P.ACTING, _E.CLOSED): _P.CLOSED,  # the action in flight was stopped first
    # verifying: health is read
    (_P.VERIFYING, _E.PROVEN): _P.RECOVERED,
    (_P.VERIFYING, _E.NOT_PROVEN): _P.OPEN,  # unhealthy and no `within` running
    (_P.VERIFYING, _E.NO_RUNG_LEFT): _P.EXHAUSTED,  # shadow only: it ends at the first rung it would have run
    (_P.VERIFYING, _E.CLOSED): _P.CLOSED,
    # waiting: judged again every 15 s and on every signal
    (_P.WAITING, _E.REASON_OVER): _P.OPEN,
    (_P.WAITING, _E.RESUMED): _P.OPEN,
    (_P.WAITING, _E.HEALTHY): _P.VERIFYING,
    (_P.WAITING, _E.CLOSED): _P.CLOSED,
    # exhausted: people have it; nothing acts
    (_P.EXHAUSTED, _E.PROVEN): _P.RECOVERED,
    (_P.EXHAUSTED, _E.RESUMED): _P.OPEN,
    (_P.EXHAUSTED, _E.CLOSED): _P.CLOSED,
    # recovered: proven; watched until nothing fires and reopen_within is over
    (_P.RECOVERED, _E.UNHEALTHY_AGAIN): _P.OPEN,
    (_P.RECOVERED, _E.QUIET): _P.CLOSED,
    (_P.RECOVERED, _E.CLOSED): _P.CLOSED,
}


def advance(phase: Phase, event: LadderEvent) -> Phase:
    """Return the phase that follows.

    Raises:
        IllegalTransitionError: When the table has no row for the pair.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransitionError(f"no transition from {phase} on {event}: see policy/ladder.py") from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for the README."""
    lines = ["stateDiagram-v2", "    [*] --> open"]
    lines += [f"    {phase} --> {after}: {event.replace('_', ' ')}" for (phase, event), after in TRANSITIONS.items()]
    return "\n".join([*lines, "    closed --> [*]"])

"""``wait``: lets a controller work; the rung's ``within`` and the proof are all there is."""

from __future__ import annotations

from datetime import datetime

from responder.actions.planning import Action, PlanInput
from responder.model.action import End, Outcome, Plan, Refusal, Step
from responder.model.cluster import Snapshot
from responder.model.reason import Reason
from responder.rules.catalogue import EVERY_KIND, ActionSpec


def plan(given: PlanInput) -> Plan | Refusal:
    """Plan to do nothing but verify."""
    diff = ("wait and verify; nothing is changed",)
    return Plan(action="wait", command=given.command, target=given.target, diff=diff, writes_at_most=0)


def next_step(plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
    """End at once: verifying does the waiting."""
    del plan, snapshot, now
    return End(outcome=Outcome.DONE, reason=Reason.DONE, detail="waiting for the controller")


ACTION = Action(
    spec=ActionSpec(name="wait", grade=0, targets=EVERY_KIND, says="Let a controller work; only verifies."),
    plan=plan,
    next_step=next_step,
)

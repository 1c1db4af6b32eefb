"""Limits and guards: three answers, and nothing more unhealthy ever turns a refusal into permission."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from responder.model.action import Plan
from responder.model.cluster import Snapshot
from responder.model.health import Ruling, Verdict
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.policy import guards
from responder.policy.guards import Count, Limits, tighten
from responder.rules.matchers import parse_matchers
from tests import builders as make

COUNTS = st.integers(0, 20)


@given(COUNTS, COUNTS, st.integers(0, 10))
def test_more_of_anything_never_turns_a_refusal_into_permission(count: int, more: int, limit: int) -> None:
    """Targets with one symptom, rungs in flight, actions of a rule."""
    limits = Limits(
        in_flight=limit,
        max_actions=Count(count=limit, window=timedelta(hours=1)),
        same_symptom=Count(count=limit, window=timedelta(minutes=5)),
    )

    def asked(number: int) -> list[Ruling]:
        return [
            guards.same_symptom(limits, targets=number).ruling,
            guards.in_flight(limits, running=number).ruling,
            guards.max_actions(limits, recent=number).ruling,
        ]

    for before, after in zip(asked(count), asked(count + more), strict=True):
        assert before is Ruling.ALLOW or after is not Ruling.ALLOW


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4), st.integers(0, 4))
def test_one_more_failing_pod_never_lets_a_restart_through_that_was_refused(
    ready: int, keep: int, unavailable: int, surge: int
) -> None:
    """``keep_ready`` with fewer ready pods refuses at least as much, as long as any is ready."""
    limits = Limits(keep_ready=keep)

    def asked(count: int) -> Ruling:
        pods = tuple(make.pod(f"p{n}") if n < count else make.crashing(f"p{n}") for n in range(6))
        snap = make.snapshot(pods=pods, desired=6, surge=surge, unavailable=unavailable)
        return guards.keep_ready(limits, snapshot=snap, actions=["workload.restart"], now=make.NOON).ruling

    if ready >= 2 and asked(ready) is Ruling.REFUSE:
        assert asked(ready - 1) is Ruling.REFUSE


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(0, 100))
def test_a_rules_guards_never_loosen(keep: int, in_flight: int, actions: int, wait: int) -> None:
    """Whatever the rule says, every limit is at least as strict as the installation's."""
    ours = Limits()
    strict = tighten(
        ours,
        {
            "keep_ready": keep,
            "in_flight": in_flight,
            "max_actions": f"{actions}/1h",
            "group_wait": f"{wait}s",
            "same_symptom": f"{actions}/5m",
            "unhealthy_nodes": f"{wait}%",
        },
    )

    assert strict.keep_ready >= ours.keep_ready
    assert strict.in_flight <= ours.in_flight
    assert strict.group_wait >= ours.group_wait
    assert strict.max_actions.count <= ours.max_actions.count
    assert strict.same_symptom.count <= ours.same_symptom.count
    assert strict.unhealthy_nodes <= ours.unhealthy_nodes


def test_what_cannot_be_read_is_unknown_and_not_permission() -> None:
    """Pods, the namespace, the reading itself."""
    blind = make.snapshot(gaps={"pods": "403", "namespace": "403"})

    answers = [
        guards.keep_ready(Limits(), snapshot=blind, actions=["workload.restart"], now=make.NOON),
        guards.hands_off(blind),
        guards.hands_off(None),
        guards.fresh(None, now=make.NOON),
        guards.foreign_activity(make.snapshot(), facts={}, actions=["workload.restart"], ours=False),
    ]

    assert {answer.ruling for answer in answers} == {Ruling.UNKNOWN}


def test_scope_is_a_list_of_alternatives() -> None:
    """One that holds is enough; none refuses."""
    only = Limits(scope=(parse_matchers(['namespace="shop"']), parse_matchers(['cluster="test"'])))

    assert guards.scope(only, make.TARGET).ruling is Ruling.ALLOW
    elsewhere = Limits(scope=(parse_matchers(['namespace="other"']),))
    assert guards.scope(elsewhere, make.TARGET).reason is Reason.OUT_OF_SCOPE


def test_a_scope_names_pools_and_their_nodes() -> None:
    """A node of no known pool is in no pool's scope."""
    only = Limits(scope=(parse_matchers(['pool="batch"']),))
    node = Target(kind=TargetKind.NODE, cluster="prod", name="n1")

    assert guards.scope(only, node, pool="batch").ruling is Ruling.ALLOW
    assert guards.scope(only, node).reason is Reason.OUT_OF_SCOPE
    assert "of pool system" in guards.scope(only, node, pool="system").detail
    assert guards.scope(only, Target(kind=TargetKind.NODE_POOL, cluster="prod", name="batch")).ruling is Ruling.ALLOW
    assert guards.scope(only, make.TARGET).reason is Reason.OUT_OF_SCOPE


def test_a_recreate_rollout_takes_every_ready_replica() -> None:
    """With one still ready it is refused; with none there is nothing to lose."""
    some = make.snapshot(pods=(make.pod("a"), make.crashing("b")), strategy="Recreate")
    none = make.snapshot(pods=(make.crashing("a"), make.crashing("b")), strategy="Recreate")

    assert guards.keep_ready(Limits(), snapshot=some, actions=["workload.restart"], now=make.NOON).reason is Reason.KEEP_READY
    assert guards.keep_ready(Limits(), snapshot=none, actions=["workload.restart"], now=make.NOON).ruling is Ruling.ALLOW


def test_the_floor_is_read_again_before_a_rollout_is_written() -> None:
    """Between plan and write the ready ones became fewer: the restart that was allowed then takes the last one now. What frees a stuck pod takes none."""
    sick = (make.crashing("api-1"), make.crashing("api-2"))
    limits = Limits(keep_ready=1)
    left = make.snapshot(pods=(make.pod("api-0"), *sick), desired=3, surge=0, unavailable=1)
    enough = make.snapshot(pods=(make.pod("api-0"), make.pod("api-3"), *sick), desired=4, surge=0, unavailable=1)

    def floor(action: str, snap: Snapshot, **values: str) -> Verdict | None:
        plan = Plan(action=action, command="c", target=make.TARGET, values=values)
        return guards.floor_before_write(plan, snap, limits=limits)

    refused = floor("workload.restart", left)

    assert refused is not None
    assert refused.reason is Reason.KEEP_READY
    assert floor("workload.restart", enough) is None
    assert floor("workload.rollback", left, bad_digest="new") is not None
    assert floor("workload.rollback", left, bad_digest="bad") is None

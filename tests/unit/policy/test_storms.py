"""Many at once: children that wait, calm parents, and what neither of them may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.action import Outcome
from responder.model.health import Health, Ruling, Verdict
from responder.model.incident import Escalation, Incident, Mode, Phase, Signal, SignalKind
from responder.model.reason import Reason
from responder.model.rule import PageWhen
from responder.model.storing import Counts, StormCounts
from responder.policy import storms
from responder.policy.case import Case, Decision
from responder.policy.decide import conclude, decide
from responder.policy.guards import Limits
from responder.policy.signals import take_in
from tests import builders as make

M, S = timedelta(minutes=1), timedelta(seconds=1)
MANY = {"crash": Counts(same_symptom=6)}
CAUSE = storms.of_symptom("crash")
OVER = Verdict(Ruling.ALLOW, Reason.WITHIN_LIMITS, "2 targets")
STANDS = Verdict(Ruling.REFUSE, Reason.SAME_SYMPTOM, "9 targets")


def child(**changes: Any) -> Incident:
    """Return a child that waits for its storm since noon."""
    values = {
        "phase": Phase.WAITING,
        "reason": Reason.STORM,
        "phase_since": make.NOON,
        "parent": "inc-9",
        "detail": "its storm is inc-9",
    }
    return make.incident(**{**values, **changes})  # fmt: skip


def parent(*causes: str, **changes: Any) -> Incident:
    """Return a parent that has just been opened."""
    seed = storms.parent_of(make.incident(), causes[0], detail="6 targets", identity="inc-9", now=make.NOON)
    return replace(seed, causes=causes, **changes)


def of_parent(incident: Incident, *, at: timedelta = timedelta(0), causes: Mapping[str, Verdict] | None = None) -> Case:
    return make.case(
        incident, rules={}, reading=None, instances=(), now=make.NOON + at, causes=causes or {}, counts={}, children=7
    )


def outcome(decision: Decision) -> tuple[Phase, Reason]:
    return decision.incident.phase, decision.incident.reason


# --- children


@pytest.mark.parametrize("health", [Health.UNHEALTHY, Health.UNKNOWN])
@pytest.mark.parametrize("changes", [{}, {"unresolved": True}, {"literal": True}], ids=["resolved", "unresolved", "literal"])
@pytest.mark.parametrize("rule", [{}, {"ladder": None}, {"when": "false"}], ids=["a ladder", "no ladder", "no rule fits"])
def test_too_many_targets_are_a_storm_whatever_else_would_have_paged_each_of_them(
    health: Health, changes: dict[str, Any], rule: dict[str, Any]
) -> None:
    """Unknown, unresolved, without a ladder: a thousand of them are one page and not a thousand."""
    case = make.case(make.incident(**changes), counts=MANY, reading=make.reading(health), rules={"crash": make.rule(**rule)})

    decision = decide(case)

    assert outcome(decision) == (Phase.WAITING, Reason.STORM)
    assert (decision.storm, decision.tells, decision.intend) == (CAUSE, (), None)


def test_a_healthy_target_is_no_part_of_a_storm() -> None:
    """It is verified, as ever: six alerts that were over when they came call nobody."""
    decision = decide(make.case(counts=MANY, reading=make.reading(Health.HEALTHY)))

    assert (decision.incident.phase, decision.storm) == (Phase.VERIFYING, "")


def test_only_samples_have_their_evidence_taken() -> None:
    """The sixth goes without; alone it would not."""
    fresh = make.incident(evidence_at=None)

    assert decide(make.case(fresh, counts=MANY, sample=True)).capture
    assert not decide(make.case(fresh, counts=MANY, sample=False)).capture
    assert decide(make.case(fresh, sample=False)).capture


def test_a_child_that_is_left_alone_stays_as_it_is_and_says_nothing() -> None:
    """Nothing was read, so nothing is known anew; it is looked at when its time comes."""
    before = child(health=Health.UNHEALTHY, health_detail="0 of 2")

    decision = decide(make.case(before, reading=None, storm="inc-9", parked=True, children=3000))

    assert replace(decision.incident, effective=before.effective, waiting_since=None) == before
    assert decision.entries == ()
    assert decision.wake_at is not None
    assert make.NOON + M <= decision.wake_at <= make.NOON + M + 3000 * S


def test_the_children_of_a_great_storm_are_looked_at_in_turn() -> None:
    """Two thousand of them cost the cluster two looks a second at most."""
    at = sorted(storms.look_at(child(id=f"inc-{number}"), children=2000) for number in range(2000))

    busiest = max(sum(1 for one in at if start <= one < start + 10 * S) for start in at)
    assert busiest <= 25


@pytest.mark.parametrize("read", [Health.UNHEALTHY, Health.UNKNOWN])
def test_a_child_neither_climbs_nor_pages(read: Health) -> None:
    """Also after hours, and also when a level of its own had been called before: its time stands, and nobody is called."""
    told = Escalation(policy=make.PEOPLE, paged_at=make.NOON - M, reason=Reason.OPENED, levels=1)
    before = child(waiting_since=make.NOON, escalation=told)

    decision = decide(make.case(before, storm="inc-9", now=make.NOON + 50 * M, reading=make.reading(read, at=make.NOON + 50 * M)))

    assert outcome(decision) == (Phase.WAITING, Reason.STORM)
    assert (decision.tells, decision.intend, decision.incident.escalation) == ((), None, told)


def test_a_child_that_is_healthy_again_while_its_storm_stands_calls_nobody() -> None:
    """Its rule would page at the opening; the storm's page was that page. What went elsewhere by itself recovers without a word."""
    rule = replace(make.rule(), page=PageWhen.OPEN)
    late = make.NOON + 5 * M
    healthy = make.reading(Health.HEALTHY, at=late)
    case = make.case(child(leader=rule.name), rules={rule.name: rule}, reading=healthy, now=late)

    inside, outside = decide(replace(case, storm="inc-9")), decide(case)

    assert (inside.incident.phase, inside.tells) == (Phase.VERIFYING, ())
    assert [one.level for one in outside.tells] == [1]


def test_what_was_begun_before_the_storm_is_proven_in_it_and_then_waits() -> None:
    """Children end what they verify: unknown pages nobody, not proven climbs no further."""
    begun = decide(make.case()).incident
    done = conclude(make.case(begun, storm="inc-9"), outcome=Outcome.DONE, reason=Reason.DONE, detail="").incident
    unknown = decide(
        make.case(done, storm="inc-9", now=make.NOON + 5 * M, reading=make.reading(Health.UNKNOWN, at=make.NOON + 5 * M))
    )
    late = make.NOON + 9 * M
    failed = decide(make.case(unknown.incident, storm="inc-9", now=late, reading=make.reading(at=late)))

    assert (unknown.incident.phase, unknown.tells) == (Phase.VERIFYING, ())
    assert outcome(failed) == (Phase.WAITING, Reason.STORM)
    assert failed.tells == ()


def test_a_child_that_is_let_go_goes_on_where_it_was() -> None:
    """Evidence first when it had none, then its ladder."""
    free, entries = take_in(
        child(evidence_at=None), [Signal(id=1, incident="inc-1", kind=SignalKind.RELEASED, at=make.NOON, by="responder")]
    )
    evidence = decide(make.case(free))
    climbs = decide(make.case(replace(evidence.incident, evidence_at=make.NOON)))

    assert (free.parent, entries[0].reason) == ("", Reason.STORM_OVER)
    assert evidence.capture
    assert climbs.intend is not None


@given(st.lists(st.sampled_from(["look", "time", "fired", "resolved", "reopened"]), max_size=12), st.sampled_from(list(Health)))
def test_a_child_never_acts(steps: list[str], health: Health) -> None:
    """Whatever comes in whatever order while its parent is open, no intention is made and nobody is called."""
    incident, now = child(), make.NOON
    for step in steps:
        now += {"look": 70 * S, "time": 20 * M}.get(step, S)
        if step in {"fired", "resolved"}:
            kind = SignalKind.FIRED if step == "fired" else SignalKind.RESOLVED
            incident, _ = take_in(incident, [Signal(id=1, incident="inc-1", kind=kind, at=now, by="prom")])
        decision = decide(make.case(incident, storm="inc-9", now=now, reading=make.reading(health, at=now)))
        incident = decision.incident
        assert decision.intend is None
        assert not any(tell.kind == "page" for tell in decision.tells)


# --- parents


def test_a_storm_pages_at_once_and_is_over_when_the_limits_hold_again() -> None:
    """For its hold of two minutes and three counts; then it is closed at once, so that the next storm is an incident, and a page, of its own."""
    opened = decide(of_parent(parent(CAUSE)))
    incident = opened.incident
    stands = decide(of_parent(incident, at=1 * M, causes={CAUSE: STANDS}))
    incident = stands.incident
    for minutes in (2.0, 3.0, 4.0):
        incident = decide(of_parent(incident, at=minutes * M, causes={CAUSE: OVER})).incident
    recovered = incident
    closed = decide(of_parent(incident, at=5 * M))

    assert (outcome(opened), opened.tells[0].reason) == ((Phase.EXHAUSTED, Reason.STORM), Reason.STORM)
    assert outcome(stands) == (Phase.EXHAUSTED, Reason.STORM)
    assert recovered.phase is Phase.RECOVERED
    assert outcome(closed) == (Phase.CLOSED, Reason.QUIET)


def test_a_second_cause_widens_the_storm_and_is_not_a_second_page() -> None:
    """One page whatever came first; the storm is over only when both are."""
    opened = decide(of_parent(parent(CAUSE))).incident
    body = {"cause": storms.UNHEALTHY_NODES, "detail": "unhealthy nodes: 31 of 100"}
    wider, _ = take_in(opened, [Signal(id=1, incident="inc-9", kind=SignalKind.FIRED, at=make.NOON, by="responder", body=body)])
    again = decide(of_parent(wider, at=1 * M, causes={CAUSE: OVER, storms.UNHEALTHY_NODES: STANDS}))

    assert wider.causes == (CAUSE, storms.UNHEALTHY_NODES)
    assert again.tells == ()
    assert again.incident.healthy_since is None
    assert not storms.holds(opened, make.incident(symptom="other"))
    assert storms.holds(wider, make.incident(symptom="other"))


def test_a_cluster_that_does_not_answer_pages_after_two_minutes() -> None:
    """As every unknown; it may only be restarting."""
    first = decide(of_parent(parent(storms.UNREACHABLE)))
    later = decide(of_parent(first.incident, at=2 * M, causes={storms.UNREACHABLE: STANDS}))

    assert first.tells == ()
    assert first.wake_at is not None
    assert first.wake_at <= make.NOON + 2 * M
    assert [tell.reason for tell in later.tells] == [Reason.STORM]


def test_a_parent_in_shadow_tells_the_shadow_channel_and_nobody_else() -> None:
    """What would have been one page."""
    seed = storms.parent_of(make.incident(mode=Mode.SHADOW), CAUSE, detail="6 targets", identity="inc-9", now=make.NOON)

    decision = decide(of_parent(seed))

    assert [tell.channels for tell in decision.tells] == [("shadow",)]


def test_a_storm_stands_while_more_than_the_limit_of_its_children_are_left() -> None:
    """Although none has opened for long; and while more open than the limit, although none waits yet."""
    limits = Limits()
    one = parent(CAUSE)

    def ruling(opened: int, waiting: int) -> Ruling:
        counts = StormCounts(opened={"crash": opened}, waiting={"crash": waiting})
        return storms.standing(one, counts, limits, nodes=None, reached=None)[CAUSE].ruling

    assert [ruling(0, 6), ruling(6, 0), ruling(5, 5), ruling(0, 0)] == [Ruling.REFUSE, Ruling.REFUSE, Ruling.ALLOW, Ruling.ALLOW]


def test_what_is_not_known_of_a_cause_never_ends_a_storm() -> None:
    """Unknown is not over."""
    one = parent(storms.UNHEALTHY_NODES, storms.UNREACHABLE)

    found = storms.standing(one, StormCounts(), Limits(), nodes=None, reached=None)

    assert {verdict.ruling for verdict in found.values()} == {Ruling.UNKNOWN}

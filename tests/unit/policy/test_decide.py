"""``decide`` and ``conclude``: each row of ARCHITECTURE.md's phase table, seen as a decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.action import Outcome
from responder.model.alert import AlertStatus
from responder.model.cloud import CloudSnapshot, PoolSnapshot
from responder.model.cluster import Reading
from responder.model.health import CheckReading, Health
from responder.model.incident import Approval, Incident, Mode, Phase, Run, Signal, SignalKind
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.model.storing import Counts
from responder.policy.case import Case, Decision
from responder.policy.decide import conclude, decide
from responder.policy.guards import Limits
from responder.policy.signals import take_in
from responder.rules.matchers import parse_matchers
from tests import builders as make

M, S = timedelta(minutes=1), timedelta(seconds=1)


def acting(**changes: object) -> Incident:
    """Return an incident whose restart was just begun."""
    decision = decide(make.case())
    assert decision.intend is not None
    return replace(decision.incident, **changes)  # type: ignore[arg-type]


def verifying(**changes: object) -> Incident:
    """Return an incident whose restart was just carried out."""
    return replace(conclude(make.case(acting()), outcome=Outcome.DONE, reason=Reason.DONE, detail="").incident, **changes)  # type: ignore[arg-type]


def outcome(decision: Decision) -> tuple[Phase, Reason]:
    """Return where an incident stands and why."""
    return decision.incident.phase, decision.incident.reason


# --- open


def test_evidence_comes_before_everything() -> None:
    """Without evidence nothing is judged; the shell is told to capture it."""
    decision = decide(make.case(make.incident(evidence_at=None)))

    assert decision.capture
    assert decision.intend is None


def test_unhealthy_and_allowed_begins_the_first_rung() -> None:
    """The intention is stored with its plan, its claim and its time to be proven."""
    decision = decide(make.case())

    assert outcome(decision) == (Phase.ACTING, Reason.ALLOWED)
    assert decision.intend is not None
    assert decision.intend.plans[0].action == "workload.restart"
    assert decision.intend.key == "inc-1/1/crash/workload.restart/1"
    assert decision.scopes is not None
    assert decision.scopes.target == (make.TARGET.identity,)
    assert decision.incident.runs[-1].prove_by == make.NOON + 6 * M


def test_a_healthy_target_is_never_acted_on() -> None:
    """It is verified instead, with the reason."""
    assert outcome(decide(make.case(reading=make.reading(Health.HEALTHY)))) == (Phase.VERIFYING, Reason.ALREADY_HEALTHY)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reading": make.reading(Health.UNKNOWN)}, Reason.UNKNOWN),
        ({"reading": None, "reading_problem": "no answer"}, Reason.UNKNOWN),
        ({"reading": make.reading(facts={"cause": "spec"})}, Reason.NO_RULE_FITS),
        ({"storm": "inc-9"}, Reason.STORM),
        ({"denied": Reason.ANOTHER_HAND, "denied_detail": "inc-8"}, Reason.ANOTHER_HAND),
        ({"counts": {"crash": Counts(in_flight=1)}}, Reason.IN_FLIGHT),
        ({"counts": {"crash": Counts(recent_actions=3)}}, Reason.MAX_ACTIONS),
        ({"counts": {"crash": Counts(claimed_by="inc-7")}}, Reason.ANOTHER_HAND),
        ({"switch": Mode.OFF}, Reason.KILL_SWITCH),
        ({"switch": Mode.SHADOW}, Reason.DISARMED),
        ({"armed": frozenset()}, Reason.DISARMED),
        ({"now": make.NOON + 40 * S}, Reason.STALE_READING),
        ({"reading": make.reading(facts={"rollout": "progressing", "failing": 0})}, Reason.FOREIGN_ACTIVITY),
    ],
    ids=[
        "health unknown",
        "no reading",
        "no rule fits",
        "storm",
        "denied by the store",
        "in flight",
        "max actions",
        "claimed by another",
        "kill switch",
        "mode shadow",
        "disarmed",
        "stale",
        "a rollout of somebody else",
    ],
)
def test_what_holds_back_is_a_wait_with_its_reason(changes: dict[str, object], reason: Reason) -> None:
    """No refusal and no unknown ever begins a rung."""
    decision = decide(make.case(**cast("Any", changes)))

    assert outcome(decision) == (Phase.WAITING, reason)
    assert decision.intend is None


def test_a_missing_fact_makes_the_rule_lead_without_a_rung() -> None:
    """``when`` unknown is not false: the rule leads, and nothing is done."""
    lost = make.reading()
    known = {name: value for name, value in lost.facts.items() if name != "cause"}

    decision = decide(make.case(reading=replace(lost, facts=known)))

    assert outcome(decision) == (Phase.WAITING, Reason.WHEN_UNKNOWN)
    assert decision.incident.leader == "crash"


def test_an_unknown_condition_of_a_rung_never_skips_it() -> None:
    """The ladder waits there instead of climbing past it."""
    lost = make.reading()
    known = {name: value for name, value in lost.facts.items() if name != "new_revision"}

    decision = decide(make.case(reading=replace(lost, facts=known)))

    assert outcome(decision) == (Phase.WAITING, Reason.WHEN_UNKNOWN)
    assert decision.incident.runs == ()


def test_young_incidents_wait_for_a_storm_to_show() -> None:
    """``group_wait`` ends exactly when it is over."""
    young = make.incident(opened_at=make.NOON - 10 * S)

    decision = decide(make.case(young))

    assert outcome(decision) == (Phase.WAITING, Reason.GROUP_WAIT)
    assert decision.wake_at == make.NOON + 20 * S


def test_too_many_targets_with_one_symptom_open_a_storm() -> None:
    """The child waits and the shell is told to open the parent."""
    decision = decide(make.case(counts={"crash": Counts(same_symptom=6)}))

    assert decision.storm
    assert outcome(decision) == (Phase.WAITING, Reason.STORM)


def test_an_unresolved_target_pages_at_once_and_does_nothing() -> None:
    """The page names the missing label."""
    decision = decide(make.case(make.incident(unresolved=True, resolution="no label namespace")))

    assert outcome(decision) == (Phase.WAITING, Reason.TARGET_UNRESOLVED)
    assert [(tell.kind, tell.reason) for tell in decision.tells] == [(NoticeKind.PAGE, Reason.TARGET_UNRESOLVED)]


def test_no_rung_left_is_exhausted_and_paged_with_skipped_rungs_recorded() -> None:
    """A rung whose condition is false is on record with the facts that made it so."""
    ran = Run(
        rule="crash",
        rung="workload.restart",
        index=0,
        actions=("workload.restart",),
        started_at=make.NOON,
        outcome=Outcome.DONE,
        counted=True,
    )

    decision = decide(make.case(make.incident(runs=(ran,))))

    assert outcome(decision) == (Phase.EXHAUSTED, Reason.EXHAUSTED)
    skipped = decision.incident.runs[-1]
    assert (skipped.rung, skipped.skipped, skipped.reason) == ("workload.rollback", True, Reason.WHEN_FALSE)
    assert "new_revision is false" in skipped.detail
    assert decision.tells[0].reason is Reason.EXHAUSTED


def test_a_rung_that_began_twice_without_running_is_left_to_a_person() -> None:
    """It begins by itself once more at most."""
    stopped = [
        Run(rule="crash", rung="workload.restart", index=0, attempt=number, started_at=make.NOON, outcome=Outcome.STOPPED)
        for number in (1, 2)
    ]

    once = decide(make.case(make.incident(runs=tuple(stopped[:1]))))
    twice = decide(make.case(make.incident(runs=tuple(stopped))))

    assert outcome(once) == (Phase.ACTING, Reason.ALLOWED)
    assert outcome(twice) == (Phase.WAITING, Reason.BEGUN_TWICE)


def test_another_rules_rung_that_did_the_same_counts_as_run() -> None:
    """No action is done twice in one incident under another name."""
    ran = Run(
        rule="other",
        rung="again",
        index=0,
        actions=("workload.restart",),
        started_at=make.NOON,
        outcome=Outcome.DONE,
        counted=True,
    )

    decision = decide(make.case(make.incident(runs=(ran,))))

    assert outcome(decision) == (Phase.EXHAUSTED, Reason.EXHAUSTED)
    assert any(run.reason is Reason.RAN_ALREADY for run in decision.incident.runs)


def test_an_actions_refusal_stops_the_ladder() -> None:
    """The workload is paused: refused, paged, and the next rung is not looked at."""
    paused = make.snapshot(pods=(make.crashing("api-1"), make.crashing("api-2")), paused=True)

    decision = decide(make.case(reading=make.reading(snap=paused)))

    assert outcome(decision) == (Phase.WAITING, Reason.WORKLOAD_PAUSED)
    assert [tell.reason for tell in decision.tells] == [Reason.REFUSED]


# --- approvals


def asked() -> tuple[Case, Incident]:
    """Return a case whose first rung needs one person, and the incident after asking."""
    rules = {"crash": make.rule(ladder=[{"do": "workload.restart", "approve": 1, "within": "6m"}])}
    first = make.case(rules=rules)
    return first, decide(first).incident


def test_a_rung_that_needs_approval_asks_and_pages() -> None:
    """Nothing begins; people are asked about this very plan."""
    case, incident = asked()

    assert (incident.phase, incident.reason) == (Phase.WAITING, Reason.APPROVAL)
    assert incident.approval is not None
    assert "restart its pods" in incident.approval.diff[0]
    assert decide(case).tells[0].reason is Reason.APPROVAL


def test_an_approved_plan_begins() -> None:
    """One named person's vote for the digest that is asked."""
    case, incident = asked()
    assert incident.approval is not None
    vote = Signal(
        id=1, incident="inc-1", kind=SignalKind.APPROVED, at=make.NOON, by="ana", body={"digest": incident.approval.digest}
    )

    approved, _ = take_in(incident, [vote])

    assert outcome(decide(replace(case, incident=approved))) == (Phase.ACTING, Reason.ALLOWED)


def test_a_rejected_plan_waits_for_a_person_to_resume() -> None:
    """A rejection is asked again only when a person resumes."""
    case, incident = asked()
    assert incident.approval is not None
    vote = Signal(
        id=1, incident="inc-1", kind=SignalKind.REJECTED, at=make.NOON, by="ana", body={"digest": incident.approval.digest}
    )
    rejected, _ = take_in(incident, [vote])
    waiting = decide(replace(case, incident=rejected)).incident

    later = decide(replace(case, incident=waiting, now=make.NOON + M, reading=make.reading(at=make.NOON + M)))
    resumed, _ = take_in(waiting, [Signal(id=2, incident="inc-1", kind=SignalKind.RESUMED, at=make.NOON, by="ana")])

    assert outcome(later) == (Phase.WAITING, Reason.REJECTED)
    assert resumed.phase is Phase.OPEN
    assert decide(replace(case, incident=resumed)).incident.reason is Reason.APPROVAL


@pytest.mark.parametrize(
    ("digest", "by", "at", "counts"),
    [("right", "ana", 0, True), ("other", "ana", 0, False), ("right", "ana", 61, False)],
    ids=["counts", "another plan", "too late"],
)
def test_a_vote_counts_only_for_its_plan_and_in_time(digest: str, by: str, at: int, counts: bool) -> None:
    """Votes for another plan and late ones are recorded and change nothing."""
    approval = Approval(rule="crash", rung="r", digest="right", people=1, asked_at=make.NOON, expires_at=make.NOON + 60 * M)
    vote = Signal(id=1, incident="inc-1", kind=SignalKind.APPROVED, at=make.NOON + at * M, by=by, body={"digest": digest})

    after, entries = take_in(make.incident(approval=approval), [vote])

    assert after.approval is not None
    assert bool(after.approval.votes) is counts
    assert len(entries) == 1


def test_one_person_has_one_vote() -> None:
    """The same person twice is one person."""
    approval = Approval(rule="crash", rung="r", digest="d", people=2, asked_at=make.NOON, expires_at=make.NOON + M)
    votes = [
        Signal(id=number, incident="inc-1", kind=SignalKind.APPROVED, at=make.NOON, by="ana", body={"digest": "d"})
        for number in (1, 2)
    ]

    after, _ = take_in(make.incident(approval=approval), votes)

    assert after.approval is not None
    assert len(after.approval.votes) == 1


def test_another_plan_is_asked_anew() -> None:
    """An approval is bound to its plan: the workload's generation moved on."""
    case, incident = asked()
    newer = make.snapshot(pods=(make.crashing("api-1"), make.crashing("api-2")), generation=3, observed_generation=3)

    decision = decide(replace(case, incident=incident, reading=make.reading(snap=newer)))

    assert decision.incident.approval is not None
    assert incident.approval is not None
    assert decision.incident.approval.digest != incident.approval.digest
    assert any(entry.reason is Reason.PLAN_CHANGED for entry in decision.entries)


# --- acting


@pytest.mark.parametrize("came", [Outcome.DONE, Outcome.ALREADY_SO, Outcome.FAILED])
def test_an_ended_rung_is_verified_and_counts(came: Outcome) -> None:
    """Done, already so and failed are all followed by a look at health."""
    decision = conclude(make.case(acting()), outcome=came, reason=Reason(str(came)), detail="")

    assert decision.incident.phase is Phase.VERIFYING
    assert decision.incident.runs[-1].counted
    assert decision.incident.command is None
    assert decision.release is (came is not Outcome.DONE)


@pytest.mark.parametrize("came", [Outcome.REFUSED, Outcome.REJECTED, Outcome.STOPPED])
@pytest.mark.parametrize(
    ("health", "phase"), [(Health.HEALTHY, Phase.VERIFYING), (Health.UNHEALTHY, Phase.WAITING), (Health.UNKNOWN, Phase.WAITING)]
)
def test_a_rung_that_did_not_run_counts_as_not_run(came: Outcome, health: Health, phase: Phase) -> None:
    """It gives back what it holds; healthy goes to verifying, anything else waits and never climbs."""
    decision = conclude(make.case(acting(), reading=make.reading(health)), outcome=came, reason=Reason.KILL_SWITCH, detail="")

    assert decision.incident.phase is phase
    assert not decision.incident.runs[-1].counted
    assert decision.release


def test_a_target_that_is_gone_is_resolved_again_once() -> None:
    """The second time it is left to a person."""
    once = conclude(make.case(acting()), outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="")
    twice = conclude(make.case(acting(gone=1)), outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail="")

    assert (once.incident.phase, once.resolve_again) == (Phase.OPEN, True)
    assert (outcome(twice), twice.resolve_again) == ((Phase.WAITING, Reason.TARGET_GONE), False)


def test_what_cannot_be_known_waits_for_a_person_and_counts_as_run() -> None:
    """It may have begun before a crash; it is never repeated by itself."""
    decision = conclude(make.case(acting()), outcome=Outcome.CANNOT_BE_KNOWN, reason=Reason.CANNOT_BE_KNOWN, detail="")

    assert outcome(decision) == (Phase.WAITING, Reason.CANNOT_BE_KNOWN)
    assert decision.incident.runs[-1].counted
    assert decision.tells[0].reason is Reason.CANNOT_BE_KNOWN


# --- verifying


def read_on(incident: Incident, health: Health, *, minutes: float, restarts: dict[str, int] | None = None) -> Decision:
    """Decide at a later time on a fresh reading."""
    at = make.NOON + minutes * M
    fresh: Reading = make.reading(health, at=at)
    if restarts is not None:
        fresh = replace(fresh, checks={"workload.available": CheckReading(health=health, restarts=restarts)})
    return decide(make.case(incident, now=at, reading=fresh))


def test_healthy_for_the_hold_time_is_recovered_and_reported() -> None:
    """At least three healthy reads over two minutes; then the report."""
    incident = verifying()
    for minutes in (1.0, 1.5, 2.0):
        incident = read_on(incident, Health.HEALTHY, minutes=minutes).incident
        assert incident.phase is Phase.VERIFYING
    decision = read_on(incident, Health.HEALTHY, minutes=3.0)

    assert outcome(decision) == (Phase.RECOVERED, Reason.RECOVERED)
    assert (decision.give_back, decision.release) == (True, True)
    assert [(tell.kind, tell.channels) for tell in decision.tells] == [(NoticeKind.INFO, ("teams",))]


def test_two_healthy_reads_far_apart_are_no_hold() -> None:
    """``hold`` counts reads, not two times."""
    incident = read_on(verifying(), Health.HEALTHY, minutes=1).incident

    assert read_on(incident, Health.HEALTHY, minutes=4).incident.phase is Phase.VERIFYING


def test_a_restart_during_the_hold_breaks_it() -> None:
    """A crash loop that looks ready at every read is not recovered."""
    incident = verifying()
    for minutes, count in ((1.0, 0), (1.7, 1), (2.4, 2), (3.1, 3), (3.8, 4)):
        decision = read_on(incident, Health.HEALTHY, minutes=minutes, restarts={"uid-api-1": count})
        incident = decision.incident

    assert incident.phase is Phase.VERIFYING


def test_unhealthy_while_the_rung_may_still_prove_itself_stays() -> None:
    """A rollout takes its time."""
    assert read_on(verifying(), Health.UNHEALTHY, minutes=5).incident.phase is Phase.VERIFYING


def test_unhealthy_after_its_time_goes_on_with_the_next_rung() -> None:
    """Not proven; the next rung's condition is false here, so people have it."""
    decision = read_on(verifying(), Health.UNHEALTHY, minutes=6)

    assert outcome(decision) == (Phase.EXHAUSTED, Reason.EXHAUSTED)
    assert decision.incident.runs[0].reason is Reason.NOT_PROVEN


def test_unknown_after_its_time_is_paged_and_never_climbs() -> None:
    """It stays in verifying, however long."""
    decision = read_on(verifying(), Health.UNKNOWN, minutes=6)
    later = read_on(decision.incident, Health.UNKNOWN, minutes=9)
    much_later = read_on(later.incident, Health.UNKNOWN, minutes=60)

    assert decision.incident.phase is Phase.VERIFYING
    assert [tell.reason for tell in later.tells] == [Reason.UNKNOWN]
    assert much_later.incident.phase is Phase.VERIFYING


def test_a_failed_action_has_no_time_to_prove_itself() -> None:
    """``within`` runs only after a rung that was done."""
    failed = conclude(make.case(acting()), outcome=Outcome.FAILED, reason=Reason.FAILED, detail="").incident

    assert read_on(failed, Health.UNHEALTHY, minutes=0.5).incident.phase is Phase.EXHAUSTED


# --- waiting


def test_a_wait_that_goes_on_says_nothing_new() -> None:
    """Judged again every 15 s without another line on the timeline."""
    waiting = decide(make.case(reading=make.reading(facts={"cause": "spec"}))).incident

    again = decide(
        make.case(waiting, now=make.NOON + 15 * S, reading=make.reading(facts={"cause": "spec"}, at=make.NOON + 15 * S))
    )

    assert again.entries == ()
    assert again.incident.phase_since == waiting.phase_since
    assert again.wake_at == make.NOON + 30 * S


def test_a_wait_whose_reason_is_over_acts() -> None:
    """The kill switch is armed again."""
    waiting = decide(make.case(switch=Mode.OFF)).incident

    assert outcome(decide(make.case(waiting))) == (Phase.ACTING, Reason.ALLOWED)


def test_a_wait_that_becomes_healthy_is_verified() -> None:
    """Health ends every wait, also the sticky ones."""
    waiting = make.incident(phase=Phase.WAITING, reason=Reason.CANNOT_BE_KNOWN)

    assert outcome(decide(make.case(waiting, reading=make.reading(Health.HEALTHY)))) == (Phase.VERIFYING, Reason.HEALTHY)


@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.BEGUN_TWICE, Reason.CANNOT_BE_KNOWN])
def test_sticky_waits_end_only_by_health_or_a_person(reason: Reason) -> None:
    """Time and unhealthiness change nothing."""
    waiting = make.incident(phase=Phase.WAITING, reason=reason)

    assert outcome(decide(make.case(waiting))) == (Phase.WAITING, reason)
    resumed, _ = take_in(waiting, [Signal(id=1, incident="inc-1", kind=SignalKind.RESUMED, at=make.NOON, by="ana")])
    assert resumed.phase is Phase.OPEN


def test_any_other_wait_pages_after_ten_minutes() -> None:
    """Not a moment before."""
    waiting = make.incident(phase=Phase.WAITING, reason=Reason.IN_FLIGHT, waiting_since=make.NOON, leader="crash")
    busy = {"crash": Counts(in_flight=1)}

    early = decide(make.case(waiting, now=make.NOON + 9 * M, reading=make.reading(at=make.NOON + 9 * M), counts=busy))
    late = decide(make.case(waiting, now=make.NOON + 10 * M, reading=make.reading(at=make.NOON + 10 * M), counts=busy))

    assert early.tells == ()
    assert [tell.reason for tell in late.tells] == [Reason.STUCK]


def test_a_paused_incident_waits_and_calls_nobody() -> None:
    """A person has it."""
    paused = make.incident(paused_by="ana")

    decision = decide(make.case(paused))
    later = decide(make.case(decision.incident, now=make.NOON + 60 * M, reading=make.reading(at=make.NOON + 60 * M)))

    assert outcome(decision) == (Phase.WAITING, Reason.PAUSED)
    assert later.tells == ()


# --- exhausted, recovered, closed


def test_exhausted_recovers_by_itself_when_healthy_for_the_hold() -> None:
    """Pages are resolved, and it is reported."""
    incident = decide(
        make.case(
            make.incident(
                runs=(
                    Run(rule="crash", rung="workload.restart", index=0, started_at=make.NOON, outcome=Outcome.DONE, counted=True),
                )
            )
        )
    ).incident
    assert incident.phase is Phase.EXHAUSTED
    for minutes in (1.0, 2.0):
        incident = read_on(incident, Health.HEALTHY, minutes=minutes).incident
    decision = read_on(incident, Health.HEALTHY, minutes=3.0)

    assert outcome(decision) == (Phase.RECOVERED, Reason.RECOVERED)
    assert [(tell.kind, tell.level) for tell in decision.tells] == [(NoticeKind.RESOLVE, 1), (NoticeKind.INFO, 0)]


def test_nothing_acts_on_an_exhausted_incident() -> None:
    """People have it; health is read every minute."""
    decision = decide(make.case(make.incident(phase=Phase.EXHAUSTED, reason=Reason.EXHAUSTED)))

    assert decision.intend is None
    assert decision.incident.phase is Phase.EXHAUSTED
    assert decision.wake_at == make.NOON + M


def recovered(**changes: object) -> Incident:
    """Return an incident recovered at noon, whose restart ran."""
    ran = Run(
        rule="crash",
        rung="workload.restart",
        index=0,
        actions=("workload.restart",),
        started_at=make.NOON,
        outcome=Outcome.DONE,
        counted=True,
    )
    base = make.incident(phase=Phase.RECOVERED, reason=Reason.RECOVERED, recovered_at=make.NOON, leader="crash", runs=(ran,))
    return replace(base, **changes)  # type: ignore[arg-type]


def test_unhealthy_again_while_an_alert_fires_reopens_at_the_next_rung() -> None:
    """A leak is not restarted every half hour for ever."""
    decision = decide(make.case(recovered()))

    assert decision.incident.opening == 2
    assert decision.incident.evidence_at is None
    assert decision.capture


def test_an_alert_that_fires_on_is_told_once_after_thirty_minutes() -> None:
    """``check_disagrees``, without escalation."""
    at = make.NOON + 30 * M
    firing = (make.instance(seen_at=at),)
    decision = decide(make.case(recovered(), now=at, reading=make.reading(Health.HEALTHY, at=at), instances=firing))
    again = decide(make.case(decision.incident, now=at + M, reading=make.reading(Health.HEALTHY, at=at + M), instances=firing))

    assert [tell.reason for tell in decision.tells] == [Reason.CHECK_DISAGREES]
    assert decision.incident.escalation.paged_at is None
    assert again.tells == ()


def test_quiet_for_reopen_within_is_closed() -> None:
    """Nothing fires and twelve hours are over."""
    at = make.NOON + timedelta(hours=12)
    quiet = (make.instance(status=AlertStatus.RESOLVED),)

    decision = decide(make.case(recovered(), now=at, instances=quiet))

    assert outcome(decision) == (Phase.CLOSED, Reason.QUIET)
    assert decision.wake_at is None


def test_recovered_and_quiet_looks_again_only_when_it_may_close() -> None:
    """A waiting incident costs a row and no reads."""
    quiet = (make.instance(status=AlertStatus.RESOLVED),)

    assert decide(make.case(recovered(), instances=quiet)).wake_at == make.NOON + timedelta(hours=12)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.CLOSED])
def test_a_person_closes_from_any_phase(phase: Phase) -> None:
    """It is final, and its firing alerts open no other incident."""
    closed, _ = take_in(
        make.incident(phase=phase), [Signal(id=1, incident="inc-1", kind=SignalKind.CLOSED, at=make.NOON, by="ana")]
    )

    decision = decide(make.case(closed))

    assert decision.incident.phase is Phase.CLOSED
    assert decision.incident.person_closed
    assert (decision.wake_at, decision.release) == (None, True)


# --- shadow


def test_shadow_ends_at_the_first_rung_it_would_have_run() -> None:
    """No command, no claim, no page; one message to the channel shadow."""
    shadow = make.incident(mode=Mode.SHADOW)

    decision = decide(make.case(shadow))

    assert outcome(decision) == (Phase.VERIFYING, Reason.SHADOW)
    assert decision.intend is None
    assert [(tell.kind, tell.channels) for tell in decision.tells] == [(NoticeKind.SHADOW, ("shadow",))]
    assert read_on(decision.incident, Health.UNHEALTHY, minutes=7).incident.phase is Phase.EXHAUSTED
    assert read_on(decision.incident, Health.UNHEALTHY, minutes=7).tells == ()


# --- properties

HEALTHS = st.sampled_from(list(Health))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["read", "done", "failed", "refused", "stopped", "gone", "pause", "resume"]),
        HEALTHS,
        st.booleans(),
        st.sampled_from(["crash", "spec", None]),
        st.integers(1, 900),
    ),
    max_size=14,
)


def play(steps: list[tuple[str, Health, bool, str | None, int]]) -> list[tuple[Incident, Decision, Health, bool]]:
    """Drive one incident through arbitrary events; return every decision with the incident before and what was read."""
    incident, now, seen = make.incident(), make.NOON, []
    for event, health, new, cause, seconds in steps:
        now += seconds * S
        fresh = make.reading(health, at=now, facts={"new_revision": new})
        facts = {**fresh.facts}
        facts.pop("cause")
        if cause is not None:
            facts["cause"] = cause
        case = make.case(incident, now=now, reading=replace(fresh, facts=facts))
        if event in {"pause", "resume"}:
            kind = SignalKind.PAUSED if event == "pause" else SignalKind.RESUMED
            incident, _ = take_in(incident, [Signal(id=1, incident="inc-1", kind=kind, at=now, by="ana")])
            continue
        if incident.phase is Phase.ACTING:
            came = Outcome(event) if event not in {"read", "pause", "resume"} else Outcome.DONE
            decision = conclude(case, outcome=came, reason=Reason.FAILED, detail="")
        else:
            decision = decide(case)
        seen.append((incident, decision, health, cause is None))
        incident = replace(decision.incident, evidence_at=decision.incident.evidence_at or now)
    return seen


@given(STEPS)
def test_rungs_of_a_rule_never_go_down(steps: list[tuple[str, Health, bool, str | None, int]]) -> None:
    """Whatever arrives in whatever order, a rule's counted rungs only rise, and none runs twice."""
    for _, decision, _, _ in play(steps):
        counted = [run.index for run in decision.incident.runs if run.counted and run.rule == "crash"]
        assert counted == sorted(set(counted))


@given(STEPS)
def test_neither_unknown_nor_healthy_nor_a_refusal_ever_begins_a_rung(
    steps: list[tuple[str, Health, bool, str | None, int]],
) -> None:
    """Only a target read as unhealthy, with every condition known, is acted on."""
    for _, decision, health, cause_missing in play(steps):
        if decision.intend is not None:
            assert health is Health.UNHEALTHY
            assert not cause_missing


@given(STEPS)
def test_a_refusal_never_climbs(steps: list[tuple[str, Health, bool, str | None, int]]) -> None:
    """After a rung that did not run, the next one that begins is the same rung, or none."""
    for before, decision, _, _ in play(steps):
        begun = [run for run in before.runs if not run.skipped]
        if decision.intend is not None and begun and not begun[-1].counted and begun[-1].outcome is not None:
            same_facts = decision.intend.index == begun[-1].index
            skipped = any(run.skipped and run.index == begun[-1].index for run in decision.incident.runs)
            assert same_facts or skipped


@given(HEALTHS, st.integers(0, 10))
def test_deciding_twice_on_the_same_case_is_the_same_decision(health: Health, minutes: int) -> None:
    """Level, not edge: what woke the incident does not matter."""
    at = make.NOON + minutes * M
    case = make.case(now=at, reading=make.reading(health, at=at))

    assert decide(case) == decide(case)


@pytest.mark.parametrize(
    ("named", "phase"), [((), Phase.WAITING), (('pool="work"',), Phase.ACTING), (('pool="other"',), Phase.WAITING)]
)
def test_a_pool_is_changed_only_where_the_scope_names_it(named: tuple[str, ...], phase: Phase) -> None:
    """The namespace whose pods are pending is in scope; that says nothing of the pool under other people's pods."""
    rule = make.rule(ladder=[{"do": {"node_pool.scale": {"by": 1, "pool": "work"}}, "name": "grow", "within": "9m"}])
    pools = (PoolSnapshot(name="work", count=2, mode="User", provisioning_state="Succeeded", power_state="Running", etag="1"),)
    cloud = CloudSnapshot(read_at=make.NOON, provisioning_state="Succeeded", power_state="Running", pools=pools)
    scope = tuple(parse_matchers([one]) for one in ('namespace="shop"', *named))
    case = make.case(rules={"crash": rule}, reading=make.reading(snap=replace(make.snapshot(), cloud=cloud)))
    case = replace(case, house=replace(case.house, limits=Limits(scope=scope)))

    found = decide(case).incident

    assert found.phase is phase
    assert phase is Phase.ACTING or (found.reason is Reason.OUT_OF_SCOPE and "node_pool" in found.detail), found.detail

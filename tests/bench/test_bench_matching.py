"""``make bench``: figures as ratios in one run, printed, never asserted. The storm, memory and takeover figures come with the engine's issue."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

from responder.policy.decide import decide
from responder.rules.index import RuleIndex
from tests import builders as make

ROUNDS = 5
REPEATS = 2_000


def _seconds(index: RuleIndex) -> float:
    alert = make.alert()
    began = time.process_time()
    for _ in range(REPEATS):
        index.candidates(alert)
    return time.process_time() - began


def test_ten_thousand_rules_cost_about_as_much_as_ten(capsys: object) -> None:
    """CPU per alert, interleaved rounds, median."""
    base = make.rule()

    def others(count: int) -> list[object]:
        made = make.rule(rule="other", match=[{"alert": ["SomethingElse"]}])
        return [
            replace(made, name=f"other-{n}", match=(replace(made.match[0], names=frozenset({f"Alert{n}"})),))
            for n in range(count)
        ]

    few, many = RuleIndex([base, *others(10)]), RuleIndex([base, *others(10_000)])  # type: ignore[list-item]
    ratio = statistics.median(_seconds(many) / _seconds(few) for _ in range(ROUNDS))
    del capsys
    print(f"\nmatching: 10,000 rules instead of 10 cost {ratio:.2f} times the CPU per alert (median of {ROUNDS} rounds)")  # noqa: T201
    assert len(many.candidates(make.alert())) == 1


def test_a_decision_against_a_bare_dataclass_copy() -> None:
    """One ``decide`` of a waiting incident, as a multiple of one ``dataclasses.replace`` of it."""
    case = make.case()

    def deciding() -> float:
        began = time.process_time()
        for _ in range(300):
            decide(case)
        return time.process_time() - began

    def copying() -> float:
        began = time.process_time()
        for _ in range(300):
            replace(case.incident, detail="x")
        return time.process_time() - began

    ratio = statistics.median(deciding() / copying() for _ in range(ROUNDS))
    print(f"\ndecide: {ratio:.0f} times one copy of the incident (median of {ROUNDS} rounds)")  # noqa: T201
    assert decide(case).intend is not None

"""A sample of the deaths; ``make crash`` dies everywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.crash.judge import violations
from tests.crash.plots import PLOTS
from tests.crash.sweep import clean, died, planned, quiet

SAMPLE = 400
"""Points left out between two: some seconds in all. ``make e2e`` takes more of them, ``make crash`` all."""


@pytest.mark.parametrize("number", range(len(PLOTS)), ids=[plot.name for plot in PLOTS])
def test_a_life_without_a_death_does_what_its_plot_says(number: int) -> None:
    """What the deaths are compared with: something is done or told, nothing is lost, nothing sleeps for ever."""
    end = clean(number)

    assert end.lives == 1
    assert bool(end.effects) == PLOTS[number].acts, "a judge that sees no writes finds none that is made twice"
    assert end.effects or end.sent
    assert all(phase.endswith(("recovered", "exhausted", "closed", "waiting")) for phase in end.phases)
    assert violations(end, end) == []


def test_the_judge_sees_every_kind_of_damage() -> None:
    """A judge that finds nothing in anything proves nothing."""
    good = clean(2)
    page = good.sent[0]
    damages = {
        "asleep": replace(good, rows={**good.rows, "asleep": ["inc"]}),
        "not_routed": replace(good, rows={**good.rows, "not_routed": [1]}),
        "unheld": replace(good, rows={**good.rows, "unheld": ["a"]}),
        "never taken": replace(good, unsent_alerts=1),
        "done twice": replace(good, effects=good.effects + good.effects),
        "ended as": replace(good, phases=("armed waiting",)),
        "neither given back": replace(good, rows={**good.rows, "floor": [3]}),
        "never told": replace(good, sent=good.sent[1:]),
        "called twice": replace(good, sent=(*good.sent, replace(page, key="another"))),
        "late": replace(good, sent=tuple(replace(one, at=one.at + timedelta(minutes=2)) for one in good.sent)),
    }

    for word, damaged in damages.items():
        found = violations(good, damaged)
        assert any(said.startswith(word) or word in said for said in found), (word, found)


def test_a_sample_of_deaths_changes_nothing() -> None:
    """Each of them in a life of its own; the run that fails names its plot and point."""
    quiet()
    results = [died(run) for run in planned(range(len(PLOTS)), every=SAMPLE)]

    assert [(PLOTS[run.plot].name, sorted(run.crash_at), wrong) for run, wrong, _ in results if wrong] == []
    assert all(lives > 1 for _, _, lives in results)

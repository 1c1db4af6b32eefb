"""More deaths than the default tests have time for; ``make crash`` dies everywhere."""

from __future__ import annotations

from tests.crash.plots import PLOTS
from tests.crash.sweep import died, planned, quiet


def test_deaths_at_many_points_and_twice_in_a_run_change_nothing() -> None:
    """Each of them in a life of its own; the run that fails names its plot and point."""
    quiet()
    results = [died(run) for run in planned(range(len(PLOTS)), every=40, doubles=2, seed=7)]

    assert [(PLOTS[run.plot].name, sorted(run.crash_at), wrong) for run, wrong, _ in results if wrong] == []

"""More deaths than the default tests have time for, and processes that are really killed; ``make crash`` dies everywhere."""

from __future__ import annotations

import pytest

from tests import postgres
from tests.crash import real
from tests.crash.branches import batches
from tests.crash.plots import PLOTS
from tests.crash.sweep import TOGETHER, died, died_together, planned, quiet


def test_deaths_at_many_points_and_twice_in_a_run_change_nothing() -> None:
    """Runs of a plot share a life until each dies in a copy of its process; the run that fails names its plot and point."""
    quiet()
    runs = planned(range(len(PLOTS)), every=200, doubles=1, seed=7)
    results = [one for batch in batches(runs, size=TOGETHER) for one in died_together(batch)]

    assert [(PLOTS[run.plot].name, sorted(run.crash_at), wrong) for run, wrong, _ in results if wrong] == []


def test_runs_that_share_a_life_end_as_those_that_do_not() -> None:
    """Each copy of the process dies, lives on and is judged as a run of its own is, the one that dies twice too."""
    quiet()
    runs = planned([0], every=60, doubles=2, seed=7)
    alone = {run: (wrong, lives) for run, wrong, lives in map(died, runs)}
    together = {run: (wrong, lives) for run, wrong, lives in died_together(tuple(runs))}

    assert {run for run in runs if len(run.crash_at) == 1} <= set(together)
    assert together == {run: alone[run] for run in together}


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_process_that_is_killed_round_a_write_to_the_cloud_sends_nothing_twice(
    database: real.Database, postgres_server: postgres.PostgresServer
) -> None:
    """Before it, while it is on its way, after it took effect, and before it is stored that it did."""
    quiet()
    number = next(number for number, plot in enumerate(PLOTS) if plot.name == "a cluster that somebody stopped")
    points = real.clean(number, database, postgres_server)[0].points
    write = points.index("before a cloud write")
    runs = [real.RealRun(number, database, crash_at=frozenset({write + later})) for later in range(6)]
    results = [real.died(run, postgres_server) for run in runs]

    assert [(run, wrong) for run, wrong, _ in results if wrong] == []
    assert all(lives == 2 for _, _, lives in results)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_processes_that_are_killed_lose_and_repeat_nothing(
    database: real.Database, postgres_server: postgres.PostgresServer
) -> None:
    """At points of their own choice and at moments of ours, on SQLite's file and on PostgreSQL."""
    quiet()
    named = ("a crash loop that a restart cures", "an image that does not exist", "a raised floor, given back")
    plots = [number for number, plot in enumerate(PLOTS) if plot.name in named]
    runs = real.planned(plots, (database,), postgres_server, each=6, seed=3)
    results = [real.died(run, postgres_server) for run in runs]

    assert [(run, wrong) for run, wrong, _ in results if wrong] == []
    assert sum(lives > 1 for _, _, lives in results) >= len(results) - 2, "a moment of chance may come after the end"

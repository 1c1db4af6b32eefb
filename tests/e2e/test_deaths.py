"""More deaths than the default tests have time for, and processes that are really killed; ``make crash`` dies everywhere."""

from __future__ import annotations

import pytest

from tests import postgres
from tests.crash import real
from tests.crash.plots import PLOTS
from tests.crash.sweep import died, planned, quiet


def test_deaths_at_many_points_and_twice_in_a_run_change_nothing() -> None:
    """Each of them in a life of its own; the run that fails names its plot and point."""
    quiet()
    results = [died(run) for run in planned(range(len(PLOTS)), every=40, doubles=2, seed=7)]

    assert [(PLOTS[run.plot].name, sorted(run.crash_at), wrong) for run, wrong, _ in results if wrong] == []


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_processes_that_are_killed_lose_and_repeat_nothing(
    database: real.Database, postgres_server: postgres.PostgresServer
) -> None:
    """At points of their own choice and at moments of ours, on SQLite's file and on PostgreSQL."""
    quiet()
    runs = real.planned((0, 6, len(PLOTS) - 1), (database,), postgres_server, each=6, seed=3)
    results = [real.died(run, postgres_server) for run in runs]

    assert [(run, wrong) for run, wrong, _ in results if wrong] == []
    assert sum(lives > 1 for _, _, lives in results) >= len(results) - 2, "a moment of chance may come after the end"

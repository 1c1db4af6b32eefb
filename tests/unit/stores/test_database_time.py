"""The store's time on PostgreSQL: what a sample does, and when the clock is not to be trusted with a write."""

from __future__ import annotations

from datetime import timedelta

import pytest

from responder.stores.sql.database_time import DatabaseTime
from tests import builders as make
from tests.fakes.clock import FakeClock

AHEAD = timedelta(minutes=7)


def sampled(clock: FakeClock, time: DatabaseTime, *, ahead: timedelta = AHEAD, took: float = 0.0) -> None:
    """Take a sample of a database whose clock is ahead of ours."""
    at = clock.boottime()
    time.take((clock.now() + ahead).timestamp() + took / 2, before=at, after=at + took)


def test_the_time_is_the_databases_and_goes_on_by_our_boot_time_clock() -> None:
    """Ours may be wrong by minutes; leases are compared with the database's only."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    sampled(clock, time)
    clock.forward(seconds=30)

    assert time.now() == make.NOON + AHEAD + timedelta(seconds=30)


def test_half_of_the_round_trip_is_taken_off() -> None:
    """The answer was true in the middle of it, as far as anybody knows."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    sampled(clock, time, took=0.8)

    assert abs(time.now() - (make.NOON + AHEAD)) < timedelta(milliseconds=1)


def test_a_slow_answer_is_dropped() -> None:
    """A process that was stopped while it asked would take an old time for now."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    sampled(clock, time)
    sampled(clock, time, ahead=timedelta(hours=1), took=60)

    assert time.now() == make.NOON + AHEAD


def test_a_clock_is_steady_a_lease_after_the_start() -> None:
    """Who has just started cannot know whether the clock stepped right before, and frees nobody's lease by mistake."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    sampled(clock, time)

    assert not time.steady()
    clock.forward(seconds=15)
    assert time.steady()


@pytest.mark.parametrize("step", [-600, -6, 6, 600])
def test_a_step_makes_it_unsteady_for_one_lease(step: int) -> None:
    """Forward frees leases whose holders still believe in them; backward is looked after."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    sampled(clock, time)
    clock.forward(seconds=60)
    sampled(clock, time)
    assert time.steady()

    clock.forward(seconds=1)
    sampled(clock, time, ahead=AHEAD + timedelta(seconds=step))

    assert (time.steady(), time.stepped_back) == (False, step < 0)
    clock.forward(seconds=14)
    sampled(clock, time, ahead=AHEAD + timedelta(seconds=step))
    assert not time.steady()
    clock.forward(seconds=1)
    assert time.steady()


def test_a_clock_that_drifts_slowly_is_followed() -> None:
    """A second a minute is no step: what counts is how far both moved apart between two heartbeats."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    for minute in range(30):
        sampled(clock, time, ahead=AHEAD + timedelta(seconds=minute))
        clock.forward(seconds=60)

    assert time.steady()
    assert time.now() == clock.now() + AHEAD + timedelta(seconds=29)


def test_many_small_steps_within_a_heartbeat_are_one_step() -> None:
    """Sampled at every claim, several times a second: it is compared with the last heartbeat's, not with the last sample's."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    sampled(clock, time)
    clock.forward(seconds=60)
    sampled(clock, time)
    for number in range(1, 9):
        clock.forward(milliseconds=100)
        sampled(clock, time, ahead=AHEAD + timedelta(seconds=number))

    assert not time.steady()


def test_before_the_first_sample_it_is_our_own_and_not_steady() -> None:
    """Nothing may be written by a replica that has not heard the store's time."""
    clock = FakeClock()
    time = DatabaseTime(clock)
    clock.forward(hours=1)

    assert time.now() == clock.now()
    assert not time.steady()

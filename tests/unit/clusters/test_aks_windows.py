"""When a maintenance window of AKS is open, by the SDK's own models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from azure.mgmt.containerservice import models as sdk

from responder.clusters.aks import reads


def at(hour: int, minute: int = 0, *, day: int = 25) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def window(schedule: dict[str, Any], **more: Any) -> sdk.MaintenanceConfigurationProperties:
    body = {"schedule": schedule, "durationHours": 4, "startTime": "22:00", "utcOffset": "+02:00", **more}
    return sdk.MaintenanceConfigurationProperties({"maintenanceWindow": body})


def until(properties: Any, now: datetime) -> datetime | None:
    raw = sdk.MaintenanceConfiguration({"name": "aksManagedAutoUpgradeSchedule"})
    raw.properties = properties
    return reads.maintenance(raw, now=now).open_until(now)


DAILY = {"daily": {"intervalDays": 1}}


def test_a_window_is_open_from_its_start_for_its_hours_where_its_offset_says() -> None:
    """22:00 at +02:00 is 20:00 UTC, and four hours later is another day: its last minute belongs to it, its end does not."""
    found = [until(window(DAILY), now) for now in (at(19, 59), at(20), at(23, 59), at(0, day=26))]

    assert found == [None, at(0, day=26), at(0, day=26), None]


@pytest.mark.parametrize(
    ("schedule", "is_open"),
    [
        ({"weekly": {"intervalWeeks": 1, "dayOfWeek": "Wednesday"}}, True),
        ({"weekly": {"intervalWeeks": 3, "dayOfWeek": "Wednesday"}}, True),
        ({"weekly": {"intervalWeeks": 1, "dayOfWeek": "Thursday"}}, False),
        ({"absoluteMonthly": {"intervalMonths": 1, "dayOfMonth": 25}}, True),
        ({"absoluteMonthly": {"intervalMonths": 1, "dayOfMonth": 24}}, False),
        ({"relativeMonthly": {"intervalMonths": 1, "weekIndex": "Fourth", "dayOfWeek": "Wednesday"}}, True),
        ({"relativeMonthly": {"intervalMonths": 2, "weekIndex": "Last", "dayOfWeek": "Wednesday"}}, True),
        ({"relativeMonthly": {"intervalMonths": 1, "weekIndex": "Third", "dayOfWeek": "Wednesday"}}, False),
    ],
)
def test_every_kind_of_schedule_is_understood(schedule: dict[str, Any], is_open: bool) -> None:
    """An interval of several weeks or months counts as each one: from when AKS counts nobody says."""
    assert (until(window(schedule), at(21)) is not None) is is_open


def test_the_31st_is_a_short_months_last_day() -> None:
    """Caution costs a page; its lack a rung in the middle of an upgrade."""
    schedule = {"absoluteMonthly": {"intervalMonths": 1, "dayOfMonth": 31}}

    assert until(window(schedule), at(21, day=30)) is not None


def test_a_window_not_yet_active_and_one_on_forbidden_days_are_not_open() -> None:
    """``startDate``, and ``notAllowedDates`` with both their ends."""
    later = window(DAILY, startDate="2026-11-26")
    forbidden = window(DAILY, notAllowedDates=[{"start": "2026-11-25", "end": "2026-11-26"}])
    partly = window(DAILY, notAllowedDates=[{"start": "2026-11-20", "end": "2026-11-25"}])

    assert (until(later, at(21)), until(forbidden, at(21))) == (None, None)
    assert until(partly, at(21)) is not None, "it reaches into a day that is not forbidden"


def test_hours_of_the_week_are_joined_where_they_meet() -> None:
    """The first form of a configuration: hours in UTC, across midnight too."""
    slots = [{"day": "Wednesday", "hourSlots": [22, 23]}, {"day": "Thursday", "hourSlots": [0, 5]}]
    properties = sdk.MaintenanceConfigurationProperties({"timeInWeek": slots})

    assert until(properties, at(22, 30)) == at(1, day=26)
    assert until(properties, at(2, day=26)) is None


@pytest.mark.parametrize(
    "properties",
    [
        sdk.MaintenanceConfigurationProperties({}),
        sdk.MaintenanceConfigurationProperties({"maintenanceWindowId": "/subscriptions/s/…"}),
        window({"lunar": {}}),
        window(DAILY, startTime="at night"),
        window(DAILY, utcOffset="CET"),
    ],
    ids=["empty", "of a kind to come", "schedule to come", "no time", "no offset"],
)
def test_a_schedule_that_is_not_understood_is_not_taken_for_closed(properties: Any) -> None:
    """None is not the same as no window: a guard has to say unknown."""
    raw = sdk.MaintenanceConfiguration({"name": "aksManagedAutoUpgradeSchedule"})
    raw.properties = properties

    assert reads.maintenance(raw, now=at(21)).windows is None


def test_a_window_of_a_day_that_began_on_another_date_is_seen() -> None:
    """Far east of Greenwich, from Tuesday to Wednesday there."""
    schedule = {"weekly": {"intervalWeeks": 1, "dayOfWeek": "Tuesday"}}

    assert until(window(schedule, durationHours=24, startTime="23:30", utcOffset="+14:00"), at(3)) == at(9, 30)

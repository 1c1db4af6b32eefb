"""When a cluster's planned maintenance may happen: the windows of a maintenance configuration round an instant. Pure.

Source: Microsoft.ContainerService, MaintenanceConfiguration (``default`` has ``timeInWeek``; ``aksManagedAutoUpgradeSchedule`` and
``aksManagedNodeOSUpgradeSchedule`` have ``maintenanceWindow``).

The decision a reader would question: "every third week" is taken as every week, and the 31st as a month's last day. From when AKS counts intervals is not
documented; an hour of caution too many costs a page, one too few a rung in the middle of an upgrade.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

Span = tuple[datetime, datetime]
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEEKS = ("First", "Second", "Third", "Fourth")
DAY = timedelta(days=1)


def spans(properties: Any, *, around: datetime) -> tuple[Span, ...] | None:
    """Return the windows that are open within a day of an instant, UTC, joined where they meet; None when the configuration is not understood.

    Args:
        properties: As the SDK gives them.
        around: The instant.
    """
    try:
        window = getattr(properties, "maintenance_window", None)
        slots = getattr(properties, "time_in_week", None)
        if window is not None:
            return _joined(_of_window(window, around))
        if slots:
            return _joined(_of_slots(slots, around))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return () if getattr(properties, "not_allowed_time", None) else None


def _of_slots(slots: Iterable[Any], around: datetime) -> Iterator[Span]:
    for one in slots:
        weekday = DAYS.index(_word(one.day))
        for day in _days(around.astimezone(UTC).date()):
            if day.weekday() == weekday:
                for hour in one.hour_slots or ():
                    begins = datetime.combine(day, time(int(hour)), UTC)
                    yield begins, begins + timedelta(hours=1)


def _of_window(window: Any, around: datetime) -> Iterator[Span]:
    zone = _zone(str(window.utc_offset or "+00:00"))
    hours, minutes = str(window.start_time).split(":")[:2]
    lasts = timedelta(hours=int(window.duration_hours))
    forbidden = [(one.start, one.end) for one in window.not_allowed_dates or ()]
    for day in _days(around.astimezone(zone).date()):
        begins = datetime.combine(day, time(int(hours), int(minutes)), zone)
        ends = begins + lasts
        blocked = any(first <= begins.date() and ends.date() <= last for first, last in forbidden)
        active = window.start_date is None or day >= window.start_date
        if active and not blocked and _recurs(window.schedule, day):
            yield begins.astimezone(UTC), ends.astimezone(UTC)


def _recurs(schedule: Any, day: date) -> bool:
    """Tell whether a schedule has a window that begins on a day; intervals are taken as one.

    Raises:
        ValueError: It is of no known kind.
    """
    last = calendar.monthrange(day.year, day.month)[1]
    if schedule.daily is not None:
        return True
    if schedule.weekly is not None:
        return day.weekday() == DAYS.index(_word(schedule.weekly.day_of_week))
    if schedule.absolute_monthly is not None:
        return day.day == min(int(schedule.absolute_monthly.day_of_month), last)
    if schedule.relative_monthly is not None:
        if day.weekday() != DAYS.index(_word(schedule.relative_monthly.day_of_week)):
            return False
        which = _word(schedule.relative_monthly.week_index)
        return day.day + 7 > last if which == "Last" else (day.day - 1) // 7 == WEEKS.index(which)
    raise ValueError("a schedule of no known kind")


def _days(today: date) -> tuple[date, ...]:
    """Return the days on which a window of at most 24 hours can begin that is open within a day of today."""
    return tuple(today + DAY * number for number in (-2, -1, 0, 1))


def _zone(offset: str) -> timezone:
    found = re.fullmatch(r"([+-])(\d{1,2}):?(\d\d)", offset)
    if found is None:
        raise ValueError(f"{offset!r} is no offset")
    minutes = int(found[2]) * 60 + int(found[3])
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))


def _joined(found: Iterable[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for begins, ends in sorted(found):
        if joined and begins <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], ends))
        else:
            joined.append((begins, ends))
    return tuple(joined)


def _word(value: Any) -> str:
    return str(getattr(value, "value", value) or "")

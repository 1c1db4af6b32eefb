"""Durations, shares and rates are read strictly and written back the same."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.rules.durations import (
    LONGEST,
    Rate,
    format_duration,
    is_duration,
    parse_duration,
    parse_rate,
    parse_share,
)


@given(st.integers(min_value=0, max_value=int(LONGEST.total_seconds())))
def test_a_written_duration_reads_as_itself(seconds: int) -> None:
    """Whatever whole number of seconds, writing and reading it changes nothing."""
    duration = timedelta(seconds=seconds)

    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("12h", 43200), ("2d", 172800), ("0s", 0), ("0m", 0), ("1d1h1m1s", 90061)],
)
def test_units_are_days_hours_minutes_seconds(text: str, seconds: int) -> None:
    """The units of the language, largest first."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "m", "5 m", "-5m", "1.5h", "30m1h", "5m5m", "PT5M", "5min", "1w", "\u0665m", "5m\n", "9999999d", "1" * 50 + "s"],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """A number without a unit, a unit out of order, another notation: each is refused with an example or a limit."""
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_what_is_called_a_duration_can_be_read(text: str) -> None:
    """``is_duration`` and ``parse_duration`` agree, but for the bound of ten years."""
    if is_duration(text) and len(text) <= 5:
        assert parse_duration(text) >= timedelta(0)
    elif not is_duration(text):
        with pytest.raises(ValueError, match="expected"):
            parse_duration(text)


@pytest.mark.parametrize(("text", "share"), [("0%", 0.0), ("30%", 0.3), ("12.5%", 0.125), ("100%", 1.0)])
def test_a_share_is_read_as_a_fraction(text: str, share: float) -> None:
    """Percent become 0 to 1."""
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["30", "0.3", "101%", "-1%", "%", "30 %"])
def test_a_share_has_a_percent_sign_and_ends_at_a_hundred(text: str) -> None:
    """Nothing else is a share."""
    with pytest.raises(ValueError, match="share"):
        parse_share(text)


def test_a_rate_is_a_count_in_a_time() -> None:
    """``3/1h`` is three in one hour, and is written the same."""
    rate = parse_rate("3/1h")

    assert rate == Rate(count=3, within=timedelta(hours=1))
    assert str(rate) == "3/1h"


@pytest.mark.parametrize("text", ["3", "3/", "/1h", "3/0s", "3/1", "-3/1h", "3 / 1h"])
def test_a_rate_without_count_or_time_is_refused(text: str) -> None:
    """Both parts are needed, and the time is not nothing."""
    with pytest.raises(ValueError, match="expected"):
        parse_rate(text)

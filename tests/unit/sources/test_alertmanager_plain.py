"""What is read in one go says the same as what is looked at closely."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from responder.model.alert import SourceKind
from responder.sources import SOURCES, alertmanager, read

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
NAME = "bench"

words = st.text(max_size=12)
odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), words, st.lists(words, max_size=2)
)
times = st.one_of(
    st.sampled_from(["2026-01-05T12:00:00Z", "2026-01-05T12:00:00.123456789+02:00", "0001-01-01T00:00:00Z", "yesterday", ""]), odd
)
labels = st.dictionaries(
    st.one_of(st.sampled_from(["alertname", "alertName", "severity", "responder_test"]), words), words, max_size=5
)
alerts = st.fixed_dictionaries(
    {},
    optional={
        "status": st.one_of(st.sampled_from(["firing", "resolved", "FIRING"]), odd),
        "labels": st.one_of(labels, labels, odd, st.dictionaries(words, odd, max_size=3)),
        "annotations": st.one_of(labels, odd),
        "startsAt": times,
        "endsAt": times,
        "generatorURL": st.one_of(words, odd),
        "fingerprint": odd,
    },
)
bodies = st.fixed_dictionaries(
    {"alerts": st.one_of(st.lists(alerts, max_size=4), odd)},
    optional={
        "version": st.one_of(st.just("4"), odd),
        "status": st.sampled_from(["firing", "resolved"]),
        "truncatedAlerts": odd,
        "receiver": odd,
    },
)


def body(**changes: Any) -> dict[str, Any]:
    """Return a body as Alertmanager sends it."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "A", "severity": "critical"},
        "annotations": {"summary": "s"},
        "startsAt": "2026-01-05T12:00:00.5Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus",
    }
    return {"version": "4", "status": "firing", "alerts": [{**alert, **changes}]}


@example({"alerts": [], "version": ""})
@given(bodies)
def test_every_body_is_read_as_it_would_be_looked_at(given_body: dict[str, Any]) -> None:
    """Whichever way it goes, nobody can tell from the alerts."""
    closely = SOURCES[SourceKind.ALERTMANAGER](given_body, source_name=NAME, received_at=NOW)

    assert read(SourceKind.ALERTMANAGER, json.dumps(given_body).encode(), source_name=NAME, received_at=NOW) == closely


@pytest.mark.parametrize(
    "changes", [{}, {"status": "resolved", "endsAt": "2026-01-05T12:01:00Z"}, {"annotations": {}}, {"labels": {"alertName": "B"}}]
)
def test_what_alertmanager_sends_goes_the_short_way(changes: dict[str, Any]) -> None:
    """Otherwise the test above would compare a thing with itself."""
    given_body = body(**changes)

    found = alertmanager.plain(json.dumps(given_body).encode(), source_name=NAME)

    assert found == SOURCES[SourceKind.ALERTMANAGER](given_body, source_name=NAME, received_at=NOW)


@pytest.mark.parametrize(
    "changes",
    [{"labels": {"a": "x" * 5000}}, {"labels": {str(n): "" for n in range(501)}}, {"labels": {"a": 1}}, {"status": None}],
)
def test_what_must_be_cut_or_guessed_is_looked_at_closely(changes: dict[str, Any]) -> None:
    """The gaps that are told of come from there."""
    assert alertmanager.plain(json.dumps(body(**changes)).encode(), source_name=NAME) is None


def test_a_body_with_a_number_that_no_number_holds_is_not_understood() -> None:
    """It is JSON and is kept."""
    found = read(SourceKind.AZURE_MONITOR, b'{"a": 1e999}', source_name=NAME, received_at=NOW)

    assert not found.understood
    assert "cannot be read" in found.why

"""An alert's instance comes back from its row as it went in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.alert import Alert, AlertStatus, Severity, folded
from responder.model.errors import InvariantError
from responder.model.incident import Instance
from responder.model.reason import Reason
from responder.policy.grouping import begun
from responder.stores.sql import alert_rows
from responder.stores.sql.alert_rows import body, instance, new_body
from tests import builders as make

words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.datetimes(timezones=st.just(make.NOON.tzinfo))
labels = st.dictionaries(words, words, max_size=3)
instances = st.builds(
    Instance,
    instance=words,
    fingerprint=words,
    source=words,
    source_name=words,
    name=words,
    status=st.sampled_from(AlertStatus),
    severity=st.sampled_from(Severity),
    labels=labels,
    annotations=labels,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    started_at=st.none() | times,
    first_seen_at=times,
    seen_at=times,
    resolves=st.booleans(),
    rules=st.lists(words, max_size=2).map(tuple),
    incident=words,
    shadow_incident=words,
    why=st.none() | st.sampled_from(Reason),
    count=st.integers(min_value=1, max_value=1 << 40),
    link=words,
)


def row(one: Instance, stored: bytes) -> Any:
    """Return a row as the store's statements give it."""
    why = one.why.value if one.why else ""
    columns = {name: getattr(one, name) for name in ("instance", "fingerprint", "name", "incident", "shadow_incident")}
    return SimpleNamespace(**columns, status=one.status.value, why=why, body=stored)


@given(instances)
def test_every_instance_comes_back_as_it_was(one: Instance) -> None:
    """To the microsecond, and whatever its labels hold."""
    assert instance(row(one, body(one))) == one


@pytest.mark.parametrize("given", [lambda alert: alert, folded], ids=["plain", "folded"])
def test_a_new_alert_is_stored_as_the_instance_that_begins_with_it(given: Callable[[Alert], Alert]) -> None:
    """The short way and the long one leave the same bytes."""
    alert = make.alert(annotations={"summary": "s"}, link="http://x", value=2.5, resolves=False)
    later = make.NOON + timedelta(seconds=3)

    made = new_body(given(alert), ("crash",), alert_rows.times(alert.started_at, later))
    assert made == body(begun(alert, now=later, rules=("crash",), incident="inc-1"))


def test_bytes_that_are_no_instance_are_told_with_the_rows_name() -> None:
    """A bug in us, and it says where."""
    one = make.instance()

    with pytest.raises(InvariantError, match="i1"):
        instance(row(one, b'["short"]'))

"""Alerts that wait for their transaction keep their texts as JSON; fingerprints stay what they were."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from responder.model.alert import Folded, fingerprint, folded
from tests import builders as make

STORABLE = st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=5)


@given(STORABLE, STORABLE)
def test_a_folded_alert_is_equal_to_the_one_that_it_was(labels: dict[str, str], annotations: dict[str, str]) -> None:
    """Whoever looks at its labels finds what was there, in the same order."""
    alert = make.alert(labels=labels, annotations=annotations)

    one = folded(alert)

    assert one == alert
    assert folded(one) == alert
    assert list(one.labels.items()) == list(labels.items())
    assert list(one.annotations.items()) == list(annotations.items())


def test_folded_labels_are_a_mapping() -> None:
    """They answer as a dict does, also for what is not there."""
    one = Folded(b'{"a":"1","b":"2"}')

    assert isinstance(one, Mapping)
    assert (one["a"], one.get("b"), one.get("c"), one.get("c", "3"), "a" in one, "c" in one) == ("1", "2", None, "3", True, False)
    assert (list(one), len(one), list(one.keys()), list(one.values())) == (["a", "b"], 2, ["a", "b"], ["1", "2"])
    assert one == {"a": "1", "b": "2"}
    assert one != {"a": "1"}


def test_an_alert_that_cannot_be_stored_stays_as_it_is() -> None:
    """Half of a surrogate pair has no UTF-8: the store says so when it gets there, as of any other alert."""
    alert = make.alert(annotations={"summary": "\ud800"})

    assert folded(alert) is alert


@given(st.sampled_from(["alertmanager/prod", "grafana/x", ""]), STORABLE)
def test_a_fingerprint_is_what_every_release_made_of_the_same_labels(source: str, labels: dict[str, str]) -> None:
    """Stored instances are found again by it: it may never change."""
    said = source.encode() + b"\xff" + msgspec.json.encode(labels, order="deterministic")
    expected = base64.urlsafe_b64encode(hashlib.blake2b(said, digest_size=15).digest()).decode()

    assert fingerprint(source, labels) == expected


def test_a_fingerprint_in_full() -> None:
    """By value, in whatever order its labels come."""
    assert fingerprint("alertmanager/prod", {"pod": "a", "alertname": "Down"}) == "hq9lpTXgKF4FvEMEk86r"

"""``${...}`` puts values in with their types; what is missing stays missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.rules.substitute import MISSING, malformed, references, substitute

VARIABLES: dict[str, dict[str, Any]] = {
    "labels": {"app": "api", "Failed Location": "West", "empty": ""},
    "params": {"limit": 0.5, "on": True, "recent": "2h"},
    "facts": {
        "failing": 3,
        "age": timedelta(minutes=90),
        "since": datetime(2026, 1, 1, tzinfo=UTC),
        "list": ["a", "b"],
        "none": None,
    },
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${labels.app}", "api"),
        ("${labels.empty}", ""),
        ('${labels["Failed Location"]}', "West"),
        ("${ params.limit }", 0.5),
        ("${params.on}", True),
        ("${facts.list}", ["a", "b"]),
        ("x-${labels.app}-${facts.failing}", "x-api-3"),
        ("${params.on}/${facts.age}/${facts.list}", "true/1h30m/a, b"),
        ("at ${facts.since}", "at 2026-01-01T00:00:00+00:00"),
        ("$${labels.app}", "${labels.app}"),
        ("cost: $5 {x}", "cost: $5 {x}"),
        ({"a": ["${labels.app}"], "b": 1}, {"a": ["api"], "b": 1}),
        (7, 7),
    ],
)
def test_values_are_put_in(value: object, expected: object) -> None:
    """One whole reference keeps its type; inside a text it is written as the language writes it."""
    assert substitute(value, VARIABLES) == expected


@pytest.mark.parametrize("text", ["${labels.nope}", "x-${labels.nope}", "${facts.none}", "${incident.age}", ["${labels.nope}"]])
def test_a_missing_value_is_missing_and_never_empty(text: object) -> None:
    """An empty string would be a name that fits nothing, or everything."""
    assert substitute(text, VARIABLES) is MISSING


def test_a_missing_value_makes_its_key_absent() -> None:
    """The other keys stay."""
    assert substitute({"a": "${labels.nope}", "b": {"c": "${labels.nope}"}, "d": 1}, VARIABLES) == {"b": {}, "d": 1}


def test_only_one_root_can_be_put_in() -> None:
    """Parameters at load; the rest, and escapes, wait for run time."""
    text = "${params.limit} ${labels.app} $${x}"

    assert substitute(text, VARIABLES, only="params") == "0.5 ${labels.app} $${x}"
    assert substitute("${labels.app}", VARIABLES, only="params") == "${labels.app}"


@given(st.text(max_size=30))
def test_a_text_without_references_stays_as_it_is(text: str) -> None:
    """Whatever else stands in it."""
    if "${" not in text:
        assert substitute(text, VARIABLES) == text
        assert malformed(text) is None


@pytest.mark.parametrize(
    ("text", "offset"), [("${foo}", 0), ("a ${}", 2), ("${labels.app", 0), ("${a.b c}", 0), ("$${x} ${y}", 6)]
)
def test_what_is_no_reference_is_found(text: str, offset: int) -> None:
    """So that it is an error at load and not text at run time."""
    assert malformed(text) == offset


def test_references_are_found_through_lists_and_mappings() -> None:
    """With root and name."""
    found = [(one.root, one.name) for one in references({"a": ["${labels.x}", {"b": 'y ${facts.z} $${q.r} ${labels["A b"]}'}]})]

    assert found == [("labels", "x"), ("facts", "z"), ("labels", "A b")]

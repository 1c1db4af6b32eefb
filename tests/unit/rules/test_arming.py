"""A rule acts only where ``act:`` says so."""

from __future__ import annotations

import pytest

from responder.model.target import Target, TargetKind
from responder.rules.arming import is_armed, parse_act

API = Target(kind=TargetKind.WORKLOAD, cluster="prod", namespace="shop", name="api", owner_kind="Deployment")


@pytest.mark.parametrize(
    ("act", "armed"),
    [
        ([], False),
        (["a"], True),
        (["b"], False),
        ([{"rule": "a"}], True),
        ([{"rule": "a", "where": ['cluster="prod"']}], True),
        ([{"rule": "a", "where": ['cluster="staging"']}], False),
        ([{"rule": "a", "where": ['cluster="prod"', 'namespace!="shop"']}], False),
        ([{"rule": "a", "where": ['namespace=~"sh"']}], False),
        ([{"rule": "a", "where": ['kind="workload"', 'name=~"a.i"']}], True),
        ([{"rule": "a", "where": ['cluster="staging"']}, "a"], True),
        ([{"rule": "b", "where": ['cluster="prod"']}], False),
    ],
)
def test_one_entry_that_fits_arms(act: list[object], armed: bool) -> None:
    """All matchers of an entry hold, for this very rule; nothing written is shadow."""
    assert is_armed([parse_act(entry) for entry in act], "a", API) is armed


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("", "arms nothing"),
        (3, "arms nothing"),
        ({"where": ['cluster="x"']}, "arms nothing"),
        ({"rule": "a", "where": []}, "at least one matcher"),
        ({"rule": "a", "where": 'cluster="x"'}, "at least one matcher"),
        ({"rule": "a", "where": ['pod="x"']}, "a target has no pod"),
        ({"rule": "a", "where": ["cluster"]}, "not a matcher"),
        ({"rule": "a", "were": ['cluster="x"']}, "unknown key were"),
    ],
)
def test_an_entry_that_could_arm_more_than_meant_is_refused(entry: object, said: str) -> None:
    """An empty or misspelt ``where`` must not read as everywhere."""
    with pytest.raises(ValueError, match=said):
        parse_act(entry)


def test_what_is_armed_is_said_as_people_write_it() -> None:
    """In the log of every start."""
    assert str(parse_act("a")) == "a"
    assert str(parse_act({"rule": "a", "where": ['namespace="shop"', 'name!="x"']})) == 'a where namespace="shop", name!="x"'

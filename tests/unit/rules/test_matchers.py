"""Matchers are Alertmanager's: four operators, whole values, a missing label is empty."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.rules.matchers import parse_matcher, parse_matchers

SIMPLE = st.lists(st.sampled_from(["a", "b", "ab", ".", "a*", "b+", "(a|b)", "[ab]", "a?", "|"]), max_size=5).map("".join)


@given(pattern=SIMPLE, value=st.text(alphabet="abc", max_size=6))
def test_a_pattern_fits_whole_values_as_pythons_does(pattern: str, value: str) -> None:
    """On patterns that both know, RE2 answers what ``re.fullmatch`` answers."""
    matcher = parse_matcher(f'x=~"{pattern}"')
    opposite = parse_matcher(f'x!~"{pattern}"')

    fits = re.fullmatch(f"(?:{pattern})", value) is not None

    assert matcher.holds({"x": value}) is fits
    assert opposite.holds({"x": value}) is not fits


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_value_in_quotes_is_any_text(value: str) -> None:
    r"""With ``\``, ``"`` and line ends escaped, every text is equal to itself."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    assert parse_matcher(f'x="{escaped}"').holds({"x": value})
    assert not parse_matcher(f'x!="{escaped}"').holds({"x": value})


@pytest.mark.parametrize(
    ("text", "labels", "holds"),
    [
        ('a=""', {}, True),
        ('a!=""', {}, False),
        ('a!="x"', {}, True),
        ('a=~".*"', {}, True),
        ('a=~".+"', {}, False),
        ('a!~"x"', {}, True),
        ('a=~"x"', {"a": "xx"}, False),
        ('a=~"x|y"', {"a": "xy"}, False),
        ('namespace=~"shop-.+"', {"namespace": "shop-eu"}, True),
        (' a = "b" ', {"a": "b"}, True),
        ('"Failed Location"="West Europe"', {"Failed Location": "West Europe"}, True),
        ('"say \\"hi\\""="x"', {'say "hi"': "x"}, True),
        ('topology.kubernetes.io/zone="1"', {"topology.kubernetes.io/zone": "1"}, True),
        ('a=~"x\\.y"', {"a": "x.y"}, True),
        ('a=~"x\\.y"', {"a": "xzy"}, False),
    ],
)
def test_missing_labels_are_empty_and_patterns_are_anchored(text: str, labels: dict[str, str], holds: bool) -> None:
    """As in Alertmanager."""
    assert parse_matcher(text).holds(labels) is holds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a=b", "double quotes"),
        ("a='b'", "double quotes"),
        ('a=="b"', "one sign"),
        ('a="b", c="d"', "one matcher per list item"),
        ('{a="b"}', "without braces"),
        ("", "double quotes"),
        ('="b"', "quotes"),
        ('Failed Location="x"', "quotes"),
        ('a=~"("', "RE2"),
        ('a=~"(?=x)"', "RE2"),
        ('a=~"(x)\\1"', "RE2"),
        ('a="' + "x" * 1000 + '"', "characters"),
    ],
)
def test_what_is_no_matcher_is_refused_with_a_hint(text: str, hint: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ValueError, match=hint):
        parse_matcher(text)


def test_a_lone_surrogate_in_a_label_is_no_crash() -> None:
    """JSON can carry one, and RE2 cannot."""
    assert parse_matcher('a=~"b.+"').holds({"a": "b\ud800"})


def test_a_hostile_label_costs_linear_time() -> None:
    """The pattern that takes Python's ``re`` an age is answered at once."""
    assert not parse_matcher('a=~"(x+x+)+y"').holds({"a": "x" * 20_000})


def test_every_failing_matcher_is_named_as_written() -> None:
    """``explain`` shows what did not hold."""
    matchers = parse_matchers(['a="1"', 'b=~"2|3"', 'c!="4"'])

    assert matchers.failing({"a": "1", "b": "9", "c": "4"}) == ('b=~"2|3"', 'c!="4"')
    assert not matchers.matches({"a": "1", "b": "9", "c": "4"})
    assert matchers.matches({"a": "1", "b": "2"})


def test_matchers_of_the_same_text_are_equal() -> None:
    """So that a pinned rule compiled again equals itself."""
    assert parse_matchers(['a=~"b|c"']) == parse_matchers(['a=~"b|c"'])
    assert parse_matchers(['a=~"b|c"']) != parse_matchers(['a=~"b"'])

"""YAML is read as it looks, with the place of every value, and refused where it would mislead."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from responder.model.errors import RuleError
from responder.rules.parse import BIGGEST_BYTES, DEEPEST, MOST_NODES, parse

words = st.text(alphabet="abcdefgh", min_size=1, max_size=6)
values = st.recursive(
    st.one_of(st.integers(-1000, 1000), st.booleans(), words, st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("True", "True"),
        ("true", True),
        ("012", "012"),
        ("0o14", "0o14"),
        ("0x1F", "0x1F"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("12", 12),
        ("-3", -3),
        ("0.5", 0.5),
        (".5", ".5"),
        (".inf", ".inf"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("null", None),
        ("", None),
    ],
)
def test_a_plain_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    """YAML 1.1 would read yes as true, 012 as ten and 1:30 as ninety."""
    assert parse(f"key: {text}").data == {"key": value}


def test_a_key_is_the_text_that_stands_there() -> None:
    """``on:`` and ``1:`` are words, not true and a number."""
    assert parse("on: a\n1: b\nnull: c").data == {"on": "a", "1": "b", "null": "c"}


@given(st.dictionaries(words, values, max_size=4))
def test_what_was_written_is_read(data: dict[str, object]) -> None:
    """Any document that PyYAML writes is read back as it was, and every value has a place."""
    text = yaml.safe_dump(data)

    parsed = parse(text)

    assert parsed.data == data
    assert () in parsed.values
    assert all((key,) in parsed.values for key in data)


def test_an_error_stands_where_its_value_stands() -> None:
    """Line and column count from 1; the path is dotted; inside a one-line string the offset is added."""
    parsed = parse("rule: a\nladder:\n  - do: x\n    when: '!facts.y'\n", file="a.yaml")

    error = parsed.error("wrong", "ladder", 0, "when", offset=1)

    assert str(error) == "a.yaml:4:13: ladder.0.when: wrong"


def test_a_path_that_is_not_there_stands_at_the_nearest_that_is() -> None:
    """A missing key is told at its mapping."""
    parsed = parse("ladder:\n  - do: x\n")

    error = parsed.error("required key is missing", "ladder", 0, "within")

    assert (error.line, error.column, error.path) == (2, 5, "ladder.0.within")


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "duplicate key"),
        ("a:\n  b: {c: 1, c: 2}", 2, 13, "duplicate key"),
        ("a: 1\n---\nb: 2", 2, 1, "second document"),
        ("", 1, 1, "empty"),
        ("# only a comment\n", 1, 1, "empty"),
        ("a: [1, 2", 2, 1, "not YAML"),
        ("\ta: 1", 1, 1, "not YAML"),
        ("a: !!python/object:os.system x", 1, 4, "tag"),
        ("a: !secret x", 1, 4, "tag"),
        ("a: !!map {b: 1}", 1, 4, "tag"),
        ("b: &b {c: 1}\na:\n  <<: *b", 3, 3, "merge"),
        ("? [a]\n: b", 1, 3, "key"),
        ("a: &a [*a]", 1, 8, "anchor"),
        ("a: *nowhere", 1, 4, "anchor"),
        ("a: \x01", 1, 1, "not YAML"),
        ("a: \ud800", 1, 1, "surrogate"),
    ],
    ids=lambda part: repr(part)[:24],
)
def test_what_would_mislead_is_refused_in_its_place(text: str, line: int, column: int, said: str) -> None:
    """Each with file, line and column; libyaml and the pure parser may differ by a column at an unclosed bracket."""
    with pytest.raises(RuleError, match=said) as caught:
        parse(text, file="a.yaml")

    assert caught.value.line == line
    assert abs(caught.value.column - column) <= (8 if said == "not YAML" else 0)


def test_a_value_may_be_used_again_by_its_anchor() -> None:
    """Aliases are whole values; errors in them stand where the alias stands."""
    parsed = parse("a: &x [one, two]\nb: *x\n")

    assert parsed.data["b"] == ["one", "two"]
    assert parsed.position(("b", 1)).line == 2


def test_aliases_of_aliases_cost_nothing() -> None:
    """A document that would be a billion values written out is refused before it is."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    with pytest.raises(RuleError, match=f"more than {MOST_NODES}"):
        parse("\n".join(lines))


@pytest.mark.parametrize("depth", [DEEPEST + 2, 100_000])
def test_depth_has_a_bound(depth: int) -> None:
    """A hundred thousand brackets neither overflow a stack nor take long."""
    with pytest.raises(RuleError, match="deeper"):
        parse("[" * depth)


def test_size_has_a_bound() -> None:
    """A file larger than a rule can be is refused unread."""
    with pytest.raises(RuleError, match="bytes"):
        parse("a: " + "x" * BIGGEST_BYTES)


@pytest.mark.parametrize(
    ("text", "advice"),
    [("a:\n\tb: 1\n", "indent with spaces"), ("a:\n- b: c\n   d: e\n", "look at the indentation"), ("a: b: c\n", "in quotes")],
    ids=["tab", "indentation", "colon"],
)
def test_a_mistake_of_yaml_is_told_with_what_it_usually_is(text: str, advice: str) -> None:
    """The parser's own words are about its states."""
    with pytest.raises(RuleError, match=advice):
        parse(text)

"""``when`` answers true, false or unknown; what is wrong with it is known when rules load."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.target import TargetKind
from responder.rules.expressions import CompiledExpression, compile_expression, specimen
from responder.rules.facts import ALERT, FACTS, INCIDENT, TARGET

PARAMS: dict[str, Any] = {"recent": "2h", "limit": 0.5, "count": 3, "on": True, "names": ["a", "b"], "none": []}


def compiled(text: str, kind: TargetKind = TargetKind.WORKLOAD) -> CompiledExpression:
    """Return the expression, which must have no problem."""
    expression, problems = compile_expression(text, target=kind, params=PARAMS)
    assert expression is not None, [problem.problem for problem in problems]
    return expression


def answer(
    text: str, *, had_none: frozenset[str] = frozenset(), kind: TargetKind = TargetKind.WORKLOAD, **facts: Any
) -> bool | None:
    """Return what an expression answers about these facts and nothing else."""
    return compiled(text, kind).evaluate({"facts": facts, "labels": {"app": "api"}}, had_none)


def problems(text: str, kind: TargetKind = TargetKind.WORKLOAD) -> list[tuple[int, str]]:
    """Return offsets and texts of everything that is wrong."""
    expression, found = compile_expression(text, target=kind, params=PARAMS)
    assert expression is None
    return [(problem.offset, problem.problem) for problem in found]


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ('facts.cause in ["crash", "killed"]', {"cause": "crash"}, True),
        ('facts.cause in ["crash", "killed"]', {"cause": "oom"}, False),
        ("!facts.new_revision", {"new_revision": False}, True),
        ('facts.rollout_age < duration("2h")', {"rollout_age": timedelta(hours=1)}, True),
        ("facts.rollout_age < duration(params.recent)", {"rollout_age": timedelta(hours=3)}, False),
        ('facts.rollout_age < duration("2d")', {"rollout_age": timedelta(hours=47)}, True),
        ('facts.rollout_age < duration("1h30m")', {"rollout_age": timedelta(hours=2)}, False),
        ("facts.failing == 1 && facts.desired > 1", {"failing": 1, "desired": 3}, True),
        ("double(facts.failing) / double(facts.desired) > params.limit", {"failing": 2, "desired": 3}, True),
        ("facts.failing > params.count ? facts.hpa : !facts.hpa", {"failing": 1, "hpa": False}, True),
        ('facts.since < timestamp("2027-01-01T00:00:00Z")', {"since": datetime(2026, 1, 1, tzinfo=UTC)}, True),
        ('labels.app == "api" && facts.hpa', {"hpa": True}, True),
        ('labels["app"].startsWith("a") && facts.hpa', {"hpa": True}, True),
        ('params.names.exists(x, x == "b") && facts.hpa', {"hpa": True}, True),
        ('facts.cause == "crash" // a comment', {"cause": "crash"}, True),
    ],
)
def test_known_facts_give_true_or_false(text: str, facts: dict[str, Any], expected: bool) -> None:
    """The expressions that rules are made of."""
    assert answer(text, **facts) is expected


@pytest.mark.parametrize(
    "text", ["facts.hpa", "!facts.hpa", "facts.hpa || facts.stateful", "facts.stateful && facts.hpa", "has(facts.hpa)"]
)
@pytest.mark.parametrize("stateful", [True, False])
def test_a_fact_that_was_not_read_makes_the_whole_unknown(text: str, stateful: bool) -> None:
    """Also where CEL would answer from the other half: an answer from half the evidence is none."""
    assert answer(text, stateful=stateful) is None


def test_has_is_false_only_where_the_source_was_read_and_had_none() -> None:
    """Not read is unknown; read and none is false; there is true."""
    assert answer("has(facts.fits_pool)") is None
    assert answer("has(facts.fits_pool)", had_none=frozenset({"fits_pool"})) is False
    assert answer("has(facts.fits_pool)", fits_pool="blue") is True


def test_a_fact_that_its_source_had_none_of_can_be_guarded_by_has() -> None:
    """Guarded it is false, unguarded unknown."""
    none = frozenset({"exit_code"})

    assert answer("has(facts.exit_code) && facts.exit_code == 1", had_none=none) is False
    assert answer("facts.exit_code == 1", had_none=none) is None


def test_a_label_that_is_not_there_is_unknown() -> None:
    """Except where ``has`` or ``in`` asks for it: labels cannot fail to be read."""
    assert answer('labels.zone == "1"') is None
    assert answer("has(labels.zone)") is False
    assert answer('"app" in labels') is True


@pytest.mark.parametrize("value", ["3", 3.5, True, None, [3]])
def test_a_fact_of_another_type_than_declared_is_unknown(value: object) -> None:
    """A bug of a reader must not act: CEL would call a string and a number unequal, which is false."""
    assert answer("facts.failing == 3", failing=value) is None
    assert answer("facts.failing != 3", failing=value) is None


@pytest.mark.parametrize(
    "text",
    ["facts.failing / facts.desired == 1", "facts.failing % facts.desired == 1", "facts.failing * 9223372036854775807 > 1"],
)
def test_arithmetic_that_has_no_answer_is_unknown(text: str) -> None:
    """Division by zero and overflow raise nothing."""
    assert answer(text, failing=7, desired=0) is None


@pytest.mark.parametrize(
    ("text", "offset", "said"),
    [
        ("facts.new_revison", 6, "did you mean facts.new_revision"),
        ("fact.cause == 1", 0, "unknown name fact"),
        ("size(facts.pressure) > 0", 11, "does not exist for target workload; it does for node"),
        ("true || facts.nope", 14, "unknown name facts.nope"),
        ('facts.cause == "carsh"', 15, "did you mean crash"),
        ('facts.cause in ["crash", "kiled"]', 25, "did you mean killed"),
        ('"carsh" == facts.cause', 0, "did you mean crash"),
        ("facts.cause == 1", 12, "never be compared"),
        ('facts.failing == "3"', 14, "never be compared"),
        ("facts.cause > 1", 12, "never be compared"),
        ("facts.hpa < true", 10, "no order"),
        ("facts.failing in facts.cause", 14, "expected a list"),
        ('facts.failing in ["a"]', 14, "never be equal"),
        ('[1, "a"] == [1]', 4, "expected one type"),
        ("facts.failing", 0, "expected true or false"),
        ("facts.failing && facts.hpa", 0, "expected true or false"),
        ("!facts.failing", 0, "expected bool"),
        ("facts.failing + 0.5 > 1.0", 14, "double(...)"),
        ('facts.cause.matches("a.*")', 12, "no regular expressions"),
        ("facts", 0, "stands alone"),
        ('facts["cause"] == "crash"', 0, "stands alone"),
        ("now() > facts.since", 0, "unknown function now"),
        ('facts.rollout_age < duration("2 hours")', 20, "not a duration"),
        ("facts.rollout_age < duration(params.limit)", 20, "one string"),
        ("facts.rollout_age < duration(params.nope)", 36, "unknown parameter"),
        ('facts.since < timestamp("tomorrow")', 14, "not an instant"),
        ("params.limt > 0.1", 7, "unknown parameter params.limt"),
        ("has(facts)", 0, "has takes"),
        ("labels.exists(x, true)", 7, "expected a list"),
        ("params.names.exists(facts, true)", 20, "already means something"),
        ("facts.failing = 1", 14, "equality is =="),
        ("facts.hpa & facts.hpa", 10, "and is &&"),
        ("facts.failing > 1u", 16, "unsigned"),
        ('facts.cause == "crash', 15, "not closed"),
        ("(facts.hpa", 10, "expected ')'"),
        ("facts.hpa facts.hpa", 10, "an operator or the end"),
        ("", 0, "expected a value"),
        ("null == facts.cause", 0, "ever null"),
        ("${params.on}", 0, "names stand bare"),
        ('r"x" == facts.cause', 0, "raw strings"),
        ("facts.hpa ? 1 : true", 10, "one type"),
        ("(" * 60 + "true" + ")" * 60, 24, "nested"),
        ("!" * 60 + "true", 0, "nested"),
        ("true || " * 300 + "true", 0, "characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, offset: int, said: str) -> None:
    """Offsets count from 0; every message says what was expected or what is known."""
    found = problems(text)

    assert any(said in problem for _, problem in found), found
    if "nested" not in said:
        assert offset in [at for at, problem in found if said in problem]


def test_every_problem_of_an_expression_is_told_at_once() -> None:
    """In the order of the text."""
    found = problems('facts.cause == "carsh" && (facts.foo || facts.failing == "x")')

    assert [offset for offset, _ in found] == [15, 33, 54]


def test_a_node_has_a_nodes_facts_and_a_service_its_workloads_too() -> None:
    """The same text is good for one kind of target and wrong for another."""
    assert compiled("size(facts.pressure) > 0", TargetKind.NODE).facts == {"pressure"}
    service = compiled('facts.service_cause == "not_ready" && facts.new_revision', TargetKind.SERVICE)
    assert service.facts == {"service_cause", "new_revision"}
    assert problems('facts.service_cause == "not_ready"', TargetKind.WORKLOAD)


@pytest.mark.parametrize("kind", list(TargetKind))
def test_every_name_has_a_specimen_of_its_type(kind: TargetKind) -> None:
    """Each name of each root can be read on the specimen of each kind of target that has it."""
    roots = {"facts": FACTS, "alert": ALERT, "target": TARGET, "incident": INCIDENT}
    variables = specimen(kind)

    for root, names in roots.items():
        for name in names.values():
            assert name.holds(name.specimen)
            assert not name.words or name.specimen in name.words
            if name.belongs_to(kind):
                assert compiled(f"has({root}.{name.name})", kind).evaluate(variables) is True


@given(st.text(alphabet="facts.cue =!<>&|()[]\"'1,?:+-*/%hpain", max_size=30))
def test_no_text_is_more_than_a_problem(text: str) -> None:
    """Whatever is written, it parses or it is a located problem; nothing else is raised."""
    expression, found = compile_expression(text, target=TargetKind.WORKLOAD, params=PARAMS)

    assert (expression is None) == bool(found)
    assert all(0 <= problem.offset <= len(text) for problem in found)


names_read = st.dictionaries(st.sampled_from(["hpa", "stateful", "one_node"]), st.booleans())
conditions = st.recursive(
    st.sampled_from(["facts.hpa", "facts.stateful", "facts.one_node", "true", "false"]),
    lambda inner: st.one_of(
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda three: f"({three[0]}) {three[1]} ({three[2]})"),
    ),
    max_leaves=5,
)


@given(text=conditions, facts=names_read)
def test_an_answer_is_given_exactly_when_every_named_fact_is_known(text: str, facts: dict[str, bool]) -> None:
    """And then it is what Python's own logic says."""
    expression = compiled(text)

    found = expression.evaluate({"facts": facts})

    if expression.facts <= set(facts):
        python = (
            text.replace("&&", " and ")
            .replace("||", " or ")
            .replace("!", " not ")
            .replace("true", "True")
            .replace("false", "False")
        )
        for name, value in facts.items():
            python = python.replace(f"facts.{name}", str(value))
        assert found is eval(python)  # our own text, made of the words above
    else:
        assert found is None

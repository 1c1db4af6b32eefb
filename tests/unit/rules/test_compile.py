"""A rule's text becomes a rule with every default said, or every problem in it with its place."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.alert import Severity, SourceKind
from responder.model.errors import RuleError
from responder.model.rule import Call, PageWhen
from responder.model.target import TargetKind
from responder.rules.compile import compile_rule, labels_asked_for
from tests.unit.rules.small import BODY, CATALOGUE, HEAD, alert, errors_of, rule_of, written


def test_a_short_rule_has_every_default() -> None:
    """Health by target kind, hold two minutes, reopening twelve hours, no ladder."""
    rule = rule_of(BODY)

    assert rule.healthy == (Call(name="workload.available"),)
    assert (rule.hold, rule.reopen_within) == (timedelta(minutes=2), timedelta(hours=12))
    assert (rule.severity, rule.page, rule.priority, rule.when, rule.ladder) == (None, None, 0, None, ())
    assert rule.file == "a.yaml"


def test_a_long_rule_is_taken_over_whole() -> None:
    """Every key of the grammar."""
    rule = rule_of(
        HEAD
        + """
severity: critical
page: never
priority: 7
params: {recent: 2h, ns: shop}
match:
  - alert: [X, Y]
    labels: ['namespace=~"${params.ns}-.+"']
    source: kubernetes
    for: 3m
target: {kind: workload, namespace: "${labels.ns}", name: "${labels.app}", cluster: prod}
when: 'facts.rollout_age < duration(params.recent)'
healthy: [workload.available, alert.resolved]
hold: 5m
reopen_within: 1d
guards: {keep_ready: 2, max_actions: 1/1h, group_wait: 1m30s}
ladder:
  - do: [pod.delete, {workload.scale: {by: 1}}]
    name: both
    when: '!facts.hpa'
    approve: 1
    within: 6m
"""
    )

    assert (rule.severity, rule.page, rule.priority) == (Severity.CRITICAL, PageWhen.NEVER, 7)
    assert rule.match[0].source is SourceKind.KUBERNETES
    assert rule.match[0].names == {"X", "Y"}
    assert rule.match[0].for_ == timedelta(minutes=3)
    assert rule.match[0].labels is not None
    assert rule.match[0].labels.matches({"namespace": "shop-eu"})
    assert (rule.target.namespace, rule.target.name, rule.target.cluster) == ("${labels.ns}", "${labels.app}", "prod")
    assert [call.name for call in rule.healthy] == ["workload.available", "alert.resolved"]
    assert rule.guards == {"keep_ready": 2, "max_actions": "1/1h", "group_wait": "1m30s"}
    rung = rule.ladder[0]
    assert (rung.index, rung.name, rung.approve, rung.within, rung.grade) == (0, "both", 1, timedelta(minutes=6), 2)
    assert rung.do == (Call(name="pod.delete"), Call(name="workload.scale", arguments={"by": 1}))
    assert labels_asked_for(rule) == ("app", "ns")


@pytest.mark.parametrize(
    ("kind", "checks"),
    [
        ("pod", ["workload.available"]),
        ("service", ["service.endpoints"]),
        ("cluster", ["cluster.reachable", "components.green"]),
        ("none", ["alert.resolved"]),
    ],
)
def test_health_has_a_default_by_target(kind: str, checks: list[str]) -> None:
    """RULES.md "Actions", last paragraph."""
    assert [call.name for call in rule_of(HEAD + f"match: [{{}}]\ntarget: {kind}\n").healthy] == checks


def test_a_region_must_say_what_healthy_is() -> None:
    """There is no default for a region."""
    assert "must say what healthy is" in errors_of(HEAD + "match: [{}]\ntarget: region\n")[0].problem


@pytest.mark.parametrize(
    ("do", "grade", "approve"),
    [
        ("wait", 0, 0),
        ("workload.restart", 2, 0),
        ("azure.deploy", 5, 2),
        ("{job.run: {path: x, grade: 4}}", 4, 1),
        ("{job.run: {path: x}}", 2, 0),
    ],
)
def test_people_are_asked_by_grade(do: str, grade: int, approve: int) -> None:
    """Grades 0 to 3 ask nobody, 4 one person, 5 two."""
    rung = rule_of(BODY + f"ladder: [{{do: {do}, within: 1m}}]\n").ladder[0]

    assert (rung.grade, rung.approve) == (grade, approve)


def test_a_rung_of_several_actions_has_the_highest_grade() -> None:
    """The approval of the whole rung is that of its gravest action."""
    rung = rule_of(BODY + "ladder: [{name: all, do: [wait, azure.deploy, pod.delete], within: 1m}]\n").ladder[0]

    assert (rung.grade, rung.approve) == (5, 2)


def test_a_rule_may_raise_approval_and_never_lower_it() -> None:
    """``approve: 2`` on a restart counts; ``approve: 1`` on a deployment is an error."""
    assert rule_of(BODY + "ladder: [{do: workload.restart, approve: 2, within: 1m}]\n").ladder[0].approve == 2

    error = errors_of(BODY + "ladder: [{do: azure.deploy, approve: 1, within: 1m}]\n")[0]

    assert (error.path, error.problem) == ("ladder.0.approve", "grade 5 asks 2; a rule may only raise it")


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        (BODY + "titel: x\n", "titel", "did you mean title"),
        (BODY + "colour: x\n", "colour", "known are rule, title"),
        (BODY.replace("owner: o\n", ""), "owner", "required key is missing"),
        (BODY.replace("owner: o", "owner:"), "owner", "is empty"),
        (BODY.replace("rule: a", "rule: A b"), "rule", "does not fit"),
        (BODY.replace("https://example.com", "wiki/page"), "runbook", "not a link"),
        (BODY.replace("title: T", "title: 3"), "title", "quotes"),
        (BODY.replace("match: [{alert: X}]", "match: []"), "match", "at least one"),
        (BODY.replace("alert: X", "alerts: X"), "match.0.alerts", "did you mean alert"),
        (BODY.replace("alert: X", "source: prometheus"), "match.0.source", "not known here"),
        (BODY.replace("alert: X", "labels: ['a=b']"), "match.0.labels.0", "double quotes"),
        (BODY.replace("alert: X", "labels: ['a=\"${params.x}\"']"), "match.0.labels.0", "known are none"),
        (BODY.replace("alert: X", "for: 5"), "match.0.for", "not a string with its unit"),
        (BODY.replace("target: workload", "target: deployment"), "target", "not known here"),
        (BODY.replace("target: workload", "target: {kind: none, name: x}\nhealthy: [alert.resolved]"), "target", "group_by"),
        (BODY.replace("target: workload", 'target: {kind: workload, name: "${facts.cause}"}'), "target.name", "no value here"),
        (BODY + "group_by: [x]\n", "group_by", "target none only"),
        (BODY + "hold: 2\n", "hold", "unit"),
        (BODY + "priority: high\n", "priority", "not a number"),
        (BODY + "severity: page\n", "severity", "expected 'critical'"),
        (BODY + "params: {x: {y: 1}}\n", "params.x", "no parameter"),
        (BODY + "params: {x: [1, a]}\n", "params.x", "one type"),
        (BODY + 'params: {x: "${labels.a}"}\n', "params.x", "no ${...}"),
        (BODY + "guards: {keep_redy: 2}\n", "guards.keep_redy", "did you mean keep_ready"),
        (BODY + "guards: {max_actions: 3}\n", "guards.max_actions", "unit"),
        (BODY + "guards: {scope: [shop]}\n", "guards.scope", "known are group_wait"),
        (BODY + "when: facts.nope\n", "when", "unknown name"),
        (BODY + "healthy: []\n", "healthy", "at least one"),
        (BODY + "healthy: [workload.restart]\n", "healthy.0", "is an action; expected a check"),
        (BODY + "healthy: [workload.availabel]\n", "healthy.0", "did you mean workload.available"),
        (BODY + "healthy: [service.endpoints]\n", "healthy.0", "this rule's target is workload"),
        (BODY + "healthy: [alert.resolved, alert.resolved]\n", "healthy.1", "twice"),
        (BODY + "ladder: [{do: workload.restart}]\n", "ladder.0.within", "required key is missing"),
        (BODY + "ladder: [{do: workload.restart, within: 0s}]\n", "ladder.0.within", "proves nothing"),
        (BODY + "ladder: [{do: node.drain, within: 1m}]\n", "ladder.0.do", "unknown action node.drain; known are"),
        (BODY + "ladder: [{do: cluster.start, within: 1m}]\n", "ladder.0.do", "is for target cluster"),
        (BODY + "ladder: [{do: [wait, pod.delete], within: 1m}]\n", "ladder.0", "needs a name"),
        (BODY + "ladder: [{do: wait, within: 1m}, {do: wait, within: 1m}]\n", "ladder.1", "give this rung a name"),
        (BODY + "ladder: [{do: {wait: 3}, within: 1m}]\n", "ladder.0.do", "expected a mapping"),
        (BODY + "ladder: [{do: {wait: {}, pod.delete: {}}, within: 1m}]\n", "ladder.0.do", "with one name"),
        (BODY + "ladder: [{do: {wait: {x: 1}}, within: 1m}]\n", "ladder.0.do.wait.x", "takes none"),
        (BODY + "ladder: [{do: {workload.scale: {}}, within: 1m}]\n", "ladder.0.do.workload.scale", "exactly one of"),
        (BODY + "ladder: [{do: {workload.scale: {by: one}}, within: 1m}]\n", "ladder.0.do.workload.scale.by", "not an integer"),
        (BODY + "ladder: [{do: {workload.scale: {by: true}}, within: 1m}]\n", "ladder.0.do.workload.scale.by", "not an integer"),
        (BODY + "ladder: [{do: {workload.scale: {to: 0}}, within: 1m}]\n", "ladder.0.do.workload.scale.to", "at least 1"),
        (BODY + "ladder: [{do: {job.run: {}}, within: 1m}]\n", "ladder.0.do.job.run", "needs path"),
        (BODY + 'ladder: [{do: {job.run: {path: "${facts.cuase}"}}, within: 1m}]\n', "ladder.0.do.job.run.path", "did you mean"),
        (BODY + 'ladder: [{do: {job.run: {path: "${foo}"}}, within: 1m}]\n', "ladder.0.do.job.run.path", "not a reference"),
        (
            BODY + 'ladder: [{do: {job.run: {path: "${params.x}"}}, within: 1m}]\n',
            "ladder.0.do.job.run.path",
            "unknown parameter",
        ),
        (
            BODY + 'ladder: [{do: {workload.scale: {by: "${labels.n}"}}, within: 1m}]\n',
            "ladder.0.do.workload.scale.by",
            "at run time",
        ),
        (
            BODY + 'ladder: [{do: {workload.scale: {by: "${facts.cause}"}}, within: 1m}]\n',
            "ladder.0.do.workload.scale.by",
            "string",
        ),
    ],
)
def test_what_is_wrong_is_told_once_with_its_path(text: str, path: str, said: str) -> None:
    """One problem, one error: where, what, what was expected."""
    errors = errors_of(text)

    assert [error.path for error in errors] == [path], [str(error) for error in errors]
    assert said in errors[0].problem


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    """A misspelt key does not hide a wrong expression, action or duration behind it."""
    errors = errors_of(
        """
rule: a
titel: T
owner: o
runbook: https://example.com
match:
  - alert: X
    labels: ['namespace=~"(v"']
target: workload
severity: bad
when: 'facts.cause in ["crahs"]'
ladder:
  - do: workload.restrat
    when: '!facts.new_revisio'
    within: 6
"""
    )

    assert [(error.line, error.column, error.path) for error in errors] == [
        (2, 1, "title"),
        (3, 1, "titel"),
        (8, 15, "match.0.labels.0"),
        (10, 11, "severity"),
        (11, 24, "when"),
        (13, 9, "ladder.0.do"),
        (14, 19, "ladder.0.when"),
        (15, 13, "ladder.0.within"),
    ]


@pytest.mark.parametrize("text", ["a", "[]", "3", "{}"])
def test_what_is_no_rule_at_all_is_refused(text: str) -> None:
    """A list, a word, nothing."""
    assert errors_of(text)


def test_parameters_are_put_in_with_their_types() -> None:
    """A whole reference keeps the parameter's type, also in the document that is pinned."""
    rule = rule_of(
        BODY
        + "params: {count: 2, where: jobs}\n"
        + 'ladder: [{do: {workload.scale: {by: "${params.count}"}}, within: 1m},'
        + ' {do: {job.run: {path: "${params.where}/x.yaml"}}, within: 1m}]\n'
    )

    assert [call.arguments for rung in rule.ladder for call in rung.do] == [{"by": 2}, {"path": "jobs/x.yaml"}]
    assert rule.document["ladder"][0]["do"] == [{"workload.scale": {"by": 2}}]


def test_a_compile_error_is_one_group_of_located_errors() -> None:
    """``compile_rule`` raises them all together."""
    with pytest.raises(ExceptionGroup) as caught:
        compile_rule(written(when="facts.x", hold="x"), catalogue=CATALOGUE, file="a.yaml")

    assert all(isinstance(error, RuleError) for error in caught.value.exceptions)
    assert len(caught.value.exceptions) == 2


rungs = st.lists(
    st.fixed_dictionaries(
        {
            "do": st.sampled_from(
                [
                    "wait",
                    ["pod.delete"],
                    {"workload.scale": {"by": 1}},
                    {"job.run": {"path": "${labels.x}", "grade": 4}},
                    ["azure.deploy", "wait"],
                ]
            ),
            "within": st.sampled_from(["90s", "1m30s", "60m", "1d"]),
        },
        optional={
            "when": st.sampled_from(["!facts.hpa", 'facts.rollout_age < duration("2d")', "params.count > 1"]),
            "approve": st.just(3),
        },
    ),
    max_size=4,
)
documents = st.fixed_dictionaries(
    {
        "target": st.sampled_from(["workload", {"kind": "workload", "name": "${labels.app}"}]),
        "match": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "alert": st.sampled_from(["X", ["Y", "X"]]),
                    "source": st.sampled_from(["kubernetes", "azure-monitor"]),
                    "labels": st.just(['a=~"${params.word}|c"', 'b!=""']),
                    "for": st.sampled_from(["3m", "0s"]),
                },
            ),
            min_size=1,
            max_size=3,
        ),
        "params": st.just({"word": "w", "count": 2, "share": 0.5, "on": True, "list": ["a"]}),
        "ladder": rungs,
    },
    optional={
        "severity": st.sampled_from(list(Severity)).map(str),
        "page": st.sampled_from(["open", "stuck", "never"]),
        "priority": st.integers(-100, 100),
        "when": st.just('facts.cause in ["crash"]'),
        "hold": st.just("90s"),
        "guards": st.just({"keep_ready": 2, "same_symptom": "5/300s", "in_flight": 1}),
        "healthy": st.just(["workload.available", "alert.resolved"]),
    },
)


@given(documents)
def test_a_pinned_rule_compiled_again_is_the_same_rule(changes: dict[str, Any]) -> None:
    """Its expanded document goes through JSON into the store and back, any number of times."""
    for index, rung in enumerate(changes["ladder"]):
        rung["name"] = f"rung {index}"
    rule = compile_rule(written(**changes), catalogue=CATALOGUE)

    stored = json.loads(json.dumps(rule.document))
    again = compile_rule(stored, catalogue=CATALOGUE)

    assert again == rule
    assert (again.digest, again.document) == (rule.digest, rule.document)


@given(st.permutations(list(written(when="facts.hpa", hold="2m").items())))
def test_the_order_of_keys_never_matters(items: list[tuple[str, Any]]) -> None:
    """Nor does a default that is written out."""
    assert compile_rule(dict(items), catalogue=CATALOGUE) == compile_rule(written(when="facts.hpa"), catalogue=CATALOGUE)


def test_a_condition_of_a_rung_is_compiled_for_the_rules_target() -> None:
    """And can be asked."""
    rung = rule_of(BODY + "ladder: [{do: wait, when: facts.hpa, within: 1m}]\n").ladder[0]

    assert rung.when is not None
    assert rung.when.evaluate({"facts": {"hpa": True}}) is True
    assert rung.when.evaluate({"facts": {}}) is None


def test_an_empty_alternative_matches_every_alert() -> None:
    """``match: [{}]`` is the backstop's."""
    match = rule_of(HEAD + "match: [{}]\ntarget: none\n").match[0]

    assert (match.source, match.names, match.labels) == (None, frozenset(), None)
    assert alert().name == "X"


@pytest.mark.parametrize("kind", [kind for kind in TargetKind if kind is not TargetKind.REGION])
def test_a_default_check_that_does_not_exist_is_told(kind: TargetKind) -> None:
    """A catalogue without the check of a target kind cannot prove recovery for it."""
    known = {"pod", "workload", "service", "cluster", "none"}
    text = HEAD + f"match: [{{}}]\ntarget: {kind}\n"

    if kind in known:
        assert rule_of(text).healthy
    else:
        assert "unknown check" in errors_of(text)[0].problem

"""The shipped rules, their tests and their schemas hold together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from responder.actions.catalogue import catalogue
from responder.model.errors import RuleError
from responder.model.target import TargetKind
from responder.rules.jsonschema import rule_schema, test_schema
from responder.rules.load import load_rules, rule_files, test_files
from responder.rules.parse import parse
from responder.rules.testfile import load_tests
from tests.unit.rules.small import written

RULES = Path(__file__).parents[3] / "rules"
CATALOGUE = catalogue().names


def complaints(schema: dict[str, Any], document: object) -> list[str]:
    """Return what an editor would underline, as paths."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [".".join(map(str, error.absolute_path)) for error in errors]


def test_the_shipped_rules_load_without_a_warning() -> None:
    """All of them, each with an owner and a runbook."""
    loaded = load_rules([RULES], catalogue=CATALOGUE)

    assert [rule.name for rule in loaded.rules] == [
        "aks-operation-failed",
        "backstop",
        "cluster-unreachable",
        "config-error",
        "image-pull",
        "node-not-ready",
        "node-pressure",
        "oom-loop",
        "pending-pods",
        "pod-crash-loop",
        "service-endpoints",
        "stuck-rollout",
    ]
    assert loaded.warnings == ()
    assert all(rule.owner and rule.runbook.startswith("https://") for rule in loaded.rules)


def test_every_shipped_rule_has_its_tests() -> None:
    """At least three each, beside the rule."""
    for file in rule_files(RULES):
        assert len(load_tests(file.with_suffix(".test.yaml"), checks=CATALOGUE.checks)) >= 3, file.name


def test_the_backstop_matches_everything_last_and_does_nothing() -> None:
    """No target, negative priority, no ladder; only events that say that all goes as it should are not its business."""
    backstop = next(rule for rule in load_rules([RULES], catalogue=CATALOGUE).rules if rule.name == "backstop")

    assert backstop.target.kind is TargetKind.NONE
    assert backstop.priority < 0
    assert backstop.ladder == ()


def test_the_shipped_schema_is_the_grammar() -> None:
    """``responder schema > rules/schema.json`` when this fails."""
    assert json.loads((RULES / "schema.json").read_text()) == rule_schema(CATALOGUE)


@pytest.mark.parametrize("file", [*rule_files(RULES), *test_files(RULES)], ids=lambda file: file.name)
def test_an_editor_finds_nothing_wrong_with_what_is_shipped(file: Path) -> None:
    """Every rule against the rules' schema, every test against the tests'."""
    schema = test_schema() if file.name.endswith(".test.yaml") else rule_schema(CATALOGUE)
    jsonschema.Draft202012Validator.check_schema(schema)

    assert complaints(schema, parse(file.read_text()).data) == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"titel": "x"}, ""),
        ({"hold": "2"}, "hold"),
        ({"target": "deployment"}, "target"),
        ({"severity": "page"}, "severity"),
        ({"match": [{"alerts": "x"}]}, "match.0"),
        ({"healthy": ["workload.restart"]}, "healthy"),
        ({"ladder": [{"do": "workload.restrat", "within": "1m"}]}, "ladder.0.do"),
        ({"ladder": [{"do": {"workload.scale": {"buy": 1}}, "within": "1m"}]}, "ladder.0.do"),
        ({"ladder": [{"do": "workload.restart"}]}, "ladder.0"),
    ],
)
def test_an_editor_underlines_what_the_compiler_refuses(changes: dict[str, Any], path: str) -> None:
    """Misspelt keys, names and arguments."""
    assert complaints(rule_schema(CATALOGUE), written(**changes)) == [path]


@pytest.mark.parametrize(
    "do", ["workload.restart", {"workload.scale": {"by": 1}}, ["pod.delete", {"workload.scale": {"replicas": "previous"}}]]
)
def test_an_editor_accepts_a_name_a_mapping_and_a_list(do: object) -> None:
    """The three ways to write what a rung does."""
    assert complaints(rule_schema(CATALOGUE), written(ladder=[{"do": do, "within": "1m"}])) == []


TEST = """
tests:
  - name: One
    world:
      - {at: 0m, set: {workload.available: unhealthy, facts.cause: crash, facts.failing: 1, facts.rollout_age: 20m}}
      - {after: workload.restart, in: 40s, set: {workload.available: healthy, facts.container: missing}}
    alerts:
      - {at: 0m, labels: {alertname: X}}
    expect:
      - {by: 30s, did: evidence}
      - {at: 4m, state: recovered}
"""


def test_a_test_file_is_read_with_the_line_of_every_expectation(tmp_path: Path) -> None:
    """A failing expectation is shown where it stands."""
    file = tmp_path / "a.test.yaml"
    file.write_text(TEST)

    (test,) = load_tests(file)

    assert (test.line, test.lines) == (3, (10, 11))
    assert test.test.world[1].within.total_seconds() == 40


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "facts.cause: crash",
            "facts.cuase: crash",
            "5:55: tests.0.world.0.set.facts.cuase: unknown fact; did you mean facts.cause?",
        ),
        ("facts.cause: crash", "facts.cause: carsh", "facts.cause is never 'carsh'"),
        ("facts.failing: 1", "facts.failing: one", "'one' is not an int"),
        ("facts.rollout_age: 20m", "facts.rollout_age: 20", "20 is not a duration"),
        ("workload.available: unhealthy", "workload.available: sick", "'sick' is no answer of a check"),
        ("workload.available: unhealthy", "workload.availabel: unhealthy", "unknown check; known are alert.resolved"),
        ("{at: 0m, labels", "{at: soon, labels", "8:14: tests.0.alerts.0.at: 'soon' is not a duration"),
        ("at: 4m, state", "at: 4m, stat", "11:18: tests.0.expect.1.stat: unknown key; did you mean state?"),
        ("by: 30s, did", "by: 30s, at: 30s, did", "exactly one of by and at"),
        ("  - name: One\n", "  - nam: One\n", "unknown key; did you mean name?"),
        ("after: workload.restart, in: 40s", "in: 40s", "exactly one of at and after"),
        ("labels: {alertname: X}", "labels: {alertname: 3}", "write it in quotes"),
    ],
)
def test_a_mistake_in_a_test_is_told_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A test with a misspelt fact would leave the target healthy and might pass for that reason."""
    assert old in TEST
    file = tmp_path / "a.test.yaml"
    file.write_text(TEST.replace(old, new))

    with pytest.raises(ExceptionGroup) as caught:
        load_tests(file, checks=CATALOGUE.checks)

    assert all(isinstance(error, RuleError) for error in caught.value.exceptions)
    assert any(said in str(error) for error in caught.value.exceptions), [str(error) for error in caught.value.exceptions]

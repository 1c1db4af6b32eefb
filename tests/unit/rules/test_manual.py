"""The manual (``rules/README.md``) says what is true: its examples compile, and no key, fact, action or check is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from responder.actions.catalogue import catalogue
from responder.policy.rehearse import rehearse
from responder.rules.arming import parse_act
from responder.rules.catalogue import ActionSpec, CheckSpec
from responder.rules.compile import compile_parsed
from responder.rules.facts import FACTS
from responder.rules.load import load_texts
from responder.rules.matchers import parse_matchers
from responder.rules.overrides import RuleOverride
from responder.rules.parse import parse
from responder.rules.schema import GuardsDocument, MatchDocument, RuleDocument, RungDocument, TargetDocument
from responder.rules.testfile import load_tests

FOLDER = Path(__file__).parents[3] / "rules"
MANUAL = (FOLDER / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)
CATALOGUE = catalogue().names


def example(start: str) -> str:
    """Return the one example that begins so."""
    (found,) = [str(text) for text in EXAMPLES if text.startswith(start)]
    return found


def test_the_annotated_rule_compiles() -> None:
    """Word by word as printed."""
    rule, errors = compile_parsed(parse(example("rule:")), catalogue=CATALOGUE)

    assert errors == []
    assert rule is not None
    assert [rung.name for rung in rule.ladder] == ["workload.restart", "roll back"]


def test_the_annotated_rule_shows_every_key() -> None:
    """But for ``group_by``, which only ``target: none`` takes."""
    data = parse(example("rule:")).data
    fields = {field.alias or name for name, field in RuleDocument.model_fields.items()}

    assert set(data) == fields - {"group_by"}
    assert {key for match in data["match"] for key in match} == {
        field.alias or name for name, field in MatchDocument.model_fields.items()
    }
    assert {key for rung in data["ladder"] for key in rung} == set(RungDocument.model_fields)


@pytest.mark.parametrize("model", [RuleDocument, MatchDocument, TargetDocument, GuardsDocument, RungDocument])
def test_every_key_stands_in_the_manual(model: type) -> None:
    """As a word in code."""
    keys = {field.alias or name for name, field in model.model_fields.items()}  # type: ignore[attr-defined] # each is a pydantic model

    assert {key for key in keys if not re.search(rf"`[^`\n]*\b{key}\b[^`\n]*`", MANUAL)} == set()


def test_every_fact_action_and_check_stands_in_the_manual() -> None:
    """With its closed list of words, and its arguments."""
    for fact in FACTS.values():
        row = next(line for line in MANUAL.splitlines() if line.startswith(f"| `facts.{fact.name}` |"))
        assert all(word in row for word in fact.words), fact.name
    specs: list[ActionSpec | CheckSpec] = [*CATALOGUE.actions.values(), *CATALOGUE.checks.values()]
    for spec in specs:
        row = next(line for line in MANUAL.splitlines() if line.startswith(f"| `{spec.name}` |"))
        assert all(f"`{argument.name}`" in row for argument in spec.arguments), spec.name


def test_the_example_of_matchers_is_read() -> None:
    """Azure's dimension with a space among them."""
    matchers = parse_matchers(parse(example("labels:")).data["labels"])

    assert matchers.matches({"Failed Location": "West", "metric": "Http5xx", "phase": "Failed"})


def test_the_example_of_responder_yaml_is_read() -> None:
    """Its ``act`` and its ``rules``, applied to the shipped rule."""
    data = parse(example("act:")).data
    overrides = {name: RuleOverride.model_validate(value) for name, value in data["rules"].items()}
    file = FOLDER / "pod-crash-loop.yaml"

    (rule,) = load_texts({str(file): file.read_text()}, catalogue=CATALOGUE, overrides=overrides).rules

    assert [parse_act(entry).rule for entry in data["act"]] == ["oom-loop", "pod-crash-loop"]
    assert (rule.owner, rule.params["recent"]) == ("web", "30m")


@pytest.mark.parametrize(("number", "approve"), [(0, ""), (1, "    approve: 1\n")])
def test_the_examples_of_tests_play(tmp_path: Path, number: int, approve: str) -> None:
    """Against the shipped rule; the second with an approval on its restart, as it says."""
    file = tmp_path / "pod-crash-loop.test.yaml"
    file.write_text(example("tests:"))
    text = (FOLDER / "pod-crash-loop.yaml").read_text().replace("do: workload.restart\n", f"do: workload.restart\n{approve}")
    rules = load_texts({"pod-crash-loop.yaml": text}, catalogue=CATALOGUE).rules

    played = rehearse(load_tests(file, checks=CATALOGUE.checks)[number], rules, catalogue())

    assert played.problems == ()


def test_every_shipped_rule_stands_in_the_manual() -> None:
    """One row each."""
    for file in FOLDER.glob("*.yaml"):
        assert file.name.endswith(".test.yaml") or f"| `{file.stem}` |" in MANUAL

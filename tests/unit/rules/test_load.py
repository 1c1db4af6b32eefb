"""A set of rules loads whole, with an installation's overrides, or tells every error of every file."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.model.alert import Severity
from responder.model.errors import RuleError
from responder.model.rule import PageWhen
from responder.rules.advice import RuleWarning, warnings_of
from responder.rules.load import LoadedRules, load_rules, load_texts, rule_files, test_files
from responder.rules.overrides import RuleOverride
from tests.unit.rules.small import BODY, CATALOGUE, HEAD, rule_of


def loaded(**texts: str) -> LoadedRules:
    """Return the rules of files that have no error; ``a_b`` stands for ``a-b.yaml``."""
    return load_texts({f"{name.replace('_', '-')}.yaml": text for name, text in texts.items()}, catalogue=CATALOGUE)


def told(texts: dict[str, str], overrides: dict[str, RuleOverride] | None = None) -> list[str]:
    """Return every error as text."""
    with pytest.raises(ExceptionGroup) as caught:
        load_texts(texts, catalogue=CATALOGUE, overrides=overrides)
    assert all(isinstance(error, RuleError) for error in caught.value.exceptions)
    return [str(error) for error in caught.value.exceptions]


def named(name: str, text: str = BODY) -> str:
    """Return a rule's text with another name."""
    return text.replace("rule: a\n", f"rule: {name}\n")


def test_a_directory_is_read_without_tests_and_hidden_files(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap's files a second time under ``..data``."""
    hidden = tmp_path / "..2026_01_01"
    hidden.mkdir()
    (tmp_path / "more").mkdir()
    for path in (tmp_path / "a.yaml", hidden / "a.yaml"):
        path.write_text(BODY)
    (tmp_path / "more" / "b.yml").write_text(named("b"))
    (tmp_path / "a.test.yaml").write_text("tests: []")
    (tmp_path / "README.md").write_text("not a rule")

    rules = load_rules([tmp_path], catalogue=CATALOGUE).rules

    assert [rule.name for rule in rules] == ["a", "b"]
    assert [file.name for file in rule_files(tmp_path)] == ["a.yaml", "b.yml"]
    assert [file.name for file in test_files(tmp_path)] == ["a.test.yaml"]


def test_every_error_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    """A file that is no YAML, one with two mistakes, one that is not text, one that is not there."""
    (tmp_path / "a.yaml").write_text("rule: [")
    (tmp_path / "b.yaml").write_text(named("b") + "hold: x\nwhen: facts.y\n")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")

    with pytest.raises(ExceptionGroup) as caught:
        load_rules([tmp_path, tmp_path / "nowhere"], catalogue=CATALOGUE)

    found = [(Path(error.file).name, error.path) for error in caught.value.exceptions if isinstance(error, RuleError)]
    assert sorted(found) == [("a.yaml", ""), ("b.yaml", "hold"), ("b.yaml", "when"), ("c.yaml", ""), ("nowhere", "")]


def test_a_rule_has_its_files_name_and_stands_once() -> None:
    """So that a name in a page leads to one file."""
    assert "expected b" in told({"b.yaml": BODY})[0]
    assert "already stands in x/a.yaml" in told({"x/a.yaml": BODY, "y/a.yaml": BODY})[0]


def test_an_installation_overrides_what_it_may() -> None:
    """Owner, runbook, severity, page, params; and the expressions are compiled with its params."""
    text = BODY + "params: {recent: 2h, limit: 1, on: true}\nwhen: 'facts.rollout_age < duration(params.recent)'\n"
    override = RuleOverride(
        owner="web", runbook="https://wiki.example.com/x", severity="info", page="open", params={"recent": "30m", "limit": 1.5}
    )

    (rule,) = load_texts({"a.yaml": text}, catalogue=CATALOGUE, overrides={"a": override}).rules

    assert (rule.owner, rule.runbook) == ("web", "https://wiki.example.com/x")
    assert (rule.severity, rule.page) == (Severity.INFO, PageWhen.OPEN)
    assert rule.params == {"recent": "30m", "limit": 1.5, "on": True}
    assert rule.document["params"] == rule.params


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("recent", "soon", "rules.a.params.recent: 'soon' is a string; expected a duration"),
        ("recent", 3, "expected a duration"),
        ("limit", "3", "expected a number"),
        ("limit", True, "expected a number"),
        ("nope", 1, "no such parameter; it has limit, recent"),
    ],
)
def test_an_override_is_typed_by_the_rules_default(name: str, value: object, said: str) -> None:
    """And told in the file it stands in."""
    found = told({"a.yaml": BODY + "params: {recent: 2h, limit: 1}\n"}, {"a": RuleOverride(params={name: value})})

    assert len(found) == 1
    assert found[0].startswith("responder.yaml:")
    assert said in found[0]


def test_an_override_of_no_rule_is_an_error() -> None:
    """A misspelt name in ``rules:`` would silently change nothing."""
    assert "there is no rule b" in told({"a.yaml": BODY}, {"b": RuleOverride(owner="x")})[0]


def test_an_override_of_a_broken_rule_is_not_told_as_well() -> None:
    """The rule is there, it only does not compile."""
    assert len(told({"a.yaml": "rule: ["}, {"a": RuleOverride(owner="x")})) == 1


def test_the_digest_of_a_set_is_of_its_rules_only() -> None:
    """Another directory or another order of files is the same set; another rule is another."""
    one = load_texts({"x/a.yaml": BODY, "x/b.yaml": named("b")}, catalogue=CATALOGUE)
    same = load_texts({"y/b.yaml": named("b"), "y/a.yaml": BODY + "# a comment\n"}, catalogue=CATALOGUE)
    other = load_texts({"x/a.yaml": BODY + "hold: 3m\n", "x/b.yaml": named("b")}, catalogue=CATALOGUE)

    assert one.digest == same.digest
    assert one.digest != other.digest


def warned(**texts: str) -> list[RuleWarning]:
    """Return the warnings of a set."""
    return list(loaded(**texts).warnings)


def test_two_rules_for_one_alert_that_nothing_tells_apart_are_warned_of() -> None:
    """Neither a ``when`` nor another priority: the name decides, which nobody meant."""
    (warning,) = warned(a=BODY, b=named("b"))

    assert (warning.rule, warning.path) == ("b", "priority")
    assert "fits the alert X as a does" in str(warning)
    assert str(warning).startswith("b.yaml:")


@pytest.mark.parametrize(
    "second",
    [
        named("b") + "priority: 1\n",
        named("b") + "when: facts.hpa\n",
        named("b").replace("alert: X", "alert: Y"),
        named("b").replace("target: workload", "target: none"),
    ],
)
def test_a_priority_a_when_or_another_alert_tells_rules_apart(second: str) -> None:
    """No warning then."""
    assert warned(a=BODY, b=second) == []


def test_labels_and_sources_can_tell_rules_apart() -> None:
    """Two values of one label never hold at once."""
    one = BODY.replace("alert: X", "alert: X, labels: ['team=\"a\"']")
    two = named("b").replace("alert: X", "alert: X, labels: ['team=\"b\"']")

    assert warned(a=one, b=two) == []


def test_a_sender_that_never_resolves_cannot_prove_by_resolving() -> None:
    """``alert.resolved`` would stay unknown for ever."""
    text = BODY.replace("alert: X", "source: event-grid") + "healthy: [alert.resolved]\n"

    (warning,) = warned(a=text)

    assert warning.path == "match.0"
    assert warned(a=HEAD + "match: [{source: event-grid}]\ntarget: none\n") == []


def test_a_ladder_that_steps_down_is_warned_of() -> None:
    """The mildest rung comes first."""
    (warning,) = warnings_of([rule_of(BODY + "ladder: [{do: workload.restart, within: 1m}, {do: pod.delete, within: 1m}]\n")])

    assert warning.path == "ladder.1"
    assert "milder" in warning.text


def test_an_alternative_behind_a_wider_one_is_warned_of() -> None:
    """Its ``for`` would never count: the first that holds wins."""
    text = BODY.replace("match: [{alert: X}]", "match: [{alert: [X, Y]}, {source: kubernetes, alert: X, for: 3m}]")

    (warning,) = warned(a=text)

    assert (warning.path, warning.line) == ("match.1", 5)


def test_a_rule_for_a_format_that_nothing_takes_is_warned_of() -> None:
    """It would never match, and nobody would notice until the night it is needed."""
    (warning,) = warned(a=HEAD + "match: [{source: grafana}]\ntarget: workload\n")

    assert (warning.path, "not taken yet" in warning.text) == ("match.0", True)

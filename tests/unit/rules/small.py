"""A small catalogue and rule texts for the tests of the language."""

from __future__ import annotations

from typing import Any

from responder.model.alert import Alert, AlertStatus, Severity, SourceKind, fingerprint
from responder.model.errors import RuleError
from responder.model.rule import Rule
from responder.model.target import TargetKind
from responder.rules.catalogue import EVERY_KIND, ActionSpec, ArgumentSpec, ArgumentType, Catalogue, CheckSpec
from responder.rules.compile import compile_parsed
from responder.rules.parse import parse

PODS = frozenset({TargetKind.POD, TargetKind.WORKLOAD, TargetKind.SERVICE})
SCALE = ActionSpec(
    name="workload.scale",
    grade=2,
    targets=PODS,
    arguments=(
        ArgumentSpec(name="by", type=ArgumentType.INT),
        ArgumentSpec(name="to", type=ArgumentType.INT, at_least=1),
        ArgumentSpec(name="replicas", type=ArgumentType.INT, words=("previous",), at_least=0),
        ArgumentSpec(name="freeze", type=ArgumentType.BOOL),
    ),
    exactly_one_of=(("by", "to", "replicas"),),
)
JOB = ActionSpec(
    name="job.run",
    grade=2,
    grade_argument="grade",
    targets=EVERY_KIND,
    arguments=(
        ArgumentSpec(name="path", type=ArgumentType.STRING, required=True),
        ArgumentSpec(name="grade", type=ArgumentType.INT, at_least=0),
        ArgumentSpec(name="within", type=ArgumentType.DURATION),
        ArgumentSpec(name="share", type=ArgumentType.SHARE),
        ArgumentSpec(name="values", type=ArgumentType.MAPPING),
        ArgumentSpec(name="words", type=ArgumentType.STRINGS),
        ArgumentSpec(name="limit", type=ArgumentType.DOUBLE),
    ),
)
CATALOGUE = Catalogue.of(
    actions=[
        ActionSpec(name="wait", grade=0, targets=EVERY_KIND),
        ActionSpec(name="pod.delete", grade=1, targets=PODS),
        ActionSpec(name="workload.restart", grade=2, targets=PODS),
        ActionSpec(name="workload.rollback", grade=2, targets=PODS),
        ActionSpec(name="cluster.start", grade=4, targets=frozenset({TargetKind.CLUSTER})),
        ActionSpec(name="azure.deploy", grade=5, targets=EVERY_KIND),
        SCALE,
        JOB,
    ],
    checks=[
        CheckSpec(name="workload.available", targets=PODS),
        CheckSpec(
            name="service.endpoints",
            targets=frozenset({TargetKind.SERVICE}),
            arguments=(ArgumentSpec(name="min", type=ArgumentType.INT, at_least=1),),
        ),
        CheckSpec(name="cluster.reachable", targets=frozenset({TargetKind.CLUSTER})),
        CheckSpec(name="components.green", targets=frozenset({TargetKind.CLUSTER, TargetKind.REGION})),
        CheckSpec(name="alert.resolved", targets=EVERY_KIND),
    ],
)
HEAD = "rule: a\ntitle: T\nowner: o\nrunbook: https://example.com\n"
BODY = HEAD + "match: [{alert: X}]\ntarget: workload\n"


def rule_of(text: str, file: str = "a.yaml") -> Rule:
    """Return the compiled rule; it must have no problem."""
    rule, errors = compile_parsed(parse(text, file=file), catalogue=CATALOGUE)
    assert rule is not None, [str(error) for error in errors]
    return rule


def errors_of(text: str, file: str = "a.yaml") -> list[RuleError]:
    """Return what is wrong with a rule, in the order of the file."""
    rule, errors = compile_parsed(parse(text, file=file), catalogue=CATALOGUE)
    assert rule is None
    return errors


def alert(name: str = "X", source: SourceKind = SourceKind.ALERTMANAGER, **labels: str) -> Alert:
    """Return a firing alert."""
    return Alert(
        source=source,
        source_name="test",
        name=name,
        status=AlertStatus.FIRING,
        severity=Severity.ERROR,
        labels={"alertname": name, **labels},
        fingerprint=fingerprint(source, labels),
        instance="1",
        started_at=None,
    )


def written(**changes: Any) -> dict[str, Any]:
    """Return a rule's document with some keys changed."""
    document: dict[str, Any] = {
        "rule": "a",
        "title": "T",
        "owner": "o",
        "runbook": "https://example.com",
        "match": [{"alert": "X"}],
        "target": "workload",
    }
    return document | changes

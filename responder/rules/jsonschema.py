"""JSON Schemas of rule files and rule tests, so that an editor completes and checks while one writes.

Never here: the grammar itself (``schema``, ``testfile``); its shapes are taken from there and made ready for editors.

The decision a reader would question: what pydantic makes is changed afterwards. The models hold one normalised shape (``do`` is always a list of
one-key mappings) and pydantic describes that one; an editor must know what people write: a name, a mapping, or a list. It is told the
names of actions, checks and their arguments too, which the models do not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from responder.rules.catalogue import ActionSpec, ArgumentSpec, ArgumentType, Catalogue, CheckSpec
from responder.rules.durations import DURATION_PATTERN, SHARE_PATTERN
from responder.rules.facts import FACTS, Name, ValueType
from responder.rules.schema import KindWord, RuleDocument
from responder.rules.testfile import TestFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{"}
_ARGUMENTS: Mapping[ArgumentType, dict[str, Any]] = {
    ArgumentType.STRING: {"type": "string"},
    ArgumentType.INT: {"type": "integer"},
    ArgumentType.DOUBLE: {"type": "number"},
    ArgumentType.BOOL: {"type": "boolean"},
    ArgumentType.DURATION: {"type": "string", "pattern": DURATION_PATTERN},
    ArgumentType.SHARE: {"type": "string", "pattern": SHARE_PATTERN},
    ArgumentType.STRINGS: {"type": "array", "items": {"type": "string"}},
    ArgumentType.MAPPING: {"type": "object"},
}
_FACTS: Mapping[ValueType, dict[str, Any]] = {
    ValueType.STRING: {"type": "string"},
    ValueType.INT: {"type": "integer"},
    ValueType.DOUBLE: {"type": "number"},
    ValueType.BOOL: {"type": "boolean"},
    ValueType.DURATION: {"type": "string", "pattern": DURATION_PATTERN},
    ValueType.TIMESTAMP: {"type": "string"},
    ValueType.STRINGS: {"type": "array", "items": {"type": "string"}},
}


def rule_schema(catalogue: Catalogue) -> dict[str, Any]:
    """Return the schema of a rule file, with the actions and checks of a catalogue and their arguments."""
    made = _for_editors(RuleDocument.model_json_schema(by_alias=True))
    checks = tuple(catalogue.checks.values())
    everything: tuple[ActionSpec | CheckSpec, ...] = (*checks, *catalogue.actions.values())
    made["$defs"]["Check"] = _call(checks, "A check: it answers healthy, unhealthy or unknown.")
    made["$defs"]["Step"] = _call(everything, "An action, or a check that is waited for.")
    rung, rule = made["$defs"]["RungDocument"]["properties"], made["properties"]
    rung["do"] = _one_or_more(rung["do"], {"$ref": "#/$defs/Step"})
    rule["healthy"] = _one_or_more(rule["healthy"], {"$ref": "#/$defs/Check"})
    alternative = made["$defs"]["MatchDocument"]["properties"]
    alternative["alert"] = _one_or_more(alternative["alert"], {"type": "string", "minLength": 1})
    kinds = [{"enum": list(get_args(KindWord))}, {"$ref": "#/$defs/TargetDocument"}]
    rule["target"] = {"description": rule["target"].get("description", ""), "anyOf": kinds}
    return {"$schema": DIALECT, **made, "title": "Responder rule"}


def test_schema() -> dict[str, Any]:
    """Return the schema of a rule test file, with the facts that a test may set."""
    made = _for_editors(TestFile.model_json_schema(by_alias=True))
    change = made["$defs"]["Change"]["properties"]["set"]
    change["properties"] = {f"facts.{name}": _fact(fact) for name, fact in sorted(FACTS.items())}
    change["patternProperties"] = {r"^(?!facts\.)": {"enum": ["healthy", "unhealthy", "unknown"]}}
    change["additionalProperties"] = False
    return {"$schema": DIALECT, **made, "title": "Responder rule tests"}


test_schema.__test__ = False  # type: ignore[attr-defined] # pytest must not take it for a test


def _for_editors(made: Any) -> Any:
    """Leave out what pydantic adds for programs: titles of every key, and null, which the language does not have."""
    if isinstance(made, list):
        return [_for_editors(item) for item in made]
    if not isinstance(made, dict):
        return made
    kept = {key: _for_editors(value) for key, value in made.items() if not (key == "title" and isinstance(value, str))}
    if "default" in kept and kept["default"] is None:
        del kept["default"]
    branches = kept.get("anyOf")
    if isinstance(branches, list) and {"type": "null"} in branches:
        rest = [branch for branch in branches if branch != {"type": "null"}]
        del kept["anyOf"]
        kept = {**rest[0], **kept} if len(rest) == 1 else {**kept, "anyOf": rest}
    return kept


def _one_or_more(written: Mapping[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    said = {"description": written["description"]} if "description" in written else {}
    return {**said, "anyOf": [item, {"type": "array", "minItems": 1, "items": item}]}


def _call(specs: Iterable[ActionSpec | CheckSpec], says: str) -> dict[str, Any]:
    """Return a call: a name alone, or a mapping of one name to its arguments."""
    ordered = sorted(specs, key=lambda spec: spec.name)
    names = [{"const": spec.name, "description": _says(spec)} for spec in ordered]
    mapping = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {spec.name: _arguments(spec) for spec in ordered},
    }
    return {"description": says, "anyOf": [*names, mapping]}


def _says(spec: ActionSpec | CheckSpec) -> str:
    return f"{spec.says} Grade {spec.grade}." if isinstance(spec, ActionSpec) else spec.says


def _arguments(spec: ActionSpec | CheckSpec) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "description": _says(spec),
        "additionalProperties": False,
        "properties": {argument.name: _argument(argument) for argument in spec.arguments},
    }
    required = [argument.name for argument in spec.arguments if argument.required]
    return {**made, "required": required} if required else made


def _argument(argument: ArgumentSpec) -> dict[str, Any]:
    value = dict(_ARGUMENTS[argument.type])
    if argument.at_least is not None:
        value["minimum"] = argument.at_least
    words = [{"enum": list(argument.words)}] if argument.words else []
    return {"description": argument.says, "anyOf": [value, *words, _REFERENCE]}


def _fact(fact: Name) -> dict[str, Any]:
    value = {"enum": list(fact.words)} if fact.words else dict(_FACTS[fact.type])
    return {"description": fact.says, "anyOf": [value, {"const": "missing"}]}

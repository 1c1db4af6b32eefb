"""JSON Schemas of rule files and rule tests, so that an editor completes and checks while one writes."""

from __future__ import annotations

from typing import Any

from responder.rules.catalogue import Catalogue
from responder.rules.schema import RuleDocument
from responder.rules.testfile import _File

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def rule_schema(catalogue: Catalogue) -> dict[str, Any]:
    """Return the schema of a rule file; actions and checks are listed by name."""
    made = RuleDocument.model_json_schema(by_alias=True)
    actions = {name: spec.says for name, spec in catalogue.actions.items()}
    checks = {name: spec.says for name, spec in catalogue.checks.items()}
    names = dict(sorted({**actions, **checks}.items()))
    return {"$schema": DIALECT, "title": "Responder rule", **made, "x-actions-and-checks": names}


def test_schema() -> dict[str, Any]:
    """Return the schema of a rule test file."""
    return {"$schema": DIALECT, "title": "Responder rule tests", **_File.model_json_schema(by_alias=True)}


test_schema.__test__ = False  # type: ignore[attr-defined] # pytest must not take it for a test

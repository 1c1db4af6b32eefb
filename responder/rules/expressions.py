"""``when``: CEL over facts, compiled once, answering true, false or unknown.

Never here: values of facts, or a decision what unknown means for a ladder.

The decision a reader would question: a missing fact makes the whole expression unknown, although CEL would call ``true || missing``
true. FACTS.md says so: an author who names a fact means to look at it, and an answer that ignores a source that could not be read
is an answer from half the evidence. Only names without a source that can fail (labels, ``alert.value``) follow CEL.

Source: RULES.md "Expressions"; the CEL specification, carried out by the package common-expression-language (Rust).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.model.target import TargetKind
from responder.rules.engine import cel
from responder.rules.expression_syntax import ExpressionProblem, parse_expression
from responder.rules.expression_types import ROOTS, Checked, check_types
from responder.rules.facts import ALERT, FACTS, INCIDENT, TARGET

_ENGINE_ERRORS = (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError)
"""What the engine raises for a missing key, a wrong type, a bad conversion, an unknown name, an overflow or a division by zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledExpression:
    """A ``when`` that was checked and compiled. Implements ``model.rule.Expression``.

    Attributes:
        text: As written in the rule.
        params: The rule's parameters, fixed when it was compiled.
        facts: The facts it names.
        labels: The labels it names.
        roots: The roots it names, so that only they are converted for the engine.
    """

    text: str
    params: Mapping[str, Any]
    facts: frozenset[str]
    labels: frozenset[str]
    roots: frozenset[str]
    program: cel.Program = field(compare=False, repr=False)

    def evaluate(self, variables: Mapping[str, Any], had_none: frozenset[str] = frozenset()) -> bool | None:
        """Return True, False, or None for unknown.

        Args:
            variables: The roots, each a mapping; ``params`` is ignored, the rule's own are compiled in. A value of None counts as missing.
            had_none: Facts whose source was read and had none.

        Unknown is: a fact that is named and missing and not in ``had_none``; a fact of another type than declared (a bug of its reader
        must not act); anything that the engine cannot compute, such as a label that is not there outside of ``has()``.
        """
        facts: Mapping[str, Any] = variables.get("facts") or {}
        seen: dict[str, Any] = {}
        for name in self.facts:
            value = facts.get(name)
            if value is None:
                if name not in had_none:
                    return None
            elif not FACTS[name].holds(value):
                return None
            else:
                seen[name] = value
        context: dict[str, Any] = {"facts": seen, "params": self.params}
        for root in self.roots - {"facts", "params"}:
            values: Mapping[str, Any] = variables.get(root) or {}
            context[root] = {name: value for name, value in values.items() if value is not None}
        try:
            answer = self.program.execute(context)
        except _ENGINE_ERRORS:
            return None
        return answer if isinstance(answer, bool) else None


def compile_expression(
    text: str, *, target: TargetKind, params: Mapping[str, Any]
) -> tuple[CompiledExpression | None, tuple[ExpressionProblem, ...]]:
    """Compile a ``when``.

    Args:
        text: The CEL source.
        target: Kind of the rule's target: which facts there are.
        params: The rule's parameters with the installation's overrides.

    Returns:
        The expression and no problems, or None and every problem found (a syntax error hides what follows it).
    """
    try:
        tree = parse_expression(text)
    except ExpressionProblem as found:
        return None, (found,)
    checked, problems = check_types(tree, target=target, params=params)
    if checked is None:
        return None, problems
    try:
        program = cel.compile(_edited(text, checked))
    except ValueError as error:
        return None, (ExpressionProblem(0, f"the CEL engine does not accept it: {' '.join(str(error).split())}"),)
    roots = frozenset(program.variables()) & frozenset(ROOTS)
    expression = CompiledExpression(
        text=text, params=dict(params), facts=checked.facts, labels=checked.labels, roots=roots, program=program
    )
    problem = _tried(expression, target)
    return (expression, ()) if problem is None else (None, (problem,))


def specimen(target: TargetKind, labels: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return variables as they might be for a target of this kind in trouble; every name of a label has the value ``1``."""
    return {
        "facts": {name.name: name.specimen for name in FACTS.values() if name.belongs_to(target)},
        "alert": {name.name: name.specimen for name in ALERT.values()},
        "target": {name.name: name.specimen for name in TARGET.values()} | {"kind": target.value},
        "incident": {name.name: name.specimen for name in INCIDENT.values()},
        "labels": dict.fromkeys(labels, "1"),
    }


def _tried(expression: CompiledExpression, target: TargetKind) -> ExpressionProblem | None:
    """Evaluate on a specimen: what the engine cannot do with ordinary values it must say now, not at night."""
    variables = specimen(target, expression.labels) | {"params": dict(expression.params)}
    try:
        answer = expression.program.execute(variables)
    except ArithmeticError:
        return None  # a specimen may divide by zero where the real values do not
    except _ENGINE_ERRORS as error:
        return ExpressionProblem(0, f"the CEL engine cannot evaluate it on a specimen: {' '.join(str(error).split())[:200]}")
    if not isinstance(answer, bool):
        return ExpressionProblem(0, f"on a specimen it is {answer!r}; expected true or false")
    return None


def _edited(text: str, checked: Checked) -> str:
    for start, end, new in reversed(checked.edits):
        text = text[:start] + new + text[end:]
    return text

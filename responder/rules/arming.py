"""``act:`` of responder.yaml: which rules may act, and on what. Everything else is in shadow.

Never here: where ``act:`` is read from (``settings``), or the kill switch.

The decision a reader would question: arming stands in one list of the installation and not in the rules. Everything that may write is
on one page, and a rule file copied from elsewhere is harmless until somebody arms it here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from responder.model.target import Target
from responder.rules.matchers import LabelMatchers, parse_matcher

WHERE_LABELS = ("kind", "cluster", "namespace", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActEntry:
    """One armed rule; ``where`` is None when it is armed everywhere."""

    rule: str
    where: LabelMatchers | None = None

    def __str__(self) -> str:
        """As people write it: ``pod-crash-loop where namespace="shop"``."""
        if self.where is None:
            return self.rule
        return f"{self.rule} where {', '.join(matcher.text for matcher in self.where.matchers)}"


def parse_act(value: Any) -> ActEntry:
    """Read one entry of ``act:``.

    Args:
        value: A rule's name, or ``{rule: name, where: [matchers over kind, cluster, namespace, name]}``.

    Raises:
        ValueError: Anything else; also an empty ``where``, which reads as "nowhere" but would mean everywhere.
    """
    if isinstance(value, ActEntry):
        return value
    if isinstance(value, str) and value:
        return ActEntry(rule=value)
    if not isinstance(value, dict) or not isinstance(value.get("rule"), str):
        problem = f"{value!r} arms nothing; expected a rule's name or {{rule: name, where: [matchers]}}"
        raise ValueError(problem)  # noqa: TRY004 - pydantic collects ValueErrors
    if unknown := sorted(str(key) for key in value if key not in ("rule", "where")):
        raise ValueError(f"unknown key {', '.join(unknown)}; known are rule, where")
    if "where" not in value:
        return ActEntry(rule=value["rule"])
    texts = value["where"]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("where is a list of at least one matcher, such as ['cluster=\"staging\"']")
    matchers = tuple(parse_matcher(text) for text in texts)
    for matcher in matchers:
        if matcher.name not in WHERE_LABELS:
            raise ValueError(f"{matcher.text}: a target has no {matcher.name}; known are {', '.join(WHERE_LABELS)}")
    return ActEntry(rule=value["rule"], where=LabelMatchers(matchers))


def is_armed(act: Iterable[ActEntry], rule_name: str, target: Target) -> bool:
    """Tell whether a rule may act on a target: one entry for it fits."""
    about = {"kind": target.kind.value, "cluster": target.cluster, "namespace": target.namespace, "name": target.name}
    return any(entry.rule == rule_name and (entry.where is None or entry.where.matches(about)) for entry in act)


Act = Annotated[
    ActEntry,
    BeforeValidator(parse_act),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "required": ["rule"],
                    "additionalProperties": False,
                    "properties": {
                        "rule": {"type": "string"},
                        "where": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                    },
                },
            ]
        }
    ),
]
"""One entry of ``act:`` in a pydantic model (give the model ``arbitrary_types_allowed``)."""

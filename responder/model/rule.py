"""Rules as values: what the rule language compiles to.

Never here: YAML, schemas or matching code (``rules``). The compiled ``when`` and matchers are protocols here so that the
core can hold them without knowing CEL or RE2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from responder.model.alert import Severity, SourceKind
from responder.model.target import TargetKind


class PageWhen(StrEnum):
    """When a rule's incident calls people. Source: RULES.md, key ``page``."""

    OPEN = "open"
    STUCK = "stuck"
    NEVER = "never"


class Expression(Protocol):
    """A compiled ``when``."""

    @property
    def text(self) -> str:
        """As written in the rule."""

    def evaluate(self, variables: Mapping[str, Any], had_none: frozenset[str] = frozenset()) -> bool | None:
        """Return True, False, or None for unknown: a name whose value is missing.

        Args:
            variables: The roots ``alert``, ``labels``, ``params``, ``target``, ``facts``, ``incident``, each a mapping.
            had_none: Facts whose source was read and had none: ``has(facts.x)`` is False for them; for any other
                missing fact the whole expression is unknown.
        """


class Matchers(Protocol):
    """All label conditions of one ``match`` alternative."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether every condition holds; a missing label counts as ""."""

    def failing(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the conditions that do not hold, as written, for ``responder explain``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One alternative of ``match``; all of it must hold.

    Attributes:
        source: None for any.
        names: Alert names; empty for any.
        labels: Conditions; None for none.
        for_: Firing at least this long by its start; zero for at once.
    """

    source: SourceKind | None = None
    names: frozenset[str] = frozenset()
    labels: Matchers | None = None
    for_: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """How a rule names its target: a kind that code resolves, or templates for odd labels.

    Attributes:
        namespace, name, cluster: Templates with ``${labels.x}``; "" when code is to find it.
        group_by: Labels that tell incidents of ``target: none`` apart.
    """

    kind: TargetKind
    namespace: str = ""
    name: str = ""
    cluster: str = ""
    group_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An action or check with its arguments, before substitution: ``{workload.scale: {by: 1}}``."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def canonical(self) -> str:
        """The name, with arguments in sorted order when there are any: the key of a check's reading."""
        if not self.arguments:
            return self.name
        said = ", ".join(f"{key}: {self.arguments[key]}" for key in sorted(self.arguments))
        return f"{self.name}{{{said}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung of a ladder.

    Attributes:
        index: 0-based, mildest first.
        name: Unique in its rule.
        do: At least one call, in order.
        when: None when it always holds.
        approve: People asked; the larger of the rule's and the grade's.
        within: From its start to proven.
        grade: The highest of its actions.
    """

    index: int
    name: str
    do: tuple[Call, ...]
    when: Expression | None = None
    approve: int = 0
    within: timedelta
    grade: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A compiled rule.

    Attributes:
        severity: None to take the alert's.
        page: None to take the severity's default.
        healthy: Checks that prove recovery; never empty (the target kind's default when the rule names none).
        params: Defaults overridden by the installation, typed.
        guards: Stricter limits, as raw values by limit name.
        document: The expanded rule as plain JSON: pinned into incidents and compiled again from there.
        digest: Of that document.
    """

    name: str
    title: str
    owner: str
    runbook: str
    severity: Severity | None = None
    page: PageWhen | None = None
    priority: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    match: tuple[Match, ...]
    target: TargetSpec
    when: Expression | None = None
    healthy: tuple[Call, ...]
    hold: timedelta = timedelta(minutes=2)
    reopen_within: timedelta = timedelta(hours=12)
    guards: Mapping[str, Any] = field(default_factory=dict)
    ladder: tuple[Rung, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    file: str = ""


DEFAULT_PAGE: Mapping[Severity, PageWhen] = {
    Severity.CRITICAL: PageWhen.OPEN,
    Severity.ERROR: PageWhen.STUCK,
    Severity.WARNING: PageWhen.STUCK,
    Severity.INFO: PageWhen.NEVER,
}
"""Source: RULES.md, key ``page``."""

"""What rules may name: the actions and checks that exist, with their arguments, as one value handed to the compiler.

Never here: what an action does (``actions``). The compiler needs to know only names, grades, target kinds and argument types.

The decision a reader would question: argument types are a closed list of our own instead of JSON Schema. The compiler must also
judge values that stand behind ``${...}`` (their type is known, their value is not), which JSON Schema cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from responder.model.target import TargetKind

EVERY_KIND = frozenset(TargetKind)
"""For actions and checks that do not care what the incident is about, such as ``wait``."""


class ArgumentType(StrEnum):
    """What an argument may be."""

    STRING = "string"
    INT = "integer"
    DOUBLE = "number"
    BOOL = "boolean"
    DURATION = "duration"
    SHARE = "share"
    STRINGS = "list of strings"
    MAPPING = "mapping"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentSpec:
    """One argument of an action or check.

    Attributes:
        type: What it may be; an integer is a number too.
        required: Left out is an error.
        words: Literal words that are allowed beside the type, such as ``previous`` for a replica count.
        at_least: Smallest number allowed; None for any.
        says: One sentence for the manual and the editor.
    """

    name: str
    type: ArgumentType
    required: bool = False
    words: tuple[str, ...] = ()
    at_least: float | None = None
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """One action that a rung may do.

    Attributes:
        name: As in a rule, such as ``workload.restart``.
        grade: 0 to 5 (RULES.md "Actions"); when ``grade_argument`` is set, the grade of a call that does not give it.
        grade_argument: Name of the integer argument that states the grade of a call (``job.run {grade}``); "" for none.
        raises: Boolean arguments that raise the grade when they are given, such as ``remove: true``.
        targets: Kinds of incident target it can act on, itself or through the one thing of its kind that the target belongs to.
        arguments: In the order of the manual.
        exactly_one_of: Groups of argument names of which exactly one must be given, such as ``by``, ``to``, ``replicas``.
        says: One sentence for the manual and the editor.
    """

    name: str
    grade: int
    grade_argument: str = ""
    raises: Mapping[str, int] = field(default_factory=dict)
    targets: frozenset[TargetKind]
    arguments: tuple[ArgumentSpec, ...] = ()
    exactly_one_of: tuple[tuple[str, ...], ...] = ()
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """One question about health; it may also be a step of a rung, which waits for healthy (grade 0).

    Attributes:
        targets: Kinds of incident target that it can be asked about.
        exactly_one_of: As for actions.
    """

    name: str
    targets: frozenset[TargetKind]
    arguments: tuple[ArgumentSpec, ...] = ()
    exactly_one_of: tuple[tuple[str, ...], ...] = ()
    says: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All actions and checks by name. A name is an action or a check, never both."""

    actions: Mapping[str, ActionSpec] = field(default_factory=dict)
    checks: Mapping[str, CheckSpec] = field(default_factory=dict)

    @classmethod
    def of(cls, *, actions: Iterable[ActionSpec] = (), checks: Iterable[CheckSpec] = ()) -> Catalogue:
        """Return the catalogue of these.

        Raises:
            ValueError: A name occurs twice: a plug-in must not replace what a reviewed rule means.
        """
        known_actions: dict[str, ActionSpec] = {}
        known_checks: dict[str, CheckSpec] = {}
        for action in actions:
            if action.name in known_actions:
                raise ValueError(f"the action {action.name} is in the catalogue twice")
            known_actions[action.name] = action
        for check in checks:
            if check.name in known_checks or check.name in known_actions:
                raise ValueError(f"the name {check.name} is in the catalogue twice")
            known_checks[check.name] = check
        return cls(known_actions, known_checks)

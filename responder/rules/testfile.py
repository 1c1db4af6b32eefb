"""Rule tests (``*.test.yaml``): what a rule's author expects, on virtual time. Source: RULES.md "A rule test", EXAMPLES.md.

Never here: playing them (``policy.rehearse``).

The decision a reader would question: what a test sets is checked against the closed lists of facts, although any word could be played. A
test that sets ``facts.cuase`` leaves the target healthy and may pass for that very reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from responder.model.errors import RuleError
from responder.rules.durations import DURATION_PATTERN, is_duration, parse_duration
from responder.rules.facts import FACTS, ValueType
from responder.rules.parse import Parsed, parse
from responder.rules.schema import empty_values, located
from responder.rules.wording import shown, with_article

MISSING_WORD = "missing"
"""Set to this, a fact could not be read."""
HEALTH_WORDS = ("healthy", "unhealthy", "unknown")


def _duration(value: Any) -> Any:
    if value == 0:
        return timedelta(0)
    if not isinstance(value, str):
        problem = f"{value!r} is not a time; expected for example 0m, 30s or 4m"
        raise ValueError(problem)  # noqa: TRY004 - pydantic collects ValueErrors
    return parse_duration(value)


Time = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": 0}], "examples": ["0m", "30s", "4m"]}),
]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Change(_Document):
    """The world changes at a time, or some time after an action or rung was carried out."""

    at: Time | None = None
    after: str = ""
    within: Time = Field(default=timedelta(0), alias="in")
    set: dict[str, Any] = Field(default_factory=dict)
    outcome: Literal["", "failed"] = ""

    @model_validator(mode="after")
    def _one(self) -> Change:
        if (self.at is None) == (not self.after):
            raise ValueError("name exactly one of at and after")
        return self


class AlertStep(_Document):
    """An alert comes: short form, or the same as an earlier one (1-based)."""

    at: Time
    source: Literal["alertmanager", "azure-monitor", "event-grid", "kubernetes"] = "alertmanager"
    status: Literal["firing", "resolved"] = "firing"
    labels: dict[str, str] = Field(default_factory=dict)
    owner: dict[str, str] = Field(default_factory=dict)
    same: int = 0


class VoteStep(_Document):
    """A person answers."""

    at: Time
    by: str
    answer: Literal["approve", "reject"] = "approve"
    rung: str = ""


class Expected(_Document):
    """What must have happened by (or hold at) a time."""

    by: Time | None = None
    at: Time | None = None
    target: str = ""
    did: str = ""
    waits: str = ""
    refused: dict[str, str] = Field(default_factory=dict)
    ask: dict[str, Any] = Field(default_factory=dict)
    page: dict[str, Any] = Field(default_factory=dict)
    state: str = ""
    incidents: int | None = None

    @model_validator(mode="after")
    def _timed(self) -> Expected:
        if (self.by is None) == (self.at is None):
            raise ValueError("name exactly one of by and at")
        return self


class Test(_Document):
    """One test."""

    __test__ = False
    name: str
    world: tuple[Change, ...] = ()
    alerts: tuple[AlertStep, ...] = Field(min_length=1)
    approvals: tuple[VoteStep, ...] = ()
    expect: tuple[Expected, ...] = Field(min_length=1)


class TestFile(_Document):
    """A whole file."""

    __test__ = False
    tests: tuple[Test, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTest:
    """One test with where it stands. ``lines``: the 1-based line of each expectation."""

    file: str
    line: int
    test: Test
    lines: tuple[int, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def load_tests(path: Path, *, checks: Collection[str] | None = None) -> tuple[RuleTest, ...]:
    """Read a test file.

    Args:
        path: Of the file.
        checks: Names of the checks that exist, for what a test sets; None accepts any name.

    Raises:
        ExceptionGroup: Of ``RuleError``, every problem with its place.
    """
    try:
        parsed = parse(path.read_text(encoding="utf-8"), file=str(path))
    except RuleError as error:
        raise ExceptionGroup(str(path), [error]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ExceptionGroup(str(path), [RuleError(f"cannot be read: {error}", file=str(path))]) from error
    errors = [parsed.error("is empty; write a value or leave the key out", *where) for where in empty_values(parsed.data)]
    errors += _unknown_settings(parsed, checks)
    document = None
    try:
        document = TestFile.model_validate(parsed.data)
    except ValidationError as error:
        errors += located(error, parsed, TestFile).values()
    if document is None or errors:
        raise ExceptionGroup(str(path), sorted(errors, key=lambda error: (error.line, error.column)))
    return tuple(
        RuleTest(
            file=str(path),
            line=parsed.position(("tests", number)).line,
            test=test,
            lines=tuple(parsed.position(("tests", number, "expect", place)).line for place in range(len(test.expect))),
        )
        for number, test in enumerate(document.tests)
    )


def _unknown_settings(parsed: Parsed, checks: Collection[str] | None) -> Iterator[RuleError]:
    """Yield an error for every ``set`` of a fact that does not exist, or of a value that it never has."""
    for path in parsed.values:
        if len(path) == 6 and (path[0], path[2], path[4]) == ("tests", "world", "set") and isinstance(path[5], str):
            value = parsed.data["tests"][path[1]]["world"][path[3]]["set"][path[5]]
            problem = _setting_problem(path[5], value, checks)
            if problem is not None:
                yield parsed.error(problem, *path, at_key=problem.startswith("unknown"))


def _setting_problem(name: str, value: Any, checks: Collection[str] | None) -> str | None:
    root, _, fact_name = name.partition(".")
    if root != "facts":
        if checks is not None and name not in checks:
            return f"unknown check; known are {', '.join(sorted(checks))}, and facts.*"
        return None if value in HEALTH_WORDS else f"{shown(value)} is no answer of a check; expected {', '.join(HEALTH_WORDS)}"
    fact = FACTS.get(fact_name)
    if fact is None:
        close = get_close_matches(fact_name, FACTS, n=1)
        return f"unknown fact; did you mean facts.{close[0]}?" if close else f"unknown fact; known are {', '.join(sorted(FACTS))}"
    if value == MISSING_WORD:
        return None
    if fact.words and value not in fact.words:
        return (
            f"facts.{fact_name} is never {shown(value)}; expected {', '.join(word or repr('') for word in fact.words)} or missing"
        )
    if fact.type is ValueType.DURATION:
        return None if is_duration(value) else f"{shown(value)} is not a duration; expected for example 20m"
    if fact.type is not ValueType.TIMESTAMP and not fact.holds(value):
        return f"{shown(value)} is not {with_article(fact.type)}"
    return None

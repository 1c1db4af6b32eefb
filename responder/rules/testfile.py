"""Rule tests (``*.test.yaml``): what a rule's author expects, on virtual time. Source: RULES.md "A rule test", EXAMPLES.md.

Never here: playing them (``policy.rehearse``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from responder.model.errors import RuleError
from responder.rules.durations import parse_duration
from responder.rules.parse import Parsed, parse


def _duration(value: Any) -> Any:
    if value == 0:
        return timedelta(0)
    if not isinstance(value, str):
        problem = f"{value!r} is not a time; expected for example 0m, 30s or 4m"
        raise ValueError(problem)  # noqa: TRY004 - pydantic collects ValueErrors
    return parse_duration(value)


Time = Annotated[timedelta, BeforeValidator(_duration)]


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
    source: Literal["alertmanager", "azure-monitor", "kubernetes"] = "alertmanager"
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


class _File(_Document):
    tests: tuple[Test, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTest:
    """One test with where it stands. ``lines``: the 1-based line of each expectation."""

    file: str
    line: int
    test: Test
    lines: tuple[int, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def load_tests(path: Path) -> tuple[RuleTest, ...]:
    """Read a test file.

    Raises:
        ExceptionGroup: Of ``RuleError``, every problem with its place.
    """
    try:
        parsed = parse(path.read_text(encoding="utf-8"), file=str(path))
    except RuleError as error:
        raise ExceptionGroup(str(path), [error]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ExceptionGroup(str(path), [RuleError(f"cannot be read: {error}", file=str(path))]) from error
    try:
        document = _File.model_validate(parsed.data)
    except ValidationError as error:
        raise ExceptionGroup(str(path), [_located(parsed, one) for one in error.errors()]) from error
    return tuple(
        RuleTest(
            file=str(path),
            line=parsed.position(("tests", number)).line,
            test=test,
            lines=tuple(parsed.position(("tests", number, "expect", place)).line for place in range(len(test.expect))),
        )
        for number, test in enumerate(document.tests)
    )


def _located(parsed: Parsed, one: Any) -> RuleError:
    return parsed.error(str(one["msg"]).removeprefix("Value error, "), *one["loc"])

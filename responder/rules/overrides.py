"""``rules:`` of responder.yaml: what an installation says about shipped rules without editing them.

Never here: which files there are, or arming (``arming``).

The decision a reader would question: overrides change the document before it is compiled, not the compiled rule. Expressions are checked
with the parameters that will be in force, and what is pinned into an incident is one document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from responder.rules.durations import is_duration, is_share
from responder.rules.schema import PageWord, Param, SeverityWord, Text, checked_runbook
from responder.rules.wording import shown


class RuleOverride(BaseModel):
    """One entry of ``rules:``; what is left out stays as the rule says."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    owner: Text | None = None
    runbook: Annotated[Text, BeforeValidator(checked_runbook)] | None = None
    severity: SeverityWord | None = None
    page: PageWord | None = None
    params: dict[str, Param] = Field(default_factory=dict)


def overridden(data: Mapping[str, Any], override: RuleOverride) -> tuple[dict[str, Any], dict[str, str]]:
    """Apply an override to a rule's document.

    Args:
        data: The rule as parsed; its ``params`` may be absent.
        override: What the installation says.

    Returns:
        The changed document, and problems by key path, such as ``params.recent``: a parameter that the rule does not have, or a value
        of another type than its default.
    """
    changed = dict(data)
    for key in ("owner", "runbook", "severity", "page"):
        value = getattr(override, key)
        if value is not None:
            changed[key] = value
    if not override.params:
        return changed, {}
    defaults = data.get("params")
    defaults = dict(defaults) if isinstance(defaults, Mapping) else {}
    problems: dict[str, str] = {}
    for name, value in override.params.items():
        if name not in defaults:
            problems[f"params.{name}"] = f"the rule has no such parameter; it has {', '.join(sorted(defaults)) or 'none'}"
        elif (wanted := family(defaults[name])) != family(value) and not (defaults[name] == "" and isinstance(value, str)):
            problems[f"params.{name}"] = (
                f"{shown(value)} is a {family(value)}; expected a {wanted} like its default {shown(defaults[name])}"
            )
        else:
            defaults[name] = value
    changed["params"] = defaults
    return changed, problems


def family(value: Any) -> str:
    """Return the type of a parameter: boolean, number, duration, share, string, or list of one of these."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return f"list of {family(value[0])}s" if value else "list"
    if is_duration(value):
        return "duration"
    return "share" if is_share(value) else "string"

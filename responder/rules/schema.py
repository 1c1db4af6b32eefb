"""The grammar of a rule file as pydantic models, and how pydantic's complaints are told to people.

Here is the shape: keys, types, which are required. Never here: whether names exist (actions, checks, facts) or fit together; that is
``compile``.

The decision a reader would question: strict models that refuse every unknown key. A misspelt ``aprove: 2`` that is silently ignored is
an approval nobody is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, Tag, ValidationError, WithJsonSchema

from responder.model.errors import RuleError
from responder.rules.durations import Duration, RateText, ShareText
from responder.rules.parse import Parsed, Path
from responder.rules.wording import shown

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DEFAULT_HOLD = timedelta(minutes=2)
DEFAULT_REOPEN_WITHIN = timedelta(hours=12)

SeverityWord = Literal["critical", "error", "warning", "info"]
PageWord = Literal["open", "stuck", "never"]
SourceWord = Literal["alertmanager", "azure-monitor", "event-grid", "grafana", "service-bus", "kubernetes", "manual", "responder"]
KindWord = Literal["pod", "workload", "service", "node", "node_pool", "cluster", "region", "none"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _kind_or_more(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _calls(value: Any) -> Any:
    """Bring ``name``, ``{name: {arguments}}`` and lists of these into one shape: a list of one-key mappings."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError("an empty list; expected at least one name, or {name: {arguments}}")
    return [_call(item) for item in items]


def _call(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        return {item: {}}
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(f"{shown(item)} is not a call; expected a name, or {{name: {{arguments}}}} with one name")
    ((name, arguments),) = item.items()
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments of {name} are {shown(arguments)}; expected a mapping: {{{name}: {{argument: value}}}}")  # noqa: TRY004 - pydantic collects ValueErrors
    return {str(name): arguments}


def checked_runbook(value: Any) -> Any:
    """Refuse a runbook that is not a link."""
    if isinstance(value, str) and not value.startswith(("https://", "http://")):
        raise ValueError(f"{shown(value)} is not a link; expected https://...")
    return value


def _param(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str | int | float | bool):
            raise ValueError(f"{shown(item)} is no parameter; expected a string, number, boolean or a list of these")  # noqa: TRY004 - pydantic collects ValueErrors
        if isinstance(item, str) and "${" in item:
            raise ValueError("a parameter holds no ${...}; it is what is put in elsewhere")
    if len({_family(item) for item in items}) > 1:
        raise ValueError("a list of different types; expected one type")
    return value


def _family(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string"


Calls = Annotated[list[dict[str, dict[str, Any]]], BeforeValidator(_calls)]
Param = Annotated[
    Any,
    BeforeValidator(_param),
    WithJsonSchema({"type": ["string", "number", "boolean", "array"], "items": {"type": ["string", "number", "boolean"]}}),
]
Labels = Annotated[
    list[Text], Field(description='Matchers, all of which must hold: name="v", !=, =~, !~; a missing label is "".')
]


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


class MatchDocument(_Document):
    """One alternative; all of its lines must hold. An empty one matches every alert."""

    source: SourceWord | None = Field(None, description="The format the alert arrived in, not the road it came by. Default: any.")
    alert: Annotated[list[Text], BeforeValidator(_one_or_more), Field(min_length=1)] | None = Field(
        None,
        description="The alert's name is one of these. Default: any.",
    )
    labels: Labels = Field(default_factory=list)
    for_: Duration = Field(timedelta(0), alias="for", description="Firing at least this long by its start. Default 0s.")


class TargetDocument(_Document):
    """What the incident is about: a kind that code finds from well-known labels, or templates for odd labels."""

    kind: KindWord = Field(description="What it is.")
    namespace: Text | None = Field(None, description='Template such as "${labels.ns}".')
    name: Text | None = Field(None, description='Template such as "${labels.app}".')
    cluster: Text | None = Field(None, description="Template, or the configured name of a cluster.")


class GuardsDocument(_Document):
    """Limits stricter than responder.yaml's; a looser one has no effect. Only limits that are enforced per rule stand here."""

    group_wait: Duration | None = Field(None, description="No disruptive rung before the incident is this old.")
    max_actions: RateText | None = Field(None, description="Disruptive rungs of this rule per cluster in a time: 3/1h.")
    in_flight: Annotated[int, Field(ge=1)] | None = Field(None, description="Disruptive rungs at once in one scope.")
    same_symptom: RateText | None = Field(None, description="More targets than this with one symptom have a common cause: 5/5m.")
    unhealthy_nodes: ShareText | None = Field(
        None, description="Share of a cluster's and a zone's nodes that may be not Ready: 20%."
    )
    keep_ready: Annotated[int, Field(ge=0)] | None = Field(None, description="Ready replicas that must be left.")


class RungDocument(_Document):
    """One rung of the ladder."""

    name: Text | None = Field(None, description="Default: the action's name. Required when an action occurs twice or for a list.")
    do: Calls = Field(
        description="An action or check, with arguments or without, or a list done in order.",
    )
    when: Text | None = Field(None, description="CEL; false skips the rung, unknown stops the ladder.")
    approve: Annotated[int, Field(ge=0, le=5)] | None = Field(
        None, description="People asked. Default by grade: 0-3 none, 4 one, 5 two; a rule may only raise it."
    )
    within: Duration = Field(description="From the rung's start to proven healthy, else the next rung.")


class RuleDocument(_Document):
    """A rule: one symptom, one file."""

    rule: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] = Field(
        description="Its name, unique, equal to the file's: a-z, 0-9, -."
    )
    title: Text = Field(description="One line for people.")
    owner: Text = Field(description="Who answers for it.")
    runbook: Annotated[Text, BeforeValidator(checked_runbook)] = Field(
        description="The human's page; every page and card links to it."
    )
    severity: SeverityWord | None = Field(None, description="The incident's. Default: the alert's.")
    page: PageWord | None = Field(
        None, description="When people are called. Default: critical open, error and warning stuck, info never."
    )
    priority: int = Field(0, description="Who is asked first where several rules fit; then the name.")
    params: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")], Param] = Field(
        default_factory=dict, description="Values that an installation may override; typed by their defaults."
    )
    match: Annotated[list[MatchDocument], Field(min_length=1)] = Field(
        description="Alternatives over the alert; the first that holds wins."
    )
    target: Annotated[TargetDocument, BeforeValidator(_kind_or_more)] = Field(
        description="What the incident is about.",
    )
    group_by: list[Text] = Field(default_factory=list, description="Labels that tell incidents apart; only for target none.")
    when: Text | None = Field(None, description="CEL over alert, labels, params, target, facts, incident; true: this rule leads.")
    healthy: Calls | None = Field(
        None,
        description="Checks that prove recovery. Default by target kind.",
    )
    hold: Duration = Field(DEFAULT_HOLD, description="Healthy without a break for this long, at least three reads. Default 2m.")
    reopen_within: Duration = Field(
        DEFAULT_REOPEN_WITHIN,
        description="After recovery: unhealthy again while an alert fires is the same incident. Default 12h.",
    )
    guards: GuardsDocument | None = Field(None, description="Limits stricter than responder.yaml's.")
    ladder: list[RungDocument] = Field(default_factory=list, description="Rungs, mildest first. None: evidence and a page.")


def empty_values(data: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every empty value: nothing in the language is ever null."""
    if data is None:
        yield path
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from empty_values(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from empty_values(value, (*path, index))


def located(error: ValidationError, parsed: Parsed, model: type[BaseModel]) -> dict[Path, RuleError]:
    """Return pydantic's complaints as located errors in our words, one for each value that is wrong, by its path."""
    told: dict[Path, RuleError] = {}
    for item in error.errors(include_url=False, include_context=True):
        path = _document_path(item["loc"], parsed.data)
        if item["type"] == "too_short" and item["input"]:
            continue  # pydantic counts only the good items; the bad ones are told themselves
        at_key = item["type"] == "extra_forbidden"
        place = item["loc"] if item["type"] in _NO_MAPPING else item["loc"][:-1]
        problem = _problem(item, _known_keys(model, place))
        if item["type"] == "value_error":
            path, problem = _named_place(path, problem, parsed.data)
        told.setdefault(path, parsed.error(problem, *path, at_key=at_key))
    return told


def _named_place(path: Path, problem: str, data: Any) -> tuple[Path, str]:
    """Return where a complaint about several parts belongs, and the rest of it: what it begins with, such as ``routes.high: …``, if that is in the document."""
    for place, part in enumerate(path):
        if not (part in data if isinstance(data, Mapping) else isinstance(data, list) and isinstance(part, int)):
            path = path[:place]  # a branch of a union, as pydantic names it, or a default
            break
        data = data[part]
    head, colon, rest = problem.partition(": ")
    inner: list[str] = []
    while colon and head and isinstance(data, Mapping):
        key = next((one for one in data if isinstance(one, str) and (head == one or head.startswith(f"{one}."))), None)
        if key is None:
            return path, problem
        inner.append(key)
        data, head = data[key], head[len(key) + 1 :]
    return ((*path, *inner), rest) if inner and not head else (path, problem)


def _document_path(loc: Sequence[str | int], data: Any) -> Path:
    """Keep the parts of pydantic's location that are in the document: branches of unions and our normalised shapes are not."""
    path: list[str | int] = []
    for place, part in enumerate(loc):
        last = place == len(loc) - 1
        if isinstance(data, Mapping) and isinstance(part, str) and (part in data or last):
            path.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            path.append(part)
            data = data[part]
    return tuple(path)


def _known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[str, ...]:
    """Return the keys that a mapping at a location may have; empty when any key is allowed."""
    current: type[BaseModel] | None = model
    within: Any = None
    for part in loc:
        if current is None:
            return ()
        if isinstance(part, str):
            if (branch := _tagged(within, part)) is not None:
                current, within = branch, None
                continue
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            if part in fields:
                within = fields[part].annotation
                current = _model_in(within)
    return tuple(field.alias or name for name, field in current.model_fields.items()) if current else ()


def _tagged(annotation: Any, tag: str) -> type[BaseModel] | None:
    """Return the branch of a union that carries a tag."""
    parts = get_args(annotation)
    if any(isinstance(part, Tag) and part.tag == tag for part in parts):
        return _model_in(annotation)
    return next((found for part in parts if (found := _tagged(part, tag)) is not None), None)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


_NO_MAPPING = frozenset({"dict_type", "model_type", "model_attributes_type"})
_BOUNDS = {"greater_than_equal": "at least", "less_than_equal": "at most", "greater_than": "more than", "less_than": "less than"}


def _problem(item: Any, known: Sequence[str]) -> str:
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    key = str(item["loc"][-1]) if item["loc"] else ""
    match kind:
        case "missing":
            return "required key is missing"
        case "extra_forbidden":
            close = get_close_matches(key, known, n=1)
            if close:
                return f"unknown key; did you mean {close[0]}?"
            return f"unknown key; known are {', '.join(known)}" if known else "unknown key"
        case "string_type":
            hint = "; write it in quotes if it is meant as text" if isinstance(value, int | float) else ""
            return f"{shown(value)} is not a string{hint}"
        case "int_type" | "float_type":
            return f"{shown(value)} is not a number; expected for example 1"
        case "bool_type":
            return f"{shown(value)} is not a boolean; expected true or false"
        case "list_type" | "tuple_type":
            return f"{shown(value)} is not a list"
        case _ if kind in _NO_MAPPING:
            allowed = f" with the keys {', '.join(known)}" if known else ""
            return (
                f"is empty; expected a mapping{allowed}"
                if value is None
                else f"{shown(value)} is not a mapping; expected one{allowed}"
            )
        case "union_tag_invalid":
            return f"kind {context.get('tag', '')!r} is not known here; expected {context.get('expected_tags', '')}"
        case "literal_error" | "enum":
            return f"{shown(value)} is not known here; expected {context.get('expected', '')}"
        case "string_pattern_mismatch":
            return f"{shown(value)} does not fit {context.get('pattern', '')}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            bound = next(iter(context.values()), "")
            return f"{shown(value)} is {'too small' if kind.startswith('greater') else 'too large'}; expected {_BOUNDS[kind]} {bound}"
        case "string_too_short" | "too_short":
            return "is empty; expected at least one"
        case "value_error":
            return str(context.get("error", item["msg"]))
        case _:
            return f"{shown(value)}: {item['msg']}"

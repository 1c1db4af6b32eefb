"""Calls: an action or check with its arguments, judged against the catalogue.

Never here: what an action does with an argument.

The decision a reader would question: arguments behind ``${labels.x}`` are accepted only where text is expected. A label is whatever a
sender wrote; that it is a number can only be found out at night.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from responder.model.rule import Call
from responder.model.target import TargetKind
from responder.rules.catalogue import ActionSpec, ArgumentSpec, ArgumentType, Catalogue, CheckSpec
from responder.rules.durations import is_duration, is_share
from responder.rules.facts import ALERT, FACTS, INCIDENT, TARGET, Name, ValueType
from responder.rules.substitute import MISSING, Reference, malformed, references, substitute, whole
from responder.rules.wording import shown, with_article

Path = tuple[str | int, ...]
Blame = Callable[[str, Path], None]
"""Tells a problem at a path below the call."""

_KNOWN: Mapping[str, Mapping[str, Name]] = {"facts": FACTS, "alert": ALERT, "target": TARGET, "incident": INCIDENT}
_OF: Mapping[ArgumentType, frozenset[ValueType]] = {
    ArgumentType.STRING: frozenset({ValueType.STRING}),
    ArgumentType.INT: frozenset({ValueType.INT}),
    ArgumentType.DOUBLE: frozenset({ValueType.INT, ValueType.DOUBLE}),
    ArgumentType.BOOL: frozenset({ValueType.BOOL}),
    ArgumentType.STRINGS: frozenset({ValueType.STRINGS}),
}
"""Which names' types an argument's type takes when the value is one whole reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a call stands in."""

    catalogue: Catalogue
    target: TargetKind
    params: Mapping[str, Any]


def compile_call(name: str, arguments: Mapping[str, Any], setting: Setting, blame: Blame, *, actions: bool) -> Call | None:
    """Check a call and put parameters into its arguments.

    Args:
        name: Of an action or check.
        arguments: As written.
        setting: Catalogue, target and parameters of the rule.
        blame: Called for every problem, with a path below the call's arguments.
        actions: True in a rung, where actions and checks may stand; False under ``healthy``, where only checks may.

    Returns:
        The call, or None when the name is unknown; problems with arguments are told and the call is returned all the same.
    """
    spec = _spec(name, setting.catalogue, blame, actions=actions)
    if spec is None:
        return None
    if setting.target not in spec.targets:
        kinds = ", ".join(sorted(spec.targets))
        blame(f"{name} is for target {kinds}; this rule's target is {setting.target}", ())
    put = _with_params(arguments, setting, blame)
    known = {argument.name: argument for argument in spec.arguments}
    for key, value in put.items():
        if key not in known:
            blame(_unknown_argument(name, key, known), (key,))
        elif (problem := _wrong(known[key], value, setting)) is not None:
            blame(problem, (key,))
    for problem in _absent(spec, arguments):
        blame(problem, ())
    return Call(name=name, arguments=put)


def grade_of(call: Call, catalogue: Catalogue) -> int:
    """Return the grade of a call, 0 to 5; a check is 0."""
    action = catalogue.actions.get(call.name)
    if action is None:
        return 0
    stated = call.arguments.get(action.grade_argument) if action.grade_argument else None
    grade = stated if isinstance(stated, int) and not isinstance(stated, bool) else action.grade
    return max([grade, *(raised for name, raised in action.raises.items() if call.arguments.get(name, False) is not False)])


def reference_problem(reference: Reference, *, target: TargetKind, roots: Sequence[str]) -> str | None:
    """Tell what is wrong with one ``${root.name}``, or None.

    Args:
        reference: What is named; parameters must have been put in before.
        target: Kind of the rule's target: which facts there are.
        roots: Which roots have values where it stands.
    """
    said = f"${{{reference.root}.{reference.name}}}"
    if reference.root not in roots:
        return f"{said} has no value here; known are {', '.join(roots)}"
    if reference.root == "labels":
        return None
    names = _KNOWN[reference.root]
    found = names.get(reference.name)
    if found is not None and found.belongs_to(target):
        return None
    here = sorted(name.name for name in names.values() if name.belongs_to(target))
    close = get_close_matches(reference.name, here, n=1)
    hint = f"did you mean {reference.root}.{close[0]}?" if close else f"known are {', '.join(here) or 'none'}"
    return f"{said} does not exist for target {target}; {hint}"


def texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text in a value with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))


def _spec(name: str, catalogue: Catalogue, blame: Blame, *, actions: bool) -> ActionSpec | CheckSpec | None:
    if name in catalogue.checks:
        return catalogue.checks[name]
    if actions and name in catalogue.actions:
        return catalogue.actions[name]
    if name in catalogue.actions:
        blame(f"{name} is an action; expected a check: {', '.join(sorted(catalogue.checks))}", ())
        return None
    known = sorted({*catalogue.checks, *(catalogue.actions if actions else ())})
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    blame(f"unknown {'action' if actions else 'check'} {name}; {hint}", ())
    return None


def _with_params(arguments: Mapping[str, Any], setting: Setting, blame: Blame) -> dict[str, Any]:
    roots = ("labels", "facts", "target", "alert", "incident", "params")
    for path, text in texts(arguments):
        if (offset := malformed(text)) is not None:
            blame(f"{shown(text[offset:])} is not a reference; expected ${{root.name}} with a root of {', '.join(roots)}", path)
        for reference in references(text):
            if reference.root == "params":
                if reference.name not in setting.params:
                    have = ", ".join(sorted(setting.params)) or "none"
                    blame(f"unknown parameter ${{params.{reference.name}}}; this rule has {have}", path)
            elif (problem := reference_problem(reference, target=setting.target, roots=roots)) is not None:
                blame(problem, path)
    put = substitute(arguments, {"params": setting.params}, only="params")
    return {} if put is MISSING else dict(put)


def _unknown_argument(name: str, key: str, known: Mapping[str, ArgumentSpec]) -> str:
    close = get_close_matches(key, known, n=1)
    if close:
        return f"unknown argument; did you mean {close[0]}?"
    return f"unknown argument; {name} takes {', '.join(known) or 'none'}"


def _absent(spec: ActionSpec | CheckSpec, given: Mapping[str, Any]) -> Iterator[str]:
    missing = [argument.name for argument in spec.arguments if argument.required and argument.name not in given]
    if missing:
        yield f"{spec.name} needs {', '.join(missing)}"
    for group in spec.exactly_one_of:
        present = [name for name in group if name in given]
        if len(present) != 1:
            yield f"{spec.name} takes exactly one of {', '.join(group)}; found {', '.join(present) or 'none'}"


def _wrong(spec: ArgumentSpec, value: Any, setting: Setting) -> str | None:
    """Tell why a value does not fit an argument, or None."""
    if isinstance(value, str) and any(True for _ in references(value)):
        return _wrong_reference(spec, value, setting)
    if isinstance(value, str) and value in spec.words:
        return None
    words = f" or {', '.join(spec.words)}" if spec.words else ""
    if not _fits(spec.type, value):
        return f"{shown(value)} is not {with_article(spec.type)}{words}"
    if spec.at_least is not None and isinstance(value, int | float) and value < spec.at_least:
        return f"{value} is too small; expected at least {spec.at_least:g}{words}"
    return None


def _wrong_reference(spec: ArgumentSpec, text: str, setting: Setting) -> str | None:
    single = whole(text)
    if single is None or single.root == "labels":
        if spec.type is ArgumentType.STRING:
            return None
        return f"{shown(text)} is text at run time; expected {with_article(spec.type)}"
    found = _KNOWN.get(single.root, {}).get(single.name)
    if found is None or not found.belongs_to(setting.target) or found.type in _OF.get(spec.type, frozenset()):
        return None
    return f"{shown(text)} is {with_article(found.type)}; expected {with_article(spec.type)}"


def _fits(kind: ArgumentType, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is ArgumentType.BOOL
    match kind:
        case ArgumentType.STRING:
            return isinstance(value, str)
        case ArgumentType.INT:
            return isinstance(value, int)
        case ArgumentType.DOUBLE:
            return isinstance(value, int | float)
        case ArgumentType.BOOL:
            return False
        case ArgumentType.DURATION:
            return is_duration(value)
        case ArgumentType.SHARE:
            return is_share(value)
        case ArgumentType.STRINGS:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case ArgumentType.MAPPING:
            return isinstance(value, Mapping)

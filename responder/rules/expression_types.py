"""Types of ``when``: every name known, every operand of the right type, every word from its closed list.

Never here: syntax, or values at run time.

The decision a reader would question: stricter than CEL. CEL compares values of different types as unequal and finds a misspelt word
equal to nothing; both would make a rule that silently never leads. Here they are errors when rules load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, assert_never

from responder.model.target import TargetKind
from responder.rules.durations import format_duration, is_duration, parse_duration
from responder.rules.expression_syntax import (
    Binary,
    CallNode,
    ExpressionProblem,
    Ident,
    Index,
    ListNode,
    Literal,
    Node,
    Select,
    Ternary,
    Unary,
)
from responder.rules.facts import ALERT, FACTS, INCIDENT, TARGET, Name, ValueType
from responder.rules.wording import with_article

ROOTS = ("alert", "labels", "params", "target", "facts", "incident")
_CLOSED: Mapping[str, Mapping[str, Name]] = {"alert": ALERT, "target": TARGET, "incident": INCIDENT, "facts": FACTS}
_NUMBERS = {"int", "double"}
_ORDERED = {"int", "double", "string", "duration", "timestamp"}
_RELATIONS = {"==", "!=", "<", "<=", ">", ">="}
_FUNCTIONS = (
    "has, size, duration, timestamp, int, double, string, and on strings contains, startsWith, endsWith, on lists exists, all"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """A type: ``bool int double string duration timestamp list map``.

    Attributes:
        item: Of a list; None for the empty list.
        words: The closed list that a string is from; empty when open.
        about: The name it came from, for messages; "" for none.
    """

    name: str
    item: Type | None = None
    words: tuple[str, ...] = ()
    about: str = ""

    def __str__(self) -> str:
        """For messages."""
        return f"list of {self.item}s" if self.name == "list" and self.item else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the check found out.

    Attributes:
        facts: Every fact named, without ``facts.``.
        labels: Every label named by a constant.
        edits: Parts of the text to replace before the engine reads it: start, end, new text; not overlapping, ascending.
    """

    facts: frozenset[str]
    labels: frozenset[str]
    edits: tuple[tuple[int, int, str], ...]


_BOOL = Type(name="bool")
_INT = Type(name="int")
_DOUBLE = Type(name="double")
_STRING = Type(name="string")
_DURATION = Type(name="duration")
_TIMESTAMP = Type(name="timestamp")


def check_types(
    node: Node, *, target: TargetKind, params: Mapping[str, Any]
) -> tuple[Checked | None, tuple[ExpressionProblem, ...]]:
    """Check a whole ``when``: it must be a boolean.

    Args:
        node: The parsed expression.
        target: Kind of the rule's target: which facts there are.
        params: The rule's parameters with the installation's overrides: names and types.

    Returns:
        What was found out, and no problems; or None and every problem, in the order of the text.
    """
    checker = _Checker(target, params)
    kind = checker.of(node)
    if kind is not None and kind.name != "bool":
        checker.blame(_start(node), f"the whole is {with_article(kind)}; expected true or false")
    if checker.problems:
        return None, tuple(sorted(checker.problems, key=lambda problem: problem.offset))
    return Checked(facts=frozenset(checker.facts), labels=frozenset(checker.labels), edits=tuple(sorted(checker.edits))), ()


@dataclass
class _Checker:
    """Walks the tree, collecting; None as a type means that a problem was already told."""

    target: TargetKind
    params: Mapping[str, Any]
    facts: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    edits: list[tuple[int, int, str]] = field(default_factory=list)
    problems: list[ExpressionProblem] = field(default_factory=list)
    scope: dict[str, Type] = field(default_factory=dict)

    def blame(self, at: int, problem: str) -> None:
        self.problems.append(ExpressionProblem(at, problem))

    def of(self, node: Node) -> Type | None:
        match node:
            case Literal():
                return _literal(node.value)
            case Ident():
                return self.ident(node)
            case Select():
                return self.select(node)
            case Index():
                return self.index(node)
            case ListNode():
                return self.list(node)
            case Unary():
                return self.unary(node)
            case Binary():
                return self.binary(node)
            case Ternary():
                return self.ternary(node)
            case CallNode():
                return self.call(node)
            case _:
                assert_never(node)

    def ident(self, node: Ident) -> Type | None:
        if node.name in self.scope:
            return self.scope[node.name]
        if node.name == "labels":
            return Type(name="map", about="labels")
        if node.name in ROOTS:
            self.blame(node.at, f"{node.name} stands alone; expected one of its values, such as {_example(node.name)}")
        else:
            self.blame(node.at, f"unknown name {node.name}; known are {', '.join(ROOTS)}")
        return None

    def select(self, node: Select) -> Type | None:
        if not isinstance(node.operand, Ident) or node.operand.name not in ROOTS or node.operand.name in self.scope:
            kind = self.of(node.operand)
            if kind is not None:
                self.blame(node.at, f"{with_article(kind)} has no values of its own")
            return None
        root = node.operand.name
        if root == "labels":
            self.labels.add(node.name)
            return Type(name="string", about=f"labels.{node.name}")
        if root == "params":
            return self.param(node)
        return self.closed(node, root)

    def param(self, node: Select) -> Type | None:
        if node.name not in self.params:
            known = ", ".join(sorted(self.params)) or "none"
            self.blame(node.at, f"unknown parameter params.{node.name}; this rule has {known}")
            return None
        value = self.params[node.name]
        if isinstance(value, list | tuple):
            return Type(name="list", item=_literal(value[0]) if value else None)
        return _literal(value)

    def closed(self, node: Select, root: str) -> Type | None:
        known = _CLOSED[root]
        found = known.get(node.name)
        if found is None or not found.belongs_to(self.target):
            here = sorted(name.name for name in known.values() if name.belongs_to(self.target))
            if found is not None:
                kinds = ", ".join(sorted(found.targets))
                self.blame(node.at, f"{root}.{node.name} does not exist for target {self.target}; it does for {kinds}")
            else:
                close = get_close_matches(node.name, here, n=1)
                hint = f"did you mean {root}.{close[0]}?" if close else f"known are {', '.join(here)}"
                self.blame(node.at, f"unknown name {root}.{node.name}; {hint}")
            return None
        if root == "facts":
            self.facts.add(node.name)
        if found.type is ValueType.STRINGS:
            return Type(name="list", item=_STRING, about=f"{root}.{node.name}")
        return Type(name=found.type.value, words=found.words, about=f"{root}.{node.name}")

    def index(self, node: Index) -> Type | None:
        kind, index = self.of(node.operand), self.of(node.index)
        if kind is None or index is None:
            return None
        if kind.name == "map" and index.name == "string":
            if isinstance(node.index, Literal):
                self.labels.add(str(node.index.value))
            return _STRING
        if kind.name == "list" and index.name == "int":
            return kind.item
        self.blame(
            node.at, f"{with_article(kind)} cannot be asked for {with_article(index)}; expected labels[string] or list[int]"
        )
        return None

    def list(self, node: ListNode) -> Type | None:
        kinds = [self.of(item) for item in node.items]
        if any(kind is None for kind in kinds):
            return None
        first = kinds[0] if kinds else None
        for item, kind in zip(node.items, kinds, strict=True):
            assert kind is not None
            assert first is not None
            if kind.name != first.name:
                self.blame(_start(item), f"{with_article(kind)} in a list of {first}s; expected one type")
                return None
        return Type(name="list", item=Type(name=first.name) if first else None)

    def unary(self, node: Unary) -> Type | None:
        kind = self.of(node.operand)
        if kind is None:
            return None
        wanted = {"bool"} if node.operator == "!" else _NUMBERS
        if kind.name not in wanted:
            self.blame(node.at, f"{node.operator} before {with_article(_named(kind))}; expected {' or '.join(sorted(wanted))}")
            return None
        return kind

    def binary(self, node: Binary) -> Type | None:
        left, right = self.of(node.left), self.of(node.right)
        if left is None or right is None:
            return _BOOL if node.operator in _RELATIONS or node.operator in {"in", "&&", "||"} else None
        if node.operator in {"&&", "||"}:
            return self.logic(node, left, right)
        if node.operator == "in":
            return self.membership(node, left, right)
        if node.operator in _RELATIONS:
            return self.relation(node, left, right)
        return self.arithmetic(node, left, right)

    def logic(self, node: Binary, left: Type, right: Type) -> Type:
        for side, kind in ((node.left, left), (node.right, right)):
            if kind.name != "bool":
                self.blame(_start(side), f"{with_article(_named(kind))} beside {node.operator}; expected true or false")
        return _BOOL

    def relation(self, node: Binary, left: Type, right: Type) -> Type:
        same = left.name == right.name or {left.name, right.name} <= _NUMBERS
        if not same:
            self.blame(
                node.at,
                f"{node.operator} between {with_article(_named(left))} and {with_article(_named(right))}; they can never be compared",
            )
        elif node.operator not in {"==", "!="} and left.name not in _ORDERED:
            self.blame(node.at, f"{node.operator} between two {left.name}s; they have no order")
        else:
            self.word(left, node.right)
            self.word(right, node.left)
        return _BOOL

    def membership(self, node: Binary, left: Type, right: Type) -> Type:
        if right.name == "map" and left.name == "string":
            if isinstance(node.left, Literal):
                self.labels.add(str(node.left.value))
            return _BOOL
        if right.name != "list":
            self.blame(node.at, f'in {with_article(_named(right))}; expected a list, such as ["a", "b"]')
        elif right.item is not None and right.item.name != left.name and not {left.name, right.item.name} <= _NUMBERS:
            self.blame(node.at, f"{with_article(_named(left))} in {with_article(right)}; they can never be equal")
        elif isinstance(node.right, ListNode):
            for item in node.right.items:
                self.word(left, item)
        return _BOOL

    def word(self, kind: Type, other: Node) -> None:
        """Refuse a constant that is not in the closed list of what it is compared with."""
        if kind.words and isinstance(other, Literal) and isinstance(other.value, str) and other.value not in kind.words:
            close = get_close_matches(other.value, kind.words, n=1)
            hint = (
                f"did you mean {close[0]}?" if close else f"its values are {', '.join(word or repr('') for word in kind.words)}"
            )
            self.blame(other.at, f"{kind.about} is never {other.value!r}; {hint}")

    def arithmetic(self, node: Binary, left: Type, right: Type) -> Type | None:
        sides = (left.name, node.operator, right.name)
        if left.name == right.name and left.name in _NUMBERS and (node.operator != "%" or left.name == "int"):
            return Type(name=left.name)
        known: Mapping[tuple[str, str, str], Type] = {
            ("string", "+", "string"): _STRING,
            ("duration", "+", "duration"): _DURATION,
            ("duration", "-", "duration"): _DURATION,
            ("timestamp", "+", "duration"): _TIMESTAMP,
            ("duration", "+", "timestamp"): _TIMESTAMP,
            ("timestamp", "-", "duration"): _TIMESTAMP,
            ("timestamp", "-", "timestamp"): _DURATION,
        }
        if sides in known:
            return known[sides]
        hint = "; write double(...) round the int" if {left.name, right.name} == _NUMBERS else ""
        self.blame(
            node.at, f"{node.operator} between {with_article(_named(left))} and {with_article(_named(right))} means nothing{hint}"
        )
        return None

    def ternary(self, node: Ternary) -> Type | None:
        condition, then, otherwise = self.of(node.condition), self.of(node.then), self.of(node.otherwise)
        if condition is not None and condition.name != "bool":
            self.blame(_start(node.condition), f"{with_article(_named(condition))} before ?; expected true or false")
        if then is None or otherwise is None:
            return None
        if then.name != otherwise.name:
            self.blame(node.at, f"{with_article(then)} or else {with_article(otherwise)}; expected one type")
            return None
        return then

    def call(self, node: CallNode) -> Type | None:
        if node.name == "matches":
            self.blame(
                node.at, "no regular expressions here; use ==, in, contains, startsWith, endsWith, or a matcher under match"
            )
            return None
        if node.name in {"exists", "all"} and node.operand is not None:
            return self.quantifier(node)
        if node.name == "has" and node.operand is None:
            return self.has(node)
        if node.name in {"duration", "timestamp"} and node.operand is None:
            return self.constant(node)
        operand = () if node.operand is None else (node.operand,)
        kinds = [self.of(part) for part in (*operand, *node.arguments)]
        if any(kind is None for kind in kinds):
            return _RESULTS.get(node.name)
        names = tuple(kind.name for kind in kinds if kind is not None)
        if (node.name, len(operand)) not in _SIGNATURES:
            self.blame(node.at, f"unknown function {node.name}; known are {_FUNCTIONS}")
            return None
        allowed = _SIGNATURES[node.name, len(operand)]
        if len(names) != len(allowed) or any(name not in wanted for name, wanted in zip(names, allowed, strict=True)):
            expected = ", ".join(" or ".join(sorted(wanted)) for wanted in allowed)
            self.blame(node.at, f"{node.name} of {', '.join(names) or 'nothing'}; expected {expected}")
        return _RESULTS[node.name]

    def quantifier(self, node: CallNode) -> Type:
        assert node.operand is not None
        kind = self.of(node.operand)
        if len(node.arguments) != 2 or not isinstance(node.arguments[0], Ident):
            self.blame(node.at, f'{node.name} takes a name and a condition: list.{node.name}(x, x == "a")')
            return _BOOL
        variable = node.arguments[0].name
        if kind is None:
            return _BOOL
        if kind.name != "list" or kind.item is None:
            self.blame(node.at, f"{node.name} of {with_article(_named(kind))}; expected a list")
            return _BOOL
        if variable in ROOTS or variable in self.scope:
            self.blame(node.arguments[0].at, f"{variable} already means something; take another name")
            return _BOOL
        self.scope[variable] = kind.item
        condition = self.of(node.arguments[1])
        del self.scope[variable]
        if condition is not None and condition.name != "bool":
            self.blame(
                _start(node.arguments[1]), f"{with_article(condition)} as the condition of {node.name}; expected true or false"
            )
        return _BOOL

    def has(self, node: CallNode) -> Type:
        if len(node.arguments) != 1 or not isinstance(node.arguments[0], Select):
            self.blame(node.at, "has takes one name with a point: has(facts.fits_pool)")
        else:
            self.of(node.arguments[0])
        return _BOOL

    def constant(self, node: CallNode) -> Type:
        """Read ``duration("2h")`` and ``timestamp("…Z")``: constants or parameters, so that they are wrong at load or never."""
        result = _DURATION if node.name == "duration" else _TIMESTAMP
        value = self.constant_argument(node)
        if value is None:
            return result
        if node.name == "timestamp":
            if not _is_instant(value):
                self.blame(node.at, f"{value!r} is not an instant in UTC; expected for example 2026-11-24T00:00:00Z")
            else:
                self.edits.append((node.at, node.end, f'timestamp("{value}")'))
        elif is_duration(value):
            seconds = round(parse_duration(value).total_seconds())
            self.edits.append((node.at, node.end, f'duration("{seconds}s")'))
        else:
            self.blame(
                node.at, f"{value!r} is not a duration; expected for example {format_duration(parse_duration('90m'))} or 2d"
            )
        return result

    def constant_argument(self, node: CallNode) -> str | None:
        argument = node.arguments[0] if len(node.arguments) == 1 else None
        if isinstance(argument, Literal) and isinstance(argument.value, str):
            return argument.value
        if isinstance(argument, Select) and isinstance(argument.operand, Ident) and argument.operand.name == "params":
            kind = self.param(argument)
            if kind is not None and kind.name == "string":
                return str(self.params[argument.name])
            if kind is None:
                return None
        self.blame(node.at, f'{node.name} takes one string or string parameter: {node.name}("…") or {node.name}(params.x)')
        return None


_SIGNATURES: Mapping[tuple[str, int], tuple[frozenset[str], ...]] = {
    ("size", 0): (frozenset({"string", "list", "map"}),),
    ("size", 1): (frozenset({"string", "list", "map"}),),
    ("int", 0): (frozenset({"int", "double", "string"}),),
    ("double", 0): (frozenset({"int", "double", "string"}),),
    ("string", 0): (frozenset({"int", "double", "string", "bool"}),),
    ("contains", 1): (frozenset({"string"}), frozenset({"string"})),
    ("startsWith", 1): (frozenset({"string"}), frozenset({"string"})),
    ("endsWith", 1): (frozenset({"string"}), frozenset({"string"})),
}
"""Function, number of operands before the point → allowed types, the operand first."""

_RESULTS: Mapping[str, Type] = {
    "size": _INT,
    "int": _INT,
    "double": _DOUBLE,
    "string": _STRING,
    "contains": _BOOL,
    "startsWith": _BOOL,
    "endsWith": _BOOL,
}


def _is_instant(text: str) -> bool:
    try:
        return text.endswith("Z") and datetime.fromisoformat(text).tzinfo is not None and "T" in text
    except ValueError:
        return False


def _literal(value: Any) -> Type:
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, int):
        return _INT
    return _DOUBLE if isinstance(value, float) else _STRING


def _named(kind: Type) -> str:
    return f"{kind} ({kind.about})" if kind.about else str(kind)


def _example(root: str) -> str:
    known = _CLOSED.get(root)
    return f"{root}.{next(iter(known))}" if known else f"{root}.name"


def _start(node: Node) -> int:
    """Return the offset of the leftmost character of a node."""
    match node:
        case Binary():
            return _start(node.left)
        case Ternary():
            return _start(node.condition)
        case Select() | Index():
            return _start(node.operand)
        case CallNode():
            return _start(node.operand) if node.operand is not None else node.at
        case _:
            return node.at

"""Syntax of ``when``: text to a small tree with positions.

The language is CEL (cel.dev), a subset: no map or message literals, no bytes, no unsigned numbers, no triple quotes, no regular
expressions. Never here: types (``expression_types``) or evaluation, which the CEL engine does on the same text.

The decision a reader would question: a parser of our own beside the engine's. The engine knows neither our names nor their types
and compares a string with a number as silently false; the tree is what a misspelt fact is found in, at its column, when rules load.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 2000
DEEPEST = 24


class ExpressionProblem(Exception):  # noqa: N818 - not an error by itself: it becomes a located RuleError
    """Something is wrong at an offset.

    Attributes:
        offset: 0-based character in the expression.
        problem: What is wrong, what was expected.
    """

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(problem)
        self.offset, self.problem = offset, problem


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    at: int
    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class Ident:
    """A bare name: a root such as ``facts``, or a variable of ``exists`` and ``all``."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """``operand.name``."""

    at: int
    operand: Node
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """``operand[index]``."""

    at: int
    operand: Node
    index: Node


@dataclass(frozen=True, slots=True)
class CallNode:
    """``name(arguments)`` or ``operand.name(arguments)``; ``end`` is the offset after the closing bracket."""

    at: int
    end: int
    operand: Node | None
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListNode:
    """``[a, b]``."""

    at: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """``!a`` or ``-a``."""

    at: int
    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """``a operator b``; ``at`` is the operator's."""

    at: int
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Ternary:
    """``condition ? then : otherwise``."""

    at: int
    condition: Node
    then: Node
    otherwise: Node


Node = Literal | Ident | Select | Index | CallNode | ListNode | Unary | Binary | Ternary


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+|//[^\n]*)
  | (?P<number>\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|0[xX][0-9a-fA-F]+|\d+)(?P<suffix>[uU])?
  | (?P<string>[rRbB]*(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>\|\||&&|==|!=|<=|>=|[<>!+\-*/%?:.,()\[\]])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_LEVELS: Sequence[tuple[str, ...]] = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))


def parse_expression(text: str) -> Node:
    """Read one expression.

    Raises:
        ExpressionProblem: Not CEL, or CEL that is not supported here; too long or too deep. The first problem only.

    Source: the CEL specification, "Syntax".
    """
    if len(text) > LONGEST:
        raise ExpressionProblem(0, f"the expression has {len(text)} characters; expected at most {LONGEST}")
    return _Parser(_tokens(text)).whole()


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionProblem(at, f"unexpected {text[at]!r}{_HINTS.get(text[at], '')}")
        if found["suffix"]:
            raise ExpressionProblem(at, f"unsigned numbers such as {found[0]} are not supported; write {found['number']}")
        kind = str(found.lastgroup)
        if kind != "space":
            tokens.append(_Token(kind, found[0], at))
        at = found.end()
    return [*tokens, _Token("end", "", len(text))]


_HINTS = {
    "=": "; equality is ==",
    "&": "; and is &&",
    "|": "; or is ||",
    "'": "; the string is not closed",
    '"': "; the string is not closed",
    "{": "; map literals are not supported",
    "$": "; ${...} belongs into arguments, here names stand bare: params.x",
}


class _Parser:
    """Recursive descent by precedence; a class because it holds its place in the tokens."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens, self.place, self.depth = tokens, 0, 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def whole(self) -> Node:
        node = self.expression()
        if self.next.kind != "end":
            raise self.unexpected("an operator or the end")
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpressionProblem(self.next.at, f"nested deeper than {DEEPEST} levels")
        node = self.binary(0)
        if (mark := self.next).text == "?" and mark.kind == "mark":
            self.place += 1
            then = self.binary(0)
            self.expect(":")
            node = Ternary(mark.at, node, then, self.expression())
        self.depth -= 1
        return node

    def binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.unary()
        node = self.binary(level + 1)
        while self.next.kind in {"mark", "word"} and self.next.text in _LEVELS[level]:
            operator = self.take()
            node = Binary(operator.at, operator.text, node, self.binary(level + 1))
        return node

    def unary(self) -> Node:
        if self.next.kind == "mark" and self.next.text in {"!", "-"}:
            operator = self.take()
            self.depth += 1
            if self.depth > DEEPEST:
                raise ExpressionProblem(operator.at, f"nested deeper than {DEEPEST} levels")
            operand = self.unary()
            self.depth -= 1
            return Unary(operator.at, operator.text, operand)
        return self.member()

    def member(self) -> Node:
        node = self.primary()
        while self.next.kind == "mark" and self.next.text in {".", "["}:
            mark = self.take()
            if mark.text == "[":
                node = Index(mark.at, node, self.expression())
                self.expect("]")
                continue
            name = self.take()
            if name.kind != "word":
                raise ExpressionProblem(name.at, f"expected a name after the point, found {name.text or 'the end'!r}")
            if self.is_mark("("):
                arguments = self.arguments()
                node = CallNode(name.at, self.end_of_last(), node, name.text, arguments)
            else:
                node = Select(name.at, node, name.text)
        return node

    def primary(self) -> Node:
        token = self.next
        if token.kind == "number":
            self.place += 1
            return Literal(token.at, _number(token))
        if token.kind == "string":
            self.place += 1
            return Literal(token.at, _string(token))
        if token.kind == "word":
            return self.named()
        if self.is_mark("("):
            self.place += 1
            node = self.expression()
            self.expect(")")
            return node
        if self.is_mark("["):
            self.place += 1
            return ListNode(token.at, self.until("]"))
        raise self.unexpected("a value")

    def named(self) -> Node:
        token = self.take()
        if token.text in {"true", "false"}:
            return Literal(token.at, token.text == "true")
        if token.text == "null":
            raise ExpressionProblem(token.at, "nothing is ever null; what is missing is unknown, ask has(...)")
        if token.text == "in":
            raise ExpressionProblem(token.at, "expected a value before in")
        if self.is_mark("("):
            arguments = self.arguments()
            return CallNode(token.at, self.end_of_last(), None, token.text, arguments)
        return Ident(token.at, token.text)

    def arguments(self) -> tuple[Node, ...]:
        self.expect("(")
        return self.until(")")

    def until(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self.is_mark(closing):
            items.append(self.expression())
            if not self.is_mark(closing):
                self.expect(",")
        self.place += 1
        return tuple(items)

    def take(self) -> _Token:
        token = self.next
        if token.kind != "end":
            self.place += 1
        return token

    def expect(self, mark: str) -> None:
        if not self.is_mark(mark):
            raise self.unexpected(repr(mark))
        self.place += 1

    def is_mark(self, mark: str) -> bool:
        return self.next.kind == "mark" and self.next.text == mark

    def end_of_last(self) -> int:
        last = self.tokens[self.place - 1]
        return last.at + len(last.text)

    def unexpected(self, expected: str) -> ExpressionProblem:
        found = repr(self.next.text) if self.next.text else "the end"
        return ExpressionProblem(self.next.at, f"expected {expected}, found {found}")


def _number(token: _Token) -> int | float:
    text = token.text
    if text[:2] in {"0x", "0X"}:
        return int(text, 16)
    if text.isdigit():
        if int(text) >= 1 << 63:
            raise ExpressionProblem(token.at, f"{text} is too large a number")
        return int(text)
    return float(text)


def _string(token: _Token) -> str:
    prefix = token.text[: len(token.text) - len(token.text.lstrip("rRbB"))].lower()
    body = token.text[len(prefix) + 1 : -1]
    if "b" in prefix:
        raise ExpressionProblem(token.at, "bytes are not supported; write a string")
    if prefix:
        raise ExpressionProblem(token.at, "raw strings are not supported; write a plain one")
    out: list[str] = []
    place = 0
    while place < len(body):
        if body[place] != "\\":
            out.append(body[place])
            place += 1
            continue
        escaped = body[place + 1]
        if escaped not in _ESCAPES:
            raise ExpressionProblem(token.at + 1 + place, f"unknown escape \\{escaped}; known are \\\\ \\\" \\' \\n \\t \\r")
        out.append(_ESCAPES[escaped])
        place += 2
    return "".join(out)

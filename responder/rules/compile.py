"""From a rule's document to a compiled ``Rule``, with every problem in it told at once.

Never here: files, several rules together (``load``), or the values behind names.

The decision a reader would question: the compiler also writes the expanded document back, with defaults, overrides and parameters put
in. That document is what an incident pins: compiled again, a week or a release later, it is the same rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from responder.model.alert import Severity, SourceKind
from responder.model.errors import RuleError
from responder.model.rule import Call, Match, PageWhen, Rule, Rung, TargetSpec
from responder.model.target import TargetKind
from responder.rules.calls import Blame, Setting, compile_call, grade_of, reference_problem, texts
from responder.rules.catalogue import Catalogue
from responder.rules.durations import format_duration
from responder.rules.expressions import CompiledExpression, compile_expression
from responder.rules.matchers import LabelMatchers, Matcher, parse_matcher
from responder.rules.parse import Parsed, Path
from responder.rules.schema import RuleDocument, RungDocument, empty_values, located
from responder.rules.substitute import malformed, references, substitute
from responder.rules.wording import shown

DEFAULT_HEALTHY: Mapping[TargetKind, tuple[str, ...]] = {
    TargetKind.POD: ("workload.available",),
    TargetKind.WORKLOAD: ("workload.available",),
    TargetKind.SERVICE: ("service.endpoints",),
    TargetKind.NODE: ("pods.rescheduled", "node_pool.at_count"),
    TargetKind.NODE_POOL: ("node_pool.at_count",),
    TargetKind.CLUSTER: ("cluster.reachable", "components.green"),
    TargetKind.NONE: ("alert.resolved",),
}
"""What proves recovery when a rule does not say; a region has none, its rule must say. Source: RULES.md "Actions"."""

APPROVALS = (0, 0, 0, 0, 1, 2)
"""People asked by grade 0 to 5. Source: RULES.md, key ``approve``."""


def compile_rule(
    document: Mapping[str, Any], *, catalogue: Catalogue, file: str = "<text>", positions: Parsed | None = None
) -> Rule:
    """Compile one rule.

    Args:
        document: As parsed from YAML, or the expanded document of a compiled rule.
        catalogue: The actions and checks that exist.
        file: For errors, and kept as ``Rule.file``.
        positions: Where its parts stand, when it came from a file.

    Raises:
        ExceptionGroup: Of ``RuleError``, one for each problem.
    """
    parsed = Parsed(file=file, data=document) if positions is None else positions
    rule, errors = compile_parsed(parsed, catalogue=catalogue)
    if rule is None or errors:
        raise ExceptionGroup(f"{file}: {len(errors)} problems", errors)
    return rule


def compile_parsed(parsed: Parsed, *, catalogue: Catalogue) -> tuple[Rule | None, list[RuleError]]:
    """Compile one parsed document; return the rule, or None and every problem, in the order of the file."""
    empty = {path: parsed.error("is empty; write a value or leave the key out", *path) for path in empty_values(parsed.data)}
    errors = list(empty.values())
    document = None
    if isinstance(parsed.data, Mapping):
        data = _without_empty(parsed.data)
        try:
            document = RuleDocument.model_validate(data)
        except ValidationError as error:
            wrong = {path: found for path, found in located(error, parsed, RuleDocument).items() if path not in empty}
            errors += wrong.values()
            document = _repaired(data, [*empty, *wrong])
    elif not errors:
        errors.append(parsed.error(f"{shown(parsed.data)} is not a rule; expected a mapping that begins with rule: name"))
    rule = None
    if document is not None:
        compiler = _Compiler(parsed, document, catalogue)
        rule = compiler.rule()
        errors += compiler.errors
    errors.sort(key=lambda error: (error.line, error.column))
    return (None, errors) if errors else (rule, [])


@dataclass
class _Compiler:
    """Compiles one document, collecting problems."""

    parsed: Parsed
    document: RuleDocument
    catalogue: Catalogue
    errors: list[RuleError] = field(default_factory=list)

    @property
    def kind(self) -> TargetKind:
        return TargetKind(self.document.target.kind)

    @property
    def setting(self) -> Setting:
        return Setting(catalogue=self.catalogue, target=self.kind, params=self.document.params)

    def blame(self, problem: str, *path: str | int, offset: int = 0) -> None:
        self.errors.append(self.parsed.error(problem, *path, offset=offset))

    def rule(self) -> Rule:
        document = self.document
        match = tuple(self.match(index) for index in range(len(document.match)))
        target = self.target()
        when = self.expression(document.when, "when")
        healthy = self.healthy()
        ladder = self.ladder()
        guards = self.guards()
        expanded = self.expanded(match=match, healthy=healthy, ladder=ladder, guards=guards)
        return Rule(
            name=document.rule,
            title=document.title,
            owner=document.owner,
            runbook=document.runbook,
            severity=Severity(document.severity) if document.severity else None,
            page=PageWhen(document.page) if document.page else None,
            priority=document.priority,
            params=document.params,
            match=match,
            target=target,
            when=when,
            healthy=healthy,
            hold=document.hold,
            reopen_within=document.reopen_within,
            guards=guards,
            ladder=ladder,
            document=expanded,
            digest=digest(expanded),
            file=self.parsed.file,
        )

    def match(self, index: int) -> Match:
        wanted = self.document.match[index]
        matchers = [self.matcher(text, index, place) for place, text in enumerate(wanted.labels)]
        good = tuple(matcher for matcher in matchers if matcher is not None)
        return Match(
            source=SourceKind(wanted.source) if wanted.source else None,
            names=frozenset(wanted.alert or ()),
            labels=LabelMatchers(good) if good else None,
            for_=wanted.for_,
        )

    def matcher(self, text: str, index: int, place: int) -> Matcher | None:
        for reference in references(text):
            if reference.root != "params" or reference.name not in self.document.params:
                known = ", ".join(f"${{params.{name}}}" for name in sorted(self.document.params)) or "none"
                self.blame(
                    f"${{{reference.root}.{reference.name}}} has no value here; known are {known}",
                    "match",
                    index,
                    "labels",
                    place,
                )
                return None
        try:
            return parse_matcher(str(substitute(text, {"params": self.document.params}, only="params")))
        except ValueError as error:
            self.blame(str(error), "match", index, "labels", place)
            return None

    def target(self) -> TargetSpec:
        wanted = self.document.target
        templates = {key: value for key in ("namespace", "name", "cluster") if (value := getattr(wanted, key)) is not None}
        if templates and self.kind is TargetKind.NONE:
            self.blame("target none has no namespace, name or cluster; use group_by to tell incidents apart", "target")
        if self.document.group_by and self.kind is not TargetKind.NONE:
            self.blame(f"group_by is for target none only; this rule's target is {self.kind}", "group_by")
        filled: dict[str, str] = {}
        for key, text in templates.items():
            put = substitute(text, {"params": self.document.params}, only="params")
            if not isinstance(put, str):
                self.blame(f"{shown(text)} is not text; expected a template such as ${{labels.{key}}}", "target", key)
                continue
            filled[key] = put
            if malformed(put) is not None:
                self.blame(f"{shown(text)} is not a template; expected ${{labels.{key}}}", "target", key)
            for reference in references(put):
                problem = reference_problem(reference, target=self.kind, roots=("labels", "alert"))
                if problem is not None:
                    self.blame(problem, "target", key)
        return TargetSpec(kind=self.kind, group_by=tuple(self.document.group_by), **filled)

    def expression(self, text: str | None, *path: str | int) -> CompiledExpression | None:
        if text is None:
            return None
        expression, problems = compile_expression(text, target=self.kind, params=self.document.params)
        for problem in problems:
            self.blame(problem.problem, *path, offset=problem.offset)
        return expression

    def healthy(self) -> tuple[Call, ...]:
        wanted = self.document.healthy
        if wanted is None:
            return self.default_healthy()
        calls = self.calls(wanted, ("healthy",), actions=False)
        seen: set[str] = set()
        for place, call in enumerate(calls):
            if call.canonical in seen:
                self.blame(f"{call.canonical} stands here twice", "healthy", place)
            seen.add(call.canonical)
        return calls

    def default_healthy(self) -> tuple[Call, ...]:
        names = DEFAULT_HEALTHY.get(self.kind)
        if names is None:
            self.blame(f"a rule for target {self.kind} must say what healthy is; expected healthy: [check, ...]", "target")
            return ()
        blame: Blame = lambda problem, _: self.blame(f"the default check: {problem}", "target")  # noqa: E731 - one line says it
        calls = (compile_call(name, {}, self.setting, blame, actions=False) for name in names)
        return tuple(call for call in calls if call is not None)

    def calls(self, wanted: Sequence[Mapping[str, Mapping[str, Any]]], base: Path, *, actions: bool) -> tuple[Call, ...]:
        """Compile calls; their paths follow the document as written, where one call needs no list and no arguments no mapping."""
        written = _at(self.parsed.data, base)
        compiled: list[Call] = []
        for place, call in enumerate(wanted):
            ((name, arguments),) = call.items()
            path: Path = (*base, place) if isinstance(written, list) else base
            inner: Path = (*path, name) if isinstance(_at(self.parsed.data, path), Mapping) else path

            def blame(problem: str, below: Path, inner: Path = inner) -> None:
                self.blame(problem, *inner, *below)

            found = compile_call(name, arguments, self.setting, blame, actions=actions)
            if found is not None:
                compiled.append(found)
        return tuple(compiled)

    def ladder(self) -> tuple[Rung, ...]:
        rungs: list[Rung] = []
        names: dict[str, int] = {}
        for index, wanted in enumerate(self.document.ladder):
            rung = self.rung(index, wanted)
            if rung.name in names:
                hint = "" if wanted.name else "; give this rung a name"
                self.blame(
                    f"the rung {rung.name} stands in the ladder twice, as {names[rung.name]} and {index}{hint}", "ladder", index
                )
            names.setdefault(rung.name, index)
            rungs.append(rung)
        return tuple(rungs)

    def rung(self, index: int, wanted: RungDocument) -> Rung:
        calls = self.calls(wanted.do, ("ladder", index, "do"), actions=True)
        if wanted.name is None and len(wanted.do) > 1:
            self.blame("a rung of several actions needs a name", "ladder", index)
        grade = max((grade_of(call, self.catalogue) for call in calls), default=0)
        needed = APPROVALS[min(grade, 5)]
        if wanted.approve is not None and wanted.approve < needed:
            self.blame(f"grade {grade} asks {needed}; a rule may only raise it", "ladder", index, "approve")
        if wanted.within <= timedelta(0):
            self.blame("0s proves nothing; expected for example 6m", "ladder", index, "within")
        return Rung(
            index=index,
            name=wanted.name or next(iter(wanted.do[0])),
            do=calls,
            when=self.expression(wanted.when, "ladder", index, "when"),
            approve=max(needed, wanted.approve or 0),
            within=wanted.within,
            grade=grade,
        )

    def guards(self) -> dict[str, Any]:
        wanted = self.document.guards
        return {} if wanted is None else wanted.model_dump(mode="json", exclude_none=True)

    def expanded(
        self, *, match: Sequence[Match], healthy: Sequence[Call], ladder: Sequence[Rung], guards: Mapping[str, Any]
    ) -> dict[str, Any]:
        document = self.document
        said: dict[str, Any] = {
            "rule": document.rule,
            "title": document.title,
            "owner": document.owner,
            "runbook": document.runbook,
            "severity": document.severity,
            "page": document.page,
            "priority": document.priority,
            "params": document.params,
            "match": [_match_document(alternative) for alternative in match],
            "target": self.target_document(),
            "group_by": list(document.group_by),
            "when": document.when,
            "healthy": [_call_document(call) for call in healthy],
            "hold": format_duration(document.hold),
            "reopen_within": format_duration(document.reopen_within),
            "guards": dict(guards),
            "ladder": [_rung_document(rung) for rung in ladder],
        }
        return {key: value for key, value in said.items() if value is not None and value not in ([], {})}

    def target_document(self) -> dict[str, str]:
        written = self.document.target.model_dump(exclude_none=True)
        return {key: str(substitute(value, {"params": self.document.params}, only="params")) for key, value in written.items()}


def digest(document: Mapping[str, Any]) -> str:
    """Return 32 hex digits over a document; the order of its keys does not matter."""
    said = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def labels_asked_for(rule: Rule) -> tuple[str, ...]:
    """Return the labels that a rule's target and arguments put in: what a person who opens an incident by hand is asked for."""
    templates: list[Any] = [rule.target.namespace, rule.target.name, rule.target.cluster]
    templates += [call.arguments for call in rule.healthy]
    templates += [call.arguments for rung in rule.ladder for call in rung.do]
    named = {reference.name for _, text in texts(templates) for reference in references(text) if reference.root == "labels"}
    return tuple(sorted(named))


def _match_document(match: Match) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if match.source is not None:
        said["source"] = match.source.value
    if match.names:
        said["alert"] = sorted(match.names)
    if isinstance(match.labels, LabelMatchers):
        said["labels"] = [matcher.text for matcher in match.labels.matchers]
    if match.for_:
        said["for"] = format_duration(match.for_)
    return said


def _call_document(call: Call) -> Any:
    return {call.name: dict(call.arguments)} if call.arguments else call.name


def _rung_document(rung: Rung) -> dict[str, Any]:
    said: dict[str, Any] = {"name": rung.name, "do": [_call_document(call) for call in rung.do]}
    if rung.when is not None:
        said["when"] = rung.when.text
    return said | {"approve": rung.approve, "within": format_duration(rung.within)}


def _at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _without_empty(data: Any) -> Any:
    """Return a copy without empty values, which are told separately; list items keep their places."""
    if isinstance(data, Mapping):
        return {key: _without_empty(value) for key, value in data.items() if value is not None}
    return [_without_empty(item) for item in data] if isinstance(data, list) else data


_STAND_INS: Mapping[str, Any] = {
    "rule": "stand-in",
    "title": "stand-in",
    "owner": "stand-in",
    "runbook": "https://stand-in.invalid",
    "within": "1m",
    "match": [{}],
}


def _repaired(data: Any, wrong: Sequence[Path]) -> RuleDocument | None:
    """Return the document with what is wrong left out or stood in for, so that the rest is checked too; None if that is not possible."""
    for path in wrong:
        holder, last = _at(data, path[:-1]), path[-1] if path else None
        if not isinstance(holder, dict) or not isinstance(last, str):
            return None
        holder.pop(last, None)
        if last in _STAND_INS and (len(path) == 1 or last == "within"):
            holder[last] = _STAND_INS[last]
    try:
        return RuleDocument.model_validate(data)
    except ValidationError:
        return None

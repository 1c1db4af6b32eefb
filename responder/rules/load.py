"""Loading a whole set of rules: all of it, or every error of every file.

Never here: reloading, or which set is in force (``service``).

The decision a reader would question: this is the one place of the core that reads files. ``load_texts`` is the pure part; ``load_rules`` only
fetches the texts, so that an error always has the path that a person can open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from responder.model.errors import RuleError
from responder.model.rule import Rule
from responder.rules.advice import RuleWarning, warnings_of
from responder.rules.catalogue import Catalogue
from responder.rules.compile import compile_parsed
from responder.rules.overrides import RuleOverride, overridden
from responder.rules.parse import Parsed, parse

SUFFIXES = (".yaml", ".yml")
TEST_SUFFIXES = (".test.yaml", ".test.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRules:
    """A set of rules that loaded without an error.

    Attributes:
        rules: By name, ascending.
        warnings: What ``responder check`` prints beside.
        digest: Of all documents; the same rules have the same digest wherever they were read from.
    """

    rules: tuple[Rule, ...]
    warnings: tuple[RuleWarning, ...]
    digest: str


def load_rules(
    paths: Sequence[Path | str],
    *,
    catalogue: Catalogue,
    overrides: Mapping[str, RuleOverride] | None = None,
    settings: str = "responder.yaml",
) -> LoadedRules:
    """Read and compile rule files.

    Args:
        paths: Files, or directories whose ``*.yaml`` are read (not ``*.test.yaml``, nothing under a name that begins with a dot: a
            mounted ConfigMap has the same files there again).
        catalogue: The actions and checks that exist.
        overrides: ``rules:`` of responder.yaml, by rule name.
        settings: The file that the overrides came from, for errors.

    Raises:
        ExceptionGroup: Of ``RuleError``: every error of every file, unreadable files included.
    """
    texts: dict[str, str] = {}
    errors: list[RuleError] = []
    for path in map(Path, paths):
        if not path.exists():
            errors.append(RuleError("there is no such file or directory", file=str(path)))
        for file in rule_files(path):
            try:
                texts[str(file)] = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                errors.append(RuleError(f"cannot be read as UTF-8 text: {error}", file=str(file)))
    return load_texts(texts, catalogue=catalogue, overrides=overrides, settings=settings, errors=errors)


def load_texts(
    texts: Mapping[str, str],
    *,
    catalogue: Catalogue,
    overrides: Mapping[str, RuleOverride] | None = None,
    settings: str = "responder.yaml",
    errors: Iterable[RuleError] = (),
) -> LoadedRules:
    """Compile rule files that were already read; as ``load_rules``, with ``texts`` by file name and errors found so far."""
    found = list(errors)
    overrides = overrides or {}
    rules: dict[str, Rule] = {}
    parsed_by_rule: dict[str, Parsed] = {}
    named: set[str] = set()
    for file, text in texts.items():
        try:
            parsed = parse(text, file=file)
        except RuleError as error:
            found.append(error)
            named.add(_stem(file))
            continue
        name = parsed.data.get("rule") if isinstance(parsed.data, dict) else None
        named.add(str(name))
        parsed, problems = _overridden(parsed, overrides.get(str(name)), str(name), settings)
        rule, wrong = compile_parsed(parsed, catalogue=catalogue)
        found += [*problems, *wrong]
        if isinstance(name, str) and name != _stem(file):
            found.append(parsed.error(f"{name!r} differs from the file's name; expected {_stem(file)}", "rule"))
        if rule is not None:
            if rule.name in rules:
                found.append(parsed.error(f"the rule {rule.name} already stands in {rules[rule.name].file}", "rule"))
            rules[rule.name], parsed_by_rule[rule.name] = rule, parsed
    found += [
        RuleError(f"there is no rule {name}; known are {', '.join(sorted(named))}", file=settings, path=f"rules.{name}")
        for name in sorted(set(overrides) - named)
    ]
    if found:
        raise ExceptionGroup(f"{len(found)} problems in {len({error.file for error in found})} files", found)
    ordered = tuple(rules[name] for name in sorted(rules))
    warnings = tuple(_placed(warning, parsed_by_rule[warning.rule]) for warning in warnings_of(ordered))
    return LoadedRules(rules=ordered, warnings=warnings, digest=_digest(ordered))


def rule_files(path: Path) -> tuple[Path, ...]:
    """Return the rule files at a path, ascending: itself if it is a file, else those below it; () when there is nothing."""
    return tuple(file for file in _yaml_files(path) if not file.name.endswith(TEST_SUFFIXES))


def test_files(path: Path) -> tuple[Path, ...]:
    """Return the rule test files (``*.test.yaml``) at a path, ascending."""
    return tuple(file for file in _yaml_files(path) if file.name.endswith(TEST_SUFFIXES))


test_files.__test__ = False  # type: ignore[attr-defined] # pytest must not take it for a test


def _yaml_files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return (path,)
    below = (file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    return sorted(file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts))


def _overridden(parsed: Parsed, override: RuleOverride | None, name: str, settings: str) -> tuple[Parsed, list[RuleError]]:
    if override is None:
        return parsed, []
    data, problems = overridden(parsed.data, override)
    errors = [RuleError(problem, file=settings, path=f"rules.{name}.{key}") for key, problem in problems.items()]
    return replace(parsed, data=data), errors


def _placed(warning: RuleWarning, parsed: Parsed) -> RuleWarning:
    path = tuple(int(part) if part.isdigit() else part for part in warning.path.split("."))
    position = parsed.position(path)
    return replace(warning, line=position.line, column=position.column)


def _stem(file: str) -> str:
    return Path(file).name.removesuffix(".yml").removesuffix(".yaml")


def _digest(rules: Iterable[Rule]) -> str:
    return hashlib.blake2b("\n".join(f"{rule.name} {rule.digest}" for rule in rules).encode(), digest_size=16).hexdigest()

"""The rules in force: loaded whole or not at all; the last good set stays.

Never here: the language (``rules``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from responder.model.rule import Rule
from responder.model.target import Target
from responder.ports import Clock
from responder.rules.arming import ActEntry, is_armed
from responder.rules.catalogue import Catalogue
from responder.rules.index import RuleIndex
from responder.rules.load import load_rules
from responder.rules.overrides import RuleOverride
from responder.telemetry import Metrics, logger


class Rulebook:
    """Holds the rules in force and reloads them.

    Attributes:
        index: For matching.
        rules: By name.
        problems: Of the last load that failed; empty when the last load worked.
        loaded_at: When the rules in force were loaded.
    """

    def __init__(
        self,
        *,
        paths: Sequence[Path],
        catalogue: Catalogue,
        act: Sequence[ActEntry],
        overrides: Mapping[str, RuleOverride],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._paths = tuple(paths)
        self._catalogue = catalogue
        self._act = tuple(act)
        self._overrides = overrides
        self._clock = clock
        self._metrics = metrics
        self.rules: Mapping[str, Rule] = {}
        self.index = RuleIndex([])
        self.problems: tuple[str, ...] = ()
        self.loaded_at: datetime | None = None

    def load(self) -> bool:
        """Load all rules; on any error keep the last good set, log every error, and return False."""
        try:
            loaded = load_rules(self._paths, catalogue=self._catalogue, overrides=self._overrides)
        except ExceptionGroup as group:
            self.problems = tuple(str(error) for error in _flat(group))
            self._metrics.rules_ok.set(0)
            logger().error("rules_refused", problems=self.problems)
            return False
        self.rules = {rule.name: rule for rule in loaded.rules}
        self.index = RuleIndex(loaded.rules)
        self.problems = ()
        self.loaded_at = self._clock.now()
        self._metrics.rules_ok.set(1)
        self._metrics.rules_at.set(self.loaded_at.timestamp())
        logger().info("rules_loaded", rules=sorted(self.rules), armed=[str(entry) for entry in self._act])
        return True

    def armed(self, rule: str, target: Target) -> bool:
        """Tell whether ``act:`` arms this rule for this target; a rule that is gone is not armed."""
        return rule in self.rules and is_armed(self._act, rule, target)


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found

"""Rules pinned into incidents, compiled once per digest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from responder.model.incident import Incident
from responder.model.rule import Rule
from responder.ports import Store
from responder.rules.catalogue import Catalogue
from responder.rules.compile import compile_rule

MOST_KEPT = 2_000


class Pins:
    """Compiles pinned documents and keeps the compiled rules by digest, the least recently used dropped first."""

    def __init__(self, *, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue
        self._kept: OrderedDict[str, Rule] = OrderedDict()

    def compile(self, digest: str, document: Mapping[str, Any]) -> Rule:
        """Return the compiled rule of a pinned document."""
        rule = self._kept.get(digest)
        if rule is None:
            rule = compile_rule(document, catalogue=self._catalogue)
            self._kept[digest] = rule
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return rule

    async def rules(self, incident: Incident) -> dict[str, Rule]:
        """Return an incident's candidates, compiled, by name."""
        missing = [one.digest for one in incident.candidates if one.digest not in self._kept]
        documents = await self._store.pinned(missing) if missing else {}
        found: dict[str, Rule] = {}
        for candidate in incident.candidates:
            if candidate.digest in self._kept:
                found[candidate.rule] = self.compile(candidate.digest, {})
            elif candidate.digest in documents:
                found[candidate.rule] = self.compile(candidate.digest, documents[candidate.digest])
        return found

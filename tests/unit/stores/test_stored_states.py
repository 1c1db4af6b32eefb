"""What releases have stored: a corpus of each (``tests/crash/states.py`` makes it), read by this one and, gone back to, by that one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from responder.model.incident import STATE_VERSION, Incident, Phase
from responder.stores.sql.codec import WRITTEN_VERSION, pack_incident, unpack_incident

CORPUS = sorted((Path(__file__).parent / "states").glob("*.jsonl"))
STORED = [(path.stem, json.loads(line)) for path in CORPUS for line in path.read_text().splitlines()]


def test_there_is_a_corpus_and_it_has_every_phase() -> None:
    """A corpus of nothing proves nothing."""
    assert {one["state"]["phase"] for _, one in STORED} >= {str(phase) for phase in Phase} - {"closed"}


@pytest.mark.parametrize(
    ("release", "stored"), STORED, ids=[f"{release} {one['state']['phase']} {one['state']['reason']}" for release, one in STORED]
)
def test_what_a_release_stored_is_read_and_can_be_read_by_it_again(release: str, stored: dict[str, Any]) -> None:
    """Lifted here; and what is written back says all that it said, as long as its version is still written."""
    incident = unpack_incident(json.dumps(stored["state"]).encode(), stored["state_v"])

    assert isinstance(incident, Incident)
    if stored["state_v"] == WRITTEN_VERSION <= STATE_VERSION:
        again = json.loads(pack_incident(incident))
        assert {name: again.get(name) for name in stored["state"]} == stored["state"], release

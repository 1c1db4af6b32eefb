"""Log events are constants from one list."""

from __future__ import annotations

import re
from pathlib import Path

from responder.model.reason import SENTENCES, Reason
from responder.telemetry import EVENTS

SOURCE = Path(__file__).resolve().parents[2] / "responder"


def test_every_logged_event_is_in_the_vocabulary() -> None:
    """Found in the source by how the logger is called."""
    logged = {
        name for path in SOURCE.rglob("*.py") for name in re.findall(r"logger\(\)\.\w+\(\s*\"([a-z_]+)\"", path.read_text())
    }

    assert logged
    assert logged <= EVENTS


def test_every_reason_has_its_sentence() -> None:
    """The same word in the audit record, the log, the metric and the page."""
    assert set(SENTENCES) == set(Reason)

"""Understands what senders send: pure functions from parsed JSON to alerts. Never here: HTTP, the store, rules.

The decision a reader would question: a body that is not understood is a value and not an exception. A 4xx would lose the alert (Azure
Monitor never repeats one), so everything that is JSON is kept, flagged and listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from responder.model.alert import Normalised, SourceKind
from responder.ports import Understands
from responder.sources import alertmanager, any_format, azure_monitor, event_grid, own

SOURCES: Mapping[SourceKind, Understands] = {
    SourceKind.ALERTMANAGER: alertmanager.alerts_of,
    SourceKind.AZURE_MONITOR: azure_monitor.alerts_of,
    SourceKind.KUBERNETES: own.watched,
    SourceKind.RESPONDER: own.ourselves,
    SourceKind.EVENT_GRID: event_grid.alerts_of,
    SourceKind.SERVICE_BUS: any_format.alerts_of,
}
"""What each kind of delivery is read with; one from Service Bus may be of any format, and its alerts say of which."""


def read(kind: SourceKind, body: bytes, *, source_name: str, received_at: datetime) -> Normalised:
    """Return the alerts of a body as it was received; it is JSON (``service.intake``). Never raises for what a body holds. Implements ``ports.Reads``."""
    if kind is SourceKind.ALERTMANAGER and (found := alertmanager.plain(body, source_name=source_name)) is not None:
        return found
    try:
        parsed = msgspec.json.decode(body)
    except msgspec.ValidationError as problem:  # JSON it is, but with a number that no number here holds
        return Normalised(understood=False, why=f"the body cannot be read: {problem}")
    return SOURCES[kind](parsed, source_name=source_name, received_at=received_at)


__all__ = ["SOURCES", "read"]

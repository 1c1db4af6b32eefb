"""Understands what senders send: pure functions from parsed JSON to alerts. Never here: HTTP, the store, rules.

The decision a reader would question: a body that is not understood is a value and not an exception. A 4xx would lose the alert (Azure
Monitor never repeats one), so everything that is JSON is kept, flagged and listed.
"""

from __future__ import annotations

from collections.abc import Mapping

from responder.model.alert import SourceKind
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

__all__ = ["SOURCES"]

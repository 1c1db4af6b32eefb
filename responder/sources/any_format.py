"""Whatever comes by a road that carries every format, such as a Service Bus queue: each event is told by its shape. Pure.

The decision a reader would question: the format is told by the body and not configured. A queue is fed by several Event Grid
subscriptions and Logic Apps over the years; a wrong setting would lose what a look at the body never mistakes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from responder.model.alert import Alert, Normalised
from responder.ports import Understands
from responder.sources import alertmanager, azure_monitor, event_grid
from responder.sources.normalised import mapping, unknown


def alerts_of(body: Any, *, source_name: str, received_at: datetime) -> Normalised:
    """Return the alerts of a body: one event or an array of them, in any mixture of the known formats.

    An event whose data is an alert of a known format (a Logic App's wrapping) is taken as that alert.
    """
    events = body if isinstance(body, list) else [body]
    gaps: list[str] = []
    alerts: list[Alert] = []
    shapes: list[str] = []
    for place, one in enumerate(events):
        found = _format(one)(_inner(one), source_name=source_name, received_at=received_at)
        where = f"[{place}] " if len(events) > 1 else ""
        if not found.understood:
            gaps.append(f"{where}is not understood: {found.why}")
            continue
        gaps += [f"{where}{gap}" for gap in found.gaps]
        alerts += found.alerts
        shapes.append(found.shape)
    if not shapes:
        return unknown("; ".join(gaps)[:2000] or "an empty array")
    return Normalised(alerts=tuple(alerts), gaps=tuple(gaps), shape="+".join(dict.fromkeys(shapes)))


def _format(one: Any) -> Understands:
    inner = _inner(one)
    if event_grid.is_event(inner):
        return event_grid.alerts_of
    return alertmanager.alerts_of if isinstance(mapping(inner).get("alerts"), list) else azure_monitor.alerts_of


def _inner(one: Any) -> Any:
    """Return an event's data where that is an alert itself, else the event."""
    data = mapping(mapping(one).get("data"))
    if not event_grid.is_event(one):
        return one
    is_common = data.get("schemaId") == "azureMonitorCommonAlertSchema"
    alerts = data.get("alerts")
    is_webhook = (
        isinstance(alerts, list) and bool(alerts) and all(isinstance(mapping(each).get("labels"), dict) for each in alerts)
    )
    return data if is_common or is_webhook else one

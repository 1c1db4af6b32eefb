"""For what a sender may speak: the Azure subscriptions and topics that a source is bound to. Pure.

A token of an action group or of Event Grid proves only that *some* action group or subscription of the tenant sent it (protocols.md 1.7): whoever may
create one anywhere in the tenant could name our resources. So a source may be bound, and what goes beyond is kept, listed and never acted on.

The decision a reader would question: it is judged when an alert is routed and not at the door. A 403 is never repeated by Azure, and a subscription
forgotten in the configuration would lose alerts without a trace; so they are stored, and ``GET /v1/alerts?why=not_entitled`` shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from responder.model.alert import Alert, SourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What a source may speak for.

    Attributes:
        subscriptions: Lower-cased ids; empty for any. With some, an alert must name at least one and no other.
        topics: Lower-cased ARM ids without a slash at the end; empty for any. An event's topic (CloudEvents: source) must be one of them or lie below one.
    """

    subscriptions: frozenset[str] = frozenset()
    topics: tuple[str, ...] = ()


def below(topic: str, allowed: Sequence[str]) -> bool:
    """Tell whether an ARM id is one of these or lies below one, in any case; only at a slash: ``/a/bc`` is not below ``/a/b``."""
    said = topic.lower().rstrip("/")
    return any(said == one or said.startswith(f"{one}/") for one in allowed)


def overreach(alert: Alert, entitled: Entitlement) -> str:
    """Return why an alert speaks for more than its source may, for people; "" when it does not."""
    if alert.source is SourceKind.EVENT_GRID and entitled.topics:
        topic = alert.labels.get("event_origin", "")
        if not below(topic, entitled.topics):
            return f"topic {topic or '(none)'} is not one of sources.{alert.source_name}.topics"
    if entitled.subscriptions:
        if not alert.subscriptions:
            return f"it names no subscription, and sources.{alert.source_name}.subscriptions allows only some"
        others = [one for one in alert.subscriptions if one not in entitled.subscriptions]
        if others:
            return f"it speaks for subscription {', '.join(others[:3])}, which is not one of sources.{alert.source_name}.subscriptions"
    return ""

"""For what a source may speak."""

from __future__ import annotations

import pytest

from responder.model.alert import Alert, SourceKind
from responder.policy.entitlement import Entitlement, below, overreach
from responder.sources import azure_monitor, event_grid
from tests import builders as make

OURS, THEIRS = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


def azure(*, alert: str = OURS, target: str = OURS, rule: str = OURS) -> Alert:
    essentials = {
        "alertId": f"/subscriptions/{alert}/providers/Microsoft.AlertsManagement/alerts/1",
        "alertRule": "r",
        "alertRuleID": f"/subscriptions/{rule}/resourceGroups/x/providers/microsoft.insights/metricAlerts/r",
        "monitorCondition": "Fired",
        "monitoringService": "Platform",
        "alertTargetIDs": [
            f"/subscriptions/{target.upper()}/resourceGroups/x/providers/Microsoft.ContainerService/managedClusters/c"
        ],
    }
    body = {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": essentials, "alertContext": {}}}
    return azure_monitor.alerts_of(body, source_name="ag", received_at=make.NOON).alerts[0]


@pytest.mark.parametrize(
    ("alert", "allowed"),
    [
        (azure(), True),
        (azure(alert=THEIRS), False),
        (azure(target=THEIRS), False),
        (azure(rule=THEIRS), False),
        (make.alert(), False),
    ],
    ids=["all ours", "another's alert", "another's resource", "another's rule", "no subscription at all"],
)
def test_every_subscription_that_a_body_names_must_be_its_sources(alert: Alert, allowed: bool) -> None:
    """Its own, its rule's, its targets'; in any case."""
    assert (overreach(alert, Entitlement(subscriptions=frozenset({OURS}))) == "") is allowed
    assert overreach(alert, Entitlement()) == ""


def event(topic: str) -> Alert:
    body = {"id": "1", "topic": topic, "subject": "c", "eventType": "T", "data": {}, "eventTime": "2026-11-25T10:00:00Z"}
    return event_grid.alerts_of(body, source_name="grid", received_at=make.NOON).alerts[0]


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        (f"/subscriptions/{OURS}", True),
        (f"/SUBSCRIPTIONS/{OURS}/resourceGroups/x/providers/Microsoft.ContainerService/managedClusters/c", True),
        (f"/subscriptions/{OURS}0/resourceGroups/x", False),
        (f"/subscriptions/{THEIRS}", False),
        ("urn:bridge", False),
        ("", False),
    ],
)
def test_an_event_comes_from_a_topic_of_its_source_or_below(topic: str, allowed: bool) -> None:
    """At a slash, in any case; no topic is none of ours."""
    entitled = Entitlement(topics=(f"/subscriptions/{OURS}",))

    assert (overreach(event(topic), entitled) == "") is allowed
    assert below(topic, entitled.topics) is allowed


def test_topics_bind_events_alone() -> None:
    """An alert of another format by the same source has no topic."""
    assert make.alert().source is not SourceKind.EVENT_GRID
    assert overreach(make.alert(), Entitlement(topics=("/subscriptions/x",))) == ""

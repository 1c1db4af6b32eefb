"""Azure Monitor's action-group webhook: common and legacy schemas. Source: protocols.md 1.1 to 1.8; labels: FACTS.md.

The receiver entry of the action group decides which body arrives, so one endpoint gets them all. Anything unknown in a known envelope
degrades to its essentials.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from responder.model.alert import Alert, AlertStatus, Normalised, SourceKind, fingerprint, severity_of
from responder.sources.normalised import instant, labels_of, lookup, mapping, number, sequence, subscriptions_of, text, unknown

TEST_SUBSCRIPTIONS = ("11111111-1111-1111-1111-111111111111", "aaaa0a0a-bb1b-cc2c-dd3d-eeeeee4e4e4e")
TEST_IDS = ("/12345678-1234-1234-1234-1234567890ab", "/test_alert")
_ARM = re.compile(r"^/subscriptions/[^/]+", re.IGNORECASE)
_TYPE = re.compile(r"/providers/([^/]+)/([^/]+)/([^/]+)$", re.IGNORECASE)
_GROUP = re.compile(r"/resourcegroups/([^/]+)", re.IGNORECASE)

STATELESS_SERVICES = ("activity log", "servicehealth", "resourcehealth", "costalerts", "smartdetector")


@dataclass(slots=True)
class _Draft:
    """An alert while it is being put together."""

    shape: str
    name: str = ""
    status: AlertStatus = AlertStatus.FIRING
    severity: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    identity: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    value: float | None = None
    targets: list[str] = field(default_factory=list)
    spoken_by: list[str] = field(default_factory=list)
    resolves: bool = True
    final: bool = False
    test: bool = False
    link: str = ""


def alerts_of(body: Any, *, source_name: str, received_at: datetime) -> Normalised:
    """Return the alerts of a webhook body; one body is one alert."""
    data = mapping(body)
    gaps: list[str] = []
    draft = _draft(data)
    if draft is None:
        return unknown(f"no shape that Azure Monitor is known to send (keys: {', '.join(list(map(str, data))[:8]) or 'none'})")
    return Normalised(alerts=(_alert(draft, source_name, received_at, gaps),), gaps=tuple(gaps), shape=draft.shape)


def _draft(data: Mapping[str, Any]) -> _Draft | None:
    """Tell the shape in the order of protocols.md 1.1."""
    schema = text(lookup(data, "schemaId"))
    inner = mapping(data.get("data"))
    if schema == "azureMonitorCommonAlertSchema" and (inner or "essentials" in data):
        return _common(inner or data)
    known: dict[str, Callable[[Mapping[str, Any]], _Draft]] = {
        "AzureMonitorMetricAlert": _legacy_metric,
        "Microsoft.Insights/activityLogs": _legacy_activity,
        "Microsoft.Insights/LogAlert": lambda one: _legacy_log(one, "azure-legacy-log-v1-appinsights"),
        "AIP Budget Notification": _budget,
    }
    if schema in known and inner:
        return known[schema](inner)
    if "AlertRuleName" in data and "SearchQuery" in data:
        return _legacy_log(data, "azure-legacy-log-v1")
    if "status" in data and isinstance(data.get("context"), dict):
        return _classic(data)
    properties = mapping(data.get("properties"))
    if isinstance(properties.get("essentials"), dict) and text(lookup(mapping(properties["essentials"]), "monitorService")):
        return _alerts_management(data, properties)
    if isinstance(data.get("essentials"), dict) and text(mapping(data["essentials"]).get("alertId")):
        return _common(data)
    return None


# --- the common schema


def _common(data: Mapping[str, Any]) -> _Draft:
    essentials, context = mapping(data.get("essentials")), mapping(data.get("alertContext"))
    service = text(essentials.get("monitoringService"))
    kind = service.lower().replace("resource health", "resourcehealth")
    rule = text(essentials.get("alertRule"))
    fired_at = text(essentials.get("firedDateTime"))
    draft = _Draft(
        shape="azure-common",
        name=rule.rsplit("/", 1)[-1],
        severity=text(essentials.get("severity")),
        started_at=instant(fired_at),
        ended_at=instant(essentials.get("resolvedDateTime")),
        final=True,
        link=text(essentials.get("investigationLink")),
    )
    draft.status = AlertStatus.RESOLVED if text(essentials.get("monitorCondition")).lower() == "resolved" else AlertStatus.FIRING
    draft.labels["monitor"] = "ResourceHealth" if kind == "resourcehealth" else service
    draft.targets = [text(one) for one in sequence(essentials.get("alertTargetIDs")) if text(one)]
    items = [text(one) for one in sequence(essentials.get("configurationItems")) if text(one)]
    _place(draft, items)
    if draft.resolves and kind.startswith(STATELESS_SERVICES):
        draft.resolves = kind == "smartdetector" and draft.status is AlertStatus.RESOLVED
    description = text(essentials.get("description"))
    if description:
        draft.annotations["description"] = description
    _context(draft, kind, context, items)
    for properties in (mapping(context.get("properties")), mapping(data.get("customProperties"))):
        if properties is not mapping(context.get("properties")) or kind in {"log alerts v2", "platform"}:
            for name, value in properties.items():
                if text(value):
                    draft.labels.setdefault(str(name), text(value))
    draft.identity = _identity(essentials, context, kind)
    draft.spoken_by = [text(essentials.get("alertId")), text(lookup(essentials, "alertRuleId"))]
    draft.test = _is_test(essentials, context)
    if not draft.name:
        draft.name = text(context.get("AlertCategory")) or text(mapping(context.get("AlertData")).get("BudgetName")) or service
    return draft


def _identity(essentials: Mapping[str, Any], context: Mapping[str, Any], kind: str) -> str:
    """Return the lower-cased alertId; where that is a rule's or a constant, what makes the event one is added."""
    alert_id = text(essentials.get("alertId")).lower()
    rule_like = "/microsoft.alertsmanagement/alerts/" not in alert_id or alert_id.endswith(TEST_IDS)
    if rule_like or kind.startswith(("activity log", "resourcehealth", "servicehealth")):
        more = [text(context.get("eventDataId")), text(context.get("correlationId")), text(essentials.get("firedDateTime"))]
        more += [text(mapping(context.get("properties")).get("communicationId"))]
        return "/".join([alert_id, *[one for one in more if one]])
    return alert_id


def _is_test(essentials: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    """Recognise the action group's own test. Source: protocols.md 1.8."""
    alert_id = text(essentials.get("alertId")).lower()
    rule = text(essentials.get("alertRule")).lower()
    properties = mapping(context.get("properties"))
    subscription = any(one in alert_id for one in TEST_SUBSCRIPTIONS)
    constant = alert_id.endswith(TEST_IDS)
    synthetic = text(properties.get("IsSynthetic")).lower() == "true" or text(properties.get("trackingId")).upper().startswith(
        "TEST-"
    )
    targets = [text(one) for one in sequence(essentials.get("alertTargetIDs"))]
    in_test = any(sub in target for sub in TEST_SUBSCRIPTIONS for target in targets)
    return subscription or constant or synthetic or (in_test and rule.startswith("test-"))


def _context(draft: _Draft, kind: str, context: Mapping[str, Any], items: Sequence[str]) -> None:
    if kind == "prometheus":
        _prometheus(draft, context, items)
    elif "condition" in context or kind in {"platform", "log alerts v2"}:
        _condition(draft, context)
    elif kind in {"log analytics", "application insights"}:
        _log_v1(draft, context)
    elif kind == "servicehealth":
        _service_health(draft, mapping(context.get("properties")), context)
    elif kind == "resourcehealth":
        _resource_health(draft, mapping(context.get("properties")), context)
    elif kind.startswith("activity log"):
        _activity(draft, context)
    elif kind == "smartdetector":
        draft.value = number(context.get("DetectedValue"))
        _annotate(draft, context, ("DetectionSummary", "DetectedValue", "NormalValue", "SmartDetectorName"))
    elif kind == "costalerts":
        details = mapping(context.get("AlertData"))
        draft.labels |= {"budget": text(details.get("BudgetName")), "threshold_type": text(details.get("ThresholdType"))}
        draft.value = number(text(details.get("SpentAmount")).replace("$", ""))


def _prometheus(draft: _Draft, context: Mapping[str, Any], items: Sequence[str]) -> None:
    draft.shape = "azure-common-prometheus"
    own = {str(name): text(value) for name, value in mapping(context.get("labels")).items()}
    monitor = draft.labels["monitor"]
    draft.labels = {**draft.labels, **own, "monitor": monitor}
    draft.name = own.get("alertname") or draft.name
    if items and "cluster" not in draft.labels and not items[0].startswith("/"):
        draft.labels["cluster"] = items[0]
    draft.annotations |= {str(name): text(value) for name, value in mapping(context.get("annotations")).items()}
    draft.value = number(context.get("expressionValue"))
    named = next((value for name, value in own.items() if name.lower().replace(".", "").endswith("microsoftresourceid")), "")
    if named:
        draft.targets.insert(0, named)


def _condition(draft: _Draft, context: Mapping[str, Any]) -> None:
    condition = mapping(context.get("condition"))
    conditions = [mapping(one) for one in sequence(condition.get("allOf"))]
    for place, one in enumerate(conditions):
        for dimension in sequence(one.get("dimensions")):
            pair = mapping(dimension)
            if text(pair.get("name")):
                draft.labels.setdefault(text(pair.get("name")), text(pair.get("value")))
        if place == 0:
            _named(draft, one)
        for row in sequence(one.get("event")):
            for cell in sequence(row):
                pair = mapping(cell)
                if text(pair.get("name")):
                    draft.labels.setdefault(text(pair.get("name")), text(pair.get("value")))


def _named(draft: _Draft, one: Mapping[str, Any]) -> None:
    draft.value = number(one.get("metricValue"))
    for label, key in (("metric", "metricName"), ("metric_namespace", "metricNamespace"), ("web_test", "webTestName")):
        if text(one.get(key)):
            draft.labels[label] = text(one.get(key))
    _annotate(draft, one, ("operator", "threshold", "timeAggregation", "searchQuery"))
    draft.link = draft.link or text(one.get("linkToSearchResultsUI")) or text(one.get("linkToFilteredSearchResultsUI"))


def _log_v1(draft: _Draft, context: Mapping[str, Any]) -> None:
    draft.value = number(context.get("ResultCount"))
    for dimension in sequence(context.get("Dimensions")):
        pair = mapping(dimension)
        if text(pair.get("name")):
            draft.labels.setdefault(text(pair.get("name")), text(pair.get("value")))
    _annotate(draft, context, ("SearchQuery", "Threshold", "Operator", "AlertType", "SeverityDescription"))
    draft.link = draft.link or text(context.get("LinkToSearchResults"))


def _service_health(draft: _Draft, properties: Mapping[str, Any], context: Mapping[str, Any]) -> None:
    draft.labels |= {
        "region": text(properties.get("region")),
        "incident_type": text(properties.get("incidentType")),
        "stage": text(properties.get("stage")),
        "tracking_id": text(properties.get("trackingId")),
        "service": text(properties.get("service")),
    }
    _annotate(draft, properties, ("title", "communication", "impactStartTime", "impactMitigationTime"))
    draft.started_at = draft.started_at or instant(context.get("eventTimestamp"))


def _resource_health(draft: _Draft, properties: Mapping[str, Any], context: Mapping[str, Any]) -> None:
    """Recovery arrives as another Fired that says Available; as a firing of its own it would never end."""
    health = text(properties.get("currentHealthStatus"))
    draft.labels |= {
        "health": health,
        "previous_health": text(properties.get("previousHealthStatus")),
        "health_cause": text(properties.get("cause")),
        "health_type": text(properties.get("type")),
    }
    _annotate(draft, properties, ("title", "details"))
    draft.started_at = draft.started_at or instant(context.get("eventTimestamp"))


def _activity(draft: _Draft, context: Mapping[str, Any]) -> None:
    draft.labels |= {
        "operation": text(mapping(context.get("authorization")).get("action")) or text(context.get("operationName")),
        "level": text(context.get("level")),
        "event_status": text(context.get("status")),
        "event_source": text(context.get("eventSource")),
    }
    _annotate(draft, context, ("caller", "correlationId", "operationName", "subStatus"))
    draft.started_at = draft.started_at or instant(context.get("eventTimestamp"))


# --- legacy schemas


def _legacy_metric(data: Mapping[str, Any]) -> _Draft:
    context = mapping(data.get("context"))
    draft = _Draft(shape="azure-legacy-metric", name=text(context.get("name")), severity=text(context.get("severity")))
    draft.status = AlertStatus.RESOLVED if text(data.get("status")).lower() in {"deactivated", "resolved"} else AlertStatus.FIRING
    draft.labels["monitor"] = "Platform"
    draft.started_at = instant(context.get("timestamp"))
    draft.targets = [text(context.get("resourceId"))] if text(context.get("resourceId")) else []
    _place(draft, [], context)
    _condition(draft, context)
    named = draft.labels.pop("microsoft.resourceId", "")
    draft.labels.pop("microsoft.resourceType", "")
    if named:
        draft.targets = [named]
        _place(draft, [])
    _customs(draft, data)
    draft.annotations["description"] = text(context.get("description"))
    draft.link = text(context.get("portalLink"))
    draft.identity = _series(text(context.get("id")), draft, without=("severity",))
    draft.spoken_by = [text(context.get("id"))]
    return draft


def _legacy_activity(data: Mapping[str, Any]) -> _Draft:
    log = mapping(mapping(data.get("context")).get("activityLog"))
    properties = mapping(log.get("properties"))
    source = text(log.get("eventSource"))
    name = text(log.get("operationName")) or source
    draft = _Draft(
        shape="azure-legacy-activity-log",
        name=name,
        severity=text(properties.get("severity")) or text(log.get("level")),
        resolves=False,
    )
    draft.labels["monitor"] = {"ServiceHealth": "ServiceHealth", "ResourceHealth": "ResourceHealth"}.get(
        source, f"Activity Log - {source}"
    )
    draft.targets = [text(log.get("resourceId"))] if text(log.get("resourceId")) else []
    _place(draft, [], log)
    if source == "ServiceHealth":
        _service_health(draft, properties, log)
        draft.name = text(properties.get("title")) or name
    elif source == "ResourceHealth":
        _resource_health(draft, properties, log)
    else:
        _activity(draft, log)
    draft.started_at = instant(log.get("eventTimestamp")) or instant(log.get("submissionTimestamp"))
    _customs(draft, data)
    more = text(log.get("eventDataId")) or text(log.get("correlationId"))
    draft.identity = f"activity/{more}/{text(properties.get('communicationId'))}".lower()
    draft.spoken_by = [f"/subscriptions/{text(log.get('subscriptionId'))}"] if text(log.get("subscriptionId")) else []
    return draft


def _legacy_log(data: Mapping[str, Any], shape: str) -> _Draft:
    draft = _Draft(shape=shape, name=text(data.get("AlertRuleName")), severity=text(data.get("Severity")), resolves=False)
    draft.labels["monitor"] = "Application Insights" if shape.endswith("appinsights") else "Log Analytics"
    draft.value = number(data.get("ResultCount"))
    draft.annotations["description"] = text(data.get("Description"))
    _annotate(draft, data, ("SearchQuery", "AlertThresholdOperator", "AlertThresholdValue", "AlertType"))
    draft.started_at = instant(data.get("SearchIntervalEndtimeUtc")) or instant(data.get("SearchIntervalStartTimeUtc"))
    draft.link = text(data.get("LinkToSearchResults"))
    resource = text(data.get("ResourceId")) or text(data.get("WorkspaceId")) or text(data.get("ApplicationId"))
    if resource.startswith("/"):
        draft.targets = [resource]
        _place(draft, [])
    elif resource:
        draft.labels["resource"] = resource
    for dimension in sequence(data.get("Dimensions")):
        pair = mapping(dimension)
        if text(pair.get("name")):
            draft.labels.setdefault(text(pair.get("name")), text(pair.get("value")))
    end = text(data.get("SearchIntervalEndtimeUtc"))
    draft.identity = f"log/{text(data.get('SubscriptionId'))}/{resource}/{draft.name}/{end}".lower()
    draft.spoken_by = [f"/subscriptions/{text(data.get('SubscriptionId'))}"] if text(data.get("SubscriptionId")) else []
    return draft


def _budget(data: Mapping[str, Any]) -> _Draft:
    name = text(data.get("BudgetName"))
    draft = _Draft(shape="azure-budget", name=name or "Budget", resolves=False)
    draft.labels |= {"monitor": "CostAlerts", "budget": name, "resource_group": text(data.get("ResourceGroup"))}
    draft.value = number(text(data.get("SpendingAmount")).replace("$", ""))
    _annotate(draft, data, ("Budget", "Unit", "NotificationThresholdAmount", "BudgetStartDate"))
    draft.identity = f"budget/{text(data.get('SubscriptionId'))}/{name}/{text(data.get('NotificationThresholdAmount'))}".lower()
    draft.spoken_by = [f"/subscriptions/{text(data.get('SubscriptionId'))}"] if text(data.get("SubscriptionId")) else []
    return draft


def _classic(data: Mapping[str, Any]) -> _Draft:
    context = mapping(data.get("context"))
    draft = _Draft(shape="azure-classic-metric", name=text(context.get("name")), severity=text(context.get("severity")))
    draft.status = AlertStatus.RESOLVED if text(data.get("status")).lower() in {"resolved", "deactivated"} else AlertStatus.FIRING
    draft.labels["monitor"] = "Platform"
    draft.started_at = instant(context.get("timestamp"))
    draft.targets = [text(context.get("resourceId"))] if text(context.get("resourceId")) else []
    _place(draft, [], context)
    _named(draft, mapping(context.get("condition")))
    draft.annotations["description"] = text(context.get("description"))
    draft.link = text(context.get("portalLink"))
    _customs(draft, data)
    draft.identity = _series(text(context.get("id")), draft, without=("severity",))
    draft.spoken_by = [text(context.get("id"))]
    return draft


def _alerts_management(data: Mapping[str, Any], properties: Mapping[str, Any]) -> _Draft:
    essentials = mapping(properties.get("essentials"))
    draft = _Draft(
        shape="azure-alerts-management",
        name=text(essentials.get("alertRule")).rsplit("/", 1)[-1],
        severity=text(essentials.get("severity")),
        started_at=instant(essentials.get("startDateTime")),
        final=True,
    )
    draft.status = AlertStatus.RESOLVED if text(essentials.get("monitorCondition")).lower() == "resolved" else AlertStatus.FIRING
    draft.labels["monitor"] = text(essentials.get("monitorService"))
    draft.targets = [text(essentials.get("targetResource"))] if text(essentials.get("targetResource")) else []
    _place(draft, [])
    draft.identity = (text(data.get("id")) or text(essentials.get("sourceCreatedId"))).lower()
    draft.spoken_by = [text(data.get("id")), text(essentials.get("alertRule"))]
    draft.resolves = draft.status is AlertStatus.RESOLVED
    return draft


# --- shared


def _place(draft: _Draft, items: Sequence[str], context: Mapping[str, Any] | None = None) -> None:
    """Fill resource, resource_type and resource_group from the most specific ARM id, or the legacy fields."""
    ids = [one for one in [*items, *draft.targets] if _ARM.match(one)]
    most = max(ids, key=lambda one: one.count("/"), default="")
    draft.targets = list(dict.fromkeys([most, *ids])) if most else draft.targets
    found = _TYPE.search(most)
    group = _GROUP.search(most)
    legacy = context or {}
    values = {
        "resource": found[3] if found else "",
        "resource_type": f"{found[1]}/{found[2]}".lower() if found else "",
        "resource_group": group[1] if group else "",
    }
    named = next((one for one in items if not one.startswith("/")), "")
    values["resource"] = values["resource"] or text(legacy.get("resourceName")) or named
    values["resource_type"] = values["resource_type"] or text(legacy.get("resourceType")).lower()
    values["resource_group"] = values["resource_group"] or text(legacy.get("resourceGroupName"))
    draft.labels |= {name: value for name, value in values.items() if value}


def _customs(draft: _Draft, data: Mapping[str, Any]) -> None:
    for name, value in mapping(data.get("properties")).items():
        if text(value):
            draft.labels.setdefault(str(name), text(value))


def _annotate(draft: _Draft, data: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if text(data.get(name)):
            draft.annotations[name] = text(data.get(name))


def _series(rule: str, draft: _Draft, *, without: Sequence[str]) -> str:
    """Return the identity of a body without an id per firing: the rule and its series. Fired and resolved are the same instance."""
    labels = {name: value for name, value in draft.labels.items() if name not in without}
    return f"series/{fingerprint(rule.lower(), labels)}"


def _alert(draft: _Draft, source_name: str, received_at: datetime, gaps: list[str]) -> Alert:
    labels = labels_of({name: value for name, value in draft.labels.items() if value}, gaps)
    label_severity = labels.get("severity", "")
    if draft.name:
        labels["alertname"] = draft.name
    if draft.severity:
        labels.setdefault("severity", draft.severity)
    mark = fingerprint(f"{SourceKind.AZURE_MONITOR}/{source_name}", labels)
    identity = draft.identity or f"{mark}/{draft.started_at.isoformat() if draft.started_at else received_at.isoformat()}"
    return Alert(
        source=SourceKind.AZURE_MONITOR,
        source_name=source_name,
        name=draft.name,
        status=draft.status,
        severity=severity_of(label=label_severity, sender=draft.severity),
        sender_severity=draft.severity,
        labels=labels,
        annotations=labels_of({name: value for name, value in draft.annotations.items() if value}, gaps),
        fingerprint=mark,
        instance=f"azure/{identity}",
        started_at=draft.started_at,
        ended_at=draft.ended_at if draft.status is AlertStatus.RESOLVED else None,
        value=draft.value,
        resource_ids=tuple(dict.fromkeys(one.lower() for one in draft.targets if _ARM.match(one))),
        subscriptions=subscriptions_of(*draft.spoken_by, *draft.targets),
        resolves=draft.resolves,
        resolved_is_final=draft.final,
        test=draft.test,
        link=draft.link,
    )

"""Alertmanager's webhook, versions 4, 3 and older, and bodies that others made in its image. Source: protocols.md 2.1, 2.2.

State is each alert's own, never the group's: a truncated group may say resolved while cut alerts fire.

The decision a reader would question: an instance's start is cut to milliseconds. The webhook says it to the nanosecond and Alertmanager's API to the
millisecond (``strfmt.DateTime``), and both must name the same firing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from responder.model.alert import Alert, AlertStatus, Normalised, SourceKind, fingerprint, severity_of
from responder.sources.normalised import LONGEST_VALUE, MOST_LABELS, TEST, instant, labels_of, mapping, text, unknown

_STATUSES: Mapping[str, AlertStatus] = {str(one): one for one in AlertStatus}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_Labels = Annotated[dict[str, Annotated[str, msgspec.Meta(max_length=LONGEST_VALUE)]], msgspec.Meta(max_length=MOST_LABELS)]


class _Sent(msgspec.Struct, gc=False):
    """An alert as every Alertmanager since version 0.5 sends it."""

    labels: _Labels
    status: str
    annotations: _Labels = {}
    startsAt: str = ""  # noqa: N815 - as it is on the wire
    endsAt: str = ""  # noqa: N815 - as it is on the wire
    generatorURL: str = ""  # noqa: N815 - as it is on the wire


class _Body(msgspec.Struct, gc=False):
    """A body as Alertmanager's webhook sends it."""

    version: str
    alerts: list[_Sent]
    truncatedAlerts: int = 0  # noqa: N815 - as it is on the wire


_DECODE = msgspec.json.Decoder(_Body).decode


def plain(body: bytes, *, source_name: str) -> Normalised | None:
    """Return the alerts of a body in which everything is as Alertmanager sends it, or None: then ``alerts_of`` looks at it more closely.

    It says the same as that one, in a fifth of the time: most of a storm comes this way.
    """
    try:
        sent = _DECODE(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if sent.truncatedAlerts or not sent.version:
        return None
    sender = f"{SourceKind.ALERTMANAGER}/{source_name}"
    alerts: list[Alert] = []
    for one in sent.alerts:
        status = _STATUSES.get(one.status)
        if status is None:
            return None
        alerts.append(
            _alert(
                one.labels,
                one.annotations,
                status,
                one.startsAt,
                one.endsAt,
                one.generatorURL,
                sender=sender,
                source_name=source_name,
            )
        )
    return Normalised(alerts=tuple(alerts), shape=f"alertmanager-v{sent.version}")


def alerts_of(body: Any, *, source_name: str, received_at: datetime) -> Normalised:
    """Return the alerts of a webhook body."""
    data = mapping(body)
    raw = data.get("alerts")
    if not isinstance(raw, list):
        return unknown("no array 'alerts': not an Alertmanager webhook body")
    gaps: list[str] = []
    alerts: list[Alert] = []
    sender = f"{SourceKind.ALERTMANAGER}/{source_name}"
    for place, one in enumerate(raw):
        if not isinstance(one, dict) or not isinstance(one.get("labels"), dict):
            gaps.append(f"alerts[{place}] has no labels and was left out")
            continue
        alerts.append(
            _alert(
                labels_of(one.get("labels"), gaps),
                labels_of(one.get("annotations"), gaps),
                _status(one, data, received_at),
                text(one.get("startsAt")),
                text(one.get("endsAt")),
                text(one.get("generatorURL")),
                sender=sender,
                source_name=source_name,
            )
        )
    if raw and not alerts:
        return unknown("none of its alerts has labels: not an Alertmanager webhook body")
    cut = data.get("truncatedAlerts")
    if isinstance(cut, (int, float)) and cut > 0:
        receiver = text(data.get("receiver")).replace("\\", "")
        gaps.append(f"{int(cut)} alerts were cut before they were sent: raise max_alerts of receiver {receiver or '(unnamed)'}")
    version = text(data.get("version")) or ("4" if "groupKey" in data else "0")
    return Normalised(alerts=tuple(alerts), gaps=tuple(gaps), shape=f"alertmanager-v{version}")


def _alert(
    labels: dict[str, str],
    annotations: dict[str, str],
    status: AlertStatus,
    starts_at: str,
    ends_at: str,
    link: str,
    *,
    sender: str,
    source_name: str,
) -> Alert:
    name = labels.get("alertname") or labels.get("alertName") or ""
    if name:
        labels.setdefault("alertname", name)
    started_at, start = _start(starts_at)
    mark = fingerprint(sender, labels)
    said = labels.get("severity", "")
    return Alert(
        source=SourceKind.ALERTMANAGER,
        source_name=source_name,
        name=name,
        status=status,
        severity=severity_of(label=said, sender=""),
        sender_severity=said,
        labels=labels,
        annotations=annotations,
        fingerprint=mark,
        instance=f"{mark}/{start}",
        started_at=started_at,
        ended_at=instant(ends_at) if status is AlertStatus.RESOLVED else None,
        test=bool(labels.get(TEST)),
        link=link,
    )


@lru_cache(maxsize=1024)
def _start(said: str) -> tuple[datetime | None, str]:
    """Return when it began, and how its instance spells that (milliseconds since 1970 in hex digits): what fires together says the same."""
    at = instant(said)
    return at, f"{(at - _EPOCH) // _MILLISECOND:x}" if at else said


def _status(one: Mapping[str, Any], envelope: Mapping[str, Any], received_at: datetime) -> AlertStatus:
    """Return the alert's own word; else what ``endsAt`` says; else the group's."""
    said = _STATUSES.get(text(one.get("status")).lower())
    if said is not None:
        return said
    ended = instant(one.get("endsAt"))
    if ended is not None and ended <= received_at:
        return AlertStatus.RESOLVED
    group = text(envelope.get("status")).lower()
    return AlertStatus.RESOLVED if group == "resolved" and ended is None else AlertStatus.FIRING

"""Notices: what people are told, as plain values; every channel renders the same one.

Never here: a channel's wire format (``notifiers``), or when to tell (``policy.escalate``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from responder.model.alert import Severity
from responder.model.reason import Reason


class NoticeKind(StrEnum):
    """What a notice is for.

    ``page`` calls a person (a level of a policy), ``update`` tells a level already called something new, ``resolve`` ends a page,
    ``info`` reports without calling anybody (recovered without a page, a storm, disagreement), ``shadow`` says what would have been done.
    """

    PAGE = "page"
    UPDATE = "update"
    RESOLVE = "resolve"
    INFO = "info"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedRung:
    """A rung that was carried out or skipped, for people: ``restart: done, not proven within 6m``."""

    rung: str
    action: str
    outcome: str
    detail: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message about one incident.

    Attributes:
        incident: Its id.
        opening: 1 for the first opening; a reopened incident is paged anew.
        level: 1-based escalation level; 0 for notices outside a policy.
        dedup_key: One per incident, opening and level; the same for page, update and resolve of that level.
        title: The rule's title and target in one line.
        state: What is happening now in one sentence: the incident's phase with its reason.
        reason: Why people are told.
        seen: Sentences: cause, failing container, the kubelet's message, health as last read.
        tried: In order, skipped rungs included with their reason.
        running: The rung in flight and when it must be proven; "" when none.
        left: Rungs that may still run; empty when exhausted.
        asks: What is asked of the reader, such as an approval with its plan; "" when nothing.
        alerts: One line an alert: name, source, since when, firing or resolved.
        links: Text to URL; runbook, report, acknowledge page, the sender's page.
        late: Sent after its time (an outage of ours).
        sped_up: Clock factor when the clock is not real time (demo); 1.0 normally.
    """

    kind: NoticeKind
    incident: str
    opening: int
    level: int
    dedup_key: str
    at: datetime
    severity: Severity
    title: str
    state: str
    reason: Reason
    rule: str = ""
    owner: str = ""
    target: str = ""
    cluster: str = ""
    opened_at: datetime
    seen: tuple[str, ...] = ()
    tried: tuple[TriedRung, ...] = ()
    running: str = ""
    left: tuple[str, ...] = ()
    asks: str = ""
    alerts: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    late: bool = False
    sped_up: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a channel answered.

    Attributes:
        reached: The channel vouches that a person is being called; False for Teams, Slack and webhooks, whose 202 proves nothing.
        answer: Status and body, shortened, without secrets.
    """

    reached: bool
    answer: str = ""

"""PagerDuty by Events v2. Source: protocols.md 4.1. One dedup key per incident, opening and level: a trigger on an open key calls nobody."""

from __future__ import annotations

import hashlib
from typing import Any

import aiohttp
import msgspec

from responder.model.notice import Notice, NoticeKind, Receipt
from responder.notifiers import text
from responder.notifiers.answers import post

LONGEST_SUMMARY = 1024
LONGEST_KEY = 255
LARGEST_EVENT = 512_000
LONGEST_DETAIL = 8_000


class PagerDutyNotifier:
    """Calls people through one integration key. It is in no log and no error."""

    URL = "https://events.pagerduty.com/v2/enqueue"

    def __init__(self, name: str, routing_key: str, session: aiohttp.ClientSession, *, url: str = URL) -> None:
        self.name = name
        self._routing_key = routing_key
        self._session = session
        self._url = url

    async def send(self, notice: Notice) -> Receipt:
        """See ``ports.Notifier``. Reports and shadow messages are no events: nobody is to be called."""
        if notice.kind in {NoticeKind.INFO, NoticeKind.SHADOW}:
            return Receipt(reached=False, answer="not sent: a report calls nobody")
        body = msgspec.json.encode(event(notice, self._routing_key))
        status, said = await post(self._session, self._url, system="pagerduty", channel=self.name, body=body)
        return Receipt(reached=notice.kind is NoticeKind.PAGE, answer=f"{status} {said}".strip())

    async def close(self) -> None:
        """Nothing of its own is open."""


def event(notice: Notice, routing_key: str) -> dict[str, Any]:
    """Return the Events v2 body of a notice, within its limits."""
    key = notice.dedup_key
    if len(key) > LONGEST_KEY:
        key = hashlib.sha256(key.encode()).hexdigest()
    if notice.kind is NoticeKind.RESOLVE:
        return {"routing_key": routing_key, "event_action": "resolve", "dedup_key": key}
    details = {title.lower(): text.cut("\n".join(lines), LONGEST_DETAIL) for title, lines in text.sections(notice)}
    details |= {"incident": notice.incident, "rule": notice.rule, "owner": notice.owner, "reason": str(notice.reason)}
    links = [{"href": url, "text": name} for name, url in notice.links]
    report = next((url for name, url in notice.links if name == "Report"), "")
    body: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": key,
        "payload": {
            "summary": text.cut(text.headline(notice), LONGEST_SUMMARY),
            "source": text.cut(f"{notice.cluster}/{notice.target}".strip("/") or "responder", 255),
            "severity": str(notice.severity),
            "timestamp": notice.at.isoformat(),
            "component": text.cut(notice.target, 255),
            "group": text.cut(notice.cluster or "responder", 255),
            "class": notice.rule or "responder",
            "custom_details": details,
        },
        "links": links,
        "client": "Responder",
    }
    if report:
        body["client_url"] = report
    if len(msgspec.json.encode(body)) > LARGEST_EVENT:
        body["payload"]["custom_details"] = {"incident": notice.incident, "cut": "too large for an event; see the report"}
    return body

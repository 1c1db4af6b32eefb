"""PagerDuty by Events v2. Source: protocols.md 4.1. One dedup key per incident, opening and level: a trigger on an open key calls nobody."""

from __future__ import annotations

import hashlib
from typing import Any

import aiohttp
import msgspec

from responder.model.notice import Notice, NoticeKind, Receipt
from responder.notifiers import text
from responder.notifiers.answers import post, reach

LONGEST_SUMMARY = 1024
LONGEST_KEY = 255
LARGEST_EVENT = 512_000
LONGEST_DETAIL = 8_000
MOST_LINKS = 10
LONGEST_LINK = 1_000


class PagerDutyNotifier:
    """Calls people through one integration key. It is in no log and no error."""

    URL = "https://events.pagerduty.com/v2/enqueue"

    def __init__(self, name: str, routing_key: str, session: aiohttp.ClientSession, *, url: str = URL) -> None:
        self.name = name
        self._routing_key = routing_key
        self._session = session
        self._url = url

    async def send(self, notice: Notice) -> Receipt:
        """See ``ports.Notifier``. Reports and shadow messages are no events: nobody is to be called.

        An update is a trigger on the level's own key, which changes an open event and calls nobody. Where a person has resolved it in PagerDuty
        while our incident goes on, it opens and calls again: it is not over.
        """
        if notice.kind in {NoticeKind.INFO, NoticeKind.SHADOW}:
            return Receipt(reached=False, answer="not sent: a report calls nobody")
        body = msgspec.json.encode(event(notice, self._routing_key))
        status, said = await post(
            self._session, self._url, system="pagerduty", channel=self.name, body=body, secrets=(self._routing_key,)
        )
        return Receipt(reached=notice.kind is NoticeKind.PAGE and status == 202, answer=f"{status} {said}".strip())

    async def reach(self) -> None:
        """See ``ports.Notifier``."""
        await reach(self._url, system="pagerduty", channel=self.name)

    async def close(self) -> None:
        """Nothing of its own is open."""


def event(notice: Notice, routing_key: str) -> dict[str, Any]:
    """Return the Events v2 body of a notice, within its limits."""
    key = notice.dedup_key
    if len(key) > LONGEST_KEY:
        key = hashlib.sha256(key.encode()).hexdigest()
    if notice.kind is NoticeKind.RESOLVE:
        return {"routing_key": routing_key, "event_action": "resolve", "dedup_key": key}
    incident = text.cut(notice.incident, 255)
    details = {title.lower(): _detail("\n".join(lines)) for title, lines in text.sections(notice)}
    details |= {
        "incident": incident,
        "rule": text.cut(notice.rule, 255),
        "owner": text.cut(notice.owner, 255),
        "reason": str(notice.reason),
    }
    usable = text.usable_links(notice, most=MOST_LINKS, longest=LONGEST_LINK)
    report = next((url for name, url in usable if name == "Report"), "")
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
            "class": text.cut(notice.rule, 255) or "responder",
            "custom_details": details,
        },
        "links": [{"href": url, "text": name} for name, url in usable],
        "client": "Responder",
    }
    if report:
        body["client_url"] = report
    if len(msgspec.json.encode(body)) > LARGEST_EVENT:
        body["payload"]["custom_details"] = {"incident": incident, "cut": "too large for an event; see the report"}
    return body


def _detail(said: str) -> str:
    over = len(said) - LONGEST_DETAIL
    return said if over <= 0 else f"{said[:LONGEST_DETAIL]}… ({over} more characters in the report)"

"""Teams by an Adaptive Card through a Workflows webhook. Source: protocols.md 5.

A notice channel: 202 is no delivery. The whole request stays under 28 KB, cut where it is longest, and says how much was left out. What is asked
of the reader and what happens now stand above everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec

from responder.model.alert import Severity
from responder.model.errors import RejectedError, ThrottledError
from responder.model.notice import Notice, NoticeKind, Receipt
from responder.notifiers import text
from responder.notifiers.answers import post, reach

LARGEST = 28 * 1024
ROOM = LARGEST - 1024
LONGEST_LINE = 600
LONGEST_LINK = 1_000
MOST_LINKS = 5
FIRST = {"Asked of you", "Now", "Running"}
_COLOURS = {Severity.CRITICAL: "Attention", Severity.ERROR: "Attention", Severity.WARNING: "Warning", Severity.INFO: "Accent"}


class TeamsNotifier:
    """Posts cards to one Workflows URL, which holds a secret and is in no log and no error."""

    def __init__(self, name: str, url: str, session: aiohttp.ClientSession) -> None:
        self.name = name
        self._url = url
        self._session = session

    async def send(self, notice: Notice) -> Receipt:
        """See ``ports.Notifier``. The old connector answered 200 with an error text; that counts as the error it names."""
        status, said = await post(self._session, self._url, system="teams", channel=self.name, body=message(notice))
        if status == 200 and "error" in said.lower():
            shown: dict[str, Any] = {"system": "teams", "operation": "post to", "target": self.name, "status": status}
            raise ThrottledError(said, **shown) if "429" in said else RejectedError(said, **shown)
        return Receipt(reached=False, answer=f"{status} {said}".strip())

    async def reach(self) -> None:
        """See ``ports.Notifier``."""
        await reach(self._url, system="teams", channel=self.name)

    async def close(self) -> None:
        """Nothing of its own is open."""


def message(notice: Notice) -> bytes:
    """Return the request body of a notice: under 28 KB, whatever the notice holds."""
    for most in (60, 30, 15, 8, 4, 2, 1):
        for longest in (LONGEST_LINE, 200, 80):
            body = msgspec.json.encode(_envelope(card(notice, most_lines=most, longest_line=longest)))
            if len(body) <= ROOM:
                return body
    least = card(replace(notice, seen=(), tried=(), left=(), alerts=(), links=()), most_lines=0, longest_line=80)
    return msgspec.json.encode(_envelope(least))


def _envelope(content: dict[str, Any]) -> dict[str, Any]:
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def card(notice: Notice, *, most_lines: int = 30, longest_line: int = LONGEST_LINE) -> dict[str, Any]:
    """Return the Adaptive Card (features of 1.2) of a notice."""
    colour = "Good" if notice.kind is NoticeKind.RESOLVE or notice.reason in {"recovered", "quiet"} else _COLOURS[notice.severity]
    if notice.kind is NoticeKind.SHADOW:
        colour = "Accent"
    style = {"Attention": "attention", "Warning": "warning", "Good": "good", "Accent": "accent"}[colour]
    head = {
        "type": "Container",
        "style": style,
        "bleed": True,
        "items": [_text(_plain(text.cut(text.headline(notice), 500)), weight="Bolder", size="Medium", color=colour)],
    }
    given = (
        ("Target", text.cut(notice.target or "-", 300)),
        ("Cluster", text.cut(notice.cluster or "-", 200)),
        ("Rule", text.cut(f"{notice.rule or '-'} (owner {notice.owner or '-'})", 200)),
        ("Opened", f"{notice.opened_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Incident", text.cut(notice.incident, 200)),
    )
    facts = {"type": "FactSet", "facts": [{"title": title, "value": _plain(value)} for title, value in given]}
    first: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for title, lines in text.sections(notice):
        part = first if title in FIRST else rest
        part.append(_text(title, weight="Bolder", spacing="Medium"))
        part.append(_text(_bullets(lines, most_lines, longest_line), spacing="None"))
    actions = [
        {"type": "Action.OpenUrl", "title": name, "url": url}
        for name, url in text.usable_links(notice, most=MOST_LINKS, longest=LONGEST_LINK)
    ]
    return {
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.2",
        "fallbackText": text.cut(text.headline(notice), 500),
        "body": [head, *first, facts, *rest],
        "actions": actions,
        "msteams": {"width": "Full"},
    }


def _text(said: str, **style: Any) -> dict[str, Any]:
    return {"type": "TextBlock", "text": said, "wrap": True, **style}


def _bullets(lines: Sequence[str], most: int, longest: int) -> str:
    shown = [_plain(text.cut(line, longest)) for line in lines[:most]]
    if len(lines) > most:
        shown.append(f"and {len(lines) - most} more in the report")
    return "\n\n".join(f"- {line}" for line in shown) if len(shown) > 1 else "".join(shown)


def _plain(line: str) -> str:
    """Keep what is not ours from being read as Markdown: links and emphasis."""
    for mark in ("\\", "[", "]", "*", "_", "`", "<"):
        line = line.replace(mark, f"\\{mark}")
    return line.replace("\n", " ")

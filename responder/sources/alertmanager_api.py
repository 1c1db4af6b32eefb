"""Asks Alertmanagers what holds now, by their API v2. Source: Alertmanager's ``api/v2/openapi.yaml``; facts of 0.25 seen, see tests/e2e.

Several addresses are the members of one cluster: an alert that any of them has holds. That an alert is over is concluded from its absence alone, for
there is nothing else to conclude it from; so only when every member was read completely, and none has just been started (its alerts come back from
Prometheus within minutes).

The decision a reader would question: all alerts are fetched, not those of our receiver (``?receiver=``). An alert that a new route no longer sends to us,
or that is silenced or inhibited there, is not over: it is neither taken in nor ended.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import msgspec

from responder.model.alert import SourceKind
from responder.model.asking import Current
from responder.model.errors import ForbiddenError, RejectedError, RemoteError, TransientError
from responder.model.incident import Instance
from responder.rules.matchers import LabelMatchers
from responder.sources import alertmanager
from responder.sources.normalised import instant, mapping, sequence, text

SYSTEM = "alertmanager"
WITHIN = aiohttp.ClientTimeout(total=30, connect=5)
LARGEST = 64 << 20
MOST_A_BODY = 100
SETTLED_AFTER = timedelta(minutes=10)
"""Prometheus sends its alerts again every minute, other senders less often."""


class AlertmanagerApi:
    """Implements ``ports.Askable`` for Alertmanager."""

    source = SourceKind.ALERTMANAGER
    resolved_is_final = False

    def __init__(
        self,
        *,
        name: str,
        urls: Sequence[str],
        receivers: Sequence[str],
        session: aiohttp.ClientSession,
        now: Callable[[], datetime],
        filters: Sequence[str] = (),
        matches: LabelMatchers | None = None,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        settled_after: timedelta = SETTLED_AFTER,
    ) -> None:
        """Take where they are.

        Args:
            name: The source's.
            urls: Of every member of the cluster, without ``/api/v2``.
            receivers: Those of its receivers that post to us as this source.
            session: For all requests.
            now: UTC.
            filters: Matchers that Alertmanager is asked with; ``matches`` are the same ones, for what we know.
            matches: See ``filters``; None for none.
            token: A bearer token; "" for none.
            tls: A CA of its own; None for the public ones.
            settled_after: So long after its start an Alertmanager may lack alerts that fire.
        """
        self.name = name
        self._urls = [one.rstrip("/") for one in urls]
        self._receivers = frozenset(receivers)
        self._session = session
        self._now = now
        self._filters = tuple(filters)
        self._matches = matches
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls
        self._settled_after = settled_after

    async def current(self, known: Mapping[str, Instance]) -> Current:
        """See ``ports.Askable``."""
        answers = await asyncio.gather(*(self._member(url) for url in self._urls), return_exceptions=True)
        problems: list[str] = []
        states: dict[str, tuple[str, Any]] = {}
        listed = 0
        for url, answer in zip(self._urls, answers, strict=True):
            if isinstance(answer, RemoteError):
                problems.append(str(answer))
                continue
            if isinstance(answer, BaseException):
                raise answer
            alerts, why = answer
            problems += [f"{url}: {one}" for one in why]
            listed += len(alerts)
            for one in alerts:
                self._note(one, states)
        if len(problems) >= len(self._urls) and not states:
            raise TransientError("; ".join(problems), system=SYSTEM, operation="ask", target=self.name)
        fires = {instance: item for instance, (state, item) in states.items() if state == "active"}
        over = {}
        if not problems:
            ends_at = self._now().isoformat()
            asked_for = [one for one in known.values() if self._matches is None or self._matches.matches(one.labels)]
            over = {one.instance: _ended(one, ends_at) for one in asked_for if one.instance not in states}
        return Current(fires=fires, over=over, listed=listed, problems=tuple(problems))

    def bodies(self, said: Sequence[Any]) -> Sequence[bytes]:
        """See ``ports.Askable``: webhook bodies of version 4, 100 alerts each."""
        return [
            msgspec.json.encode({"version": "4", "receiver": "asked", "alerts": said[place : place + MOST_A_BODY]})
            for place in range(0, len(said), MOST_A_BODY)
        ]

    def _note(self, one: Mapping[str, Any], states: dict[str, tuple[str, Any]]) -> None:
        """Note an alert under its instance; one that any member suppresses, or that is not for us, is not active."""
        item = {
            "status": "firing",
            "labels": one.get("labels"),
            "annotations": one.get("annotations"),
            "startsAt": one.get("startsAt"),
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": one.get("generatorURL"),
        }
        found = alertmanager.alerts_of({"version": "4", "alerts": [item]}, source_name=self.name, received_at=self._now()).alerts
        if not found:
            return
        ours = bool(self._receivers & {text(mapping(each).get("name")) for each in sequence(one.get("receivers"))})
        said = text(mapping(one.get("status")).get("state"))
        state = "active" if ours and said == "active" else "held"
        before = states.get(found[0].instance)
        states[found[0].instance] = (state if before is None or before[0] == "active" else before[0], item)

    async def _member(self, url: str) -> tuple[list[Mapping[str, Any]], list[str]]:
        """Return one member's alerts, and why their absence proves nothing, if it does not."""
        status = mapping(await self._get(f"{url}/api/v2/status"))
        receivers = {text(mapping(one).get("name")) for one in sequence(await self._get(f"{url}/api/v2/receivers"))}
        asked = [("active", "true"), ("silenced", "true"), ("inhibited", "true"), ("unprocessed", "true")]
        alerts = await self._get(f"{url}/api/v2/alerts", params=[*asked, *(("filter", one) for one in self._filters)])
        if not isinstance(alerts, list):
            raise TransientError("it answers no list of alerts", system=SYSTEM, operation="ask", target=url)
        why: list[str] = []
        started_at = instant(status.get("uptime"))
        if started_at is None:
            why.append("it does not say since when it runs, so what it lacks proves nothing")
        elif self._now() - started_at < self._settled_after:
            why.append(f"it was started at {started_at:%H:%M:%S} UTC and may not have all alerts yet")
        missing = sorted(self._receivers - receivers)
        if missing:
            why.append(f"it has no receiver {', '.join(missing)}: correct sources.{self.name}.ask.receivers")
        return [one for one in alerts if isinstance(one, dict)], why

    async def _get(self, url: str, *, params: Sequence[tuple[str, str]] = ()) -> Any:
        where: dict[str, Any] = {"system": SYSTEM, "operation": "get", "target": url}
        options: dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        try:
            async with self._session.get(
                url, params=list(params), headers=self._headers, timeout=WITHIN, allow_redirects=False, **options
            ) as response:
                status = response.status
                body = bytearray()
                async for piece in response.content.iter_chunked(1 << 16):
                    body += piece
                    if len(body) > LARGEST:
                        raise TransientError(f"it answers more than {LARGEST} bytes; narrow it by ask.filters", **where)
        except aiohttp.InvalidURL:
            raise RejectedError("this is no address", **where) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(str(error) or type(error).__name__, **where) from error
        if status in {401, 403}:
            raise ForbiddenError("it does not let us in; give sources.<name>.ask.token", status=status, **where)
        if status != 200:
            kind = TransientError if status >= 500 or status in {408, 429} else RejectedError
            raise kind(bytes(body[:200]).decode("utf-8", "replace") or "no answer", status=status, **where)
        try:
            return msgspec.json.decode(bytes(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TransientError(f"it answers no JSON: {error}", status=status, **where) from error


def _ended(one: Instance, ends_at: str) -> dict[str, Any]:
    """Return a known instance as Alertmanager would resolve it: with the very labels and start that make it this instance."""
    return {
        "status": "resolved",
        "labels": dict(one.labels),
        "annotations": dict(one.annotations),
        "startsAt": one.instance.partition("/")[2],
        "endsAt": ends_at,
        "generatorURL": one.link,
    }

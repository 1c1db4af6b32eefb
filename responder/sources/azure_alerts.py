"""Asks Azure's list of alerts (``Microsoft.AlertsManagement/alerts``) what holds now. Source: its REST reference, version 2019-05-05-preview.

That an alert is over is never concluded from its absence: the list has pages that shift while they are read, and goes back 30 days. Each alert that we
hold and that the list of fired ones lacks is asked for by its own id, and only the word *Resolved* ends it.

What never resolves (activity log, service and resource health, cost) is not asked for: their notifications are events, and bear an identity that
the list does not have.

The decision a reader would question: plain REST instead of ``azure-mgmt-alertsmanagement``. One GET with pages needs no second SDK of 4 MB.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec

from responder.model.alert import SourceKind
from responder.model.asking import Current
from responder.model.errors import (
    ForbiddenError,
    GoneError,
    RejectedError,
    RemoteError,
    ThrottledError,
    TransientError,
)
from responder.model.incident import Instance
from responder.retrying import asked_pause
from responder.rules.matchers import LabelMatchers
from responder.sources import azure_monitor
from responder.sources.normalised import instant, mapping, text

SYSTEM = "azure alerts"
ARM = "https://management.azure.com"
API_VERSION = "2019-05-05-preview"
WITHIN = aiohttp.ClientTimeout(total=30, connect=5)
LARGEST_PAGE = 16 << 20
MOST_PAGES = 200
PAGE = 250
MOST_BY_ID = 100
"""Alerts asked for by id at a time; the rest come the next times, in turn."""

AT_ONCE = 8
EVENTS = ("activitylog", "servicehealth", "resourcehealth", "cost", "smartdetector")
"""Monitoring services whose alerts are events, or have no notification of their end (protocols.md 1.4)."""

_RANGES = ((timedelta(hours=1), "1h"), (timedelta(days=1), "1d"), (timedelta(days=7), "7d"), (timedelta(days=30), "30d"))


class GivesTokens(Protocol):
    """Our identity in Azure: ``clusters.aks.identity``."""

    async def token(self, scope: str) -> str:
        """Return an access token.

        Raises:
            ForbiddenError, TransientError: There is none.
        """


class AzureAlerts:
    """Implements ``ports.Askable`` for Azure Monitor."""

    source = SourceKind.AZURE_MONITOR
    resolved_is_final = True

    def __init__(
        self,
        *,
        name: str,
        subscriptions: Sequence[str],
        identity: GivesTokens,
        session: aiohttp.ClientSession,
        now: Callable[[], datetime],
        url: str = ARM,
        scope: str = "https://management.azure.com/.default",
        matches: LabelMatchers | None = None,
        look_back: timedelta = timedelta(days=1),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take where and how to ask.

        Args:
            name: The source's.
            subscriptions: Whose alerts are listed.
            identity: Gives tokens; needs the role Monitoring Reader on the subscriptions.
            session: For all requests.
            now: UTC.
            url: ARM's.
            scope: Of the token.
            matches: Only alerts with these labels are taken in as new; None for all. The list has alerts of every rule, with and without action groups.
            look_back: Only alerts that fired within this time are new: many rules leave theirs fired for weeks.
            tls: A CA of its own; None for the public ones.
        """
        self.name = name
        self._subscriptions = [one.lower() for one in subscriptions]
        self._identity = identity
        self._session = session
        self._now = now
        self._url = url.rstrip("/")
        self._scope = scope
        self._matches = matches
        self._look_back = look_back
        self._tls = tls
        self._turn = 0

    async def current(self, known: Mapping[str, Instance]) -> Current:
        """See ``ports.Askable``."""
        token = await self._identity.token(self._scope)
        answers = await asyncio.gather(*(self._fired(one, token) for one in self._subscriptions), return_exceptions=True)
        problems: list[str] = []
        holds: set[str] = set()
        fires: dict[str, Any] = {}
        listed = 0
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            alerts, problem = answer
            problems += [problem] if problem else []
            listed += len(alerts)
            for one in alerts:
                instance = f"azure/{text(one.get('id')).lower()}"
                holds.add(instance)
                body = _body(one)
                if body is not None and self._is_wanted(one, body):
                    fires[instance] = body
        if len(problems) == len(self._subscriptions) and not listed:
            raise TransientError("; ".join(problems), system=SYSTEM, operation="list", target=self.name)
        over, troubles = await self._over([one for one in known.values() if one.instance not in holds], token)
        return Current(fires=fires, over=over, listed=listed, problems=(*problems, *troubles))

    def bodies(self, said: Sequence[Any]) -> Sequence[bytes]:
        """See ``ports.Askable``: one body of the common schema for each alert."""
        return [msgspec.json.encode(one) for one in said]

    def _is_wanted(self, one: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
        """Tell whether it would have been sent to us, as far as can be told: fired lately, not closed by a person, not suppressed, of our labels."""
        essentials = mapping(mapping(one.get("properties")).get("essentials"))
        began_at = instant(essentials.get("startDateTime"))
        if began_at is None or self._now() - began_at > self._look_back:
            return False
        if text(essentials.get("alertState")).lower() == "closed":
            return False
        if text(mapping(essentials.get("actionStatus")).get("isSuppressed")).lower() == "true":
            return False
        if self._matches is None:
            return True
        (alert,) = azure_monitor.alerts_of(body, source_name=self.name, received_at=self._now()).alerts
        return bool(self._matches.matches(alert.labels))

    async def _fired(self, subscription: str, token: str) -> tuple[list[Mapping[str, Any]], str]:
        """Return a subscription's fired alerts, all pages, and why they are not all of them, if they are not."""
        window = next((word for span, word in _RANGES if span >= self._look_back), "30d")
        url: str = f"{self._url}/subscriptions/{subscription}/providers/Microsoft.AlertsManagement/alerts"
        params: list[tuple[str, str]] = [
            ("api-version", API_VERSION), ("monitorCondition", "Fired"), ("timeRange", window), ("includeContext", "true"),
            ("pageCount", str(PAGE)), ("sortBy", "startDateTime"), ("sortOrder", "desc"),
        ]  # fmt: skip
        found: list[Mapping[str, Any]] = []
        seen: set[str] = set()
        try:
            for _ in range(MOST_PAGES):
                page = mapping(await self._get(url, token, params=params))
                if not isinstance(page.get("value"), list):
                    raise TransientError("it answers no list of alerts", system=SYSTEM, operation="list", target=subscription)
                found += [one for one in page["value"] if isinstance(one, dict)]
                further = text(page.get("nextLink"))
                if not further:
                    return found, ""
                if urlsplit(further)[:2] != urlsplit(self._url)[:2] or further in seen:
                    raise RejectedError(
                        f"its next page is at {further[:200]!r}", system=SYSTEM, operation="list", target=subscription
                    )
                seen.add(further)
                url, params = further, []
        except RemoteError as error:
            return found, str(error)
        return found, f"subscription {subscription} has more than {MOST_PAGES} pages of fired alerts; the rest was not read"

    async def _over(self, doubtful: Sequence[Instance], token: str) -> tuple[dict[str, Any], list[str]]:
        """Ask for alerts by id; only those that are said to be resolved are over."""
        ours = sorted(
            (one for one in doubtful if self._is_ours(one.instance.removeprefix("azure/"))),
            key=lambda one: (one.seen_at, one.instance),
        )
        if not ours:
            return {}, []
        start = self._turn % len(ours)
        chosen = (ours[start:] + ours[:start])[:MOST_BY_ID]
        self._turn = start + len(chosen) if len(ours) > MOST_BY_ID else 0
        slots = asyncio.Semaphore(AT_ONCE)

        async def asked(one: Instance) -> Mapping[str, Any] | str:
            async with slots:
                try:
                    return mapping(
                        await self._get(
                            f"{self._url}{one.instance.removeprefix('azure/')}", token, params=[("api-version", API_VERSION)]
                        )
                    )
                except GoneError:
                    return {}  # older than 30 days: no word about how it ended
                except RemoteError as error:
                    return str(error)

        answers = await asyncio.gather(*(asked(one) for one in chosen))
        over: dict[str, Any] = {}
        for one, answer in zip(chosen, answers, strict=True):
            if isinstance(answer, str):
                continue
            essentials = mapping(mapping(answer.get("properties")).get("essentials"))
            if text(essentials.get("monitorCondition")).lower() == "resolved":
                over[one.instance] = _ended(one, text(essentials.get("monitorConditionResolvedDateTime")))
        troubles = list(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
        return over, troubles[:3]

    def _is_ours(self, alert_id: str) -> bool:
        parts = alert_id.split("/")
        return (
            len(parts) == 7
            and parts[1] == "subscriptions"
            and parts[2] in self._subscriptions
            and parts[4] == "microsoft.alertsmanagement"
        )

    async def _get(self, url: str, token: str, *, params: Sequence[tuple[str, str]] = ()) -> Any:
        where: dict[str, Any] = {"system": SYSTEM, "operation": "get", "target": urlsplit(url).path}
        options: dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        try:
            async with self._session.get(
                url,
                params=list(params) or None,
                headers={"Authorization": f"Bearer {token}"},
                timeout=WITHIN,
                allow_redirects=False,
                **options,
            ) as response:
                status, retry_after = response.status, response.headers.get("Retry-After", "")
                body = bytearray()
                async for piece in response.content.iter_chunked(1 << 16):
                    body += piece
                    if len(body) > LARGEST_PAGE:
                        raise TransientError(f"it answers more than {LARGEST_PAGE} bytes", **where)
        except aiohttp.InvalidURL:
            raise RejectedError("this is no address", **where) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(str(error) or type(error).__name__, **where) from error
        if status == 200:
            try:
                return msgspec.json.decode(bytes(body))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise TransientError(f"it answers no JSON: {error}", status=status, **where) from error
        raise _refused(status, bytes(body), retry_after, where)


def _refused(status: int, body: bytes, retry_after: str, where: dict[str, Any]) -> RemoteError:
    said = body[:300].decode("utf-8", "replace") or "no answer"
    if status in {401, 403}:
        return ForbiddenError(f"{said}; give our identity the role Monitoring Reader there", status=status, **where)
    if status == 404:
        return GoneError(said, status=status, **where)
    if status == 429:
        throttled = ThrottledError(said, status=status, **where)
        throttled.retry_after = asked_pause(retry_after)
        return throttled
    kind = TransientError if status >= 500 or status == 408 else RejectedError
    return kind(said, status=status, **where)


def _body(one: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return an alert of the list as its action group would have posted it; None for one that is an event."""
    properties = mapping(one.get("properties"))
    essentials = mapping(properties.get("essentials"))
    service = text(essentials.get("monitorService"))
    if not text(one.get("id")) or service.lower().replace(" ", "").replace("_", "").startswith(EVENTS):
        return None
    context = mapping(properties.get("context"))
    inner = mapping(context.get("context"))
    rule = unquote(text(essentials.get("alertRule")))
    target = text(essentials.get("targetResource"))
    said = {
        "alertId": text(one.get("id")),
        "alertRule": rule.rsplit("/", 1)[-1],
        "alertRuleID": rule if rule.startswith("/") else "",
        "severity": text(essentials.get("severity")),
        "signalType": text(essentials.get("signalType")),
        "monitorCondition": "Fired",
        "monitoringService": service,
        "alertTargetIDs": [target] if target else [],
        "firedDateTime": text(essentials.get("startDateTime")),
        "description": text(essentials.get("description")),
    }
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": said,
            "alertContext": inner if inner and not {"condition", "labels"} & set(context) else context,
            "customProperties": mapping(properties.get("customProperties")),
        },
    }


def _ended(one: Instance, resolved_at: str) -> Mapping[str, Any]:
    """Return a known instance as its action group would resolve it; its labels come along, for what the list says of it is less."""
    essentials = {
        "alertId": one.instance.removeprefix("azure/"),
        "alertRule": one.name,
        "severity": one.labels.get("severity", ""),
        "monitorCondition": "Resolved",
        "monitoringService": one.labels.get("monitor", ""),
        "firedDateTime": one.started_at.isoformat() if one.started_at else "",
        "resolvedDateTime": resolved_at,
    }
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {"essentials": essentials, "alertContext": {}, "customProperties": dict(one.labels)},
    }

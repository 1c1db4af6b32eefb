"""Channels: PagerDuty, Teams through a Workflows webhook, and a generic webhook. Never here: when to tell, or repeating (the outbox does)."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from responder.model.errors import SettingsError
from responder.notifiers.pagerduty import PagerDutyNotifier
from responder.notifiers.teams import TeamsNotifier
from responder.notifiers.webhook import WebhookNotifier
from responder.ports import Notifier

NEEDED: Mapping[str, tuple[str, ...]] = {"pagerduty": ("routing_key",), "teams": ("url",), "webhook": ("url",)}


def build(kind: str, name: str, given: Mapping[str, str], session: aiohttp.ClientSession) -> Notifier:
    """Return a channel.

    Args:
        kind: ``pagerduty``, ``teams`` or ``webhook``.
        name: As configured.
        given: pagerduty: ``routing_key`` and optionally ``url``; teams: ``url``; webhook: ``url`` and optionally ``token``, ``hmac_key``.
        session: Shared; closed by whoever opened it.

    Raises:
        SettingsError: The kind is not known, or a value is missing.
    """
    missing = [one for one in NEEDED.get(kind, ()) if not given.get(one)]
    if kind not in NEEDED:
        raise SettingsError(f"channels.{name}: kind {kind!r} is not known; use one of {', '.join(NEEDED)}")
    if missing:
        raise SettingsError(f"channels.{name}: {' and '.join(missing)} is missing or empty")
    match kind:
        case "pagerduty":
            return PagerDutyNotifier(name, given["routing_key"], session, url=given.get("url") or PagerDutyNotifier.URL)
        case "teams":
            return TeamsNotifier(name, given["url"], session)
        case _:
            return WebhookNotifier(name, given["url"], session, token=given.get("token", ""), hmac_key=given.get("hmac_key", ""))


__all__ = ["PagerDutyNotifier", "TeamsNotifier", "WebhookNotifier", "build"]

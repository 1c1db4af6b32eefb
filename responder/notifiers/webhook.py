"""A generic webhook: the notice as JSON, documented by its fields; signed when a key is given.

Headers: ``Authorization: Bearer …`` with a token; ``X-Responder-Timestamp`` and ``X-Responder-Signature: v1=<hex>``, the HMAC-SHA256 over
``<timestamp>.<body>``, with a key.
"""

from __future__ import annotations

import hashlib
import hmac

import aiohttp
import msgspec

from responder.model.notice import Notice, Receipt
from responder.notifiers import text
from responder.notifiers.answers import post, reach

FORMAT = 1


class WebhookNotifier:
    """Posts notices as JSON to one URL."""

    def __init__(self, name: str, url: str, session: aiohttp.ClientSession, *, token: str = "", hmac_key: str = "") -> None:
        self.name = name
        self._url = url
        self._session = session
        self._token = token
        self._hmac_key = hmac_key

    async def send(self, notice: Notice) -> Receipt:
        """See ``ports.Notifier``; any 2xx is an answer and no proof that somebody read it."""
        body = message(notice)
        headers: dict[str, str] = {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._hmac_key:
            stamp = str(int(notice.at.timestamp()))
            digest = hmac.new(self._hmac_key.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            headers |= {"X-Responder-Timestamp": stamp, "X-Responder-Signature": f"v1={digest}"}
        secrets = (self._token, self._hmac_key)
        status, said = await post(
            self._session, self._url, system="webhook", channel=self.name, body=body, headers=headers, secrets=secrets
        )
        return Receipt(reached=False, answer=f"{status} {said}".strip())

    async def reach(self) -> None:
        """See ``ports.Notifier``."""
        await reach(self._url, system="webhook", channel=self.name)

    async def close(self) -> None:
        """Nothing of its own is open."""


def message(notice: Notice) -> bytes:
    """Return the JSON of a notice: every field by its name, with ``format`` and the headline."""
    plain = msgspec.to_builtins(notice)
    return msgspec.json.encode({"format": FORMAT, "headline": text.headline(notice), **plain})

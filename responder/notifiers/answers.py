"""How answers of webhooks are told apart; shared by all channels."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import aiohttp

from responder.model.errors import RejectedError, ThrottledError, TransientError

WITHIN = aiohttp.ClientTimeout(total=10)


async def post(
    session: aiohttp.ClientSession, url: str, *, system: str, channel: str, body: bytes, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Post JSON once and return status and shortened body of a 2xx answer. The URL, which may hold a secret, is in no error.

    Raises:
        ThrottledError: 429.
        TransientError: 5xx, 408, no answer.
        RejectedError: Any other answer.
    """
    said = {"Content-Type": "application/json", **(headers or {})}
    try:
        async with session.post(url, data=body, headers=said, timeout=WITHIN, allow_redirects=False) as response:
            status, text = response.status, (await response.content.read(2000)).decode("utf-8", "replace")
            retry_after = response.headers.get("Retry-After", "")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        what = type(error).__name__ if not isinstance(error, TimeoutError) else "no answer within 10 s"
        raise TransientError(what, system=system, operation="post to", target=channel) from None
    if 200 <= status < 300:
        return status, text[:300]
    shown: dict[str, Any] = {"system": system, "operation": "post to", "target": channel, "status": status}
    if status == 429:
        throttled = ThrottledError(text[:300] or "too many requests", **shown)
        throttled.retry_after = timedelta(seconds=int(retry_after)) if retry_after.isdigit() else None
        raise throttled
    if status >= 500 or status == 408:
        raise TransientError(text[:300] or "server error", **shown)
    raise RejectedError(text[:300] or "refused", **shown)

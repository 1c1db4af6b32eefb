"""How answers of webhooks are told apart, and kept free of secrets; shared by all channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp

from responder.model.errors import RejectedError, ThrottledError, TransientError
from responder.retrying import asked_pause

WITHIN = aiohttp.ClientTimeout(total=10)
LONGEST_ANSWER = 300
LEAST_SECRET = 6
"""Shorter pieces of a URL (``v1``, ``2024``) are no secrets, and blotting them out would make an answer unreadable."""


async def post(
    session: aiohttp.ClientSession,
    url: str,
    *,
    system: str,
    channel: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> tuple[int, str]:
    """Post JSON once and return status and shortened body of a 2xx answer.

    Neither the URL nor any of ``secrets`` is in a result or an error, also where the other end repeats them in its answer.

    Raises:
        ThrottledError: 429.
        TransientError: 5xx, 408, no answer.
        RejectedError: Any other answer, or a URL that cannot be used.
    """
    said = {"Content-Type": "application/json", **(headers or {})}
    shown: dict[str, Any] = {"system": system, "operation": "post to", "target": channel}
    try:
        async with session.post(url, data=body, headers=said, timeout=WITHIN, allow_redirects=False) as response:
            status, raw = response.status, (await response.content.read(2000)).decode("utf-8", "replace")
            retry_after = asked_pause(response.headers.get("Retry-After", ""), date=response.headers.get("Date", ""))
    except aiohttp.InvalidURL:
        raise RejectedError("its configured URL is none; correct it and restart", **shown) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        what = type(error).__name__ if not isinstance(error, TimeoutError) else "no answer within 10 s"
        raise TransientError(what, **shown) from None
    text = without(raw, [*secrets, *_secret_parts(url)])[:LONGEST_ANSWER]
    if 200 <= status < 300:
        return status, text
    if status == 429:
        throttled = ThrottledError(text or "too many requests", status=status, **shown)
        throttled.retry_after = retry_after
        raise throttled
    if status >= 500 or status == 408:
        raise TransientError(text or "server error", status=status, **shown)
    raise RejectedError(text or "refused", status=status, **shown)


async def reach(url: str, *, system: str, channel: str) -> None:
    """Open a connection to where a URL leads, and close it; nothing is sent.

    Raises:
        TransientError: No connection; the URL is not in it.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(WITHIN.total or 10):
            _, writer = await asyncio.open_connection(parts.hostname or "", port)
    except (OSError, TimeoutError, ValueError) as error:
        what = type(error).__name__ if not isinstance(error, TimeoutError) else "no answer within 10 s"
        raise TransientError(what, system=system, operation="connect to", target=channel) from None
    writer.close()


def without(text: str, secrets: Sequence[str]) -> str:
    """Return text with every secret blotted out, longest first."""
    for secret in sorted({one for one in secrets if one}, key=len, reverse=True):
        text = text.replace(secret, "•••")
    return text


def _secret_parts(url: str) -> list[str]:
    """Return what must not be shown of a URL: all of it, its path and query and their values, as sent and decoded."""
    parts = urlsplit(url)
    found = [url, parts.path, parts.query, *parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
    found += [pair.partition("=")[2] for pair in parts.query.split("&")]
    return [one for part in found for one in (part, unquote(part)) if len(one) >= LEAST_SECRET]

"""The rest of the world as a witness: an address out there that answers when our own network is well."""

from __future__ import annotations

import aiohttp

WITHIN = 5.0


class InternetProbe:
    """Implements ``ports.World``: any HTTP answer, whatever its status, is an answer."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        """Take the address; nothing is asked yet."""
        self._url = url
        self._session = session

    async def answers(self) -> bool:
        """See ``ports.World``."""
        try:
            async with self._session.get(self._url, timeout=aiohttp.ClientTimeout(total=WITHIN), allow_redirects=False):
                return True
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

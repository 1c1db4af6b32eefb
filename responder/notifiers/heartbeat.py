"""The outgoing heartbeat: a POST to an outside service (healthchecks, Dead Man's Snitch, an Azure availability test) that misses us when we stop."""

from __future__ import annotations

import aiohttp

from responder.notifiers.answers import post


class Heartbeat:
    """Implements ``ports.DeadMansSwitch``. The URL holds a secret and is in no log and no error."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def beat(self) -> None:
        """See ``ports.DeadMansSwitch``."""
        await post(self._session, self._url, system="heartbeat", channel="the outside service", body=b"{}")

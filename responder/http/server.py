"""Starts and stops the listener.

The decision a reader would question: there is no access log, and aiohttp's own log lines lose their exceptions' texts. A plain webhook's secret stands in
the query, so a request line must be written nowhere, also when it is not even HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from responder.model.errors import SettingsError


class _Unsaid(logging.Filter):
    """Says which error it was, and not what the request was."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the exception out of a record; always True."""
        if record.exc_info and record.exc_info[0] is not None:
            record.msg, record.args = f"{record.getMessage()}: {record.exc_info[0].__name__}", ()
            record.exc_info = record.exc_text = None
        return True


_LOG = logging.getLogger("responder.http")
_LOG.addFilter(_Unsaid())


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_TURNS_OF_AN_ACCEPT = 5
"""Three are needed: the task that makes the transport, ``connection_made``, and the end of that task."""

Shortcut = Callable[[web.BaseRequest], Awaitable[web.StreamResponse] | None]
"""Answers the requests it knows at sight; None for those that the application is to route."""


class Server:
    """One listener. ``port`` is the bound port, also when 0 was asked for. What ``first`` answers does not go through the application's routing."""

    def __init__(self, app: web.Application, *, host: str, port: int, first: Shortcut | None = None) -> None:
        self._first = first
        self._runner = web.AppRunner(app, access_log=None, logger=_LOG, shutdown_timeout=5.0, handler_cancellation=False)
        self._host = host
        self.port = port

    async def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: The address cannot be listened on.
        """
        await self._runner.setup()
        server = self._runner.server
        if self._first is not None and server is not None:
            server.request_handler = _shortened(server.request_handler, self._first)
        site = web.TCPSite(self._runner, self._host, self.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"http.listen {self._host}:{self.port} cannot be listened on: {error}; choose another address"
            ) from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop accepting, let requests under way finish for five seconds, close."""
        await stop_serving(self._runner)


async def stop_serving(runner: web.BaseRunner) -> None:
    """Stop listening, answer what was accepted, close.

    asyncio accepts a connection a few turns of the loop before it says so to aiohttp. One that aiohttp does not know of when it cleans up is neither
    answered nor closed, its sender waits for nothing; and Python 3.11 loses one whose listener is closed in between (gh-109564). So: no further accept, then
    turns for those accepted, then the end.

    Args:
        runner: Whose listeners, requests and connections end.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):  # uvloop has neither the gap nor readers of listeners
        for site in runner.sites:
            listening = getattr(site, "_server", None)  # aiohttp gives its addresses only
            for listener in listening.sockets if listening is not None else ():
                loop.remove_reader(listener.fileno())
    for _ in range(_TURNS_OF_AN_ACCEPT):
        await asyncio.sleep(0)
    await runner.cleanup()


def _shortened(routed: Handler, first: Shortcut) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        known = first(request)
        return await (known if known is not None else routed(request))

    return handle

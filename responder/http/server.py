"""Starts and stops the listener."""

from __future__ import annotations

from aiohttp import web

from responder.model.errors import SettingsError


class Server:
    """One listener. ``port`` is the bound port, also when 0 was asked for."""

    def __init__(self, app: web.Application, *, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0, handler_cancellation=False)
        self._host = host
        self.port = port

    async def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: The address cannot be listened on.
        """
        await self._runner.setup()
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
        await self._runner.cleanup()

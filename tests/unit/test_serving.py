"""A listener that stops lets nobody wait."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web

from responder.http.server import Server


@pytest.mark.parametrize("turns", range(8))
async def test_whoever_connects_while_a_listener_stops_is_not_left_waiting(turns: int) -> None:
    """A connection is closed or answered, in whichever turn of its acceptance the listener stops."""
    server = Server(web.Application(), host="127.0.0.1", port=0)
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as sender:  # the kernel takes it; the loop has not seen it yet
        sender.settimeout(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(sender, 1) == b""

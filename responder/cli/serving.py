"""``responder serve``: the service as a process.

Never here: the other commands. What they need (tables in colour, the demo's sandbox) is not loaded by a service that runs for months.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from responder.app import assembled, serve
from responder.settings import load_settings
from responder.telemetry import configure_logging

CONFIG = Path("/etc/responder/responder.yaml")

_M_ARENA_MAX = -8
"""Source: glibc's malloc.h."""


def run(config: Path) -> None:
    """Run the service until SIGTERM or SIGINT.

    Raises:
        SettingsError: Something configured cannot be used.
    """
    _one_heap()
    configure_logging()
    settings = load_settings(config)

    async def running() -> None:
        async with assembled(settings) as parts:
            loop = asyncio.get_running_loop()
            for one in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(one, parts.supervisor.stop)

            def started() -> None:
                loop.call_later(SETTLED_AFTER, settled)

            await serve(parts, started=started)

    runner = asyncio.run
    try:
        import uvloop  # noqa: PLC0415 - absent on Windows, and not needed to be right

        runner = uvloop.run
    except ImportError:
        pass
    runner(running())


def _one_heap() -> None:
    """Have all threads share one heap: glibc gives each its own, and what one of them frees of a storm's rows the others cannot use."""
    with contextlib.suppress(OSError, AttributeError):  # musl, macOS: they have no such setting
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


SETTLED_AFTER = 1.0
"""Seconds from listening: the first look through everything takes a tenth of a second, for which whoever asks whether we are ready shall not wait."""


def settled() -> None:
    """Set aside what start-up made, for good: the garbage collector looks through what comes and goes, and not through 100,000 objects that stay."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def asked(arguments: Sequence[str]) -> Path | None:
    """Return the configuration when these are the plain arguments of ``serve``; None for everything else, help and mistakes included."""
    match arguments:
        case ["serve"]:
            return Path(os.environ.get("RESPONDER_CONFIG") or CONFIG)
        case ["serve", "--config", path] if not path.startswith("-"):
            return Path(path)
        case ["serve", joined] if joined.startswith("--config="):
            return Path(joined.removeprefix("--config="))
        case _:
            return None

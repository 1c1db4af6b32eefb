"""Importing large libraries while the service runs: in a thread, one at a time for the whole process.

The Azure SDKs import the same modules in circles. Three parts of the service begin with them at once when it starts; imported in three threads side by side
they wait for each other, and Python ends that by letting one of them fail.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from types import ModuleType

_TURN = threading.Lock()


async def loaded(*names: str) -> ModuleType:
    """Import modules in their order without holding the event loop up; return the last.

    Raises:
        ImportError: One of them is not there.
    """
    return await asyncio.to_thread(_load, names)


def _load(names: tuple[str, ...]) -> ModuleType:
    with _TURN:
        return [importlib.import_module(name) for name in names][-1]

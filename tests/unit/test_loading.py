"""Large libraries are imported one at a time, whoever asks."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from responder.loading import loaded

ROOT = Path(__file__).parents[2] / "responder"


async def test_two_who_ask_at_once_do_not_import_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that import what imports each other wait in a circle, and Python lets one fail: so did azure.core at the start of the service."""
    inside, most, counting = 0, 0, threading.Lock()

    def slow(_name: str) -> ModuleType:
        nonlocal inside, most
        with counting:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with counting:
            inside -= 1
        return sys

    monkeypatch.setattr(importlib, "import_module", slow)

    found = list(await asyncio.gather(loaded("one", "two"), loaded("three"), loaded("four")))

    assert most == 1
    assert found == [sys, sys, sys]


def test_nobody_imports_a_library_in_a_thread_of_their_own() -> None:
    """The one place where that is done keeps the turn."""
    found = [one.name for one in ROOT.rglob("*.py") if "to_thread(importlib" in one.read_text()]

    assert found == []

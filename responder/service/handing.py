"""Deliveries on their way from the intake to the router of the same process: stored, and not read back from the store to be routed.

The store holds each for ``HELD``: it is not claimed meanwhile, and when this process dies it is claimed like any other afterwards.

Never here: what is durable (the store), who is told (``intake``), routing.

The decision a reader would question: a delivery in memory beside one in the store. Claiming and reading back cost a fifth of what a lone alert cost.
For order's sake nothing is handed over while older deliveries may wait in the store. Only where one process has the store: replicas claim from it, so
that whoever has time takes what came, and nothing waits for one that died.
"""

from __future__ import annotations

from datetime import timedelta

from responder.model.storing import Delivery

HELD = timedelta(seconds=30)
"""As long as a claim. One that waits here for longer is claimed too, by the same router, which takes it for the one that it is."""

MOST = 4_000
MOST_BYTES = 2 << 20


class Handing:
    """The deliveries under way, in the order in which they were stored; bounded by count and bytes."""

    def __init__(self, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: list[Delivery] = []
        self._count = 0
        self._bytes = 0
        self._caught_up = False
        self._passed = 0

    def reserve(self, size: int) -> bool:
        """Take room for a delivery of so many bytes that is to be stored; False when it must go by the store."""
        if self._caught_up and self._count < self._most and self._bytes + size <= self._most_bytes:
            self._count += 1
            self._bytes += size
            return True
        self._caught_up = False
        self._passed += 1
        return False

    def free(self, size: int) -> None:
        """Give room back: the delivery was not stored, or has been taken."""
        self._count -= 1
        self._bytes -= size

    def put(self, delivery: Delivery) -> None:
        """Hand a delivery over that room was taken for."""
        self._waiting.append(delivery)

    def take(self) -> list[Delivery]:
        """Take what waits, oldest first."""
        taken, self._waiting = self._waiting, []
        for delivery in taken:
            self.free(len(delivery.body))
        return taken

    def mark(self) -> int:
        """Return where the deliveries stand that went by the store, for ``caught_up``."""
        return self._passed

    def caught_up(self, mark: int) -> None:
        """Say that the store has none left that waits, as far as it was asked since ``mark``: what comes now is handed over."""
        self._caught_up = mark == self._passed

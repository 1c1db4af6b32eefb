"""How many deliveries wait to be routed, and how many may: beyond that, senders are told to come back.

Never here: who is told, or in which words (``intake``, ``http``).

The decision a reader would question: between two counts of the store this process adds what it took in and takes away what it routed. A count for each
delivery would cost more than the delivery; the heartbeat's count puts it right within seconds, for all replicas.
"""

from __future__ import annotations

MOST_WAITING = 20_000


class Backlog:
    """The deliveries that wait.

    Attributes:
        most: Beyond this the intake is full.
        waiting: As far as is known here.
    """

    def __init__(self, *, most: int = MOST_WAITING) -> None:
        self.most = most
        self.waiting = 0

    @property
    def full(self) -> bool:
        """Tell whether senders must come back."""
        return self.waiting >= self.most

    def came(self) -> None:
        """Count one that was stored."""
        self.waiting += 1

    def went(self, count: int) -> None:
        """Take away those that were routed."""
        self.waiting = max(0, self.waiting - count)

    def counted(self, count: int) -> None:
        """Take over what the store has counted."""
        self.waiting = count

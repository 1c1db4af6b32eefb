"""The doors of the core: what the shell needs from the outside, as protocols whose docstrings are the contract.

Fakes and real adapters pass one contract suite (``tests/contract``). Never here: an implementation, or an SDK's type.

The decision a reader would question: the store's port is not here but in ``service.storing`` as a class over named operations;
ports describe foreign systems, the store is ours on every side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from responder.model.action import Permission, Write
from responder.model.cluster import Snapshot
from responder.model.evidence import EvidenceItem
from responder.model.notice import Notice, Receipt
from responder.model.target import Lookup, LookupAnswer, Target


class Clock(Protocol):
    """Time, so that it can be stopped, sped up and faked."""

    def now(self) -> datetime:
        """Return the current instant, UTC."""

    def boottime(self) -> float:
        """Return seconds on a clock that neither steps nor stops while the machine is suspended (CLOCK_BOOTTIME)."""

    async def sleep(self, duration: timedelta) -> None:
        """Wait at least this long; cancellable."""


class ClusterView(Protocol):
    """Reads one cluster. Changes nothing, ever; every call is bounded by its own time-out.

    Raises from every method: ``TransientError``, ``ThrottledError``, ``RejectedError``, ``ForbiddenError``; never an SDK's exception. What is merely
    absent or partly unreadable is a value (``Snapshot.gone``, ``Snapshot.gaps``, ``Presence``), not an exception.
    """

    name: str

    async def look_up(self, lookup: Lookup) -> LookupAnswer:
        """Answer one question of target resolution within 2 s; ``Presence.UNKNOWN`` instead of raising."""

    async def snapshot(self, target: Target) -> Snapshot:
        """Read the target and everything that judging it needs, within 10 s.

        Raises:
            RemoteError: When the target itself could not be read. A side read that fails is a gap, not an error.
        """

    async def evidence(self, snapshot: Snapshot) -> Sequence[EvidenceItem]:
        """Capture logs (current and previous) of failing containers, objects without secrets, conditions, events, within 60 s.

        Never raises for a single item: the item says its problem.
        """

    async def permitted(self, needed: Sequence[Permission], *, namespace: str = "") -> Mapping[Permission, bool]:
        """Ask the cluster which permissions we hold (SelfSubjectAccessReview); namespace "" asks cluster-wide."""

    async def close(self) -> None:
        """Release connections; idempotent."""


class ClusterHands(Protocol):
    """Writes to one cluster. Only ``service.hands.carry_out`` calls it."""

    async def write(self, write: Write, *, within: timedelta) -> int:
        """Carry out one write once, never repeated by itself, and return the HTTP status.

        Raises:
            GoneError: The object does not exist (404), or has another UID by now for a delete.
            ContestedError: A precondition failed (409, or 422 of a JSON-patch ``test``): look again.
            BlockedError: A disruption budget refuses an eviction (429 with cause DisruptionBudget).
            ThrottledError: The API server asks us to slow down (429, ``retry_after``).
            ForbiddenError: Our role lacks the permission (401, 403).
            RejectedError: Any other 4xx.
            TransientError: Time-out, reset, 5xx: whether it took effect is not known; look again.
        """


class Notifier(Protocol):
    """One configured channel."""

    name: str

    async def send(self, notice: Notice) -> Receipt:
        """Tell people once, within 10 s; sending the same notice again must call nobody twice where the channel can know (dedup key).

        Raises:
            ThrottledError: Come back after ``retry_after``.
            TransientError: Repeating may help.
            RejectedError: Repeating is useless; take the fallback channel.
        """

    async def close(self) -> None:
        """Release connections; idempotent."""

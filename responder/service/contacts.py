"""Which clusters answer us: a cluster that is silent is asked by one at a time, so that its incidents wait for nothing and delay nobody.

Never here: what follows from the silence (``policy.storms``), or whether the fault is ours.

The decision a reader would question: what is not asked fails at once, as an unknown. Two thousand incidents that each wait ten seconds for an API server that
is not there would fill every slot for an hour; and unknown is neither permission nor success, so nothing is risked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from responder.model.errors import RemoteError, ThrottledError, TransientError
from responder.ports import Clock

APART = timedelta(seconds=10)
"""Two failures this far apart, and no answer between, make a silence. Source: FACTS.md, ``facts.api``."""

ROW_ENDS = timedelta(minutes=2)
"""A failure longer ago than this begins no row with the next one: nobody asked in between."""

ASKED_EVERY = timedelta(seconds=5)
"""While it is silent."""

MOST_WAITING = 10_000


@dataclass(slots=True)
class _Silence:
    first: datetime
    last: datetime
    problem: str = ""
    asked_at: datetime | None = None
    waiting: set[tuple[str, str]] = field(default_factory=set)


class Contacts:
    """What is known of each cluster in this process."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._silences: dict[str, _Silence] = {}

    def silent(self, cluster: str) -> str:
        """Say since when a cluster has not answered; "" while it does, or nobody knows."""
        row = self._silences.get(cluster)
        if row is None or row.last - row.first < APART:
            return ""
        return f"cluster {cluster} has not answered since {row.first:%H:%M:%S} UTC: {row.problem}"

    def admit(self, cluster: str) -> None:
        """Let a question through, unless the cluster is silent and was asked a moment ago.

        Raises:
            TransientError: It was; nothing was asked.
        """
        said = self.silent(cluster)
        if not said:
            return
        row, now = self._silences[cluster], self._clock.now()
        if row.asked_at is not None and now - row.asked_at < ASKED_EVERY:
            raise TransientError(said, system="kubernetes", operation="read", target=cluster)
        row.asked_at = now

    def answered(self, cluster: str) -> None:
        """Note that it answered, whatever it said."""
        self._silences.pop(cluster, None)

    def failed(self, cluster: str, error: Exception) -> None:
        """Note that a question failed; a refusal is an answer."""
        if not isinstance(error, TimeoutError | TransientError) or isinstance(error, ThrottledError):
            if isinstance(error, RemoteError):
                self.answered(cluster)
            return
        now = self._clock.now()
        row = self._silences.get(cluster)
        if row is None or (now - row.last > ROW_ENDS and not self.silent(cluster)):
            row = self._silences[cluster] = _Silence(first=now, last=now)
        row.last, row.problem = now, str(error) or "no answer in time"

    def waits(self, cluster: str, mode: str, target: str) -> int:
        """Note that a target's incident waits for a silent cluster; return how many of the mode do."""
        row = self._silences.get(cluster)
        if row is None:
            return 0
        if len(row.waiting) < MOST_WAITING:
            row.waiting.add((mode, target))
        return sum(1 for one, _ in row.waiting if one == mode)

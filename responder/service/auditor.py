"""The auditor: finds what nothing would ever look at again, repairs and counts it; gives back what a crash left owed; forgets what is old.

Never here: the statements (``stores``). Correctness of the running service does not rest on it: it is for what nobody thought of.

The decision a reader would question: a debt of an incident that is over is paid here by itself, without anybody's word. It was promised with the
intention, and the write that pays it holds only while the field is still ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from responder.model.errors import StoreUnavailableError
from responder.model.incident import Entry, EntryKind, Mode
from responder.model.reason import Reason
from responder.model.storing import Audit, Retention, StoredChange
from responder.ports import Clock, Store
from responder.service.hands import Giving, Hands
from responder.service.switches import Switches
from responder.telemetry import Metrics, logger

EVERY = timedelta(minutes=1)
FORGET_EVERY = timedelta(hours=1)
BREATH = timedelta(milliseconds=200)
"""Between two batches of forgetting: everybody else's work comes first."""

MOST_BATCHES = 2_000
MOST_DEBTS = 20
LONGEST_PAUSE = timedelta(hours=1)


@dataclass(slots=True)
class _Try:
    tries: int
    again_at: datetime


class Auditor:
    """Looks once a minute."""

    def __init__(
        self, *, store: Store, clock: Clock, hands: Hands, switches: Switches, metrics: Metrics, keep: Retention
    ) -> None:
        self._store = store
        self._clock = clock
        self._hands = hands
        self._switches = switches
        self._metrics = metrics
        self._keep = keep
        self._tries: dict[int, _Try] = {}

    async def run(self) -> None:
        """Look and forget, until cancelled."""
        forget_at = self._clock.now()
        while True:
            try:
                await self.look()
                if self._clock.now() >= forget_at:
                    forget_at = self._clock.now() + FORGET_EVERY
                    await self.forget()
            except StoreUnavailableError as error:
                logger().error("store_failed", problem=str(error))
            await self._clock.sleep(EVERY)

    async def look(self) -> Audit:
        """Look once: repair, count, pay debts.

        Raises:
            StoreUnavailableError: It could not be done; look again.
        """
        found = await self._store.audit()
        for what, count in asdict(found).items():
            if what == "overdue":
                self._metrics.overdue.set(count)
            elif count:
                self._metrics.repaired.labels(what).inc(count)
        repaired = {what: count for what, count in asdict(found).items() if count}
        if repaired:
            logger().warning("audit_found", **repaired)
        await self._pay()
        return found

    async def forget(self) -> int:
        """Forget what is old, batch by batch; return how many rows went.

        Raises:
            StoreUnavailableError: It could not go on; the rest waits for the next hour.
        """
        gone = 0
        for _ in range(MOST_BATCHES):
            batch = await self._store.prune(self._keep)
            gone += batch
            if not batch:
                break
            await self._clock.sleep(BREATH)
        if gone:
            self._metrics.forgotten.inc(gone)
            logger().info("rows_forgotten", rows=gone)
        return gone

    async def _pay(self) -> None:
        """Give back what incidents that are over still owe; where it fails, again after twice the time."""
        ids = set(await self._store.unsettled())
        self._tries = {one: tried for one, tried in self._tries.items() if one in ids}
        now = self._clock.now()
        due = [one for one in ids if one not in self._tries or self._tries[one].again_at <= now]
        if not due:
            return
        owed = [one for one in await self._store.owed() if one.id in due][:MOST_DEBTS]
        for one in owed:
            if await self._switches.least(one.cluster) is not Mode.ARMED:
                continue  # the kill switch holds for giving back too; the debt stays listed
            await self._pay_one(one, now)

    async def _pay_one(self, one: StoredChange, now: datetime) -> None:
        """Give one back; what is done to a pool takes minutes, and is looked at until it shows."""
        (said,) = await self._hands.undo([one])
        tries = self._tries[one.id].tries if one.id in self._tries else 0
        if said.state is Giving.AT_WORK:
            self._tries[one.id] = _Try(tries, now + EVERY)
            return
        if said.state is not Giving.SETTLED:
            begun = said.state is Giving.BEGUN
            tries += 1
            self._tries[one.id] = _Try(tries, now + min(LONGEST_PAUSE, EVERY * 2 ** min(tries - begun, 8)))
            if tries > 1:
                return
        if said.state is not Giving.FAILED and not said.of_operation:
            self._metrics.repaired.labels("debt").inc()
        left_over = "" if said.of_operation else "found by the auditor, left over: "
        reason = {Giving.SETTLED: Reason.DONE if said.of_operation else Reason.REPAIRED, Giving.BEGUN: Reason.REPAIRED}
        entry = Entry(kind=EntryKind.WRITE, at=now, reason=reason.get(said.state, Reason.FAILED), text=left_over + said.text)
        await self._store.note(one.incident, entry)

"""The store's port over SQL: each method hands one synchronous operation to the runner."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from responder.model.errors import StoreUnavailableError
from responder.model.evidence import EvidenceItem
from responder.model.incident import Entry, Incident, Instance, Mode, Signal
from responder.model.reason import Reason
from responder.model.storing import (
    Audit,
    Claimed,
    Committed,
    Counts,
    DamagedRow,
    Delivery,
    DeliveryState,
    ModeRow,
    NewDelivery,
    OutboxRow,
    Replica,
    Retention,
    RoutedAlert,
    RoutedDelivery,
    RoutedResult,
    Scopes,
    SourceHeard,
    StoredChange,
    StormCounts,
    Transition,
    Work,
)
from responder.ports import Clock
from responder.stores.sql import (
    auditing,
    commands,
    damage,
    deliveries,
    forgetting,
    incidents,
    keeping,
    outbox,
    parents,
    replicas,
    routing,
)
from responder.stores.sql.codec import instant, millis, not_before
from responder.stores.sql.database_time import DatabaseTime
from responder.stores.sql.runners.inline import InlineRunner
from responder.stores.sql.runners.sqlite import SqliteRunner

R = TypeVar("R")


class Runner(Protocol):
    """Carries operations out.

    Attributes:
        on_notify: Called when another process stored something that is due now; never where there is no other process.
        schema_ahead: The schema's revision when it is ahead of this release and fit for it; "" otherwise.
        commits: Writing transactions that were committed since the start.
    """

    on_notify: Callable[[], None]
    schema_ahead: str
    commits: int

    async def run(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run a writing operation; it is durable when this returns."""

    async def read(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run a reading operation."""

    async def close(self) -> None:
        """Release the database."""


def open_sqlite(path: Path, clock: Clock) -> SqlStore:
    """Open the embedded store.

    Raises:
        SettingsError: The file cannot be opened, or another process has it.
    """
    return SqlStore(SqliteRunner(path), clock)


def open_memory(clock: Clock) -> SqlStore:
    """Open a store that lives in this process only, without threads: for tests."""
    return SqlStore(InlineRunner(), clock)


async def open_postgres(url: str, clock: Clock, *, pool: int = 8, database_time: bool = True) -> SqlStore:
    """Open a store that any number of processes share.

    Args:
        url: ``postgresql://…``; holds a secret.
        clock: Our own. The store's clock is the database's, in ``SqlStore.clock``; the whole service must be given that one.
        pool: Most connections for operations; one more listens.
        database_time: False keeps to ``clock``: for tests that move it by hand.

    Raises:
        SettingsError: It cannot be reached or used; says what to do.
    """
    from responder.stores.sql.runners.postgres import PostgresRunner  # noqa: PLC0415 - who runs on SQLite does not load its driver

    runner = await PostgresRunner.open(url, pool=pool)
    store = SqlStore(runner, clock, time=DatabaseTime(clock) if database_time else None)
    try:
        await store.read_clock()
    except StoreUnavailableError:
        await store.close()
        raise
    return store


class SqlStore:
    """Implements ``ports.Store``; see there for what each method promises.

    Attributes:
        clock: The store's time. On SQLite it is the one given.
    """

    def __init__(self, runner: Runner, clock: Clock, *, time: DatabaseTime | None = None) -> None:
        self.runner = runner
        self._time = time
        self._clock = self.clock = time or clock

    @property
    def _now(self) -> int:
        return millis(self._clock.now())

    async def _timed(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run an operation that begins or renews leases: the time is read anew first, in the same transaction."""
        time = self._time
        if time is None:
            return await self.runner.run(operation, self._now, *arguments)

        @functools.wraps(operation)
        def timed(db: Any) -> R:
            time.sample(db)
            if time.stepped_back:
                replicas.after_step_back(db, self._now)
            return operation(db, self._now, *arguments)

        stepped_back = time.stepped_back
        result = await self.runner.run(timed)
        if stepped_back:  # seen before this one began, so this one has looked after it and has been stored
            time.stepped_back = False
        return result

    async def read_clock(self) -> None:
        """Read the store's clock."""
        await self._timed(lambda _db, _now: None)

    def steady(self) -> bool:
        """See ``ports.Store``."""
        return self._time is None or self._time.steady()

    async def beat(self, replica: Replica) -> Sequence[Replica]:
        """See ``ports.Store``."""
        return await self._timed(replicas.beat, replica)

    async def leave(self, replica: str) -> None:
        """See ``ports.Store``."""
        await self.runner.run(replicas.leave, self._now, replica)

    async def accept(self, given: Sequence[NewDelivery]) -> Sequence[bool]:
        """See ``ports.Store``."""
        return [stored > 0 for stored in await self.runner.run(deliveries.accept, self._now, list(given))]

    async def accept_held(self, delivery: NewDelivery) -> Delivery | None:
        """See ``ports.Store``."""
        (stored,) = await self.runner.run(deliveries.accept, self._now, [delivery])
        return deliveries.as_stored(delivery, stored) if stored else None

    async def backlog(self) -> int:
        """See ``ports.Store``."""
        return await self.runner.read(deliveries.backlog, self._now)

    async def claim_deliveries(self, *, limit: int, lease: timedelta) -> Sequence[Delivery]:
        """See ``ports.Store``."""
        return await self._timed(deliveries.claim, limit, lease)

    async def known(self, instances: Sequence[str]) -> Mapping[str, Instance]:
        """See ``ports.Store``."""
        return await self.runner.run(routing.known, self._now, list(instances))

    async def unclosed(self, keys: Sequence[str]) -> Mapping[str, Incident]:
        """See ``ports.Store``."""
        return await self.runner.read(incidents.unclosed, self._now, list(keys))

    async def route(
        self, alerts: Sequence[RoutedAlert], *, delivery: Delivery | None, state: DeliveryState, note: str, shape: str
    ) -> Sequence[RoutedResult]:
        """See ``ports.Store``."""
        return await self.runner.run(routing.route, self._now, list(alerts), delivery, state, note, shape)

    async def route_all(
        self, routed: Sequence[RoutedDelivery], *, settle: timedelta, name: Callable[[datetime], str]
    ) -> Sequence[RoutedResult]:
        """See ``ports.Store``."""
        return await self.runner.run(routing.route_all, self._now, list(routed), settle, name)

    async def wake(self, ids: Sequence[str]) -> None:
        """See ``ports.Store``."""
        await self.runner.run(incidents.wake, self._now, list(ids))

    async def delivery_failed(self, delivery: Delivery, *, note: str, again_in: timedelta) -> int:
        """See ``ports.Store``."""
        return await self.runner.run(deliveries.failed, self._now, delivery.id, note, again_in)

    async def due_instances(self, *, limit: int) -> Sequence[Instance]:
        """See ``ports.Store``."""
        return await self.runner.run(routing.due_instances, self._now, limit)

    async def claim_incidents(
        self, *, owner: str, limit: int, lease: timedelta, own: Sequence[str], full: Sequence[str] = ()
    ) -> Sequence[Claimed]:
        """See ``ports.Store``."""
        return await self._timed(incidents.claim, owner, limit, lease, tuple(own), tuple(full))

    async def free_owner(self, owner: str) -> None:
        """Free the leases of an owner that starts anew (embedded store only: its lock file proves that nobody else holds them)."""
        await self.runner.run(incidents.free_owner, self._now, owner)

    async def renew(self, *, owner: str, ids: Sequence[str], lease: timedelta) -> Mapping[str, datetime]:
        """See ``ports.Store``."""
        return await self._timed(incidents.renew, owner, tuple(ids), lease)

    async def peek(self, incident: str) -> tuple[Sequence[Signal], int]:
        """See ``ports.Store``."""
        return await self.runner.run(incidents.peek, self._now, incident)

    async def commit(self, transition: Transition) -> Committed:
        """See ``ports.Store``."""
        return await self.runner.run(incidents.commit, self._now, transition)

    async def counts(self, incident: Incident, scopes: Scopes, *, symptom_window: timedelta) -> Counts:
        """See ``ports.Store``."""
        return await self.runner.run(commands.counts, self._now, incident, scopes, symptom_window)

    async def counts_of(
        self, incident: Incident, scopes: Mapping[str, Scopes], *, symptom_window: timedelta
    ) -> Mapping[str, Counts]:
        """See ``ports.Store``."""
        return await self.runner.read(commands.counts_of, self._now, incident, dict(scopes), symptom_window)

    async def storm(self, parent: Incident, *, symptom_window: timedelta) -> StormCounts:
        """See ``ports.Store``."""
        return await self.runner.read(parents.storm, self._now, parent, symptom_window)

    async def signal(self, signal: Signal) -> bool:
        """See ``ports.Store``."""
        return await self.runner.run(incidents.signal, self._now, signal)

    async def next_due(self, of: Work | None = None) -> datetime | None:
        """See ``ports.Store``."""
        due = await self.runner.read(_next_due, self._now, of)
        return None if due is None else instant(due)

    async def keep_evidence(self, incident: str, *, opening: int, items: Sequence[EvidenceItem]) -> None:
        """See ``ports.Store``."""
        await self.runner.run(keeping.keep_evidence, self._now, incident, opening, list(items))

    async def evidence(self, incident: str) -> Sequence[EvidenceItem]:
        """See ``ports.Store``."""
        return await self.runner.read(keeping.evidence, self._now, incident)

    async def claim_outbox(self, *, limit: int, lease: timedelta) -> Sequence[OutboxRow]:
        """See ``ports.Store``."""
        return await self._timed(outbox.claim, limit, lease)

    async def outbox_sent(self, row: OutboxRow, *, answer: str, reached: bool) -> None:
        """See ``ports.Store``."""
        await self.runner.run(outbox.sent, self._now, row, answer, reached)

    async def outbox_failed(self, row: OutboxRow, *, answer: str, again_at: datetime | None, fallback: str) -> None:
        """See ``ports.Store``."""
        await self.runner.run(outbox.failed, self._now, row, answer, not_before(again_at), fallback)

    async def incident(self, incident: str) -> Incident | None:
        """See ``ports.Store``."""
        return await self.runner.read(incidents.by_id, self._now, incident)

    async def incidents(self, *, unclosed: bool, limit: int, mode: Mode | None = None) -> Sequence[Incident]:
        """See ``ports.Store``."""
        return await self.runner.read(incidents.listed, self._now, unclosed, limit, mode)

    async def held(self, incident: str, *, limit: int = 1_000) -> Sequence[Instance]:
        """See ``ports.Store``."""
        return await self.runner.read(routing.held, self._now, incident, limit)

    async def timeline(self, incident: str) -> Sequence[Entry]:
        """See ``ports.Store``."""
        return await self.runner.read(incidents.timeline, self._now, incident)

    async def deliveries(self, *, state: DeliveryState | None, limit: int) -> Sequence[Delivery]:
        """See ``ports.Store``."""
        return await self.runner.read(deliveries.listed, self._now, state, limit)

    async def instances(self, *, why: Reason | None, firing: bool, limit: int) -> Sequence[Instance]:
        """See ``ports.Store``."""
        return await self.runner.read(routing.listed, self._now, why, firing, limit)

    async def firing(self, *, source: str, source_name: str, limit: int) -> Sequence[Instance]:
        """See ``ports.Store``."""
        return await self.runner.read(routing.firing, self._now, source, source_name, limit)

    async def events(self, *, within: timedelta, limit: int) -> Sequence[Instance]:
        """See ``ports.Store``."""
        return await self.runner.read(routing.events, self._now, within, limit)

    async def pinned(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """See ``ports.Store``."""
        return await self.runner.run(incidents.pinned, self._now, list(digests))

    async def owed(self, *, incident: str = "") -> Sequence[StoredChange]:
        """See ``ports.Store``."""
        return await self.runner.run(commands.owed, self._now, incident)

    async def give_back(self, changes: Sequence[int]) -> None:
        """See ``ports.Store``."""
        await self.runner.run(commands.undone, self._now, list(changes))

    async def modes(self) -> Sequence[ModeRow]:
        """See ``ports.Store``."""
        return await self.runner.read(keeping.modes, self._now)

    async def set_mode(self, mode: ModeRow) -> None:
        """See ``ports.Store``."""
        now = self._now
        left = await self.runner.run(keeping.set_mode, now, mode)
        for _ in range(-(-left // incidents.WOKEN_AT_ONCE)):  # who is judged meanwhile has seen the switch, and is not waited for
            await self.runner.run(incidents.wake_some, now)

    async def remember_healthy(self, revisions: Sequence[str]) -> None:
        """See ``ports.Store``."""
        await self.runner.run(keeping.remember_healthy, self._now, list(revisions))

    async def seen_healthy(self, revisions: Sequence[str]) -> Sequence[str]:
        """See ``ports.Store``."""
        return await self.runner.read(keeping.seen_healthy, self._now, list(revisions))

    async def prune(self, keep: Retention) -> int:
        """See ``ports.Store``."""
        return await self.runner.run(forgetting.prune, self._now, keep)

    async def audit(self) -> Audit:
        """See ``ports.Store``."""
        return await self.runner.run(auditing.audit, self._now)

    async def unsettled(self) -> Sequence[int]:
        """See ``ports.Store``."""
        return await self.runner.run(auditing.unsettled, self._now)

    async def heard(self, names: Sequence[str]) -> Sequence[SourceHeard]:
        """See ``ports.Store``."""
        return await self.runner.read(auditing.heard, self._now, list(names))

    async def damaged(self) -> Sequence[DamagedRow]:
        """See ``ports.Store``."""
        return await self.runner.read(damage.found, self._now)

    async def count_unclosed(self) -> int:
        """See ``ports.Store``."""
        return await self.runner.read(incidents.count_unclosed, self._now)

    async def writable(self) -> None:
        """See ``ports.Store``."""
        await self.runner.run(replicas.probe, self._now)

    async def note(self, incident: str, entry: Entry) -> None:
        """See ``ports.Store``."""
        await self.runner.run(incidents.note_entry, self._now, incident, entry)

    async def close(self) -> None:
        """See ``ports.Store``."""
        await self.runner.close()


def _next_due(db: Any, now: int, of: Work | None) -> int | None:
    asked = (of,) if of is not None else Work
    return min((one for work in asked for one in _dues(db, now, work) if one is not None), default=None)


def _dues(db: Any, now: int, work: Work) -> tuple[int | None, ...]:
    match work:
        case Work.ROUTING:
            return deliveries.next_due(db, now), routing.next_due(db)
        case Work.INCIDENTS:
            return (incidents.next_due(db, now),)
        case Work.MESSAGES:
            return (outbox.next_due(db),)

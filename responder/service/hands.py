"""The hands: carries out a rung, write by write, and holds the only function that writes to the outside.

Crash safety, kill switch and shadow are this one mechanism: every write passes ``permit``; every step starts by looking at the
world; in shadow nothing here is ever called. Never here: what to write (``actions``), whether to begin (``policy.decide``).

The decision a reader would question: nothing remembers how far a plan got. The plan's next step is found by looking at the world
(``next_step``), before a crash and after it alike, so there is one path and not two.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from responder.actions.catalogue import ActionCatalogue
from responder.actions.giving_back import looks_first, of_pool, undo_now, undo_pool_now
from responder.model.action import End, Outcome, Plan, Wait, Write
from responder.model.cloud import CloudAsk
from responder.model.cluster import Reading, Snapshot
from responder.model.errors import (
    BlockedError,
    ContestedError,
    ForbiddenError,
    GoneError,
    OccupiedError,
    RejectedError,
    RemoteError,
    ThrottledError,
    TransientError,
)
from responder.model.health import Health, together
from responder.model.incident import Attempt, Entry, EntryKind, Incident, Instance, Mode, SignalKind
from responder.model.reason import Reason
from responder.model.rule import Rule
from responder.model.storing import Claimed, StoredChange, Transition
from responder.model.target import Target, TargetKind
from responder.policy import guards
from responder.ports import Clock, Cloud, ClusterHands, Store
from responder.service import cloud_hands
from responder.service.reading import Reader
from responder.service.switches import Switches
from responder.telemetry import Metrics, logger

WRITE_WITHIN = timedelta(seconds=8)
"""One write's time-out; shorter than what is left of a lease when the permit is given."""

LOOK_AGAIN = timedelta(seconds=2)
BLOCKED_FOR = timedelta(seconds=5)
"""A disruption budget's 429 carries no Retry-After (kubernetes.md A16 case 1): wait at least this long."""

LONGEST_REST, REST_PIECE = timedelta(minutes=10), timedelta(seconds=15)
"""However long a Retry-After is; how often it is looked meanwhile whether anything stops the rung."""

MOST_CONTESTED = 5
MOST_WAITS_TOLD = 50
STOPS = {
    SignalKind.PAUSED: Reason.PAUSED,
    SignalKind.CLOSED: Reason.CLOSED_BY_PERSON,
    SignalKind.MOVED: Reason.MOVED,
    SignalKind.ARMED: Reason.ARMED,
}


@dataclass(slots=True)
class Held:
    """An incident in this worker's hand.

    Attributes:
        incident: As last stored.
        lease_until: On the clock's ``boottime``; the heartbeat moves it forward.
        lost: The lease is known to be lost.
        late: How long nobody was there to take it up; zero for what is usual.
        snapshot: As read for the last judgement; None when nothing was.
        reading: Of that judgement, when it only asked for evidence; it is judged by again while it is young.
    """

    incident: Incident
    claimed: Claimed
    rules: Mapping[str, Rule]
    instances: tuple[Instance, ...]
    wake: int
    lease_until: float
    lost: bool = False
    late: timedelta = timedelta(0)
    snapshot: Snapshot | None = None
    reading: Reading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of a rung."""

    outcome: Outcome
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave to make one write, given right before it.

    Attributes:
        stop: Why not; None when it may be made.
        within: Time-out of the write.
    """

    stop: Reason | None = None
    detail: str = ""
    within: timedelta = field(default=WRITE_WITHIN)


class Giving(StrEnum):
    """Where giving a change back stands. ``BEGUN``: an operation was sent that takes its time. ``AT_WORK``: the pool is, on this or on something else."""

    SETTLED = "settled"
    BEGUN = "begun"
    AT_WORK = "at work"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What came of giving one change back, in words too. ``of_operation``: it is seen that an operation has given it back."""

    text: str
    state: Giving
    of_operation: bool = False


class Hands:
    """Carries out rungs on all configured clusters."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        reader: Reader,
        hands: Mapping[str, ClusterHands],
        catalogue: ActionCatalogue,
        switches: Switches,
        metrics: Metrics,
        limits: guards.Limits | None = None,
        clouds: Mapping[str, Cloud] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._reader = reader
        self._hands = hands
        self._clouds = clouds or {}
        self._catalogue = catalogue
        self._switches = switches
        self._metrics = metrics
        self._limits = limits or guards.Limits()

    async def carry_out_rung(self, held: Held) -> Ended:
        """Carry out the incident's command from wherever the world shows it to be.

        Never raises for what a cluster answers; that is the outcome.
        """
        command = held.incident.command
        if command is None:
            return Ended(outcome=Outcome.FAILED, reason=Reason.FAILED, detail="no command is stored")
        outcome = Outcome.ALREADY_SO
        said: list[str] = []
        for plan in command.plans:
            ended = await self._carry_out(held, plan)
            said.append(f"{plan.action}: {ended.detail}" if ended.detail else plan.action)
            if ended.outcome not in {Outcome.DONE, Outcome.ALREADY_SO}:
                return replace(ended, detail="; ".join(said))
            if ended.outcome is Outcome.DONE:
                outcome = Outcome.DONE
        reason = Reason.DONE if outcome is Outcome.DONE else Reason.ALREADY_SO
        return Ended(outcome=outcome, reason=reason, detail="; ".join(said))

    async def _carry_out(self, held: Held, plan: Plan) -> Ended:
        """Drive one action to its end: look, take the next step, look again; bounded by the rung's ``within``."""
        contested = 0
        problem = unknown = ""
        blocked: Reason | None = None
        told: set[str] = set()
        fresh = False
        action = self._catalogue.actions[plan.action]
        while True:
            now = self._clock.now()
            ends_at = held.incident.runs[-1].prove_by if held.incident.runs else None
            if ends_at is not None and now >= ends_at:
                if unknown:
                    return Ended(outcome=Outcome.CANNOT_BE_KNOWN, reason=Reason.CANNOT_BE_KNOWN, detail=unknown)
                if blocked is not None:
                    return Ended(outcome=Outcome.REFUSED, reason=blocked, detail=problem)
                return Ended(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=f"its time is over. {problem}".rstrip(". "))
            try:
                ask = cloud_hands.ask_for(plan, fresh=fresh) if action.cloud else None
                snapshot = await self._reader.snapshot(
                    held.incident.target, displaced=held.incident.displaced, ask=ask, pool=held.incident.pool
                )
                snapshot = await cloud_hands.followed(self._clouds, held.incident, snapshot)
            except (RemoteError, TimeoutError) as error:
                if isinstance(error, ForbiddenError):
                    return Ended(outcome=Outcome.REFUSED, reason=Reason.FORBIDDEN, detail=str(error))
                problem = str(error) or "reading took too long"
                if held.lost:
                    return Ended(outcome=Outcome.STOPPED, reason=Reason.LEASE_LOST)
                await self._clock.sleep(BLOCKED_FOR)
                continue
            fresh = False
            if snapshot.gone and not action.cloud:
                return Ended(
                    outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail=f"{held.incident.target} does not exist any more"
                )
            step = action.next_step(plan, snapshot, now=self._clock.now())
            if isinstance(step, Wait) and snapshot.cloud is not None:
                unknown = ""  # it shows: something is at work
            match step:
                case End():
                    return Ended(outcome=step.outcome, reason=step.reason, detail=step.detail)
                case Wait():
                    problem, blocked = step.detail or problem, step.refuses
                    await self._tell_wait(held, step, told)
                    stop = await self._stopped(held)
                    if stop is not None and stop is not Reason.HEALTHY:
                        return Ended(outcome=Outcome.STOPPED, reason=stop, detail=step.detail)
                    await self._clock.sleep(min(step.again_in, timedelta(seconds=15)))
                case Write():
                    if not self._store.steady():
                        problem = "the store's clock and ours moved apart: nothing is written for one lease"
                        await self._clock.sleep(LOOK_AGAIN)
                        continue
                    if step.verb.of_cloud and cloud_hands.stale(snapshot, now=self._clock.now()):
                        fresh = True
                        continue
                    begun = cloud_hands.attempt_of(held.incident, step.key)
                    if step.at_most_once and begun is not None:
                        unknown = f"{step.says}: it was sent at {begun.at:%H:%M:%S} and nothing shows what came of it"
                        if self._clock.now() - begun.at >= cloud_hands.SHOWS_WITHIN:
                            return Ended(outcome=Outcome.CANNOT_BE_KNOWN, reason=Reason.CANNOT_BE_KNOWN, detail=unknown)
                        fresh = True
                        await self._clock.sleep(BLOCKED_FOR)
                        continue
                    permit = await self._permit(held, plan, snapshot, step)
                    if permit.stop is Reason.STALE_READING:
                        continue
                    if permit.stop is Reason.UNKNOWN and action.cloud:  # a new life begins in doubt about whom it can reach
                        problem = permit.detail
                        await self._clock.sleep(BLOCKED_FOR)
                        continue
                    if permit.stop is not None:
                        return Ended(outcome=Outcome.STOPPED, reason=permit.stop, detail=permit.detail)
                    try:
                        await self.carry_out(held, step, permit)
                        blocked, contested = None, 0
                    except OccupiedError as error:
                        blocked, problem = Reason.FOREIGN_ACTIVITY, str(error)
                        await self._rest(held, error.retry_after or BLOCKED_FOR, ends_at)
                    except BlockedError as error:
                        blocked, problem = Reason.BUDGET_BLOCKS, str(error)
                        spread = 1 + random.random() / 4  # noqa: S311 - spreads, hides nothing
                        await self._rest(held, max(BLOCKED_FOR, error.retry_after or BLOCKED_FOR) * spread, ends_at)
                    except ThrottledError as error:
                        problem = str(error)
                        await self._rest(held, max(LOOK_AGAIN, error.retry_after or BLOCKED_FOR), ends_at)
                    except (ContestedError, TransientError) as error:
                        problem = str(error)
                        contested += 1
                        if contested > MOST_CONTESTED:
                            return Ended(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=problem)
                        await self._clock.sleep(LOOK_AGAIN)
                    except GoneError as error:
                        problem = str(error)
                        contested += 1
                        if contested > MOST_CONTESTED:
                            return Ended(outcome=Outcome.GONE, reason=Reason.TARGET_GONE, detail=problem)
                    except ForbiddenError as error:
                        return Ended(outcome=Outcome.REFUSED, reason=Reason.FORBIDDEN, detail=str(error))
                    except RejectedError as error:
                        return Ended(outcome=Outcome.FAILED, reason=Reason.FAILED, detail=str(error))

    async def _rest(self, held: Held, asked: timedelta, ends_at: datetime | None) -> None:
        """Wait for as long as the other side asked, but not beyond the rung's time, and not past a stop: whoever asks for a day does not get it."""
        until = self._clock.now() + min(asked, LONGEST_REST)
        if ends_at is not None:
            until = min(until, ends_at)
        while (left := until - self._clock.now()) > timedelta(0):
            await self._clock.sleep(min(left, REST_PIECE))
            if left > REST_PIECE and await self._stopped(held) not in {None, Reason.HEALTHY}:
                return

    async def carry_out(self, held: Held, write: Write, permit: Permit) -> None:
        """Make one write: **the only place in this program that changes anything outside**.

        Raises:
            RemoteError: As ``ports.ClusterHands.write``; whether it took effect is found by looking again.
        """
        if permit.stop is not None or held.incident.mode is not Mode.ARMED:
            raise RejectedError("no permit", system="responder", operation="write", target=write.key)
        if self._late(held):  # asking for the permit took time, and a process can be stopped at any line
            raise ContestedError("the lease ends too soon", system="responder", operation="write", target=write.key)
        if write.at_most_once:  # noted before it is sent: who takes over must know that it may have been
            held.incident = cloud_hands.with_attempt(held.incident, Attempt(key=write.key, at=self._clock.now()))
            await self.store_progress(held)
            if self._late(held):
                raise ContestedError("the lease is lost", system="responder", operation="write", target=write.key)
        try:
            token = await self._send(held.incident.target.cluster, write, within=permit.within)
        except RemoteError as error:
            if write.at_most_once and (not isinstance(error, TransientError) or isinstance(error, ThrottledError)):
                held.incident = cloud_hands.without_attempt(held.incident, write)  # nothing was begun, and the cloud said so
                await self.store_progress(held)
            raise
        if token:
            held.incident = cloud_hands.with_attempt(held.incident, Attempt(key=write.key, at=self._clock.now(), token=token))
        entry = Entry(
            kind=EntryKind.WRITE,
            at=self._clock.now(),
            reason=Reason.DONE,
            text=write.says,
            data={"write": write.key, "verb": str(write.verb), "object": f"{write.plural}/{write.namespace}/{write.name}"},
        )
        await self.store_progress(held, entry)

    async def store_progress(self, held: Held, *entries: Entry) -> None:
        """Record what was done while the rung goes on; a lost fence is noted and stops the next write."""
        committed = await self._store.commit(
            Transition(
                incident=held.incident,
                fence=held.claimed.fence,
                wake=held.wake,
                wake_at=self._clock.now(),
                keep=True,
                entries=entries,
            )
        )
        if not committed.stored:
            held.lost = True
        else:
            held.wake = committed.wake

    async def give_back(self, held: Held, owed: list[StoredChange]) -> tuple[list[int], list[Entry]]:
        """Undo changes, newest first, each only while the field is still what we made it (the write's own precondition).

        Returns:
            Ids of changes that are settled (given back, or no longer ours), and lines for the timeline.
        """
        settled: list[int] = []
        entries: list[Entry] = []
        for one in owed:
            while not self._store.steady() and not self._late(held):
                await self._clock.sleep(LOOK_AGAIN)
            if await self._switches.least(held.incident.cluster) is not Mode.ARMED:
                entries.append(
                    self._line(
                        Reason.KILL_SWITCH,
                        f"not given back: {one.change.field} of {one.change.target} is still {one.change.after}",
                    )
                )
                continue
            if self._late(held):
                entries.append(self._line(Reason.LEASE_LOST, f"not given back, the lease is lost: {one.change.target}"))
                continue
            try:
                undo = await self._undo_now(one)
                if isinstance(undo, End):
                    self._left(one, undo, settled, entries)
                    continue
                if self._late(held):  # the look took its time
                    entries.append(self._line(Reason.LEASE_LOST, f"not given back, the lease is lost: {one.change.target}"))
                    continue
                await self._send(one.cluster, undo, within=WRITE_WITHIN)
                if of_pool(one.change):
                    entries.append(self._line(Reason.DONE, f"{undo.says}: begun, and owed until the pool shows it"))
                    continue
            except (ContestedError, GoneError) as error:
                if of_pool(one.change):
                    entries.append(self._line(Reason.FAILED, f"not given back yet: {one.change.target}: {error}"))
                    continue
                settled.append(one.id)
                entries.append(self._line(Reason.ALREADY_SO, f"left as it is, no longer ours: {one.change.target} ({error})"))
            except (RemoteError, TimeoutError) as error:
                entries.append(self._line(Reason.FAILED, f"not given back yet: {one.change.target}: {error}"))
                logger().warning("change_not_given_back", incident=held.incident.id, change=one.id, problem=str(error))
            else:
                settled.append(one.id)
                entries.append(self._line(Reason.DONE, undo.says))
                logger().info("change_given_back", incident=held.incident.id, change=one.id)
        return settled, entries

    def _left(self, one: StoredChange, why: End, settled: list[int], entries: list[Entry]) -> None:
        """Leave a change as it is: for good when it is no longer ours, for now while somebody else is at work."""
        if why.outcome is Outcome.REFUSED:
            entries.append(self._line(why.reason, f"not given back yet: {one.change.target}: {why.detail}"))
            return
        settled.append(one.id)
        if why.outcome is not Outcome.ALREADY_SO:
            entries.append(self._line(Reason.ALREADY_SO, f"left as it is: {one.change.target} ({why.detail})"))

    async def _undo_now(self, one: StoredChange) -> Write | End:
        """Return the write that gives a change back now; what is on a node or a pool is looked at first."""
        if of_pool(one.change) and one.cluster in self._clouds:
            return undo_pool_now(one.change, await self._clouds[one.cluster].read(CloudAsk(fresh=True)))
        if not looks_first(one.change):
            return one.change.undo
        name = one.change.undo.name
        snapshot = await self._reader.snapshot(Target(kind=TargetKind.NODE, cluster=one.cluster, name=name))
        return undo_now(one.change, snapshot, now=self._clock.now())

    async def undo(self, owed: Sequence[StoredChange]) -> list[Undone]:
        """Give changes back because a person asked, or the auditor; the kill switch holds for this too.

        A pool is changed by an operation that takes minutes and may fail: it is settled when the pool is read with its old value and not before.
        """
        said: list[Undone] = []
        for one in owed:
            if await self._switches.least(one.cluster) is Mode.OFF:
                what = f"{one.change.target} {one.change.field}"
                said.append(Undone(text=f"not given back, the kill switch is off: {what}", state=Giving.FAILED))
                continue
            said.append(await self._undo_one(one))
            if said[-1].state is Giving.SETTLED:
                await self._store.give_back([one.id])
        return said

    async def _undo_one(self, one: StoredChange) -> Undone:
        what, pool = f"{one.change.target} {one.change.field}", of_pool(one.change)
        try:
            undo = await self._undo_now(one)
            if isinstance(undo, Write):
                await self._send(one.cluster, undo, within=WRITE_WITHIN)
        except (ContestedError, GoneError) as error:
            if pool:  # another ETag may be the autoscaler's doing: the next look tells whether it is still ours
                return Undone(text=f"not given back: {what}: {error}", state=Giving.FAILED)
            return Undone(text=f"left as it is, no longer ours: {what}", state=Giving.SETTLED)
        except (RemoteError, TimeoutError) as error:
            return Undone(text=f"not given back: {what}: {str(error) or 'reading took too long'}", state=Giving.FAILED)
        if isinstance(undo, Write):
            if pool:
                return Undone(text=f"being given back: {undo.says}; it stays owed until the pool shows it", state=Giving.BEGUN)
            return Undone(text=f"given back: {undo.says}", state=Giving.SETTLED)
        if undo.outcome is Outcome.REFUSED:
            state = Giving.AT_WORK if pool and undo.reason is Reason.FOREIGN_ACTIVITY else Giving.FAILED
            return Undone(text=f"not given back: {what}: {undo.detail}", state=state)
        if pool and undo.outcome is Outcome.ALREADY_SO:
            return Undone(text=f"given back: {what} is {one.change.before}", state=Giving.SETTLED, of_operation=True)
        return Undone(text=f"left as it is, no longer ours: {what}", state=Giving.SETTLED)

    async def _send(self, cluster: str, write: Write, *, within: timedelta) -> str:
        """Send one write to whom it is for, and return the token of the operation that it began; "" for none."""
        results: dict[type[RemoteError], str] = {
            BlockedError: "blocked",
            ThrottledError: "throttled",
            GoneError: "gone",
            ContestedError: "contested",
            ForbiddenError: "forbidden",
            RejectedError: "rejected",
        }
        try:
            if write.verb.of_cloud:
                if cluster not in self._clouds:
                    raise RejectedError("the cluster has no resource_id", system="arm", operation=str(write.verb), target=cluster)
                begun = await self._clouds[cluster].write(write, within=within)
                status, token = begun.status, begun.token
            else:
                status, token = await self._hands[cluster].write(write, within=within), ""
        except RemoteError as error:
            result = next((word for kind, word in results.items() if isinstance(error, kind)), "unknown")
            self._metrics.writes.labels(result).inc()
            logger().warning("write_failed", write=write.key, says=write.says, result=result, problem=str(error))
            raise
        self._metrics.writes.labels("ok").inc()
        logger().info("write_carried_out", write=write.key, says=write.says, status=status)
        return token

    def _line(self, reason: Reason, text: str) -> Entry:
        return Entry(kind=EntryKind.WRITE, at=self._clock.now(), reason=reason, text=text)

    async def _tell_wait(self, held: Held, step: Wait, told: set[str]) -> None:
        """Tell what a rung is held up by, each thing once; a drain's progress is on the timeline pod by pod."""
        if step.refuses is None or step.detail in told or len(told) >= MOST_WAITS_TOLD:
            return
        told.add(step.detail)
        await self.store_progress(held, self._line(step.refuses, f"waits: {step.detail}"))

    async def _permit(self, held: Held, plan: Plan, snapshot: Snapshot, write: Write) -> Permit:
        """Ask, right before a write, whether it may still be made. ``snapshot`` was read within the last seconds."""
        stop = await self._stopped(held)
        if stop is not None:
            return Permit(stop=stop)
        now = self._clock.now()
        if now - snapshot.read_at > timedelta(seconds=10):
            return Permit(stop=Reason.STALE_READING, detail="what was read is older than 10 s")
        rule = held.rules.get(held.incident.leader)
        if rule is not None and not write.takes_back:
            reading = self._reader.derive(snapshot, rule.healthy, held.instances, now=now)
            health = together({name: reading.checks[name] for name in (call.canonical for call in rule.healthy)})
            if health.health is Health.HEALTHY:
                return Permit(stop=Reason.HEALTHY, detail=health.detail)
            if health.health is Health.UNKNOWN:
                return Permit(stop=Reason.UNKNOWN, detail=health.detail)
        if write.takes_back:
            return Permit()
        limits = guards.tighten(self._limits, rule.guards) if rule is not None else self._limits
        floor = guards.floor_before_write(plan, snapshot, limits=limits)
        if floor is not None:
            return Permit(stop=floor.reason, detail=floor.detail)
        return Permit()

    def _late(self, held: Held) -> bool:
        """Tell whether a write that begins now could still be under way when another replica takes the incident over."""
        return held.lost or held.lease_until - self._clock.boottime() <= WRITE_WITHIN.total_seconds()

    async def _stopped(self, held: Held) -> Reason | None:
        """Return why no further write may be made: lease, kill switch, arming, or a person's word."""
        if self._late(held):
            return Reason.LEASE_LOST
        least = await self._switches.least(held.incident.cluster)
        if least is Mode.OFF:
            return Reason.KILL_SWITCH
        if least is not Mode.ARMED or not self._switches.armed(held.incident.leader, held.incident.target):
            return Reason.DISARMED
        signals, _ = await self._store.peek(held.incident.id)
        for signal in signals:
            if signal.kind in STOPS:
                return STOPS[signal.kind]
        return None

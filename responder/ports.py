"""The doors of the core: what the shell needs from the outside, as protocols whose docstrings are the contract.

Every adapter of a port passes one contract suite (``tests/contract``). Never here: an implementation, or an SDK's type.

The decision a reader would question: the store's port speaks in whole steps of our work (accept, route, commit) and not in rows. One
call is one transaction, so no caller can leave half a step behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from responder.model.action import Permission, Write
from responder.model.alert import Normalised, SourceKind
from responder.model.asking import Current
from responder.model.cloud import Begun, CloudAsk, CloudSnapshot, CommandOutput, OperationResult
from responder.model.cluster import NodeSnapshot, Snapshot
from responder.model.evidence import EvidenceItem
from responder.model.incident import Entry, Incident, Instance, Mode, Signal
from responder.model.notice import Notice, Receipt
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
from responder.model.symptom import Sighting
from responder.model.target import Lookup, LookupAnswer, Target


class Understands(Protocol):
    """One sender's format."""

    def __call__(self, body: Any, *, source_name: str, received_at: datetime) -> Normalised:
        """Return the alerts of a parsed body; never raises for what a body holds."""


class Reads(Protocol):
    """All senders' formats."""

    def __call__(self, kind: SourceKind, body: bytes, *, source_name: str, received_at: datetime) -> Normalised:
        """Return the alerts of a body as received, which is JSON; never raises for what a body holds."""


class TakesIn(Protocol):
    """Takes deliveries in: ``service.intake``, for sources that receive by themselves."""

    async def accept(
        self,
        *,
        source: str,
        source_name: str,
        body: bytes,
        sender: str = "",
        headers: Mapping[str, str] | None = None,
        key: str = "",
    ) -> bool:
        """Store one delivery durably and return True; False when ``key`` names one that is stored already.

        Raises:
            MalformedError, OversizeError: It will never be taken.
            StoreUnavailableError, IntakeFullError: Not now.
        """


class Source(Protocol):
    """Receives deliveries by itself, beside the webhooks.

    Attributes:
        problem: Why it receives nothing now; "" while it does.
    """

    name: str
    problem: str

    async def run(self) -> None:
        """Receive until ``stop``, whatever the other side does; return when what was in hand is settled or given back."""

    def stop(self) -> None:
        """Receive nothing more; idempotent."""


class Askable(Protocol):
    """A sender that calls us, and that can be asked what holds now.

    Attributes:
        source: Its format.
        resolved_is_final: A firing that it once said to be over never fires again under the same identity.
    """

    name: str
    source: SourceKind
    resolved_is_final: bool

    async def current(self, known: Mapping[str, Instance]) -> Current:
        """Ask it, within two minutes, all pages and members of it.

        Args:
            known: What fires as far as we know, of this sender, by instance: read before it is asked.

        Returns:
            What fires and what is over, each under the very instance that its own delivery has. Nothing is over because a list that was not read
            completely lacks it; what is silenced, inhibited or suppressed at the sender neither fires nor is over.

        Raises:
            RemoteError: Nothing of it could be read. What was read in part is a value (``Current.problems``).
        """

    def bodies(self, said: Sequence[Any]) -> Sequence[bytes]:
        """Return deliveries in the sender's format that say these (values of ``Current.fires`` and ``Current.over``)."""


class Clock(Protocol):
    """Time, so that it can be stopped, sped up and faked."""

    def now(self) -> datetime:
        """Return the current instant, UTC."""

    def boottime(self) -> float:
        """Return seconds on a clock that neither steps nor stops while the machine is suspended (CLOCK_BOOTTIME)."""

    async def sleep(self, duration: timedelta) -> None:
        """Wait at least this long; cancellable."""


class World(Protocol):
    """The rest of the world, as a witness: when it answers us, a silence is not our own network's."""

    async def answers(self) -> bool:
        """Tell whether anything out there answered within 5 s; never raises."""


class ClusterView(Protocol):
    """Reads one cluster. Changes nothing, ever; every call is bounded by its own time-out.

    Raises from every method: ``TransientError``, ``ThrottledError``, ``RejectedError``, ``ForbiddenError``; never an SDK's exception. What is merely
    absent or partly unreadable is a value (``Snapshot.gone``, ``Snapshot.gaps``, ``Presence``), not an exception.
    """

    name: str

    async def look_up(self, lookup: Lookup) -> LookupAnswer:
        """Answer one question of target resolution within 2 s; ``Presence.UNKNOWN`` instead of raising."""

    async def snapshot(self, target: Target, *, displaced: Sequence[Target] = (), shared: bool = False) -> Snapshot:
        """Read the target and everything that judging it needs, within 10 s.

        Args:
            target: What.
            displaced: Of a node: workloads whose pods had to leave it earlier; they are read too, also when the node is gone.
            shared: What concerns the whole namespace, and where many of its targets are read these too, may be some seconds old, as read for another
                target; never for a permit, nor after a rung of ours.

        Raises:
            RemoteError: When the target itself could not be read. A side read that fails is a gap, not an error.
        """

    async def answers(self) -> None:
        """Ask the API server for its version, within 5 s; a refusal (401, 403, 429) is an answer.

        Raises:
            TransientError: No answer, or a 5xx.
        """

    async def nodes(self) -> Sequence[NodeSnapshot]:
        """List all nodes, within 10 s; an answer is used again for some seconds."""

    async def evidence(self, snapshot: Snapshot) -> Sequence[EvidenceItem]:
        """Capture logs (current and previous) of failing containers, objects without secrets, conditions, events, within 60 s.

        Never raises for a single item: the item says its problem.
        """

    async def healthy_revisions(self) -> Sequence[str]:
        """List revisions whose workload is wholly ready on them now, as ``namespace/kind/revision name``.

        ``kind`` is the workload's (Deployment, StatefulSet, DaemonSet), the revision name that of its ReplicaSet or ControllerRevision. Reads
        lists in pages of 500, within 30 s.
        """

    async def permitted(self, needed: Sequence[Permission], *, namespace: str = "") -> Mapping[Permission, bool]:
        """Ask the cluster which permissions we hold (SelfSubjectAccessReview); namespace "" asks cluster-wide."""

    async def close(self) -> None:
        """Release connections; idempotent."""


class ClusterWatch(Protocol):
    """Follows one cluster by watches and keeps what looks wrong in it."""

    name: str

    async def run(self) -> None:
        """Watch until cancelled; whatever the API server does, it goes on."""

    def sighting(self) -> Sighting:
        """Return what is seen now; asks nothing."""


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


class Cloud(Protocol):
    """One managed cluster by its cloud's API: the second opinion on it, and the hands on its pools.

    Raises from every method: ``TransientError``, ``ThrottledError``, ``RejectedError``, ``ForbiddenError``, ``GoneError``; never an SDK's
    exception. Every call is bounded; reads may be repeated and are used again for some seconds, writes never.
    """

    name: str
    resource_id: str

    async def read(self, ask: CloudAsk) -> CloudSnapshot:
        """Read the cluster and its pools, and what is asked for beside them, within 10 s.

        Raises:
            RemoteError: The cluster or its pools could not be read. A side read that fails is a gap.
        """

    async def write(self, write: Write, *, within: timedelta) -> Begun:
        """Begin one write (``Verb.of_cloud``), sent exactly once; its end is asked for with ``follow``. Only ``service.hands.carry_out`` calls it.

        Raises:
            OccupiedError: Another operation is in progress (409); nothing was begun.
            ContestedError: The ETag is stale (412), or what was to be aborted has finished first (409); nothing was begun.
            ThrottledError: The cloud asks us to slow down (429); nothing was begun.
            ForbiddenError: Our role lacks the permission; nothing was begun.
            RejectedError: Any other refusal, such as a quota; nothing was begun.
            TransientError: No answer, or a 5xx: whether it was begun is not known; look again.
        """

    async def follow(self, token: str, *, within: timedelta) -> OperationResult:
        """Ask once how an operation of ours stands, by the token that ``write`` gave, also in another life of this process."""

    async def run_command(self, command: str, *, within: timedelta) -> CommandOutput:
        """Run a shell command with kubectl in a pod inside the cluster: the last resort for evidence when its API does not answer us."""

    async def permitted(self, actions: Sequence[str]) -> Mapping[str, bool]:
        """Tell which of these permissions (such as ``Microsoft.ContainerService/managedClusters/read``) our roles grant on the cluster."""

    async def tried(self) -> Mapping[str, str]:
        """Try the reads that lie on other scopes than the cluster: a machine's own word, operations, the activity log.

        Returns:
            For each permission where it is missing, or "" where it is granted; one that there is nothing to try with (no machine) is left out.

        Raises:
            RemoteError: See ``read``; a missing permission is none.
        """

    async def close(self) -> None:
        """Release connections; idempotent."""


class Notifier(Protocol):
    """One configured channel."""

    name: str

    async def reach(self) -> None:
        """Open a connection to the other end and close it again, within 10 s; tells nobody anything.

        Raises:
            TransientError: No connection.
        """

    async def send(self, notice: Notice) -> Receipt:
        """Tell people once, within 10 s; sending the same notice again must call nobody twice where the channel can know (dedup key).

        Raises:
            ThrottledError: Come back after ``retry_after``.
            TransientError: Repeating may help.
            RejectedError: Repeating is useless; take the fallback channel.
        """

    async def close(self) -> None:
        """Release connections; idempotent."""


class DeadMansSwitch(Protocol):
    """A service outside that calls people when it is not told for a while that we live."""

    async def beat(self) -> None:
        """Say that we live, within 10 s.

        Raises:
            RemoteError: It was not taken.
        """


class Store(Protocol):
    """Everything that must survive a crash. One call is one transaction; it has happened when the call returns.

    Raises from every method: ``StoreUnavailableError`` when the store cannot be used now (nothing was stored).
    Times are UTC instants of the store's own clock, given to it at construction.
    """

    async def accept(self, deliveries: Sequence[NewDelivery]) -> Sequence[bool]:
        """Store deliveries durably; False for one whose retry key is known already (absorbed, still a success for its sender)."""

    async def accept_held(self, delivery: NewDelivery) -> Delivery | None:
        """Store one delivery durably and return it as it is stored, for whoever routes it within ``held``; None when it is absorbed."""

    async def backlog(self) -> int:
        """Count deliveries that wait to be routed."""

    async def claim_deliveries(self, *, limit: int, lease: timedelta) -> Sequence[Delivery]:
        """Claim the oldest new deliveries; an unfinished claim is free again when its lease ends."""

    async def known(self, instances: Sequence[str]) -> Mapping[str, Instance]:
        """Return the stored instances among these; an instance is held when its incident or shadow incident is unclosed."""

    async def unclosed(self, keys: Sequence[str]) -> Mapping[str, Incident]:
        """Return unclosed incidents by key."""

    async def route(
        self, alerts: Sequence[RoutedAlert], *, delivery: Delivery | None, state: DeliveryState, note: str, shape: str
    ) -> Sequence[RoutedResult]:
        """Store judged alerts and finish their delivery in one transaction.

        Each alert is merged into its instance (``policy.grouping.merge``). While the merged instance fires, every seed joins the
        unclosed incident of its key or opens it: joining adds a FIRED signal that carries rule names and digests; an instance
        that an unclosed incident of that mode holds, or whose incident a person closed, is only counted. A Resolved adds a RESOLVED signal
        to the incidents that hold the instance.
        """

    async def route_all(
        self, routed: Sequence[RoutedDelivery], *, settle: timedelta, name: Callable[[datetime], str]
    ) -> Sequence[RoutedResult]:
        """Do so for several deliveries in their order, all in one transaction: all of them are ended, or none.

        Args:
            routed: Judged; their alerts are joined as if each delivery came by itself.
            settle: How long incidents opened or told here may wait to be looked at; one that is due sooner stays so. Not 0 in a storm,
                whose alerts are to be seen before its incidents.
            name: Gives an incident its id: a seed without one is a pattern that many deliveries share, opened at most once while unclosed.
        """

    async def wake(self, ids: Sequence[str]) -> None:
        """Make incidents due now whose wake-up is later; those that are closed or due already stay as they are."""

    async def delivery_failed(self, delivery: Delivery, *, note: str, again_in: timedelta) -> int:
        """Count a failed routing and return how many there were; the third marks it FAILED."""

    async def due_instances(self, *, limit: int) -> Sequence[Instance]:
        """Return firing instances whose ``wake_at`` is over, pushing it a minute forward so that nobody else takes them."""

    async def claim_incidents(
        self, *, owner: str, limit: int, lease: timedelta, own: Sequence[str], full: Sequence[str] = ()
    ) -> Sequence[Claimed]:
        """Claim due incidents, oldest first.

        Args:
            owner: Who claims.
            limit: Most of them.
            lease: How long they are its own.
            own: Those that this worker has in hand already and must not get twice.
            full: Clusters of which it wants none now.
        """

    async def renew(self, *, owner: str, ids: Sequence[str], lease: timedelta) -> Mapping[str, datetime]:
        """Renew leases of incidents still ours; those not returned are lost."""

    async def peek(self, incident: str) -> tuple[Sequence[Signal], int]:
        """Return unconsumed signals and the wake counter of an incident in hand, for the permit before a write."""

    async def commit(self, transition: Transition) -> Committed:
        """Store one step of an incident, with its intention, entries, outbox rows, changes and claims.

        A step that asks for a storm's parent opens it, or tells the one that is open; an intention is not granted to an incident that a parent
        has. An incident that is recovered or closed lets its children go: each has a RELEASED signal and is due.
        """

    async def counts(self, incident: Incident, scopes: Scopes, *, symptom_window: timedelta) -> Counts:
        """Count what limits are judged by."""

    async def counts_of(
        self, incident: Incident, scopes: Mapping[str, Scopes], *, symptom_window: timedelta
    ) -> Mapping[str, Counts]:
        """Count what limits are judged by, for several rules of one incident at once."""

    async def storm(self, parent: Incident, *, symptom_window: timedelta) -> StormCounts:
        """Count how a storm stands: what opened within the window and is not over, and the children that still wait for it."""

    async def signal(self, signal: Signal) -> bool:
        """Insert a signal and wake its incident; False when the incident does not exist or is closed."""

    async def next_due(self, of: Work | None = None) -> datetime | None:
        """Return when the next delivery, instance, incident or outbox row is due, or the next of one kind of work; None when nothing waits."""

    async def keep_evidence(self, incident: str, *, opening: int, items: Sequence[EvidenceItem]) -> None:
        """Store evidence by content hash, within the bounds."""

    async def evidence(self, incident: str) -> Sequence[EvidenceItem]:
        """Return all evidence of an incident."""

    async def claim_outbox(self, *, limit: int, lease: timedelta) -> Sequence[OutboxRow]:
        """Claim due rows, per lane (channel and incident) only the oldest.

        A newer row of a lane replaces an unsent older one of its level and kind.
        """

    async def outbox_sent(self, row: OutboxRow, *, answer: str, reached: bool) -> None:
        """Record a delivered message on the timeline and end the row."""

    async def outbox_failed(self, row: OutboxRow, *, answer: str, again_at: datetime | None, fallback: str) -> None:
        """Record a failed attempt: try again, or end the row and, with a fallback channel, add a row for that one."""

    async def incident(self, incident: str) -> Incident | None:
        """Return one incident."""

    async def incidents(self, *, unclosed: bool, limit: int, mode: Mode | None = None) -> Sequence[Incident]:
        """List incidents, newest first."""

    async def held(self, incident: str, *, limit: int = 1_000) -> Sequence[Instance]:
        """Return instances that joined an incident, oldest first; where there are more than ``limit``, those that no longer fire are left out first."""

    async def timeline(self, incident: str) -> Sequence[Entry]:
        """Return the audit trail of an incident in order."""

    async def deliveries(self, *, state: DeliveryState | None, limit: int) -> Sequence[Delivery]:
        """List deliveries, newest first."""

    async def instances(self, *, why: Reason | None, firing: bool, limit: int) -> Sequence[Instance]:
        """List instances, newest first; ``why`` picks unmatched or test ones."""

    async def firing(self, *, source: str, source_name: str, limit: int) -> Sequence[Instance]:
        """List what counts as firing of one sender: firing, and seen lately enough (``policy.grouping.fires``); newest first."""

    async def events(self, *, within: timedelta, limit: int) -> Sequence[Instance]:
        """List instances of Event Grid's events seen within this time, newest first, whatever became of them (``policy.maintenance`` reads them)."""

    async def pinned(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return pinned rule documents by digest."""

    async def owed(self, *, incident: str = "") -> Sequence[StoredChange]:
        """Return changes that were not given back, newest first."""

    async def give_back(self, changes: Sequence[int]) -> None:
        """Mark changes as given back."""

    async def modes(self) -> Sequence[ModeRow]:
        """Return all switches that were ever set."""

    async def set_mode(self, mode: ModeRow) -> None:
        """Set a switch and wake every unclosed incident.

        Those that somebody has in hand are woken as it is set, the others in steps after it: should this process die in between, they see the switch
        when they are due. Whoever writes asks for the switches first (``modes``), woken or not.
        """

    async def remember_healthy(self, revisions: Sequence[str]) -> None:
        """Remember that these revision UIDs or names (``cluster/namespace/name``) were seen healthy now."""

    async def seen_healthy(self, revisions: Sequence[str]) -> Sequence[str]:
        """Return those of these revisions that were ever seen healthy."""

    async def beat(self, replica: Replica) -> Sequence[Replica]:
        """Say that this replica lives and return all that said so within the last hour, newest first."""

    async def leave(self, replica: str) -> None:
        """Forget a replica that stops and free the incidents it holds; only when nothing of its work goes on."""

    def steady(self) -> bool:
        """Tell whether the store's clock has kept pace with our own for one lease; while it has not, nothing disruptive is written."""

    async def prune(self, keep: Retention) -> int:
        """Forget what is old enough, in one small batch; return how many rows went: again until 0, with other work in between."""

    async def audit(self) -> Audit:
        """Repair what nothing would ever look at again, and count what is overdue. Every replica may do it at any time."""

    async def unsettled(self) -> Sequence[int]:
        """Return ids of changes still owed whose incident is over and in nobody's hand."""

    async def heard(self, names: Sequence[str]) -> Sequence[SourceHeard]:
        """Return when these senders were last heard, and every sender with deliveries that failed for good within a day."""

    async def damaged(self) -> Sequence[DamagedRow]:
        """Return rows that could not be read when their work came, oldest first, at most 200; until they can be read or are gone."""

    async def count_unclosed(self) -> int:
        """Count unclosed incidents."""

    async def writable(self) -> None:
        """Write one row, as a proof.

        Raises:
            StoreUnavailableError: It cannot be written now.
        """

    async def note(self, incident: str, entry: Entry) -> None:
        """Append a line to an incident's timeline, in whatever phase it is."""

    async def close(self) -> None:
        """Finish what is under way and release the store; idempotent."""

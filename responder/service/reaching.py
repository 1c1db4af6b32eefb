"""Whether clusters answer us, with the doubt that belongs to it, and whether their components are green.

"We cannot reach it" is not "it is down": one failure says nothing, and while nothing else in the world answers us either, the fault is ours.
Never here: what ARM says (``ports.Cloud``), or what follows (``policy``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from responder.actions.catalogue import ActionCatalogue
from responder.model.cluster import ComponentSnapshot, NodeSnapshot, ReachSnapshot, Snapshot
from responder.model.errors import RemoteError
from responder.model.health import Health
from responder.model.rule import Call
from responder.model.target import Lookup, Presence, Target, TargetKind
from responder.ports import Clock, ClusterView, World

APART = timedelta(seconds=10)
"""Two failures at least this far apart make "it does not answer". Source: FACTS.md, ``facts.api``."""

ROW_ENDS = timedelta(minutes=2)
"""A failure longer ago than this begins no row with the next one: nobody looked in between."""

LOOK_WITHIN = timedelta(seconds=10)
COMPONENTS_AT_ONCE = 8
KINDS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One entry of ``components:``. ``cluster``: "" for every cluster."""

    name: str
    cluster: str
    namespace: str
    target: str
    kind: TargetKind = TargetKind.WORKLOAD
    check: Call


class Nobody:
    """A world without a witness: then the doubt stays. Implements ``ports.World``."""

    async def answers(self) -> bool:
        """See ``ports.World``."""
        return False


@dataclass(slots=True)
class _Row:
    """An unbroken row of failures."""

    first: datetime
    last: datetime


class Reach:
    """Asks clusters whether they answer, and remembers failures in a row. In this process only: another life begins in doubt."""

    def __init__(
        self,
        *,
        views: Mapping[str, ClusterView],
        clock: Clock,
        catalogue: ActionCatalogue,
        world: World,
        hosts: Mapping[str, bool | None],
        components: Sequence[Component] = (),
    ) -> None:
        """Take what to ask; ``hosts``: whether this program runs in that cluster, None where that is not known."""
        self._views = views
        self._clock = clock
        self._catalogue = catalogue
        self._world = world
        self._hosts = dict(hosts)
        self._components = components
        self._rows: dict[str, _Row] = {}

    @property
    def unsure(self) -> bool:
        """Tell whether some cluster is not known to host this program or not."""
        return None in self._hosts.values()

    async def find_ourselves(self, *, namespace: str, name: str, uid: str) -> str:
        """Look for the pod that this program is in the clusters that are not known to host it or not; return the one that has it, "" for none seen.

        A cluster that does not answer now stays unknown, and unknown is no permission for what would reach it as a cluster.
        """
        for cluster in [one for one, hosts in self._hosts.items() if hosts is None]:
            own = Target(kind=TargetKind.POD, cluster=cluster, namespace=namespace, name=name)
            try:
                async with asyncio.timeout(LOOK_WITHIN.total_seconds()):
                    seen = await self._views[cluster].snapshot(own)
            except (RemoteError, TimeoutError):
                continue
            if seen.pod is not None and seen.pod.uid == uid:
                self._hosts = {one: one == cluster for one in self._hosts}
                return cluster
            self._hosts[cluster] = False
        return ""

    async def snapshot(self, target: Target) -> Snapshot:
        """Read a cluster as a target; never raises for one that does not answer: that is what was read."""
        name = target.cluster
        read_at = self._clock.now()
        answers, said, since = await self._answers(name)
        gaps: dict[str, str] = {}
        nodes: tuple[NodeSnapshot, ...] = ()
        components: tuple[ComponentSnapshot, ...] | None = None
        if answers:
            try:
                nodes = tuple(await self._views[name].nodes())
            except (RemoteError, TimeoutError) as error:
                gaps["nodes"] = str(error) or "listing nodes took too long"
            components = await self._green(name)
        else:
            gaps["nodes"] = said
        reach = ReachSnapshot(
            answers=answers, said=said, since=since, hosts_responder=self._hosts.get(name), components=components
        )
        return Snapshot(target=target, read_at=read_at, nodes=nodes, reach=reach, gaps=gaps)

    async def _answers(self, name: str) -> tuple[bool | None, str, datetime | None]:
        try:
            await self._views[name].answers()
        except RemoteError as error:
            problem = str(error)
        else:
            self._rows.pop(name, None)
            return True, "the API server answers", None
        now = self._clock.now()
        row = self._rows.get(name)
        if row is None or now - row.last > ROW_ENDS:
            row = self._rows[name] = _Row(first=now, last=now)
        row.last = now
        if now - row.first < APART:
            return None, f"one failure, looked at again in {APART.total_seconds():.0f} s: {problem}", row.first
        if not await self._world.answers():
            return None, f"nothing else answers us either: our own network is in doubt; {problem}", row.first
        return False, f"no answer since {row.first:%H:%M:%S}, while the rest of the world answers: {problem}", row.first

    async def _green(self, name: str) -> tuple[ComponentSnapshot, ...]:
        slots = asyncio.Semaphore(COMPONENTS_AT_ONCE)

        async def one(component: Component) -> ComponentSnapshot:
            async with slots:
                try:
                    return await self._judged(name, component)
                except (RemoteError, TimeoutError) as error:
                    said = str(error) or "reading took too long"
                    return ComponentSnapshot(name=component.name, health=str(Health.UNKNOWN), detail=said)

        return tuple(await asyncio.gather(*(one(each) for each in self._components if each.cluster in {"", name})))

    async def _judged(self, name: str, component: Component) -> ComponentSnapshot:
        view = self._views[name]
        kinds = KINDS if component.kind is TargetKind.WORKLOAD else ("Service",)
        found: Target | None = None
        unknown = ""
        for kind in kinds:
            answer = await view.look_up(Lookup(kind=kind, cluster=name, namespace=component.namespace, name=component.target))
            if answer.presence is Presence.UNKNOWN:
                unknown = answer.detail
            elif answer.presence is Presence.FOUND:
                found = answer.targets[0]
                break
        if found is None:
            if unknown:
                return ComponentSnapshot(name=component.name, health=str(Health.UNKNOWN), detail=unknown)
            said = f"{component.kind} {component.namespace}/{component.target} does not exist"
            return ComponentSnapshot(name=component.name, health=str(Health.UNHEALTHY), detail=said)
        snapshot = await view.snapshot(found)
        check = self._catalogue.checks[component.check.name]
        reading = check.judge(snapshot, component.check.arguments, instances=(), firing=(), now=self._clock.now())
        return ComponentSnapshot(name=component.name, health=str(reading.health), detail=reading.detail)

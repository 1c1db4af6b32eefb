"""What an action is, and what it is planned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from responder.model.action import Permission, Plan, Refusal, Step
from responder.model.cluster import Snapshot, WorkloadSnapshot
from responder.model.health import CheckReading
from responder.model.incident import Instance
from responder.model.reason import Reason
from responder.model.target import Target, TargetKind
from responder.rules.catalogue import ActionSpec, CheckSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What an installation says about planning.

    Attributes:
        gitops: Owners that would revert a spec change: rollback and scale are refused.
        freshness: A rollback is refused when the current template has run longer than this.
        own_pod: Namespace and name of the pod that this program runs in, ``responder/night-0``; "" outside a cluster. A drain evicts it last.
    """

    gitops: tuple[str, ...] = ("argocd", "flux")
    freshness: timedelta = timedelta(hours=24)
    own_pod: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInput:
    """What a plan is made from. ``arguments`` are substituted already."""

    target: Target
    snapshot: Snapshot | None
    facts: Mapping[str, Any]
    arguments: Mapping[str, Any]
    command: str
    now: datetime
    settings: PlanSettings = field(default_factory=PlanSettings)

    def workload(self) -> WorkloadSnapshot | Refusal:
        """Return the one workload of the target, or why it is not known."""
        if self.snapshot is None:
            return Refusal(reason=Reason.UNKNOWN, detail="the cluster was not read")
        if self.snapshot.workload is None:
            why = self.snapshot.gaps.get("workload", f"{self.target} is not exactly one workload")
            return Refusal(reason=Reason.UNKNOWN, detail=why)
        return self.snapshot.workload


class NextStep(Protocol):
    """Find the next step by looking at the world."""

    def __call__(self, plan: Plan, snapshot: Snapshot, *, now: datetime) -> Step:
        """Return the next write, a wait or the end."""


class Judge(Protocol):
    """Answer a check."""

    def __call__(
        self,
        snapshot: Snapshot | None,
        arguments: Mapping[str, Any],
        *,
        instances: tuple[Instance, ...],
        firing: tuple[Instance, ...],
        now: datetime,
    ) -> CheckReading:
        """Return healthy, unhealthy or unknown, with the numbers seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action of the catalogue.

    Attributes:
        permissions: What its writes need of the cluster (RBAC).
        cloud: Its writes go to the cloud: it is judged by what the cloud says, also when the target is gone or its API is silent.
        cloud_permissions: What its writes need of the cloud (Azure RBAC actions).
    """

    spec: ActionSpec
    plan: Callable[[PlanInput], Plan | Refusal]
    next_step: NextStep
    permissions: tuple[Permission, ...] = ()
    cloud: bool = False
    cloud_permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of the catalogue."""

    spec: CheckSpec
    judge: Judge


def workload_target(snapshot: Snapshot, workload: WorkloadSnapshot) -> Target:
    """Return the workload as the target of a plan, with its UID."""
    return replace(
        snapshot.target,
        kind=TargetKind.WORKLOAD,
        namespace=workload.namespace,
        name=workload.name,
        owner_kind=workload.kind,
        uid=workload.uid,
    )

"""The catalogue: every action and check that exists, as one value. Plug-ins add to it; they never replace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from responder.actions import (
    cluster_operations,
    node_cordon,
    node_drain,
    node_out_of_service,
    node_pool_machine,
    node_pool_scale,
    pod_removal,
    waiting,
    workload_restart,
    workload_rollback,
    workload_scale,
)
from responder.actions.checks import CHECKS
from responder.actions.cloud_checks import CLOUD_CHECKS
from responder.actions.planning import Action, Check, PlanInput, PlanSettings
from responder.model.action import Plan, Refusal
from responder.model.cluster import Snapshot
from responder.model.reason import Reason
from responder.model.rule import Call
from responder.model.target import Target
from responder.rules.catalogue import Catalogue
from responder.rules.substitute import Missing, substitute

BUILT_IN = (
    node_cordon.CORDON,
    node_cordon.UNCORDON,
    node_drain.ACTION,
    node_out_of_service.ACTION,
    cluster_operations.START,
    cluster_operations.ABORT,
    cluster_operations.RECONCILE,
    node_pool_machine.ACTION,
    node_pool_scale.ACTION,
    pod_removal.DELETE,
    pod_removal.EVICT,
    waiting.ACTION,
    workload_restart.ACTION,
    workload_rollback.ACTION,
    workload_scale.ACTION,
)


@dataclass(frozen=True, slots=True)
class ActionCatalogue:
    """Actions and checks by name, and what the rule compiler needs of them."""

    actions: Mapping[str, Action]
    checks: Mapping[str, Check]
    names: Catalogue

    def plan(
        self,
        call: Call,
        *,
        snapshot: Snapshot | None,
        facts: Mapping[str, Any],
        variables: Mapping[str, Any],
        command: str,
        target: Target,
        now: datetime,
        settings: PlanSettings,
    ) -> Plan | Refusal:
        """Plan one call of a rung, its ``${...}`` filled in; a missing value of a required argument is refused."""
        action = self.actions.get(call.name)
        if action is None:
            return Refusal(reason=Reason.ARGUMENT_MISSING, detail=f"no action is called {call.name}")
        filled = substitute(dict(call.arguments), variables)
        arguments: Mapping[str, Any] = {} if isinstance(filled, Missing) else filled
        for spec in action.spec.arguments:
            if spec.required and spec.name not in arguments:
                return Refusal(reason=Reason.ARGUMENT_MISSING, detail=f"{call.name}: {spec.name} has no value")
        return action.plan(
            PlanInput(
                target=target, snapshot=snapshot, facts=facts, arguments=arguments, command=command, now=now, settings=settings
            )
        )


def catalogue(extra_actions: Iterable[Action] = (), extra_checks: Iterable[Check] = ()) -> ActionCatalogue:
    """Return the built-in catalogue with plug-ins added.

    Raises:
        ValueError: A name occurs twice.
    """
    actions = (*BUILT_IN, *extra_actions)
    checks = (*CHECKS, *CLOUD_CHECKS, *extra_checks)
    names = Catalogue.of(actions=[one.spec for one in actions], checks=[one.spec for one in checks])
    return ActionCatalogue(
        actions={one.spec.name: one for one in actions}, checks={one.spec.name: one for one in checks}, names=names
    )

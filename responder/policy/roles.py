"""Which ARM permissions a set of rules needs, and the role definitions that grant them and nothing else.

Source: Azure RBAC, custom roles. Never here: asking ARM what we hold (``ports.Cloud.permitted``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from responder.actions.catalogue import ActionCatalogue
from responder.model.rule import Rule
from responder.rules.arming import ActEntry

AKS = "Microsoft.ContainerService/managedClusters"
READS: tuple[str, ...] = (
    f"{AKS}/read",
    f"{AKS}/agentPools/read",
    f"{AKS}/agentPools/machines/read",
    f"{AKS}/maintenanceConfigurations/read",
    f"{AKS}/listClusterUserCredential/action",
    "Microsoft.ContainerService/locations/operations/read",
    "Microsoft.ContainerService/locations/operationresults/read",
    "Microsoft.ResourceHealth/availabilityStatuses/read",
    "Microsoft.Insights/eventtypes/values/read",
    "Microsoft.Authorization/permissions/read",
)
"""What reading a cluster's state takes, on the cluster (and, for the operations and the activity log, on its subscription)."""

MACHINE_READS: tuple[str, ...] = (
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/instanceView/read",
    "Microsoft.Compute/virtualMachines/instanceView/read",
)
"""What the proof of a machine's death takes, on the node resource group."""

ASKED = (f"{AKS}/read", f"{AKS}/agentPools/read", f"{AKS}/agentPools/machines/read")
"""Of what is read, what is asked for on the cluster's own scope; the rest lies on other scopes, and a gap says when it is missing."""

LAST_RESORT = (f"{AKS}/runCommand/action", f"{AKS}/commandResults/read")
"""What looking into a cluster takes whose API server does not answer."""


def cloud_needs(rules: Iterable[Rule], act: Sequence[ActEntry], catalogue: ActionCatalogue) -> dict[str, tuple[str, ...]]:
    """Return each ARM permission that is needed on a cluster, with the rungs that need it.

    Reading is always needed; writes only of armed rules.
    """
    armed = {entry.rule for entry in act}
    found: dict[str, list[str]] = {one: ["reading"] for one in ASKED}
    for rule in sorted(rules, key=lambda one: one.name):
        if rule.name not in armed:
            continue
        for rung in rule.ladder:
            for call in rung.do:
                action = catalogue.actions.get(call.name)
                for one in action.cloud_permissions if action is not None else ():
                    found.setdefault(one, []).append(f"{rule.name}/{rung.name}")
    return {one: tuple(dict.fromkeys(rungs)) for one, rungs in found.items()}


def role_definitions(catalogue: ActionCatalogue, *, scope: str = "/subscriptions/SUBSCRIPTION") -> dict[str, dict[str, Any]]:
    """Return the role definitions by file name, in the form that ``az role definition create --role-definition`` takes.

    ``reader`` sees, ``machine-reader`` proves that a machine is off, ``pools`` scales pools and deletes machines, ``clusters`` starts, aborts and
    reconciles, ``last-resort`` runs a command inside a cluster that does not answer.
    """

    def of(prefix: str) -> list[str]:
        return sorted(
            {
                one
                for action in catalogue.actions.values()
                if action.spec.name.startswith(prefix)
                for one in action.cloud_permissions
            }
        )

    def role(name: str, says: str, actions: Sequence[str]) -> dict[str, Any]:
        return {
            "Name": f"Responder {name}",
            "IsCustom": True,
            "Description": says,
            "Actions": list(actions),
            "NotActions": [],
            "DataActions": [],
            "NotDataActions": [],
            "AssignableScopes": [scope],
        }

    return {
        "reader": role("AKS reader", "Reads the state of AKS clusters, their pools, machines, operations and health.", READS),
        "machine-reader": role("machine reader", "Reads whether a node's virtual machine runs.", MACHINE_READS),
        "pools": role("AKS pools", "Scales node pools and deletes machines of drained or dead nodes.", of("node_pool.")),
        "clusters": role("AKS clusters", "Starts and reconciles AKS clusters, and aborts operations that hang.", of("cluster.")),
        "last-resort": role(
            "AKS last resort", "Runs a read-only command inside a cluster whose API server does not answer.", LAST_RESORT
        ),
    }

"""Which ARM permissions a set of rules needs, and the role definitions that grant them and nothing else.

Source: Azure RBAC, custom roles. Never here: asking ARM what we hold (``ports.Cloud.permitted``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from responder.actions.catalogue import ActionCatalogue
from responder.model.rule import Rule
from responder.policy.rbac import concerns
from responder.rules.arming import ActEntry

AKS = "Microsoft.ContainerService/managedClusters"
READS: tuple[str, ...] = (
    f"{AKS}/read",
    f"{AKS}/agentPools/read",
    f"{AKS}/agentPools/machines/read",
    f"{AKS}/maintenanceConfigurations/read",
    f"{AKS}/listClusterUserCredential/action",
    "Microsoft.ResourceHealth/availabilityStatuses/read",
    "Microsoft.Authorization/permissions/read",
)
"""What reading a cluster's state takes, on the cluster."""

OPERATION_READ = "Microsoft.ContainerService/locations/operations/read"
LOG_READ = "Microsoft.Insights/eventtypes/values/read"
OPERATION_READS: tuple[str, ...] = (OPERATION_READ, "Microsoft.ContainerService/locations/operationresults/read", LOG_READ)
"""What following our own operations, and learning who began another's, takes. These lie on the subscription: a role that is assigned on the cluster
grants none of them (as seen with Container Apps, microsoft/azure-container-apps#215)."""

MACHINE_READS: tuple[str, ...] = (
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/instanceView/read",
    "Microsoft.Compute/virtualMachines/instanceView/read",
)
"""What the proof of a machine's death takes, on the node resource group."""

ASKED = (f"{AKS}/read", f"{AKS}/agentPools/read", f"{AKS}/agentPools/machines/read", f"{AKS}/maintenanceConfigurations/read")
"""Of what is read, what is asked for on the cluster's own scope; what lies on other scopes is tried there (``ports.Cloud.tried``)."""

PROVES_DEATH = frozenset({"node.out_of_service", "node_pool.delete_machine"})
"""Actions that a machine's own word is the proof for."""

LAST_RESORT = (f"{AKS}/runCommand/action", f"{AKS}/commandResults/read")
"""What looking into a cluster takes whose API server does not answer."""


def cloud_needs(
    rules: Iterable[Rule], act: Sequence[ActEntry], catalogue: ActionCatalogue, *, cluster: str
) -> dict[str, tuple[str, ...]]:
    """Return each ARM permission that is needed for a cluster, with the rungs that need it.

    Reading is always needed; writes, and following them, only of rules that are armed for it.

    Args:
        rules: As loaded.
        act: What is armed, and where.
        catalogue: The actions.
        cluster: Its configured name; entries for other clusters do not count.
    """
    armed = {entry.rule for entry in act if concerns(entry, cluster)}
    found: dict[str, list[str]] = {one: ["reading"] for one in (*ASKED, *MACHINE_READS, LOG_READ)}
    for rule in sorted(rules, key=lambda one: one.name):
        if rule.name not in armed:
            continue
        for rung in rule.ladder:
            for call in rung.do:
                action = catalogue.actions.get(call.name)
                writes = action.cloud_permissions if action is not None else ()
                follows = (OPERATION_READ,) if writes else ()
                proof = MACHINE_READS if call.name in PROVES_DEATH else ()
                whose = (LOG_READ,) if call.name == "cluster.abort_operation" else ()
                for one in (*writes, *follows, *proof, *whose):
                    found.setdefault(one, []).append(f"{rule.name}/{rung.name}")
    return {one: tuple(dict.fromkeys(rungs)) for one, rungs in found.items()}


def roles_for(needed: Iterable[str], catalogue: ActionCatalogue) -> tuple[str, ...]:
    """Return which of ``role_definitions`` grant these permissions, in its order."""
    wanted = set(needed)
    return tuple(name for name, role in role_definitions(catalogue).items() if wanted & set(role["Actions"]))


def role_definitions(catalogue: ActionCatalogue, *, scope: str = "/subscriptions/SUBSCRIPTION") -> dict[str, dict[str, Any]]:
    """Return the role definitions by file name, in the form that ``az role definition create --role-definition`` takes.

    ``reader`` sees the cluster, ``operations-reader`` follows operations (assigned on the subscription), ``machine-reader`` proves that a machine is off
    (on the node resource group), ``pools`` scales pools and deletes machines, ``clusters`` starts, aborts and reconciles, ``last-resort`` runs a command
    inside a cluster that does not answer.
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
        "reader": role("AKS reader", "Reads the state of AKS clusters, their pools, machines and health.", READS),
        "operations-reader": role(
            "AKS operations reader", "Follows operations on AKS clusters, and reads who began them.", OPERATION_READS
        ),
        "machine-reader": role("machine reader", "Reads whether a node's virtual machine runs.", MACHINE_READS),
        "pools": role("AKS pools", "Scales node pools and deletes machines of drained or dead nodes.", of("node_pool.")),
        "clusters": role("AKS clusters", "Starts and reconciles AKS clusters, and aborts operations that hang.", of("cluster.")),
        "last-resort": role(
            "AKS last resort", "Runs a read-only command inside a cluster whose API server does not answer.", LAST_RESORT
        ),
    }

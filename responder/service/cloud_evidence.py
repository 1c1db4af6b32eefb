"""Evidence from the cloud: what ARM says, and when the API server does not answer us, what a command inside the cluster sees.

Taken with the other evidence, before anything is done: AKS auto-repair reimages a node five minutes after it fell silent, and what was on it
is gone then. It never fails the ladder: what cannot be read is an item that says why.

The decision a reader would question: run_command makes a pod in the cluster (namespace aks-command), so it is a write in all but name. It is
asked only of an armed incident with the kill switch on, and only while the API server does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from responder.model.cluster import Snapshot
from responder.model.errors import RemoteError
from responder.model.evidence import EvidenceItem
from responder.ports import Cloud

RUN_WITHIN = timedelta(seconds=40)
COMMAND = (
    "kubectl get nodes -o wide; kubectl get pods -A -o wide | grep -vE 'Running|Completed' | head -100; "
    "kubectl get events -A --sort-by=.lastTimestamp | tail -100"
)
"""What a person would type first. Read-only, and the same every time."""


def said_by_arm(snapshot: Snapshot, *, now: datetime) -> Sequence[EvidenceItem]:
    """Return what ARM said of the target's cluster; nothing where it was not asked."""
    problem = snapshot.gaps.get("cloud", "")
    if snapshot.cloud is None:
        return [EvidenceItem(name="cloud/managedCluster", taken_at=now, problem=problem)] if problem else []
    content = msgspec.json.format(msgspec.json.encode(snapshot.cloud), indent=2)
    return [EvidenceItem(name="cloud/managedCluster", media_type="application/json", content=content, taken_at=now)]


async def seen_inside(cloud: Cloud, *, now: datetime) -> EvidenceItem:
    """Return what a command inside the cluster printed, or why it did not."""
    try:
        found = await cloud.run_command(COMMAND, within=RUN_WITHIN)
    except RemoteError as error:
        return EvidenceItem(name="cloud/runCommand", taken_at=now, problem=str(error))
    content = f"$ {COMMAND}\n(exit code {found.exit_code})\n{found.logs}".encode()
    return EvidenceItem(name="cloud/runCommand", content=content, taken_at=now)

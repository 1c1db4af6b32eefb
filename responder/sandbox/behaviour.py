"""How containers and nodes behave: the only thing that is told to the sandbox; everything else follows as in a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the containers of an image, or of the running pods of a workload, do.

    Attributes:
        crash_after: Seconds from start to a crash; None for never.
        exit_code: Of the crash; 137 with ``oom`` is a kill for memory.
        oom: The kernel kills it for memory.
        log: What it writes before it crashes.
        ready_after: Seconds from start to ready; None for never.
        pull: "" for fine, ``missing``, ``denied`` or ``busy``.
        needs: Names of ``configmap/NAME`` or ``secret/NAME`` that must exist before it starts.
        ends_in: Seconds that it takes to end when asked to, at most its grace.
    """

    crash_after: float | None = None
    exit_code: int = 1
    oom: bool = False
    log: str = "ready\n"
    ready_after: float | None = 1.0
    pull: str = ""
    needs: tuple[str, ...] = ()
    ends_in: float = 2.0


HEALTHY = Behaviour()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBehaviour:
    """What a node's kubelet does.

    Attributes:
        silent: It says nothing any more: no Lease, no status, no end of a pod is confirmed. Whether the machine is dead or only
            cut off, nobody can tell from the API.
        ready: It reports Ready; with False its own report is Ready=False, and its pods go on.
        reason, message: Of a report that it is not ready.
        pressure: Of ``MemoryPressure``, ``DiskPressure``, ``PIDPressure``: what it reports as True.
    """

    silent: bool = False
    ready: bool = True
    reason: str = "KubeletNotReady"
    message: str = "container runtime is down"
    pressure: tuple[str, ...] = ()


WELL = NodeBehaviour()

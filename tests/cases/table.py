"""The table of the 67 failure cases: what each is, and what the last run on each back end found. Written by ``pytest tests/cases --table``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("TABLE.md")
BACK_ENDS = ("sandbox", "control-plane")
ELSEWHERE = {64: "Velero"}
"""Cases that belong to other work, by what they need."""

TITLES: Mapping[int, str] = {
    1: "A budget's 429 has no Retry-After",
    2: "An overloaded API server's 429 is not a budget's",
    3: "Two budgets for one pod",
    4: "A broken pod behind a budget at its floor",
    5: "An eviction for another UID spends no budget",
    6: "A StatefulSet pod made anew during the wait is not evicted",
    7: "Evicting a terminating pod is no progress",
    8: "A blocked drain evicts nothing",
    9: "A mirror pod does not block a drain",
    10: "A DaemonSet's pod without its DaemonSet",
    11: "A dead node is not waited for",
    12: "Terminating pods are not drained pods",
    13: "A pod bound after the list",
    14: "A namespace that is terminating",
    15: "Two drains under one budget",
    16: "A drain that fails half-way leaves the node as found",
    17: "A grace period longer than the time-out",
    18: "The responder's own pod on the drained node",
    19: "A partitioned node is not a dead one",
    20: "Out-of-service on a Ready node",
    21: "A crash between adding and removing the taint",
    22: "All nodes NotReady",
    23: "Three of five nodes NotReady",
    24: "A node that flaps",
    25: "A node replaced under a new name",
    26: "Deleting a Node is not deleting its machine",
    27: "Container readiness is stale on a dead node",
    28: "Bad image, restart, undo",
    29: "Undo twice",
    30: "Undo keeps annotations",
    31: "A paused Deployment",
    32: "Two restarts in one second",
    33: "Restarts must not erase the last good revision",
    34: "Restart of an OnDelete StatefulSet",
    35: "A StatefulSet stuck on a broken pod",
    36: "Complete with nothing to run",
    37: "Progress deadline exceeded, then undo",
    38: "A status read before the controller looked",
    39: "A full quota",
    40: "An autoscaler owns the count",
    41: "An image that does not exist",
    42: "A missing ConfigMap",
    43: "Out of memory, or killed by a probe",
    44: "A failing init container",
    45: "A crash loop on one node only",
    46: "Thirty workloads at once",
    47: "An alert for a pod that is gone",
    48: "Resolved while an action waits",
    49: "The same alert twice, two replicas",
    50: "A Job's pod",
    51: "A bare pod",
    52: "Evidence of any bytes",
    53: "Events outlive their hour",
    54: "Five causes of no ready endpoint",
    55: "A watch that ends in every way",
    56: "Tokens that expire",
    57: "An API server that swallows requests",
    58: "Two ways to say conflict",
    59: "Taints of others are kept",
    60: "Somebody else repairs the node",
    61: "A pool's stale ETag",
    62: "A restart in mid-operation",
    63: "The last system nodes",
    64: "PartiallyFailed is not success",
    65: "Clocks that disagree",
    66: "One missing permission",
    67: "A name used again",
}
NEEDS: Mapping[int, str] = {}
"""What a case without a test waits for."""

_ROW = re.compile(r"\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|")


def read() -> dict[str, dict[int, str]]:
    """Return what the file says, by back end."""
    text = FILE.read_text() if FILE.exists() else ""
    rows = [(int(number), first.strip(), second.strip()) for number, first, second in _ROW.findall(text)]
    return {
        BACK_ENDS[0]: {number: first for number, first, _ in rows},
        BACK_ENDS[1]: {number: second for number, _, second in rows},
    }


def render(found: Mapping[str, Mapping[int, str]]) -> str:
    """Return the file: a row a case, a column a back end, counts on top."""
    counts = [f"{name}: {sum(one == 'pass' for one in found[name].values())} of {len(TITLES)} pass" for name in BACK_ENDS]
    lines = [
        "# The 67 failure cases",
        "",
        "Generated from the test runs: `make test ARGS='tests/cases --table'` and `make e2e ARGS='-k cases --table'`; do not edit.",
        "A number is the test of that number in this folder. *Not built*: what it needs is not there yet. "
        + "; ".join(counts) + ".",
        "",
        "| # | Case | Sandbox | Real control plane |",
        "| ---: | --- | --- | --- |",
    ]  # fmt: skip
    for number, title in TITLES.items():
        cells = [_cell(found[name].get(number, ""), number) for name in BACK_ENDS]
        lines.append(f"| {number} | {title} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def _cell(word: str, number: int) -> str:
    """Return what was found; what was never run says what it waits for."""
    return word if word in {"pass", "FAIL"} else default(number)


def default(number: int) -> str:
    """Return what is said of a case without a test."""
    return f"later: {ELSEWHERE[number]}" if number in ELSEWHERE else f"not built: {NEEDS.get(number, 'its case')}"

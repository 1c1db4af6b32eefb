"""Runs probes on an API server and reads and writes what was recorded of the real one: ``RECORDED.txt``, a section a probe."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from responder.sandbox import NodeTimes, SandboxCluster, Timings
from tests.calibration import probes, probes_cluster, probes_scheduler
from tests.calibration.caller import Caller, Probe

FILE = Path(__file__).with_name("RECORDED.txt")
HEAD = """\
What a real API server and its controllers (Kubernetes 1.36.3) answered to the probes of this folder, a section a probe, a line an answer.
The sandbox answers the same: tests/unit/sandbox/test_calibration.py compares it with this, tests/e2e/test_calibration.py both with each
other. Written by: make e2e ARGS='-k calibration --table'. Do not edit.
"""
SCHEDULED: Mapping[str, Probe] = {one.__name__: one for one in probes_scheduler.PROBES}
"""Probes that need a scheduler, which the others would be disturbed by."""
PROBES: Mapping[str, Probe] = {one.__name__: one for one in (*probes.PROBES, *probes_cluster.PROBES, *probes_scheduler.PROBES)}
TIMES = NodeTimes(grace=4.0, startup_grace=8.0, evicts_every=10.0)
"""The real control plane of these probes is started with the same."""


@contextlib.asynccontextmanager
async def sandbox(name: str) -> AsyncIterator[Caller]:
    """A caller of a sandbox of this probe's own, whose pods and nodes are played through the API."""
    timings = Timings(every=0.02, nodes=TIMES)
    async with (
        SandboxCluster(timings=timings, nodes=0, kubelets=False, scheduler=name in SCHEDULED, token="admin") as cluster,
        caller(cluster.url, "admin", sandbox=cluster) as made,
    ):
        yield made


@contextlib.asynccontextmanager
async def caller(url: str, token: str, *, sandbox: Any = None) -> AsyncIterator[Caller]:
    """A caller with a namespace of its own; it is removed, and so is what the probe made outside."""
    connector = aiohttp.TCPConnector(ssl=False, limit=32)
    async with aiohttp.ClientSession(connector=connector, trust_env=False, read_bufsize=1 << 20) as session:
        namespace = f"probe-{secrets.token_hex(4)}"
        made = Caller(url=url, token=token, namespace=namespace, session=session, sandbox=sandbox)
        seen = await made.send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert seen.status == 201, seen.body
        try:
            yield made
        finally:
            await made.clean()


def recorded() -> dict[str, list[str]]:
    """Return what was recorded, by probe."""
    found: dict[str, list[str]] = {}
    mine: list[str] = []
    for line in FILE.read_text().splitlines() if FILE.exists() else []:
        if line.startswith("## "):
            mine = found.setdefault(line.removeprefix("## "), [])
        elif line and found:
            mine.append(line)
    return found


def record(found: Mapping[str, list[str]]) -> None:
    """Write what was seen."""
    known = {**recorded(), **found}
    sections = [f"## {name}\n" + "\n".join(line.replace("\n", "\\n") for line in known[name]) for name in PROBES if name in known]
    FILE.write_text(HEAD + "\n" + "\n\n".join(sections) + "\n")


def lines(made: Caller) -> list[str]:
    """Return what a probe saw, one line an answer."""
    return [line.replace("\n", "\\n") for line in made.lines]

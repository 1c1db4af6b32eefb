"""The sandbox answers what a real API server and its controllers answered to the same requests; recorded in tests/calibration/RECORDED.txt."""

from __future__ import annotations

import pytest

from tests.calibration import run

TAKES_SECONDS = {"silent_nodes", "deployments", "stateful_sets", "watches"}
"""Probes that wait for times in seconds: a node's grace, a deadline, a bookmark."""


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.slow] if one in TAKES_SECONDS else []) for one in run.PROBES]
)
async def test_the_sandbox_answers_as_a_real_cluster_did(name: str) -> None:
    """Status codes, reasons, causes, words, headers and the fields that matter are those of Kubernetes 1.36.3."""
    async with run.sandbox(name) as caller:
        await run.PROBES[name](caller)

        assert run.lines(caller) == run.recorded()[name]


def test_every_recorded_probe_is_asked() -> None:
    """Nothing in the recording is left over, and nothing is missing from it."""
    assert list(run.recorded()) == list(run.PROBES)

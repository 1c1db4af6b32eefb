"""The same requests go to the sandbox and to a real control plane: what comes back is the same, and is what was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.calibration import run
from tests.e2e.conftest import ControlPlane, running_control_plane

FLAGS = (
    "--node-monitor-period=1s",
    f"--node-monitor-grace-period={run.TIMES.grace:g}s",
    f"--node-startup-grace-period={run.TIMES.startup_grace:g}s",
)
COMPACTS = ("--etcd-compaction-interval=5s",)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One real control plane, with the times of the sandbox's nodes, that forgets its history within seconds."""
    with running_control_plane(tmp_path_factory.mktemp("calibration"), *FLAGS, api_flags=COMPACTS) as made:
        yield made


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One with a scheduler."""
    with running_control_plane(tmp_path_factory.mktemp("scheduled"), scheduler=True) as made:
        yield made


async def compared(name: str, plane: ControlPlane, pytestconfig: pytest.Config) -> None:
    """Ask both; with ``--table`` what the real one said is recorded anew."""
    config = json.loads(plane.kubeconfig.read_text())
    server, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
    async with run.caller(server, token) as real:
        await run.PROBES[name](real)
    async with run.sandbox(name) as double:
        await run.PROBES[name](double)

    if pytestconfig.getoption("--table"):
        run.record({name: run.lines(real)})
    assert run.lines(double) == run.lines(real)
    assert run.lines(real) == run.recorded()[name]


@pytest.mark.parametrize("name", [name for name in run.PROBES if name not in run.SCHEDULED])
async def test_the_sandbox_and_a_real_cluster_answer_the_same(
    name: str, plane: ControlPlane, pytestconfig: pytest.Config
) -> None:
    """Line by line: status codes, reasons, causes, words, headers and the fields that matter."""
    await compared(name, plane, pytestconfig)


@pytest.mark.parametrize("name", run.SCHEDULED)
async def test_both_schedulers_say_the_same(name: str, scheduled: ControlPlane, pytestconfig: pytest.Config) -> None:
    """Of pods that fit nowhere and of those that fit."""
    await compared(name, scheduled, pytestconfig)

"""Runs each case on the back end that was asked for, and keeps the table of what it found."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.sandbox import SandboxCluster, Timings
from tests.cases import table
from tests.cases.stage import Stage, staged
from tests.e2e.conftest import ControlPlane, running_control_plane

FOUND = pytest.StashKey[dict[int, list[str]]]()
_NUMBER = re.compile(r"test_(\d\d)_")


@pytest.fixture(scope="session")
def back_end(request: pytest.FixtureRequest) -> str:
    """The cluster that the cases run on."""
    return str(request.config.getoption("--back-end"))


@pytest.fixture(scope="session")
def plane(back_end: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane | None]:
    """One real control plane for all cases, when they run on it."""
    if back_end != "control-plane":
        yield None
        return
    with running_control_plane(tmp_path_factory.mktemp("plane")) as made:
        yield made


@pytest.fixture(scope="session")
def account(plane: ControlPlane | None) -> Path | None:
    """The service is the very account that ``responder rbac`` makes for every rule and action; the world is an administrator's."""
    if plane is None:
        return None
    return plane.service_account("--rules", "rules", "--rules", "tests/e2e/rules", "--arm", "all")


@pytest.fixture
async def stage(back_end: str, plane: ControlPlane | None, account: Path | None, tmp_path: Path) -> AsyncIterator[Stage]:
    """A namespace of its own on the cluster, and the service in front of it."""
    if plane is not None:
        config = json.loads(plane.kubeconfig.read_text())
        server, world = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
        assert account is not None
        ours = json.loads(account.read_text())["users"][0]["user"]["token"]
        async with staged(back_end, server, tmp_path, world=world, ours=ours) as made:
            yield made
        return
    timings = Timings(every=0.05)
    async with (
        SandboxCluster(timings=timings, nodes=0, kubelets=False) as cluster,
        staged(back_end, cluster.url, tmp_path) as made,
    ):
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The table is checked last, when everything was seen: so all cases run in one process."""
    for item in items:
        if Path(str(item.fspath)).is_relative_to(table.FILE.parent):
            item.add_marker(pytest.mark.xdist_group("cases"))
    items.sort(key=lambda item: item.name.startswith("test_the_table_says"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note what came of a numbered case."""
    outcome: Any = yield
    report = outcome.get_result()
    number = _NUMBER.match(item.name)
    if number is None or not Path(str(item.fspath)).is_relative_to(table.FILE.parent):
        return
    if report.when != "call" and report.passed:
        return
    found = item.config.stash.setdefault(FOUND, {})
    word = "pass" if report.passed else "FAIL"
    if report.skipped:
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        word = said.removeprefix("Skipped: ")
        if not word.startswith("not built"):
            return  # the back end is not there: nothing was found
    found.setdefault(int(number[1]), []).append(word)


def results(config: pytest.Config) -> dict[int, str]:
    """Return one word a case of this run: the worst of its tests."""
    found = config.stash.get(FOUND, {})
    return {number: next((one for one in words if one != "pass"), "pass") for number, words in found.items()}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table when asked."""
    found = results(session.config)
    if not session.config.getoption("--table") or not found:
        return
    known = table.read()
    where = str(session.config.getoption("--back-end"))
    known[where] = {**known[where], **found}
    table.FILE.write_text(table.render(known))

"""Two releases over one store for an hour of incidents, on virtual time; then the newer one is gone back from."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from responder.model.notice import NoticeKind
from responder.sandbox import Behaviour
from responder.service import supervisor
from tests.releases import Release, next_release
from tests.scenario.virtual import CRASH, Stage

POLL = timedelta(seconds=30)
MORE = {
    "limits": {"max_actions": "100/1h", "same_symptom": "100/5m", "group_wait": "30s"},
    "policies": {
        "people": {"levels": [{"after": "0s", "channels": ["pager"]}, {"after": "15m", "channels": ["boss"]}], "report": ["team"]}
    },
}
MINUTES = 60
EVERY = 2
INCURABLE = range(4, MINUTES, 12)


@pytest.mark.slow
@pytest.mark.looptime
async def test_an_hour_of_incidents_at_two_releases_and_the_newer_one_gone_back_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N runs, N+1 joins and migrates, N restarts on the newer schema, N+1 dies in the middle of its work, N goes on with what it began.

    An incident every two minutes, told to either. Each workload is restarted once, each level told once and at its time, nothing is left over, and all that
    is stored can be read by N.
    """
    release = Release(next_release(tmp_path / "next"))
    path = tmp_path / "store.sqlite"
    monkeypatch.setattr(supervisor, "POLL", POLL)
    old = Stage(name="old", path=path, more=MORE)
    with release.active():
        monkeypatch.setattr(importlib.import_module("responder.service.supervisor"), "POLL", POLL)
        newer: Any = importlib.import_module("tests.scenario.virtual")

    async with contextlib.AsyncExitStack() as stack:
        first_life = await stack.enter_async_context(contextlib.AsyncExitStack())
        await first_life.enter_async_context(old.running())
        new: Any = None
        again: Stage = old
        stages: list[Any] = [old]
        for minute in range(0, MINUTES, EVERY):
            if minute == 6:
                with release.active():
                    new = newer.Stage(name="new", path=path, beside=old, more=MORE)
                await stack.enter_async_context(new.running())
                stages = [old, new]
            if minute == 30:
                await first_life.aclose()
                again = Stage(name="old again", path=path, beside=old, more=MORE)
                await stack.enter_async_context(again.running())
                stack.push_async_callback(_ended, asyncio.create_task(again._controllers()))
                stages = [again, new]
            await _trouble(stages[minute // EVERY % len(stages)], f"r{minute}", curable=minute not in INCURABLE)
        spaces = [f"r{minute}" for minute in range(0, MINUTES, EVERY)]
        while len(spaces) < MINUTES // EVERY + 10 and not await _in_hand(new):  # either may have claimed it
            spaces.append(f"x{len(spaces)}")
            await _trouble(new, spaces[-1], curable=True)
        in_hand = new.app.supervisor._worker.busy
        new.dies()
        await asyncio.sleep(30 * 60)
        rows = await again.runner.read(_rows)

        incidents = {one.target.namespace: one for one in await again.store.incidents(unclosed=False, limit=500)}
        curable = [space for space in spaces if space not in {f"r{minute}" for minute in INCURABLE}]
        odd = [one for one in (incidents[space] for space in curable) if one.phase != "recovered"]
        told = [str(entry.at.time()) + " " + entry.text for one in odd[:2] for entry in await again.store.timeline(one.id)]
        assert odd == [], "\n".join(told)
        assert Counter(one.namespace for one in old.cluster.writes) == dict.fromkeys(spaces, 1)
        assert again.runner.schema_ahead
        assert newer.__version__ == "0.2.0"
        assert rows["versions"] == [1]
        assert rows["unrouted"] == 0
        assert rows["claims"] == 0
        assert [float(one.app.metrics.errors._value.get()) for one in (old, again, new)] == [0.0, 0.0, 0.0]
        assert in_hand, "it died idle: the test shows less than it says"
        for number, space in enumerate(f"r{minute}" for minute in INCURABLE):
            pages = [one for one in old.told if one.notice.kind == NoticeKind.PAGE and one.notice.incident == incidents[space].id]
            assert [(one.notice.level, one.channel) for one in pages] == [(1, "pager"), (2, "boss")], (number, pages)
            # Levels run from the decision to page; the first page itself may be sent a moment after it.
            assert timedelta(minutes=14, seconds=30) <= pages[1].at - pages[0].at <= timedelta(minutes=16)


async def _trouble(stage: Any, space: str, *, curable: bool) -> None:
    """In two minutes: a workload that becomes healthy, then crashes, and an alert about it."""
    stage.cluster.deployment(space, "api", image=f"{space}/api:1", replicas=2)
    await asyncio.sleep(15)
    assert stage.cluster.available(space, "api")
    if curable:
        stage.cluster.break_running(space, "api", CRASH)
    else:
        stage.cluster.behave(f"{space}/api:1", Behaviour(crash_after=3))
    await asyncio.sleep(105)
    await stage.alert("KubePodCrashLooping", namespace=space, deployment="api")


async def _in_hand(stage: Any) -> bool:
    """Wait until it works on something that takes time; at most a minute."""
    for _ in range(300):
        if stage.app.supervisor._worker.busy:
            return True
        await asyncio.sleep(0.2)
    return False


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _rows(db: Any) -> dict[str, Any]:
    return {
        "versions": list(db.execute(text("select distinct state_v from incidents")).scalars()),
        "unrouted": db.execute(text("select count(*) from deliveries where state <> 'routed'")).scalar(),
        "claims": db.execute(text("select count(*) from claims")).scalar(),
    }

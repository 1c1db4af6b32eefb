"""A store with rows that cannot be read: the service works on everything else, and calls somebody."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from responder.model.alert import AlertStatus
from responder.model.incident import Phase
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from tests.scenario.virtual import Stage, a_stage

pytestmark = pytest.mark.looptime


async def damage(stage: Stage, statement: str, **values: Any) -> None:
    await stage.runner.run(lambda db: db.execute(text(statement), values))


async def called(stage: Stage, word: str) -> list[str]:
    """Wait until people are paged for what has this word in its alerts; return what they are told."""
    for _ in range(600):
        found = [
            told.notice
            for told in stage.heard(NoticeKind.PAGE, channel="pager")
            if any(word in one for one in told.notice.alerts)
        ]
        if found:
            return [one.incident for one in found]
        await asyncio.sleep(1)
    raise AssertionError([told.notice.alerts for told in stage.heard(NoticeKind.PAGE)])


async def own_alert(stage: Stage) -> AlertStatus:
    """Return how the alert about the damage stands."""
    (one,) = [one for one in await stage.store.instances(why=None, firing=False, limit=50) if one.name == "StoreDamaged"]
    return one.status


async def test_a_damaged_alert_stops_nobody_and_its_own_incident_is_cured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two incidents are open, the alert of one is damaged: both are restarted and recover, and somebody is called for the damage."""
    async with a_stage(monkeypatch) as stage:
        await stage.crashing("api")
        await stage.crash_loop("api")
        await stage.crashing("web")
        began_at = stage.clock.now()
        await stage.crash_loop("web")
        await stage.until("api", Phase.OPEN, Phase.WAITING, Phase.ACTING, Phase.VERIFYING)
        await stage.until("web", Phase.OPEN, Phase.WAITING)
        await damage(
            stage, "update alerts set body = :body where incident = :id", body=b"\x00\xff", id=(await stage.incidents())["web"].id
        )
        api, web = await stage.until("api", Phase.RECOVERED), await stage.until("web", Phase.RECOVERED)
        await called(stage, "StoreDamaged")

        assert [one.runs[-1].actions for one in (api, web)] == [("workload.restart",)] * 2
        assert [one.table for one in await stage.store.damaged()] == ["alerts"]
        damaged = stage.app.metrics.registry.get_sample_value("responder_damaged_rows", {"table": "alerts"})
        assert damaged == 1

        again = {
            "status": "firing", "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": "web"},
            "annotations": {"summary": "its sender repeats it"}, "startsAt": began_at.isoformat(), "endsAt": "0001-01-01T00:00:00Z",
        }  # fmt: skip
        await stage._post(msgspec.json.encode({"version": "4", "status": "firing", "receiver": "r", "alerts": [again]}))
        ends_at = stage.clock.now() + timedelta(minutes=5)
        while await own_alert(stage) is not AlertStatus.RESOLVED:
            assert stage.clock.now() < ends_at
            await asyncio.sleep(1)
        assert await stage.store.damaged() == []


async def test_a_damaged_incident_is_set_aside_and_people_are_called_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is cured; the page that was due for the damaged one goes out as far as its columns say."""
    async with a_stage(monkeypatch) as stage:
        for name in ("api", "web"):
            await stage.crashing(name, cured_by_restart=name == "api")
            await stage.crash_loop(name)
        await stage.until("web", Phase.VERIFYING)
        web = (await stage.incidents())["web"].id
        await damage(stage, "update incidents set state = :body where id = :id", body=b"\x00\xff", id=web)
        await damage(
            stage,
            """insert into outbox (incident, channel, kind, level, reason, opening, due_at, wake_at)
               values (:id, 'boss', 'page', 2, 'level_due', 1, 0, 0)""",
            id=web,
        )
        await stage.until("api", Phase.RECOVERED)
        await called(stage, "StoreDamaged")

        (page,) = [told.notice for told in stage.heard(NoticeKind.PAGE, channel="boss") if told.notice.incident == web]
        assert ("workload/shop/web" in page.title, "cannot be read" in page.state) == (True, True)
        assert (await stage.incidents())["web"].reason is Reason.UNREADABLE

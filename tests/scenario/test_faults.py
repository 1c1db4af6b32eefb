"""What others' failures cost, on virtual time: the store, the API server, the channels, DNS. The README's table "If … then" says it in words.

Real stores that are slow, full, read-only, locked or gone: ``test_store_faults.py``.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta

import aiohttp
import pytest

from responder.model.errors import ThrottledError, TransientError
from responder.model.notice import NoticeKind
from responder.model.reason import Reason
from responder.sandbox import Behaviour
from responder.sandbox.api import Faults
from responder.stores.sql.store import SqlStore
from tests.scenario.virtual import Stage, a_stage

pytestmark = pytest.mark.looptime
PAGE, RESOLVE = NoticeKind.PAGE, NoticeKind.RESOLVE
MINUTE = timedelta(minutes=1)
NO_NAME = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
OUR_OWN = "responder/store"


# --- the store


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(0.2, id="as it opens", marks=pytest.mark.slow),
        pytest.param(31, id="as it acts"),
        pytest.param(45, id="while the rung runs", marks=pytest.mark.slow),
        pytest.param(100, id="while it proves", marks=pytest.mark.slow),
    ],
)
async def test_a_store_that_is_gone_for_ten_minutes_costs_time_and_nothing_else(
    after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With incidents open: one page without it after a minute, the level that fell due goes out when it is back and says it is late, the rung goes on."""
    async with a_stage(monkeypatch) as stage:
        await stage.alert("CertificateExpiring", severity="critical", namespace="shop")
        await asyncio.sleep(300)
        await stage.crashing()
        await asyncio.sleep(120 - after)  # level 2 of the first falls due in the outage
        await stage.crash_loop()
        await asyncio.sleep(after)
        told = len(stage.told)
        gone_at = stage.clock.now()

        stage.runner.unavailable = "the disk is gone"
        taken = await stage.alert("CertificateExpiring", severity="error", namespace="late")
        await asyncio.sleep(600)
        meanwhile = stage.told[told:]
        stage.runner.unavailable = ""
        back_at = stage.clock.now()
        await stage.until("api", "recovered")
        await asyncio.sleep(60)

        (direct,) = meanwhile
        assert (direct.channel, direct.notice.kind, direct.notice.dedup_key) == ("pager", PAGE, OUR_OWN)
        assert direct.notice.reason is Reason.STORE_DOWN
        assert MINUTE <= direct.at - gone_at <= 2 * MINUTE
        assert [one.channel for one in stage.heard(RESOLVE, key=OUR_OWN)] == ["pager"]
        (second,) = stage.heard(PAGE, channel="boss")
        assert second.notice.level == 2
        assert second.at - back_at <= MINUTE
        assert second.notice.late
        assert not taken
        assert stage.untaken == []
        assert len(await stage.incidents()) == 3
        assert stage.writes() == ["api"]


async def test_a_first_page_that_fell_due_while_the_store_was_gone_says_that_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decided only when the store is back, and yet it is late: who is called must know that minutes are lost."""
    async with a_stage(monkeypatch) as stage:
        await stage.alert("CertificateExpiring", severity="critical", namespace="shop")
        await asyncio.sleep(5)
        stage.runner.unavailable = "the disk is gone"
        await asyncio.sleep(600)
        stage.runner.unavailable = ""
        await asyncio.sleep(60)

        (page,) = [one for one in stage.heard(PAGE, channel="pager") if one.notice.dedup_key != OUR_OWN]
        assert page.notice.late


@pytest.mark.slow
async def test_a_slow_store_makes_everything_late_and_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each operation: a write whose lease cannot be kept is not made; what is made is made once, and nobody is called about the store."""
    async with a_stage(monkeypatch) as stage:
        await stage.crashing()
        run, read = stage.runner.run, stage.runner.read

        async def slow(*asked: object) -> object:
            await asyncio.sleep(1)
            return await run(*asked)  # type: ignore[arg-type] # an operation and its arguments

        async def slow_too(*asked: object) -> object:
            await asyncio.sleep(1)
            return await read(*asked)  # type: ignore[arg-type] # an operation and its arguments

        with monkeypatch.context() as patch:
            patch.setattr(stage.runner, "run", slow)
            patch.setattr(stage.runner, "read", slow_too)
            await stage.crash_loop()
            await asyncio.sleep(1200)
        await stage.until("api", "recovered")

        assert stage.writes() == ["api"]
        assert stage.heard(PAGE, key=OUR_OWN) == []


@pytest.mark.slow
async def test_a_nearly_full_disk_drops_evidence_first_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for what an incident is, none for what was seen: the delivery is taken, the rung runs, recovery is proven."""
    async with a_stage(monkeypatch) as stage:
        noise = random.Random(1).randbytes(200_000).hex()
        await stage.crashing()
        stage.cluster.break_running("shop", "api", Behaviour(crash_after=3, log=f"FATAL: {noise}\n"))
        await asyncio.sleep(60)
        driver = stage.runner._engine.raw_connection()
        used = driver.cursor().execute("pragma page_count").fetchone()[0]
        driver.cursor().execute(f"pragma max_page_count = {used + 30}")

        taken = await stage.crash_loop()
        await stage.until("api", "recovered")

        lines = [one.text for one in await stage.store.timeline((await stage.incidents())["api"].id)]
        assert taken
        assert any("evidence: 0 items" in line and "not kept" in line and "full" in line for line in lines), lines
        assert stage.writes() == ["api"]


# --- the API server

TROUBLES: dict[str, Callable[[Stage], None]] = {
    "hangs": lambda stage: setattr(stage.cluster.faults, "hang", True),
    "refuses connections": lambda stage: setattr(stage.client, "network", aiohttp.ClientConnectionError("refused")),
    "has no name": lambda stage: setattr(stage.client, "network", NO_NAME),
    "is overloaded (429, Retry-After 10)": lambda stage: setattr(stage.cluster.api, "faults", Faults(status=429, retry_after=10)),
    "is overloaded (429 alone)": lambda stage: setattr(stage.cluster.faults, "status", 429),
    "fails (500)": lambda stage: setattr(stage.cluster.faults, "status", 500),
    "answers garbage": lambda stage: setattr(stage.cluster.faults, "garbage", True),
}  # fmt: skip


SLOW = {"refuses connections", "is overloaded (429 alone)", "fails (500)", "has no name"}
"""To us the same as one of the others; they run with ``make e2e``."""

IN_TROUBLE = pytest.mark.parametrize(
    "trouble", [pytest.param(one, marks=[pytest.mark.slow] if one in SLOW else []) for one in TROUBLES]
)


def well(stage: Stage) -> None:
    stage.client.network = None
    stage.cluster.api.faults = Faults()


@IN_TROUBLE
async def test_an_api_server_in_trouble_is_waited_for_and_a_person_is_told(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From before the first read: senders are answered, nothing is written, "unknown" is paged after two minutes; when it is well again the ladder goes on."""
    async with a_stage(monkeypatch) as stage:
        await stage.crashing()
        began_at = stage.clock.now()
        TROUBLES[trouble](stage)
        asked = stage.client.asked

        taken = await stage.crash_loop()
        await asyncio.sleep(480)
        waiting = (await stage.incidents())["api"]
        (page,) = stage.heard(PAGE)
        asked = stage.client.asked - asked
        well(stage)
        recovered = await stage.until("api", "recovered")

        assert taken
        assert waiting.phase == "waiting"
        assert page.notice.reason is Reason.UNKNOWN
        assert 2 * MINUTE <= page.at - began_at <= 4 * MINUTE
        assert stage.writes() == ["api"]
        assert [run.outcome for run in recovered.runs if not run.skipped] == ["done"]
        assert [one.channel for one in stage.heard(RESOLVE)] == ["pager"]
        assert asked <= 480, "at most one request a second goes to a server in trouble"


@pytest.mark.slow
async def test_an_overloaded_api_server_is_left_alone_for_as_long_as_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """API priority and fairness says 429 with Retry-After: no request at all of ours within it, for any target."""
    async with a_stage(monkeypatch) as stage:
        for name in ("api", "web", "db"):
            await stage.crashing(name)
        TROUBLES["is overloaded (429, Retry-After 10)"](stage)
        asked = stage.client.asked

        for name in ("api", "web", "db"):
            await stage.crash_loop(name)
        await asyncio.sleep(300)

        assert stage.client.asked - asked <= 40, "thirty times ten seconds, and what was under way at the first refusal"


@pytest.mark.slow
@IN_TROUBLE
async def test_an_api_server_that_gets_into_trouble_in_the_middle_of_a_rung_repeats_nothing(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For two minutes after the write: whether it took effect is looked at, not assumed; one restart, proven in its time."""
    async with a_stage(monkeypatch) as stage:
        await stage.crashing()
        await stage.crash_loop()
        while not stage.writes():
            await asyncio.sleep(0.5)

        TROUBLES[trouble](stage)
        await asyncio.sleep(120)
        well(stage)
        recovered = await stage.until("api", "recovered")

        assert stage.writes() == ["api"]
        assert [run.outcome for run in recovered.runs if not run.skipped] == ["done"]


async def test_a_write_whose_answer_never_comes_is_looked_for_and_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server takes the restart and hangs before it answers."""
    async with a_stage(monkeypatch) as stage:
        await stage.crashing()
        once = stage.client._once

        async def swallowed(method: str, *asked: object) -> object:
            found = await once(method, *asked)
            if method == "PATCH" and len(stage.writes()) == 1:
                await asyncio.sleep(8)
                raise TimeoutError
            return found

        with monkeypatch.context() as patch:
            patch.setattr(stage.client, "_once", swallowed)
            await stage.crash_loop()
            await stage.until("api", "verifying", "recovered")
        await stage.until("api", "recovered")

        assert stage.writes() == ["api"]


# --- the channels


async def _refuses() -> None:
    raise TransientError("connection refused", system="pagerduty", operation="post to", target="pager")


async def _hangs() -> None:
    await asyncio.sleep(3600)


async def _throttles() -> None:
    error = ThrottledError("too many requests", system="pagerduty", operation="post to", target="pager", status=429)
    error.retry_after = timedelta(minutes=5)
    raise error


async def _has_no_name() -> None:
    raise TransientError(str(NO_NAME), system="pagerduty", operation="post to", target="pager") from NO_NAME


DOWN: dict[str, Callable[[], Awaitable[None]]] = {
    "refuse connections": _refuses, "hang": _hangs, "throttle": _throttles, "have no name": _has_no_name,
}  # fmt: skip


@pytest.mark.parametrize("down", [pytest.param(one, marks=[pytest.mark.slow]) for one in DOWN])
async def test_pagerduty_and_teams_down_for_an_hour_lose_no_page(down: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every channel: both levels are tried at most every few minutes and at least every five, arrive once when it is over, late, in order; the ladder does not wait for them."""
    async with a_stage(monkeypatch) as stage:
        for line in stage.lines.values():
            line.trouble = DOWN[down]
        await stage.crashing()
        await stage.alert("CertificateExpiring", severity="critical", namespace="shop")
        await stage.crash_loop()
        await stage.until("api", "recovered")
        await asyncio.sleep(3600)
        for line in stage.lines.values():
            line.trouble = None
        told = list(stage.told)
        await asyncio.sleep(360)

        pages = stage.heard(PAGE)
        assert told == []
        assert {(one.channel, one.notice.level) for one in pages} == {("pager", 1), ("boss", 2), ("chat", 1)}
        assert len(pages) == 3
        assert all(one.notice.late for one in pages)
        tries = stage.lines["pager"].tried_at
        pauses = [after - before for before, after in itertools.pairwise(tries[6:])]
        assert all(timedelta(seconds=60) <= pause <= timedelta(minutes=6) for pause in pauses), pauses
        assert {one.channel for one in stage.heard(NoticeKind.INFO)} == {"team"}
        assert stage.writes() == ["api"]


async def test_a_channel_that_is_down_keeps_no_other_level_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """PagerDuty's first level cannot be told: the fallback has it within minutes, the second level goes out at its time."""
    async with a_stage(monkeypatch) as stage:
        stage.lines["pager"].trouble = _hangs
        began_at = stage.clock.now()
        await stage.alert("CertificateExpiring", severity="critical", namespace="shop")
        await asyncio.sleep(1200)

        (first,) = stage.heard(PAGE, channel="chat")
        (second,) = stage.heard(PAGE, channel="boss")
        assert first.at - began_at <= 4 * MINUTE
        assert 15 * MINUTE <= second.at - began_at <= 17 * MINUTE
        assert not second.notice.late


@pytest.mark.slow
async def test_an_incident_that_ends_while_every_channel_is_down_is_told_as_paged_and_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who is called late is told in the same minute that it is over, not left with an open page."""
    async with a_stage(monkeypatch) as stage:
        await stage.crashing()
        TROUBLES["hangs"](stage)
        stage.lines["pager"].trouble = _refuses
        await stage.crash_loop()
        await asyncio.sleep(300)
        well(stage)
        await stage.until("api", "recovered")
        await asyncio.sleep(600)
        stage.lines["pager"].trouble = None
        await asyncio.sleep(180)

        kinds = [one.notice.kind for one in stage.heard(PAGE, RESOLVE, channel="pager")]
        assert kinds == [PAGE, RESOLVE]


# --- everything at once


async def test_no_name_resolves_for_twenty_minutes_and_all_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cluster, channels and store at once: nothing is written, nothing can be told; afterwards everything that was due is told, late, and the ladder goes on."""
    async with a_stage(monkeypatch) as stage:
        await stage.crashing()
        await stage.crash_loop()
        await asyncio.sleep(10)
        stage.client.network = NO_NAME
        stage.runner.unavailable = f"store db.example/responder: {NO_NAME}"
        for line in stage.lines.values():
            line.trouble = _has_no_name
        taken = await stage.alert("CertificateExpiring", severity="critical", namespace="shop")
        await asyncio.sleep(1200)
        during = list(stage.told)
        tried = len(stage.lines["pager"].tried_at)
        well(stage)
        stage.runner.unavailable = ""
        for line in stage.lines.values():
            line.trouble = None
        await stage.until("api", "recovered")
        await asyncio.sleep(60)

        assert not taken
        assert during == []
        assert 30 <= tried <= 45, "the direct page is tried every 30 s until it is taken"
        assert stage.untaken == []
        assert {str(one.phase) for one in (await stage.incidents()).values()} == {"recovered", "exhausted"}
        assert stage.writes() == ["api"]
        assert isinstance(stage.app.store, SqlStore)

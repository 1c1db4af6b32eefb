"""A sample of the deaths; ``make crash`` dies everywhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from responder.actions import node_pool_machine
from responder.model.action import Write
from responder.model.cloud import Begun, CloudAsk, CloudSnapshot
from responder.model.reason import Reason
from tests.crash.branches import Run
from tests.crash.judge import End, ended, violations
from tests.crash.plots import PLOTS, Plot, sick_machine
from tests.crash.sweep import clean, died, lived, planned, quiet, shipped
from tests.crash.world import MortalCloud, left

SAMPLE = 600
"""Points left out between two: some seconds in all. ``make e2e`` takes more of them, ``make crash`` all."""


@pytest.mark.parametrize("number", range(len(PLOTS)), ids=[plot.name for plot in PLOTS])
def test_a_life_without_a_death_does_what_its_plot_says(number: int) -> None:
    """What the deaths are compared with: something is done or told, nothing is lost, nothing sleeps for ever."""
    end = clean(number)

    assert end.lives == 1
    assert bool(end.effects) == PLOTS[number].acts, "a judge that sees no writes finds none that is made twice"
    assert end.effects or end.sent
    assert all(phase.endswith(("recovered", "exhausted", "closed", "waiting")) for phase in end.phases)
    assert violations(end, end) == []


def test_the_judge_sees_every_kind_of_damage() -> None:
    """A judge that finds nothing in anything proves nothing."""
    good = clean(2)
    page = good.sent[0]
    damages = {
        "asleep": replace(good, rows={**good.rows, "asleep": ["inc"]}),
        "not_routed": replace(good, rows={**good.rows, "not_routed": [1]}),
        "unheld": replace(good, rows={**good.rows, "unheld": ["a"]}),
        "never taken": replace(good, unsent_alerts=1),
        "done twice": replace(good, effects=good.effects + good.effects),
        "ended as": replace(good, phases=("armed waiting",)),
        "neither given back": replace(good, rows={**good.rows, "floor": [3]}),
        "never told": replace(good, sent=good.sent[1:]),
        "called twice": replace(good, sent=(*good.sent, replace(page, key="another"))),
        "late": replace(good, sent=tuple(replace(one, at=one.at + timedelta(minutes=2)) for one in good.sent)),
    }

    for word, damaged in damages.items():
        found = violations(good, damaged)
        assert any(said.startswith(word) or word in said for said in found), (word, found)


def named(name: str) -> int:
    return next(number for number, plot in enumerate(PLOTS) if plot.name == name)


def test_every_shipped_rule_has_a_plot() -> None:
    """Also those that are shipped from tomorrow on."""
    assert shipped() - {plot.rule for plot in PLOTS} == set()


def test_every_kind_of_write_to_the_cloud_happens_in_a_plot() -> None:
    """Of the shipped rules: start, abort, reconcile, scale, and a machine deleted."""
    made = {effect for number, plot in enumerate(PLOTS) if plot.azure for effect in clean(number).effects}

    for wanted in (
        "arm start",
        "arm abort",
        "arm reconcile",
        "arm agentPools/work/deleteMachines",
        "arm agentPools/work count=3 minimum=None",
        "arm agentPools/work count=2 minimum=3",
    ):
        assert any(one.startswith(wanted) for one in made), wanted


class Hasty(MortalCloud):
    """Sends everything twice."""

    async def write(self, write: Write, *, within: timedelta) -> Begun:
        begun = await super().write(write, within=within)
        try:
            await super().write(write, within=within)
        finally:
            return begun  # noqa: B012 - whatever came of it


class Blind(MortalCloud):
    """Sends in a new life what the last one sent, before it looks."""

    sent: list[Write]
    looked = False

    async def read(self, ask: CloudAsk) -> CloudSnapshot:
        if not self.looked:
            self.looked = True
            for one in self.sent:
                await super().write(one, within=timedelta(seconds=8))
        return await super().read(ask)

    async def write(self, write: Write, *, within: timedelta) -> Begun:
        begun = await super().write(write, within=within)
        self.sent.append(write)
        return begun


async def lived_with(plot: Plot, adapter: type[MortalCloud], folder: Path, *, crash_at: frozenset[int] = frozenset()) -> End:
    world = plot.world(folder, crash_at=crash_at)
    world.adapter = adapter
    await plot.begin(world)
    began_at = world.clock.at
    await world.live(plot.lasts)
    return ended(world, *await left(world.runner, world.clock), points=world.fate.passed, began_at=began_at)


@pytest.mark.parametrize(
    ("plot", "word"),
    [("a cluster that failed", "sent while an operation was in progress"), ("a machine that died", "at most once")],
)
def test_a_product_that_sends_everything_twice_is_found_guilty(plot: str, word: str, tmp_path: Path) -> None:
    """A deliberate fault, without any death."""
    number = named(plot)

    end = asyncio.run(lived_with(PLOTS[number], Hasty, tmp_path))

    assert any(word in said for said in violations(clean(number), end))


def test_a_product_that_repeats_before_it_looks_is_found_guilty(tmp_path: Path) -> None:
    """A deliberate fault that only a death brings out: the next life sends what the last one sent."""
    number = named("a cluster that somebody stopped")
    Blind.sent = []
    dies = clean(number).points.index("after a cloud write")

    end = asyncio.run(lived_with(PLOTS[number], Blind, tmp_path, crash_at=frozenset({dies + 1})))

    assert end.lives == 2
    assert any("sent without a look" in said for said in violations(clean(number), end))


UNDRAINED = Plot(
    "a machine with pods", "undrained", sick_machine, timedelta(minutes=3), azure=True,
    own={
        "rule": "undrained", "title": "No drain", "owner": "tests", "runbook": "https://runbooks.example/", "severity": "error", "priority": 99,
        "match": [{"alert": "KubeNodeNotReady"}], "target": "node", "ladder": [{"do": "node_pool.delete_machine", "within": "9m"}],
    },
)  # fmt: skip


def test_a_product_that_deletes_a_machine_under_its_pods_is_found_guilty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deliberate fault: whether the node is drained is not looked at."""
    without = asyncio.run(lived(UNDRAINED))
    monkeypatch.setattr(node_pool_machine, "_left", lambda *_asked: "")

    end = asyncio.run(lived_with(UNDRAINED, MortalCloud, tmp_path))

    assert not any("deleteMachines" in one.what for one in without.calls)
    assert any("is deleted under" in said for said in violations(end, end))


def test_the_judge_sees_damage_in_the_cloud() -> None:
    """Calls that no life makes, and an end with a person that nobody was told of."""
    good = clean(named("a machine that died"))
    last = max(number for number, one in enumerate(good.calls) if "deleteMachines" in one.what)
    deleted = good.calls[last]
    waiting = ("armed waiting",)
    unknown = (str(Reason.CANNOT_BE_KNOWN),)
    unsent = tuple(one for one in good.calls if one is not deleted)
    damages: dict[str, End] = {
        "deleted under": replace(good, calls=(*good.calls, replace(deleted, wrong="machine m is deleted under api-1"))),
        "in progress": replace(good, calls=(*good.calls, replace(deleted, busy=True))),
        "without a look": replace(good, calls=(*good.calls[: last + 1], deleted)),
        "at most once": replace(good, calls=(*good.calls, deleted)),
        "neither proven nor paged": replace(good, phases=waiting, sent=()),
        "ended as": replace(good, phases=waiting, reasons=unknown, calls=unsent),
        "neither given back": replace(good, rows={**good.rows, "floor": ["aks-work-12345678-vmss000002"]}),
    }
    told = (replace(good.sent[0], reason=unknown[0]),)
    sent_after_all = replace(good, phases=waiting, reasons=unknown, sent=told)

    for word, damaged in damages.items():
        assert any(word in said for said in violations(good, damaged)), word
    assert any("ended as" in said for said in violations(good, sent_after_all)), "it was sent, and that can be seen"
    assert violations(good, replace(sent_after_all, calls=unsent)) == []


def test_a_death_between_the_note_and_the_request_ends_with_a_person() -> None:
    """What cannot be known is not sent, and somebody is told: the one end that a death may change."""
    quiet()
    number = named("a machine that died")
    points = clean(number).points
    write = points.index("before a cloud write")

    end = asyncio.run(lived(PLOTS[number], crash_at=frozenset({write})))

    assert end.reasons == (str(Reason.CANNOT_BE_KNOWN),)
    assert not any("deleteMachines" in one.what for one in end.calls)
    assert violations(clean(number), end) == []


def test_a_sample_of_deaths_changes_nothing() -> None:
    """Each of them in a life of its own; the run that fails names its plot and point. Where a cloud is written to, right after the last write to it."""
    quiet()
    runs = planned([number for number, plot in enumerate(PLOTS) if not plot.azure], every=SAMPLE)
    for number, plot in enumerate(PLOTS):
        if plot.name in {"a machine that died", "a silent node on a running machine"}:
            continue  # one dies in a test of its own, and the other writes what a sick machine's does
        points = clean(number).points
        written = [at for at, kind in enumerate(points) if kind == "after a cloud write"]
        runs += [Run(number, frozenset({at}), keeps_name=number % 2 == 0) for at in written[-1:]]
    results = [died(run) for run in runs]

    assert [(PLOTS[run.plot].name, sorted(run.crash_at), wrong) for run, wrong, _ in results if wrong] == []
    assert all((lives > 1) is not run.refused for run, _, lives in results)

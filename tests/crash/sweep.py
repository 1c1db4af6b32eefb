"""Dies at every point of every plot, one run each, and judges what is left. ``make crash`` runs all of it and writes REPORT.md.

Invariants: nothing lost (every alert is taken in the end, routed, and held by an incident); nothing done twice (no write takes effect more often than in
the life without a death); every open incident has a wake-up; every message reaches its channel at least once, with the same key; every level at its
original time, but for the time of being dead; every change given back or listed; the incident ends as it ends without a death.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from tests.crash.plots import PLOTS, Plot
from tests.crash.world import Sent, World

LATE = timedelta(seconds=60)
"""A death costs three seconds, a lease of its name's keeper at most 15 s more, a message in hand its 30 s lease; looks are two seconds apart."""

REPORT = Path(__file__).with_name("REPORT.md")


@dataclass(frozen=True, slots=True)
class End:
    """What is left at the end of a run."""

    phases: tuple[str, ...]
    effects: Counter[str]
    sent: tuple[Sent, ...]
    rows: dict[str, Any]
    unsent_alerts: int
    points: tuple[str, ...]
    lives: int
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """One run to be made: a plot, where it dies, and whether the next life has the last one's name (SQLite) or another (a replica)."""

    plot: int
    crash_at: frozenset[int]
    keeps_name: bool


async def lived(plot: Plot, *, crash_at: frozenset[int] = frozenset(), keeps_name: bool = True) -> End:
    """Let a plot happen."""
    with tempfile.TemporaryDirectory() as folder:
        world: World = plot.world(Path(folder), crash_at=crash_at, keeps_name=keeps_name)
        await plot.begin(world)
        began_at = world.clock.at
        await world.live(plot.lasts)
        incidents = await world.incidents()
        return End(
            phases=tuple(sorted(f"{one.mode} {one.phase}" for one in incidents)),
            effects=world.seen(),
            sent=tuple(world.sent),
            rows=await world.rows(),
            unsent_alerts=len(world.events),
            points=tuple(world.fate.passed),
            lives=world.lives,
            began_at=began_at,
        )


def violations(clean: End, crashed: End) -> list[str]:
    """Return what a death must not have changed, in words; empty when all is well."""
    found = [f"{what}: {crashed.rows[what]}" for what in ("asleep", "not_routed", "unheld") if crashed.rows[what]]
    if crashed.unsent_alerts:
        found.append(f"{crashed.unsent_alerts} alerts were never taken")
    for effect, count in crashed.effects.items():
        if count > clean.effects[effect]:
            found.append(f"done twice: {effect} took effect {count} times instead of {clean.effects[effect]}")
    if crashed.phases != clean.phases:
        found.append(f"ended as {crashed.phases} instead of {clean.phases}")
    if crashed.rows["floor"] != clean.rows["floor"] and not crashed.rows["owed"]:
        found.append(f"a change was neither given back nor is it listed: {crashed.rows['floor']}")
    found += _messages(clean, crashed)
    return found


def _messages(clean: End, crashed: End) -> Iterable[str]:
    for one in clean.sent:
        same = [two for two in crashed.sent if (two.channel, two.kind, two.level) == (one.channel, one.kind, one.level)]
        if not same:
            yield f"never told: {one.kind} level {one.level} to {one.channel}"
            continue
        keys = {re.sub(r"inc-[^/]+", "inc", two.key) for two in same}
        if len({two.key for two in same}) > len(
            {two.key for two in clean.sent if (two.channel, two.kind, two.level) == (one.channel, one.kind, one.level)}
        ):
            yield f"called twice: {one.kind} level {one.level} to {one.channel} with keys {sorted(keys)}"
        late = (min(two.at for two in same) - crashed.began_at) - (one.at - clean.began_at)
        if one.level and late > LATE:
            yield f"late: {one.kind} level {one.level} by {late}"


def died(run: Run) -> tuple[Run, list[str], int]:
    """Make one run in this process and judge it; return the run, what is wrong, and the number of lives."""
    plot = PLOTS[run.plot]
    clean = _clean(run.plot)
    end = asyncio.run(lived(plot, crash_at=run.crash_at, keeps_name=run.keeps_name))
    return run, violations(clean, end), end.lives


_CLEAN: dict[int, End] = {}


def _clean(plot: int) -> End:
    if plot not in _CLEAN:
        _CLEAN[plot] = asyncio.run(lived(PLOTS[plot]))
    return _CLEAN[plot]


def planned(plots: Sequence[int], *, every: int = 1, doubles: int = 0, seed: int = 1) -> list[Run]:
    """Return all runs: each point of each plot (or each n-th), the names of the lives alternating; then pairs of points by chance."""
    chance = random.Random(seed)
    runs: list[Run] = []
    for plot in plots:
        points = len(_clean(plot).points)
        offset = chance.randrange(every)
        runs += [Run(plot, frozenset({at}), keeps_name=at // every % 2 == 0) for at in range(offset, points, every)]
        pairs = (frozenset(chance.sample(range(points), 2)) for _ in range(doubles))
        runs += [Run(plot, pair, keeps_name=chance.random() < 0.5) for pair in pairs]
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep, print, and write the report; return 1 when anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--every", type=int, default=1, help="only each n-th point")
    parser.add_argument("--doubles", type=int, default=20, help="runs with two deaths, for each plot")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write REPORT.md")
    given = parser.parse_args(arguments)
    quiet()
    runs = planned(range(len(PLOTS)), every=given.every, doubles=given.doubles, seed=given.seed)
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(given.processes, initializer=quiet) as pool:
        results = []
        for number, one in enumerate(pool.imap_unordered(died, runs, chunksize=8), start=1):
            results.append(one)
            if number % 100 == 0 or number == len(runs):
                bad = sum(1 for _, wrong, _ in results if wrong)
                print(f"{number} of {len(runs)} runs, {bad} with violations, {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
    text = report(results, given)
    if given.write:
        REPORT.write_text(text)
    else:
        sys.stdout.write(text)
    return 1 if any(wrong for _, wrong, _ in results) else 0


def quiet() -> None:
    """Log nothing below errors."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def report(results: Sequence[tuple[Run, list[str], int]], given: argparse.Namespace) -> str:
    """Return the report as Markdown."""
    command = f"make crash ARGS='--every {given.every} --doubles {given.doubles} --seed {given.seed} --write'"
    lines = [
        "# Deaths",
        "",
        "Made by a run, never by hand: `"
        + command
        + "`. Every life without a death is compared with lives that end at one point (or two) and go on in",
        "a new process over the same database and cluster: on the name of the last one (SQLite) and as another replica that waits for its lease, in turns. In",
        "memory, on simulated time; real processes die in `tests/scenario/test_process.py` (SQLite) and `tests/e2e/test_replicas.py` (PostgreSQL).",
        "",
        "| Plot | Rule | Points to die at | Runs | with two deaths | Violations |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for number, plot in enumerate(PLOTS):
        mine = [one for one in results if one[0].plot == number]
        doubles = sum(1 for run, _, _ in mine if len(run.crash_at) > 1)
        bad = sum(1 for _, wrong, _ in mine if wrong)
        lines.append(f"| {plot.name} | {plot.rule} | {len(_clean(number).points)} | {len(mine)} | {doubles} | {bad} |")
    total = sum(1 for _, wrong, _ in results if wrong)
    lines += [
        "",
        f"{len(results)} runs, {sum(lives for _, _, lives in results)} lives, {total} with violations.",
        "",
        "## Points by kind",
        "",
    ]
    kinds = Counter(kind for number in range(len(PLOTS)) for kind in _clean(number).points)
    lines += ["| Point | In all plots |", "| --- | --- |", *(f"| {kind} | {count} |" for kind, count in sorted(kinds.items()))]
    lines += ["", "## Violations", ""]
    wrong = [(run, said) for run, said, _ in results if said]
    lines += [
        f"- {PLOTS[run.plot].name}, died at {', '.join(f'{at} ({_clean(run.plot).points[at]})' for at in sorted(run.crash_at))}"
        f"{'' if run.keeps_name else ', as another replica'}: {'; '.join(said)}"
        for run, said in sorted(wrong, key=lambda one: (one[0].plot, sorted(one[0].crash_at)))[:100]
    ] or ["None."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

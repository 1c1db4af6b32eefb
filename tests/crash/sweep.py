"""Dies at every point of every plot, one run each, and judges what is left. ``make crash`` runs all of it and writes REPORT.md.

In memory, in one process, on simulated time: a run takes a second. ``--real N`` adds N runs for each plot and database with processes that are killed
(``tests/crash/real.py``). What is judged is in ``tests/crash/judge.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import structlog

from tests.crash import real
from tests.crash.branches import Branching, Made, Run, batches, made
from tests.crash.judge import End, ended, violations
from tests.crash.plots import PLOTS, Plot
from tests.crash.world import World, left

RULES = Path(__file__).resolve().parents[2] / "rules"
REPORT = Path(__file__).with_name("REPORT.md")
REQUESTS = 12
"""Of the points round single requests (a read of a target is eight of them, and nothing is stored between two) each n-th is taken of those that are due."""


REFUSED = 4
"""Of the commits that are due each n-th is also refused by the disk."""

TOGETHER = 25
"""Runs of a plot that share a life: a batch ends soon enough for ``--minutes``."""

SOON = 60
"""Points after a death: a life's first look at everything, and what it does then."""

RARE = 100
"""From so many points left out between two on, those round writes to a cloud are not died at besides: the default tests name their own."""


def shipped() -> set[str]:
    """Return the names of the rules that are shipped."""
    return {one.stem for one in RULES.glob("*.yaml") if not one.stem.endswith(".test")}


async def lived(
    plot: Plot,
    *,
    crash_at: frozenset[int] = frozenset(),
    keeps_name: bool = True,
    refused: bool = False,
    branching: Branching | None = None,
) -> End:
    """Let a plot happen; with a branching fate, copies of this process return from here too."""
    with tempfile.TemporaryDirectory() as folder:
        world: World = plot.world(Path(folder), crash_at=crash_at, keeps_name=keeps_name)
        world.fate.refuses = refused
        if branching is not None:
            world.entrust(branching)
            branching.renamed = world.renamed
            branching.bind(asyncio.get_running_loop())
        await plot.begin(world)
        began_at = world.clock.at
        await world.live(plot.lasts)
        return ended(world, *await left(world.runner, world.clock), points=world.fate.passed, began_at=began_at)


def died(run: Run) -> tuple[Run, list[str], int]:
    """Make one run in this process and judge it; return the run, what is wrong, and the number of lives."""
    plot = PLOTS[run.plot]
    without = clean(run.plot)
    end = asyncio.run(lived(plot, crash_at=run.crash_at, keeps_name=run.keeps_name, refused=run.refused))
    return run, violations(without, end), end.lives


def died_together(runs: tuple[Run, ...]) -> list[Made]:
    """Make runs of one plot, what they share once; return what :func:`died` does for each. Runs whose second death is never reached are not made."""
    number = runs[0].plot
    without = clean(number)

    def live(fate: Branching) -> tuple[list[str], int]:
        end = asyncio.run(lived(PLOTS[number], branching=fate))
        return violations(without, end), end.lives

    return made(runs, live)


_CLEAN: dict[int, End] = {}


def clean(plot: int) -> End:
    """Return a plot's life without a death; lived once a process."""
    if plot not in _CLEAN:
        _CLEAN[plot] = asyncio.run(lived(PLOTS[plot]))
    return _CLEAN[plot]


def planned(plots: Sequence[int], *, every: int = 1, doubles: int = 0, seed: int = 1) -> list[Run]:
    """Return all runs: each point of each plot (or each n-th), the names of the lives alternating; then pairs of points by chance.

    Points round writes to a cloud are not left out. The first of a pair is one of the single ones; every other second is soon after it: what is done to
    go on is died in as well.
    """
    chance = random.Random(seed)
    runs: list[Run] = []
    for plot in plots:
        points = clean(plot).points
        requests = [at for at, kind in enumerate(points) if kind.endswith("a request")]
        others = [at for at, kind in enumerate(points) if not kind.endswith("a request")]
        single: dict[int, Run] = {}
        for some, step in ((others, every), (requests, every * REQUESTS), (round_writes(points) if every < RARE else [], 1)):
            chosen = some[chance.randrange(step) :: step]
            single |= {at: Run(plot, frozenset({at}), keeps_name=number % 2 == 0) for number, at in enumerate(chosen)}
        firsts = [at for at in single if at + 1 < len(points)]
        pairs: set[Run] = set()
        for number in range(doubles if firsts else 0):
            first = chance.choice(firsts)
            second = first + chance.randint(1, min(SOON if number % 2 else len(points), len(points) - 1 - first))
            pairs.add(Run(plot, frozenset({first, second}), single[first].keeps_name))
        commits = [at for at, kind in enumerate(points) if kind.startswith("before commit")]
        full = [Run(plot, frozenset({at}), refused=True) for at in commits[chance.randrange(every * REFUSED) :: every * REFUSED]]
        runs += [*single.values(), *full, *sorted(pairs, key=lambda run: sorted(run.crash_at))]
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep, print, and write the report; return 1 when anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--every", type=int, default=1, help="only each n-th point")
    parser.add_argument("--doubles", type=int, default=20, help="runs with two deaths, for each plot")
    parser.add_argument("--real", type=int, default=0, help="runs with killed processes, for each plot and database")
    parser.add_argument(
        "--minutes", type=int, default=180, help="begin no further run of either kind after this long; the order is by chance"
    )
    parser.add_argument("--only", choices=("memory", "killed"), help="one of the two kinds; the report keeps the other's section")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plots", type=int, nargs="*", default=list(range(len(PLOTS))), help="numbers, from 0; all of them")
    parser.add_argument("--write", action="store_true", help="write REPORT.md")
    given = parser.parse_args(arguments)
    quiet()
    results = in_memory(given) if given.only != "killed" else []
    killed = (
        real.sweep(each=given.real, seed=given.seed, processes=given.processes, plots=given.plots, minutes=given.minutes)
        if given.real and given.only != "memory"
        else []
    )
    sections = {"memory": _memory(results, given) if results else "", "killed": _killed(killed, given) if killed else ""}
    text = REPORT.read_text()
    for name, section in sections.items():
        if section:
            text = _with(text, name, section)
    if given.write:
        REPORT.write_text(text)
    else:
        sys.stdout.write(text)
    return 1 if any(wrong for _, wrong, _ in (*results, *killed)) else 0


def in_memory(given: argparse.Namespace) -> list[tuple[Run, list[str], int]]:
    """Make all runs in memory; print how far it is."""
    runs = planned(given.plots, every=given.every, doubles=given.doubles, seed=given.seed)
    random.Random(given.seed).shuffle(runs)
    runs = list(dict.fromkeys(runs))
    runs.sort(key=lambda run: not run.crash_at <= set(round_writes(clean(run.plot).points)))
    together = batches(runs, size=TOGETHER)
    random.Random(given.seed).shuffle(together)
    began = time.monotonic()
    results: list[tuple[Run, list[str], int]] = []
    with multiprocessing.get_context("spawn").Pool(given.processes, _ready, (_CLEAN,)) as pool:
        for batch in pool.imap_unordered(died_together, together, chunksize=1):
            results += batch
            bad = sum(1 for _, wrong, _ in results if wrong)
            print(f"{len(results)} of {len(runs)} runs, {bad} with violations, {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
            if time.monotonic() - began > given.minutes * 60:
                break
    return results


def _ready(known: dict[int, End]) -> None:
    """Begin a process that need not live again what this one has lived."""
    quiet()
    _CLEAN.update(known)


def quiet() -> None:
    """Log nothing below errors."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _with(report: str, name: str, section: str) -> str:
    """Return the report with a section made anew; what was not run stays, under its own command."""
    before, after = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    head, rest = report.split(before)
    return head + before + section + after + rest.split(after)[1]


def _memory(results: Sequence[tuple[Run, list[str], int]], given: argparse.Namespace) -> str:
    lines = [
        f"`make crash ARGS='--only memory --every {given.every} --doubles {given.doubles} --minutes {given.minutes} --seed {given.seed} --write'`",
        "",
        "On simulated time; on the name of the last one (SQLite) and as another replica that waits for its lease, in turns. Points are before and after every storing",
        f"commit, every request that reads from the cluster or ARM (each {given.every * REQUESTS}th of these in turn), every write to either, every poll of an operation",
        "of ARM, every message; of the commits some are refused by a full disk instead, which takes nothing for 20 s. Runs of a plot share a life until they die: `tests/crash/branches.py`.",
        "",
        "| Plot | Rule | Writes to the cloud | Points to die at | Runs | with two deaths | Violations |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number in given.plots:
        plot = PLOTS[number]
        mine = [one for one in results if one[0].plot == number]
        doubles = sum(1 for run, _, _ in mine if len(run.crash_at) > 1)
        bad = sum(1 for _, wrong, _ in mine if wrong)
        to_cloud = ", ".join(_short(one) for one in clean(number).effects if one.startswith("arm "))
        lines.append(
            f"| {plot.name} | {plot.rule} | {to_cloud} | {len(clean(number).points)} | {len(mine)} | {doubles} | {bad} |"
        )
    missing = sorted(shipped() - {plot.rule for plot in PLOTS})
    lines += ["", _sum(results), f"Shipped rules without a plot: {', '.join(missing) or 'none'}."]
    kinds = Counter(kind for number in given.plots for kind in clean(number).points)
    lines += [
        "",
        "| Point | In all plots |",
        "| --- | --- |",
        *(f"| {kind} | {count} |" for kind, count in sorted(kinds.items())),
    ]
    lines += ["", "Violations:", "", *(_wrong(results) or ["None."])]
    return "\n".join(lines) + "\n"


def round_writes(points: Sequence[str]) -> list[int]:
    """Return the points round writes to a cloud: always died at, and first, since there are few of them."""
    return [at for at, kind in enumerate(points) if kind.endswith(("a cloud write", "a request that changes the cloud"))]


def _short(effect: str) -> str:
    """Say a write to the cloud without the machine's name."""
    words = effect.removeprefix("arm ").replace(" minimum=None", "").split()
    return "delete machine" if words[0].endswith("/deleteMachines") else " ".join(words)


def _sum(results: Sequence[tuple[Run | real.RealRun, list[str], int]]) -> str:
    bad = sum(1 for _, wrong, _ in results if wrong)
    return f"{len(results)} runs, {sum(lives for _, _, lives in results)} lives, {bad} with violations."


def _killed(killed: Sequence[tuple[real.RealRun, list[str], int]], given: argparse.Namespace) -> str:
    lines = [
        f"`make crash ARGS='--only killed --real {given.real} --minutes {given.minutes} --seed {given.seed} --write'`",
        "",
        "Each life is a process of its own on SQLite's file or a PostgreSQL server, ended by SIGKILL: by its own hand at a numbered point (some twice), or from outside at a",
        "moment of chance; the cluster, the channels and the (simulated) time outlive it. `tests/crash/real.py`.",
        "",
        "| Plot | Rule | on SQLite: at points | by chance | on PostgreSQL: at points | by chance | Violations |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number in given.plots:
        mine = [one for one in killed if one[0].plot == number]
        counts = [
            sum(1 for run, _, _ in mine if run.database == database and (run.kill_at is None) is at_points)
            for database in ("sqlite", "postgres")
            for at_points in (True, False)
        ]
        bad = sum(1 for _, wrong, _ in mine if wrong)
        lines.append(f"| {PLOTS[number].name} | {PLOTS[number].rule} | {' | '.join(map(str, counts))} | {bad} |")
    lines += ["", _sum(killed), "", "Violations:", "", *(_wrong_processes(killed) or ["None."])]
    return "\n".join(lines) + "\n"


def _wrong(results: Sequence[tuple[Run, list[str], int]]) -> list[str]:
    wrong = [(run, said) for run, said, _ in results if said]
    return [
        f"- {PLOTS[run.plot].name}, died at {', '.join(f'{at} ({clean(run.plot).points[at]})' for at in sorted(run.crash_at))}"
        f"{'' if run.keeps_name else ', as another replica'}{', refused' if run.refused else ''}: {'; '.join(said)}"
        for run, said in sorted(wrong, key=lambda one: (one[0].plot, sorted(one[0].crash_at)))[:100]
    ]


def _wrong_processes(killed: Sequence[tuple[real.RealRun, list[str], int]]) -> list[str]:
    return [
        f"- {PLOTS[run.plot].name} on {run.database}, "
        f"{f'killed at request {run.kill_at}' if run.kill_at is not None else f'died at {sorted(run.crash_at)}'}: {'; '.join(said)}"
        for run, said, _ in killed
        if said
    ][:100]


if __name__ == "__main__":
    sys.exit(main())

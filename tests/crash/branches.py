"""Many runs of one plot for little more than their own ends: one life is lived, and at each chosen point a copy of the process dies in its place.

A run that dies at a point is the same as every other one until then, so that far it is lived once for all of them. The copy is a forked process: memory,
database, cluster, cloud and time are its own from there on. It dies, lives on as any other run does, and is judged at its end; copies of a copy die twice.

The decision a reader would question: forked, and not a snapshot of our own of everything that a life holds. What such a snapshot forgot would be shared
between runs, and a death would look harmless that is not.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tests.crash.world import Fate

Made = tuple["Run", list[str], int]
"""A run that has ended, what is wrong in it, and its number of lives."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run to be made.

    Attributes:
        plot: Which story, a number.
        crash_at: Points to die at, counted from 0 over all lives.
        keeps_name: The next life has the last one's name (SQLite), or another (a replica, that waits for its lease).
        refused: Nobody dies there: the disk refuses that commit, and all others for some seconds.
    """

    plot: int
    crash_at: frozenset[int]
    keeps_name: bool = True
    refused: bool = False


@dataclass(slots=True)
class Branching(Fate):
    """Lives on at a point where runs die, once a copy of this process has died there and its runs have ended.

    Attributes:
        runs: To be made, and not yet begun.
        tell: Where this process tells its results: a pipe.
        mine: The run that this process is, once it has died; None in the first process, which is no run.
        results: Of the runs that have ended.
        renamed: Called in a copy, with whether its lives keep their name.
    """

    runs: list[Run] = field(default_factory=list)
    tell: int = -1
    mine: Run | None = None
    results: list[Made] = field(default_factory=list)
    renamed: Callable[[bool], None] = lambda _keeps: None
    _died_at: frozenset[int] = frozenset()
    _away: float = 0.0

    def reached(self, number: int) -> None:
        """Die in a copy of this process, if any of its runs does here."""
        here = [run for run in self.runs if min(run.crash_at - self._died_at) == number]
        if not here:
            return
        self.runs = [run for run in self.runs if run not in here]
        for how in sorted({(run.keeps_name, run.refused) for run in here}):
            self._die([run for run in here if (run.keeps_name, run.refused) == how], number)
        if not self.runs and self.mine is None:
            self.finish()

    def _die(self, runs: list[Run], number: int) -> None:
        """Die in a copy, and wait for its results in this process."""
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        tell = forked()
        if isinstance(tell, Copy):
            self.results += tell.results(runs)
            self._away += time.monotonic() - began
            return
        asyncio._set_running_loop(loop)  # a running loop is bound to its process by number
        self.tell, self.results, self._died_at = tell, [], self._died_at | {number}
        self.mine = next((run for run in runs if run.crash_at == self._died_at), None)
        self.runs = [run for run in runs if run is not self.mine]
        self.renamed(runs[0].keeps_name)
        self.refuses = runs[0].refused
        self.end()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let a loop's time-outs stand still while copies of this process live, and its threads' work be done at once: a copy has none."""
        real = loop.time

        def at_once(_executor: Any, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
            done: asyncio.Future[Any] = loop.create_future()
            done.set_result(function(*arguments))
            return done

        loop.time = lambda: real() - self._away  # type: ignore[method-assign]
        loop.run_in_executor = at_once  # type: ignore[method-assign,assignment]

    def finish(self, judged: tuple[list[str], int] | None = None) -> NoReturn:
        """Tell the results, and end this process.

        Args:
            judged: What is wrong in this process's own run, and its number of lives; None when it is no run.

        Runs whose next death was never reached are not made.
        """
        if judged is not None and self.mine is not None:
            self.results.append((self.mine, *judged))
        self._tell()

    def fail(self) -> NoReturn:
        """Tell that something broke that is no death: what has not ended is violated; and end this process."""
        why = [f"could not be finished: {traceback.format_exc(limit=-3)}"]
        self.results += [(run, why, 0) for run in (self.mine, *self.runs) if run is not None]
        self._tell()

    def _tell(self) -> NoReturn:
        data = pickle.dumps(self.results)
        while data:
            data = data[os.write(self.tell, data) :]
        os._exit(0)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of this process, and the pipe on which it tells its results."""

    pid: int
    told: int

    def results(self, runs: Sequence[Run]) -> list[Made]:
        """Wait for its end; return its results, or that it ended without a word."""
        with os.fdopen(self.told, "rb") as pipe:
            said = pipe.read()
        os.waitpid(self.pid, 0)
        if said:
            told: list[Made] = pickle.loads(said)
            return told
        return [(run, ["its process ended without a word"], 0) for run in runs]


def forked() -> Copy | int:
    """Copy this process; return the copy in this one, and in the copy the end of the pipe that it writes to."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        return writing
    os.close(writing)
    return Copy(pid, reading)


def made(runs: Sequence[Run], live: Callable[[Branching], tuple[list[str], int]]) -> list[Made]:
    """Make runs of one plot.

    Args:
        runs: To be made.
        live: Lives one life after another with this fate, and judges the end; called in a process of its own.
    """
    gc.collect()
    gc.freeze()  # a collector that looks at what all share makes each copy copy it
    tell = forked()
    if isinstance(tell, Copy):
        return tell.results(runs)
    fate = Branching(runs=list(runs), tell=tell)
    try:
        fate.finish(live(fate))
    except BaseException:  # noqa: BLE001 - a forked process must never go on with its parent's work
        fate.fail()


def batches(runs: Sequence[Run], *, size: int) -> list[tuple[Run, ...]]:
    """Split runs into batches of one plot each, in their order."""
    plots: dict[int, list[Run]] = {}
    for run in runs:
        plots.setdefault(run.plot, []).append(run)
    return [tuple(mine[at : at + size]) for mine in plots.values() for at in range(0, len(mine), size)]

"""The same plots with processes that are processes: each life is forked, works on a file or a server, and ends by SIGKILL.

What outlives a process (cluster, channels, senders, time) stays in the parent; the service asks it over a socket. So time is simulated here too, but
SQLite's file with its log and its lock, PostgreSQL's sessions and open transactions, the writer thread and the connection pool are what a killed process
leaves them as. It dies at a numbered point by its own hand, or at a moment of chance by the parent's: then in the middle of anything.

The decision a reader would question: forked and not started. Starting costs two seconds of importing and changes nothing of what is looked at; processes
that are started die in ``tests/scenario/test_process.py`` and ``tests/e2e/test_replicas.py``.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import random
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import structlog
from kubernetes_asyncio.client import Configuration
from sqlalchemy import event

from responder.clusters.kubernetes.client import Access, KubernetesClient
from responder.stores.sql.runners.postgres import PostgresRunner
from responder.stores.sql.runners.sqlite import SqliteRunner
from responder.stores.sql.store import Runner
from tests import postgres
from tests.crash.arm import Answer
from tests.crash.direct import DirectClient
from tests.crash.judge import End, ended, violations
from tests.crash.plots import PLOTS, Plot
from tests.crash.world import DEAD_FOR, Fate, Outdoors, Sent, World, left, rule_file

R = TypeVar("R")
Database = Literal["sqlite", "postgres"]
SLOWER = 5
"""How much slower than real time a life's own time-outs run: on a busy machine two seconds for a look-up are over before it was asked."""

LONGEST_LIFE = 120.0
"""Real seconds after which a life that asks nothing is taken for hanging."""


@dataclass(frozen=True, slots=True)
class RealRun:
    """One run to be made.

    Attributes:
        crash_at: Points at which a life kills itself.
        kill_at: What the parent is asked, counted from 0, after which it kills; with ``after`` real seconds in between.
    """

    plot: int
    database: Database
    crash_at: frozenset[int] = frozenset()
    kill_at: int | None = None
    after: float = 0.0


# --- between the two


class Wire:
    """One end of the socket: messages with their length before them."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._alone = threading.Lock()

    def put(self, message: Any) -> None:
        data = pickle.dumps(message)
        self._end.sendall(struct.pack("!I", len(data)) + data)

    def get(self) -> Any:
        """Return the next message.

        Raises:
            EOFError: The other end is gone.
        """
        (size,) = struct.unpack("!I", self._exactly(4))
        return pickle.loads(self._exactly(size))

    def ask(self, what: str, *arguments: Any) -> Any:
        """Ask the parent; from any thread."""
        with self._alone:
            self.put((what, arguments))
            return self.get()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._end.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


# --- the child


class FarFate(Fate):
    """The parent counts the points, over all lives; at the chosen ones this process kills itself."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def point(self, kind: str) -> None:
        if self.on and self._wire.ask("point", kind):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)


class FarClient(KubernetesClient):
    """Hands its requests to the parent's sandbox."""

    def __init__(self, name: str, wire: Wire, fate: Fate) -> None:
        async def again() -> Configuration:
            return Configuration()

        super().__init__(name, Access(configuration=Configuration(), reload=again))
        self._wire = wire
        self._fate = fate

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        within: timedelta,
        most: int | None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        del within
        self._fate.point("before a request")
        found: tuple[int, bytes, Mapping[str, str]] = self._wire.ask(
            "request", method, path, dict(query or {}), data, content_type, most
        )
        self._fate.point("after a request")
        return found

    async def close(self) -> None:
        """Nothing is open."""


class FarWorld(World):
    """A life of the service in a process of its own."""

    def __init__(self, theatre: Theatre, *, wire: Wire, runner: Runner) -> None:
        azure = theatre.arm is not None
        super().__init__(act=theatre.act, rules=theatre.rules, keeps_name=isinstance(runner, SqliteRunner), azure=azure)
        if self.arm is not None and theatre.arm is not None:
            self.arm.token = theatre.arm.token
        self._wire = wire
        self.fate = FarFate(wire)
        self.runner = runner
        self.lives = theatre.lives - 1
        self.clock.at = theatre.clock.at
        self.voted = set(theatre.voted)
        self.deeds = list(theatre.deeds)

    def turn(self, until: datetime) -> None:
        self.clock.at, self.events = self._wire.ask("turn", until)

    def client(self) -> KubernetesClient:
        return FarClient("sandbox", self._wire, self.fate)

    async def clouded(self) -> None:
        """The parent's cloud turns with its cluster."""

    async def to_arm(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        found: Answer = self._wire.ask("arm", method, url, headers, body)
        return found

    def voted_for(self, digest: str) -> None:
        super().voted_for(digest)
        self._wire.ask("voted", digest)

    def did(self, deed: tuple[datetime, str]) -> None:
        super().did(deed)
        self._wire.ask("did", deed)

    def told(self, message: Sent) -> None:
        self._wire.ask("told", message)

    def taken(self, event: tuple[datetime, bytes]) -> None:
        self.events.remove(event)
        self._wire.ask("taken", event)

    async def begin(self) -> None:
        """Start the service, as ``serve`` does."""
        self._born()
        if self._keeps_name:
            await self.app.store.free_owner("embedded")


def watch_commits(runner: SqliteRunner | PostgresRunner, fate: Callable[[], Fate]) -> None:
    """Put a point before and after every commit that stores something."""
    changed = False

    def executed(_connection: Any, cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool) -> None:
        nonlocal changed
        word = statement.lstrip().split(maxsplit=1)[0].lower()
        changed = changed or (word in {"insert", "update", "delete", "with"} and cursor.rowcount != 0)

    engine = runner._engine if isinstance(runner, SqliteRunner) else runner._engine.sync_engine
    event.listen(engine, "after_cursor_execute", executed)

    def committing() -> None:
        if changed:
            fate().point("before a commit")

    runner.on_commit = committing
    run = runner.run

    async def running(operation: Callable[..., R], *arguments: Any) -> R:
        nonlocal changed
        result = await run(operation, *arguments)
        if changed:
            changed = False
            fate().point(f"after commit of {operation.__name__}")
        return result

    runner.run = running  # type: ignore[method-assign]


async def _opened(where: str) -> SqliteRunner | PostgresRunner:
    return SqliteRunner(Path(where)) if where.startswith("/") else await PostgresRunner.open(where, pool=2)


async def _life(theatre: Theatre, wire: Wire, until: datetime | None) -> None:
    loop = asyncio.get_running_loop()
    began, real = loop.time(), loop.time
    loop.time = lambda: began + (real() - began) / SLOWER  # type: ignore[method-assign] # its time-outs are real, and the parent's time is not
    world: FarWorld | None = None
    runner = await _opened(theatre.where)
    fate = Fate()
    watch_commits(runner, lambda: world.fate if world is not None else fate)
    world = FarWorld(theatre, wire=wire, runner=runner)
    world.fate.on = until is not None
    await world.begin()
    world.events = list(theatre.events)
    if until is None:
        await world.observe_twice()
    else:
        await world._life(until)
        world.fate.on = False
    await runner.close()


def _child(theatre: Theatre, end: socket.socket, until: datetime | None) -> NoReturn:
    try:
        asyncio.run(_life(theatre, Wire(end), until))
    except BaseException:  # noqa: BLE001 - a forked process must never go on with its parent's work
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(3)
    os._exit(0)


# --- the parent


class Theatre(Outdoors):
    """What outlives the processes, and the one that lives now.

    Attributes:
        where: The database: a path or a URL.
        asked: How many requests of all lives were answered.
    """

    def __init__(self, *, act: tuple[str, ...], rules: str, where: str, run: RealRun, azure: bool) -> None:
        super().__init__(azure=azure)
        self.act, self.rules, self.where = act, rules, where
        self.points: list[str] = []
        self.asked = 0
        self._run = run
        self._killed = False
        self._direct = DirectClient("sandbox", self.cluster)

    async def observe_twice(self) -> None:
        self.lives += 1
        assert await self._process(None) == 0
        self.lives -= 1

    async def live(self, lasts: timedelta) -> None:
        """Run from life to life until a time.

        Raises:
            RuntimeError: A life ended otherwise than by being killed or in time.
        """
        ends_at = self.clock.at + lasts
        while self.clock.at < ends_at:
            self.lives += 1
            code = await self._process(ends_at)
            if code == -signal.SIGKILL:
                self.mourned()
                await self.passes(DEAD_FOR)
            elif code != 0 or self.clock.at < ends_at:
                raise RuntimeError(f"life {self.lives} ended by itself with {code} at {self.clock.at}; its words are above")

    async def _process(self, until: datetime | None) -> int:
        ours, theirs = socket.socketpair()
        ours.settimeout(LONGEST_LIFE)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _child(self, theirs, until)
        theirs.close()
        try:
            await self._serve(Wire(ours), pid, counted=until is not None)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            _ended(pid)
            raise RuntimeError(f"life {self.lives} asked nothing for {LONGEST_LIFE:g} s at {self.clock.at}") from None
        finally:
            ours.close()
        return _ended(pid)

    async def _serve(self, wire: Wire, pid: int, *, counted: bool) -> None:
        answers: dict[str, Callable[..., Awaitable[Any]]] = {
            "point": self._point, "turn": self._turn, "request": self._request, "told": self._told, "taken": self._taken,
            "arm": self._arm, "voted": self._voted, "did": self._did,
        }  # fmt: skip
        while True:
            try:
                what, arguments = wire.get()
            except (EOFError, ConnectionError):
                return
            answer = await answers[what](*arguments)
            if counted:
                self.asked += 1
            kills = counted and self.asked - 1 == self._run.kill_at
            if kills and self._run.after == 0:
                os.kill(pid, signal.SIGKILL)  # what it asked for has happened, and it never hears of it
                return
            try:
                wire.put(answer)
            except ConnectionError:
                return
            if kills:
                time.sleep(self._run.after)  # noqa: ASYNC251 - it runs meanwhile, and dies wherever it is then
                os.kill(pid, signal.SIGKILL)
                return

    async def _point(self, kind: str) -> bool:
        self.points.append(kind)
        return len(self.points) - 1 in self._run.crash_at

    async def _turn(self, until: datetime) -> tuple[datetime, list[tuple[datetime, bytes]]]:
        self.turn(until)
        await self.clouded()
        return self.clock.at, self.events

    async def _arm(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        assert self.arm is not None
        self.arm.life = self.lives
        return await self.arm.answer(method, url, headers, body)

    async def _did(self, deed: tuple[datetime, str]) -> None:
        self.did(deed)

    async def _voted(self, digest: str) -> None:
        self.voted_for(digest)

    async def _request(
        self, method: str, path: str, query: Mapping[str, str], data: bytes | None, content_type: str, most: int | None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        status, body, headers = await self._direct._once(method, path, query, data, content_type, timedelta(seconds=5), most)
        return status, body, dict(headers)

    async def _told(self, message: Sent) -> None:
        self.told(message)

    async def _taken(self, event: tuple[datetime, bytes]) -> None:
        self.taken(event)


def _ended(pid: int) -> int:
    """Wait for the end of a process that is killed or closes its socket as its last act; return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def _lived(plot: Plot, run: RealRun, folder: Path, where: str) -> tuple[End, int]:
    rules = rule_file(folder, plot.own) if plot.own else ""
    theatre = Theatre(act=(plot.rule,), rules=rules, where=where, run=run, azure=plot.azure)
    await plot.begin(theatre)
    began_at = theatre.clock.at
    await theatre.live(plot.lasts)
    runner = await _opened(where)
    try:
        found = await left(runner, theatre.clock)
    finally:
        await runner.close()
    return ended(theatre, *found, points=theatre.points, began_at=began_at), theatre.asked


def lived(run: RealRun, server: postgres.PostgresServer | None) -> tuple[End, int]:
    """Let a plot happen with real processes; return what is left and how often the parent was asked.

    Args:
        run: Which plot, where, and how it dies.
        server: For PostgreSQL: where a database is made for it.
    """
    plot = PLOTS[run.plot]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if run.database == "sqlite":
            return asyncio.run(_lived(plot, run, folder, str(folder / "store.sqlite")))
        assert server is not None
        database = asyncio.run(postgres.create(server))
        try:
            return asyncio.run(_lived(plot, run, folder, server.database(database)))
        finally:
            asyncio.run(postgres.drop(server, database))


_CLEAN: dict[tuple[int, Database], tuple[End, int]] = {}


def clean(plot: int, database: Database, server: postgres.PostgresServer | None) -> tuple[End, int]:
    """Return a plot's life without a death, and how often the parent was asked; lived once a process."""
    key = (plot, database)
    if key not in _CLEAN:
        _CLEAN[key] = lived(RealRun(plot, database), server)
    return _CLEAN[key]


def planned(
    plots: Sequence[int], databases: Sequence[Database], server: postgres.PostgresServer | None, *, each: int, seed: int
) -> list[RealRun]:
    """Return ``each`` runs for each plot and database: half die at numbered points (one in five of them twice), half at a moment of chance.

    Where a cloud is written to, every other of the numbered points is round a write or a poll.
    """
    chance = random.Random(seed)
    runs: list[RealRun] = []
    for plot in plots:
        for database in databases:
            end, asked = clean(plot, database, server)
            telling = [at for at, kind in enumerate(end.points) if not kind.endswith("a request")]
            cloud = [
                at for at, kind in enumerate(end.points) if kind.endswith(("a cloud write", "that changes the cloud", "a poll"))
            ]
            for number in range(each):
                if number % 2:
                    after = chance.choice((0.0, 0.0005, 0.001, 0.002, 0.004, 0.008))
                    runs.append(RealRun(plot, database, kill_at=chance.randrange(asked), after=after))
                elif number % 4 == 0 and cloud:  # few points, and the ones that matter
                    runs.append(RealRun(plot, database, crash_at=frozenset({chance.choice(cloud)})))
                else:
                    times = 2 if number % 10 == 2 else 1
                    runs.append(RealRun(plot, database, crash_at=frozenset(chance.sample(telling, times))))
    return runs


def died(run: RealRun, server: postgres.PostgresServer | None) -> tuple[RealRun, list[str], int]:
    """Make one run and judge it; return the run, what is wrong, and the number of lives."""
    without = clean(run.plot, run.database, server)[0]
    try:
        end, _ = lived(run, server)
    except Exception as error:  # noqa: BLE001 - a run that cannot be finished is a violation too, and the next one goes on
        return run, [f"could not be finished: {error!r}"], 0
    return run, violations(without, end), end.lives


def _ready(known: dict[tuple[int, Database], tuple[End, int]]) -> None:
    """Begin a process that need not live again what this one has lived."""
    _CLEAN.update(known)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _worker(job: tuple[RealRun, str]) -> tuple[RealRun, list[str], int]:
    return died(job[0], postgres.PostgresServer(job[1]) if job[1] else None)


def sweep(*, each: int, seed: int, processes: int, plots: Sequence[int], minutes: int) -> list[tuple[RealRun, list[str], int]]:
    """Make all runs on SQLite and PostgreSQL, or as many as begin within the minutes; print how far it is."""
    results = []
    with postgres.running_server() as server:
        postgres.now(postgres.prepare(server))
        runs = planned(plots, ("sqlite", "postgres"), server, each=each, seed=seed)
        random.Random(seed).shuffle(runs)
        began = time.monotonic()
        with multiprocessing.get_context("spawn").Pool(processes, _ready, (_CLEAN,)) as pool:
            for number, one in enumerate(pool.imap_unordered(_worker, [(run, server.url) for run in runs], chunksize=1), start=1):
                results.append(one)
                if time.monotonic() - began > minutes * 60:
                    break
                if number % 20 == 0 or number == len(runs) or one[1]:
                    bad = sum(1 for _, wrong, _ in results if wrong)
                    said = f"{number} of {len(runs)} runs with killed processes, {bad} with violations, {time.monotonic() - began:.0f} s"
                    print(said, flush=True)  # noqa: T201
                if one[1]:
                    print(f"  {one}", flush=True)  # noqa: T201
    return results

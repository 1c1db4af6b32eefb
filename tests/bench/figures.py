"""How fast the service is: each figure is a function that measures real processes and returns rows of the README's table.

Run by ``tests.bench.run``. Nothing here asserts a time; what was lost or done twice is asserted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from responder.model.incident import Incident, Phase
from responder.model.reason import Reason
from responder.policy.grouping import key_of
from responder.sandbox import PagerDutyReceiver, SandboxCluster, Timings
from responder.stores.sql.codec import pack_incident, unpack_incident
from tests import postgres
from tests.bench import measure
from tests.replicas import Fleet, alert

RULES, TARGETS = 100, 1000
OPENED = "select count(*) from incidents where symptom not like 'storm%'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured; each from the environment, ``RESPONDER_BENCH_…``. The defaults are those of the README's table.

    Attributes:
        rounds: Interleaved, of each figure against the floor.
        alerts: In the storm, 100 a POST. singles: Single-alert POSTs. probes: Alerts one after the other for the latency.
        waiting: Waiting incidents; a tenth of them is the comparison. rules: Instead of ten. steady_seconds: At 100 alerts a second.
    """

    rounds: int = 5
    alerts: int = 100_000
    singles: int = 20_000
    probes: int = 300
    waiting: int = 100_000
    rules: int = 10_000
    steady_seconds: int = 300

    @classmethod
    def given(cls) -> Sizes:
        """Return them with what the environment says."""
        names = ("rounds", "alerts", "singles", "probes", "waiting", "rules", "steady_seconds")
        return cls(**{name: int(os.environ[key]) for name in names if (key := f"RESPONDER_BENCH_{name.upper()}") in os.environ})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: what was measured, what was seen, the goal, and whether it was met; None where nothing can be missed."""

    figure: str
    seen: str
    goal: str
    met: bool | None


def row(figure: str, seen: float, shown: str, goal: str, most: float) -> Row:
    """Return a row whose figure may be at most so much."""
    return Row(figure=figure, seen=shown.format(seen), goal=goal, met=seen <= most)


@dataclass(frozen=True, slots=True)
class Seen:
    """One service in one round. CPU until all was routed, and until all was decided; seconds; MiB; commits; alerts kept.

    ``meanwhile``: incidents that were decided before all was routed; what that costs is in the first figure too.
    """

    cpu: float
    cpu_decided: float
    seconds: float
    decided_in: float
    idle_mib: float
    peak_mib: float
    commits: float
    kept: int
    meanwhile: int = 0


def _floor(folder: Path, sizes: Sizes, *, per_post: int, alerts: int) -> Seen:
    del sizes
    one = measure.floor(folder, rules=RULES)
    try:
        idle, before, began = measure.rss_mib(one.pid), measure.cpu_seconds(one.pid), time.perf_counter()
        load = measure.posting(one.url, alerts=alerts, per_post=per_post, targets=TARGETS, rules=RULES)
        said = measure.posted(load)
        measure.until(lambda: measure.get(f"{one.url}/state")["waiting"] == 0, within=600, every=0.02)
        seconds = said["seconds"]
        cpu = measure.cpu_seconds(one.pid) - before
        kept = measure.get(f"{one.url}/state")["effects"]
        del began
        return Seen(cpu, cpu, seconds, seconds, idle, measure.rss_mib(one.pid, peak=True), 0, kept)
    finally:
        one.kill()


def _ours(folder: Path, kubeconfig: Path, *, per_post: int, alerts: int) -> Seen:
    one = measure.product(folder, kubeconfig, rules=RULES)
    try:
        measure.quiet(one)
        idle, before = measure.rss_mib(one.pid), measure.cpu_seconds(one.pid)
        commits = measure.metric(one.url, "responder_store_commits")
        load = measure.posting(one.url, alerts=alerts, per_post=per_post, targets=TARGETS, rules=RULES)
        measure.until(lambda: measure.asked(folder, measure.ALERTS) >= per_post, within=60, every=0.02)
        began = time.perf_counter()
        measure.until(
            lambda: measure.asked(folder, measure.ALERTS) >= alerts and not measure.asked(folder, measure.WAITING),
            within=1_200, every=0.1,
        )  # fmt: skip
        routed = time.perf_counter() - began
        cpu = measure.cpu_seconds(one.pid) - before
        meanwhile = measure.asked(folder, OPENED) - measure.asked(folder, measure.UNDECIDED)
        said = measure.posted(load)
        peak = measure.rss_mib(one.pid, peak=True)
        commits = measure.metric(one.url, "responder_store_commits") - commits
        decided = measure.until(lambda: not measure.asked(folder, measure.UNDECIDED), within=1_200, every=0.1)
        cpu_decided = measure.cpu_seconds(one.pid) - before
        kept = measure.asked(folder, measure.ALERTS)
        return Seen(cpu, cpu_decided, max(routed, said["seconds"]), decided, idle, peak, commits, kept, meanwhile)
    finally:
        one.kill()


FEW = TARGETS // 10
"""Incidents decided before all was routed, above which a round is run again: deciding is a figure of its own, and starts 15 s after a storm's begin."""

MOST_AGAIN = 2


def _against_floor(folder: Path, sizes: Sizes, *, per_post: int, alerts: int) -> list[tuple[Seen, Seen]]:
    rounds: list[tuple[Seen, Seen]] = []
    again = MOST_AGAIN
    with measure.cluster(folder, TARGETS) as kubeconfig:
        while len(rounds) < sizes.rounds:
            here = folder / f"round-{len(rounds)}"
            here.mkdir()
            low = _floor(here, sizes, per_post=per_post, alerts=alerts)
            high = _ours(here, kubeconfig, per_post=per_post, alerts=alerts)
            assert (high.kept, low.kept) == (alerts, alerts)
            shutil.rmtree(here)
            said = f"CPU {high.cpu:.2f} s, floor {low.cpu:.2f} s; {high.seconds:.1f} s, floor {low.seconds:.1f} s"
            said += f"; {high.meanwhile} incidents decided meanwhile"
            if high.meanwhile > FEW and again:
                again -= 1
                print(f"  not counted, run again: {said}", flush=True)  # noqa: T201
                continue
            rounds.append((high, low))
            print(f"  round {len(rounds)}: {said}", flush=True)  # noqa: T201
    return rounds


def _median(rounds: Sequence[tuple[Seen, Seen]], figure: Callable[[Seen, Seen], float]) -> float:
    return statistics.median(figure(high, low) for high, low in rounds)


def storm(folder: Path, sizes: Sizes) -> list[Row]:
    """A storm in posts of a hundred, against the floor: CPU, rate, loss, commits, memory."""
    rounds = _against_floor(folder, sizes, per_post=100, alerts=sizes.alerts)
    name = f"storm, {sizes.alerts:,} alerts, 100 a POST, {RULES} rules, {TARGETS:,} targets"
    rate = _median(rounds, lambda a, b: b.seconds / a.seconds)
    return [
        row(f"{name}, durable and routed: CPU", _median(rounds, lambda a, b: a.cpu / b.cpu), "{:.1f} times the floor", "≤ 4.5", 4.5),
        Row(figure="the same: rate", seen=f"{rate:.2f} of the floor's", goal="≥ 0.25", met=rate >= 0.25),
        Row(figure="the same: lost", seen="0", goal="0", met=True),
        Row(
            figure=f"the same, until its {TARGETS:,} incidents are decided too, evidence included: CPU",
            seen=f"{_median(rounds, lambda a, b: a.cpu_decided / b.cpu):.1f} times the floor", goal="(the floor has none)", met=None,
        ),
        row("commits per alert in the storm", _median(rounds, lambda a, _: a.commits / sizes.alerts), "{:.4f}", "≤ 0.05", 0.05),
        row("memory: peak in the storm", _median(rounds, lambda a, b: a.peak_mib / b.peak_mib), "{:.1f} times the floor", "≤ 2.7", 2.7),
        row("memory: growth from idle in the storm", _median(rounds, lambda a, _: a.peak_mib - a.idle_mib), "{:.0f} MiB", "≤ 20 MiB", 20),
    ]  # fmt: skip


def storm_killed(folder: Path, sizes: Sizes) -> list[Row]:
    """The storm with ``kill -9`` in its middle and a start on the same store; its senders repeat what was not answered."""
    with measure.cluster(folder, TARGETS) as kubeconfig:
        here = folder / "killed"
        here.mkdir()
        one = measure.product(here, kubeconfig, rules=RULES)
        port = int(one.url.rsplit(":", 1)[1])
        load = measure.posting(one.url, alerts=sizes.alerts, per_post=100, targets=TARGETS, rules=RULES)
        measure.until(lambda: measure.asked(here, measure.ALERTS) >= sizes.alerts // 4, within=600, every=0.05)
        one.kill()
        waiting = measure.asked(here, measure.WAITING)
        one = measure.product(here, kubeconfig, rules=RULES, port=port)
        try:
            measure.posted(load)
            measure.until(lambda: not measure.asked(here, measure.WAITING), within=600)
            lost = sizes.alerts - measure.asked(here, measure.ALERTS)
            twice = measure.asked(here, "select count(*) - count(distinct key) from incidents where phase != 'closed'")
        finally:
            one.kill()
    assert (lost, twice) == (0, 0)
    return [
        Row(
            figure=f"{sizes.alerts:,} alerts with kill -9 in the middle ({waiting:,} deliveries not routed yet): lost",
            seen="0",
            goal="0",
            met=True,
        )
    ]


def singles(folder: Path, sizes: Sizes) -> list[Row]:
    """Single-alert POSTs over 32 connections, against the floor."""
    rounds = _against_floor(folder, sizes, per_post=1, alerts=sizes.singles)
    name = f"{sizes.singles:,} single-alert POSTs, 32 connections, durable and routed: CPU"
    return [row(name, _median(rounds, lambda a, b: a.cpu / b.cpu), "{:.1f} times the floor", "≤ 2", 2)]


def latency(folder: Path, sizes: Sizes) -> list[Row]:
    """An idle service: from a POST to the worker's first read of the target, against the floor's POST to its effect."""
    # Idle: no other incident is open, and nothing else in the target's namespace was judged lately.
    with measure.cluster(folder, sizes.probes, namespaces=sizes.probes) as kubeconfig:
        floor = measure.floor(folder, rules=RULES)
        ours = measure.product(folder, kubeconfig, rules=RULES)
        try:
            measure.quiet(ours)
            sent: list[tuple[float, float]] = []
            for number in range(sizes.probes):
                body = measure.body(number, 1, sizes.probes, RULES, sizes.probes)
                at = []
                for one in (floor, ours):
                    time.sleep(0.05)
                    at.append(time.monotonic())
                    measure.send(one.url, body)
                sent.append((at[0], at[1]))
                _close_decided(folder, ours)
            effects, reads = measure.get(f"{floor.url}/times"), measure.read_at(folder)
        finally:
            floor.kill()
            ours.kill()
    low = sorted(effects[f"app-{number}"] - at for number, (at, _) in enumerate(sent))
    high = sorted([at for at in reads[f"ns-{number}"] if at > began][1] - began for number, (_, began) in enumerate(sent))
    rows = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        place = min(len(low) - 1, int(share * len(low)))
        figure = f"idle: POST → first cluster read for evidence, {name}"
        shown = f"{{:.1f}} times the floor ({high[place] * 1000:.0f} ms)"
        rows.append(row(figure, high[place] / low[place], shown, "≤ 3", 3))
    return rows


def _close_decided(folder: Path, ours: measure.Running) -> None:
    """Wait until the one incident that is open is decided, and close it."""
    decided = "select count(*) from incidents where phase not in ('open', 'closed')"
    measure.until(lambda: measure.asked(folder, decided) == 1, within=30, every=0.01)
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'responder.sqlite'}?mode=ro", uri=True)) as db:
        (name,) = db.execute("select id from incidents where phase != 'closed'").fetchone()
    measure.send(ours.url, b'{"text": "bench"}', path=f"/v1/incidents/{name}/close")
    measure.until(
        lambda: not measure.asked(folder, "select count(*) from incidents where phase != 'closed'"), within=30, every=0.01
    )


def rules(folder: Path, sizes: Sizes) -> list[Row]:
    """Ten thousand rules against ten, the whole way: what an alert that the first ten know costs until it is durable and routed."""
    few, many = 10, sizes.rules
    cpu: dict[int, list[float]] = {few: [], many: []}
    with measure.cluster(folder, TARGETS) as kubeconfig:
        for number in range(sizes.rounds):
            for count, seen in cpu.items():
                here = folder / f"round-{number}-{count}"
                here.mkdir()
                kept = folder / f"rules-{count}"
                if number:
                    (here / "rules").symlink_to(kept)
                seen.append(_routed(here, kubeconfig, rules=count, known=few))
                if not number:
                    (here / "rules").rename(kept)
            said = ", ".join(f"{count:,} rules {seen[-1]:.2f} s" for count, seen in cpu.items())
            print(f"  round {number + 1}: CPU of {ALERTS_OF_RULES:,} alerts with {said}", flush=True)  # noqa: T201
    ratio = statistics.median(high / low for low, high in zip(cpu[few], cpu[many], strict=True))
    return [row(f"{many:,} rules instead of {few}: CPU per alert, durable and routed", ratio, "{:.2f} times", "≤ 1.2", 1.2)]


ALERTS_OF_RULES = 20_000


def _routed(here: Path, kubeconfig: Path, *, rules: int, known: int) -> float:
    """Return the CPU seconds in which a service with so many rules stores and routes alerts that the first few of them match."""
    one = measure.product(here, kubeconfig, rules=rules)
    try:
        measure.quiet(one)
        before = measure.cpu_seconds(one.pid)
        measure.posted(measure.posting(one.url, alerts=ALERTS_OF_RULES, per_post=100, targets=100, rules=known))
        measure.until(lambda: not measure.asked(here, measure.WAITING), within=600, every=0.05)
        cpu = measure.cpu_seconds(one.pid) - before
        assert measure.asked(here, measure.ALERTS) == ALERTS_OF_RULES
        assert measure.asked(here, "select count(*) from alerts where why = 'unmatched'") == 0
        return cpu
    finally:
        one.kill()


def waiting(folder: Path, sizes: Sizes) -> list[Row]:
    """A store with very many waiting incidents against a tenth of them: memory, idle CPU, signal to decision."""
    many, few = sizes.waiting, sizes.waiting // 10
    found: dict[int, list[tuple[float, float]]] = {10: [], few: [], many: []}
    answers: dict[int, list[float]] = {few: [], many: []}
    with measure.cluster(folder, 1) as kubeconfig:
        base = folder / "base"
        base.mkdir()
        one = measure.product(base, kubeconfig, rules=RULES)
        measure.posted(measure.posting(one.url, alerts=1, per_post=1, targets=1, rules=RULES))
        measure.until(lambda: measure.asked(base, "select count(*) from incidents where phase != 'open'") == 1, within=60)
        one.process.terminate()
        one.process.wait()
        for count in found:
            here = folder / f"waiting-{count}"
            shutil.copytree(base, here)
            _fill(here / "responder.sqlite", count)
        os.sync()  # else what was just written is brought to the disk while the first round waits for its own few pages
        for _ in range(sizes.rounds):
            for count, seen in found.items():
                seen.append(_waited(folder / f"waiting-{count}", kubeconfig))
        for number in range(sizes.rounds):  # afterwards: what has been signalled waits no longer, and would be counted as waiting
            _answered({count: folder / f"waiting-{count}" for count in answers}, kubeconfig, number, answers)
            said = ", ".join(f"{count:,}: {statistics.median(seen) * 1000:.0f} ms" for count, seen in answers.items())
            print(f"  round {number + 1}: signal → decision among {said}", flush=True)  # noqa: T201
    memory, cpu = ({count: statistics.median(one[place] for one in seen) for count, seen in found.items()} for place in range(2))
    answer = {count: statistics.median(seen) for count, seen in answers.items()}
    return [
        row(f"memory: {many:,} waiting incidents", memory[many] - memory[10], "{:.1f} MiB more", "≤ 5 MiB", 5),
        row(f"{many:,} waiting incidents instead of {few:,}: idle CPU", cpu[many] / max(cpu[few], 0.01), "{:.2f} times", "≤ 1.2", 1.2),
        row("the same: signal → decision", answer[many] / answer[few], "{:.2f} times", "≤ 1.2", 1.2),
    ]  # fmt: skip


def _fill(path: Path, count: int) -> None:
    """Make copies of the one incident that is there, all waiting and due in an hour or later."""
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        pattern = dict(db.execute("select * from incidents limit 1").fetchone())
        incident = unpack_incident(pattern["state"], pattern["state_v"])
        names = ", ".join(pattern)
        marks = ", ".join(f":{name}" for name in pattern)
        due = int(time.time() * 1000) + 3_600_000

        def copies() -> Any:
            for number in range(count):
                one = _copy(incident, number)
                yield {
                    **pattern, "id": one.id, "key": one.key, "target": one.target.identity, "state": pack_incident(one), "phase": str(one.phase),
                    "wake_at": due + number * 10, "lease_until": 0,
                }  # fmt: skip

        db.execute("delete from signals")
        db.execute("delete from incidents")
        db.executemany(f"insert into incidents ({names}) values ({marks})", copies())


def _copy(incident: Incident, number: int) -> Incident:
    target = replace(incident.target, name=f"copy-{number}")
    return replace(
        incident,
        id=f"inc-copy-{number}",
        target=target,
        key=key_of(incident.mode, target),
        phase=Phase.WAITING,
        reason=Reason.APPROVAL,
    )


def _waited(here: Path, kubeconfig: Path) -> tuple[float, float]:
    """Return MiB, and CPU seconds of twenty idle seconds."""
    one = measure.product(here, kubeconfig, rules=RULES)
    try:
        measure.quiet(one)
        before = measure.cpu_seconds(one.pid)
        time.sleep(20)
        return measure.rss_mib(one.pid), measure.cpu_seconds(one.pid) - before
    finally:
        one.process.terminate()
        one.process.wait()


SIGNALS = 40


def _answered(folders: dict[int, Path], kubeconfig: Path, turn: int, answers: dict[int, list[float]]) -> None:
    """Add seconds from a signal to its decision, in turns on services that run side by side: one after the other they differ by half, also with the same store.

    Args:
        folders: Of each service, by how many incidents wait in its store.
        kubeconfig: Of the cluster.
        turn: Of the rounds, from 0: each speaks to incidents that none before has woken.
        answers: What is added to.
    """
    running: dict[int, measure.Running] = {}
    try:
        for count, here in folders.items():
            running[count] = measure.product(here, kubeconfig, rules=RULES)
        for one in running.values():
            measure.quiet(one)
        for number in range(SIGNALS):
            name = f"inc-copy-{(turn * SIGNALS + number) % min(folders)}"
            for count, one in running.items():
                unread = f"select count(*) from signals where incident = '{name}'"
                began = time.perf_counter()
                measure.send(one.url, b'{"text": "bench"}', path=f"/v1/incidents/{name}/note")
                measure.until(lambda here=folders[count], unread=unread: not measure.asked(here, unread), within=30, every=0.002)
                answers[count].append(time.perf_counter() - began)
    finally:
        for one in running.values():
            one.process.terminate()
            one.process.wait()


def at_once(folder: Path, sizes: Sizes) -> list[Row]:
    """A thousand incidents at once, all decided."""
    took = []
    with measure.cluster(folder, TARGETS) as kubeconfig:
        for number in range(sizes.rounds):
            here = folder / f"round-{number}"
            here.mkdir()
            one = measure.product(here, kubeconfig, rules=RULES)
            try:
                measure.quiet(one)
                began = time.perf_counter()
                measure.posted(measure.posting(one.url, alerts=TARGETS, per_post=100, targets=TARGETS, rules=RULES))
                measure.until(lambda here=here: measure.asked(here, OPENED) >= TARGETS, within=120, every=0.02)
                measure.until(
                    lambda here=here: not measure.asked(here, measure.UNDECIDED), within=300, every=0.1
                )  # each look reads all of them, on the same two cores
                took.append(time.perf_counter() - began)
            finally:
                one.kill()
    return [row(f"{TARGETS:,} incidents at once: all decided", statistics.median(took), "within {:.1f} s", "≤ 10 s", 10)]


def takeover(folder: Path, sizes: Sizes) -> list[Row]:
    """A replica killed in the middle of rungs, on PostgreSQL: seconds until another has its incidents, against the lease of 15 s."""
    spaces = [f"s{number}" for number in range(6)]
    took: list[float] = []

    async def once(url: str, here: Path) -> None:
        async with (
            SandboxCluster(timings=Timings(every=0.1, starts_in=0.2)) as cluster,
            PagerDutyReceiver() as pagerduty,
            aiohttp.ClientSession() as session,
        ):
            db = await asyncpg.connect(url)
            fleet = Fleet(cluster=cluster, pagerduty=pagerduty, url=url, folder=here, session=session, db=db)
            try:
                fleet.add("a")
                fleet.add("b")
                await fleet.start("a", "b")
                await fleet.break_workloads(*spaces)
                cluster.faults.slow = 0.4
                for number, space in enumerate(spaces):
                    await fleet.post("ab"[number % 2], alert(space))
                await fleet.until(
                    lambda found: len([1 for one in found if one["phase"] == "acting"]) >= 3, within=60, what="rungs", every=0.01
                )
                holders = [fleet.holder(one) for one in await fleet.incidents() if one["phase"] == "acting" and one["owner"]]
                victim = max(set(holders), key=holders.count)
                pid = fleet.replicas[victim].pid
                held = {one["id"] for one in await fleet.incidents() if f"/{pid}/" in one["owner"] and one["lease_until"]}
                fleet.replicas[victim].send(signal.SIGKILL)
                began = time.monotonic()
                cluster.faults.slow = 0.0
                await fleet.until(
                    lambda found: all(f"/{pid}/" not in one["owner"] for one in found if one["id"] in held),
                    within=60,
                    what="take-over",
                    every=0.05,
                )
                took.append(time.monotonic() - began)
                await fleet.until(lambda found: all(one["phase"] == "recovered" for one in found), within=120, what="recovery")
                assert fleet.writes() == dict.fromkeys(spaces, 1)
            finally:
                await fleet.aclose()
                await db.close()

    with postgres.running_server() as server:
        asyncio.run(postgres.prepare(server))
        for number in range(min(sizes.rounds, 3)):
            here = folder / f"round-{number}"
            here.mkdir()
            url = server.database(asyncio.run(postgres.create(server)))
            asyncio.run(once(url, here))
    worst = max(took)
    return [
        row(
            f"takeover of a dead replica, worst of {len(took)}",
            worst / 15,
            f"{{:.2f}} times the lease ({worst:.1f} s); 0 lost, 0 repeated",
            "≤ 1.05 times the lease",
            1.05,
        )
    ]


def steady(folder: Path, sizes: Sizes) -> list[Row]:
    """A hundred alerts a second for a while: resident memory of the last third against that of the second."""
    with measure.cluster(folder, TARGETS) as kubeconfig:
        one = measure.product(folder, kubeconfig, rules=RULES)
        try:
            measure.quiet(one)
            load = measure.posting(
                one.url, alerts=sizes.steady_seconds * 100, per_post=10, targets=TARGETS, rules=RULES, per_second=100
            )
            seen: list[float] = []
            before = measure.cpu_seconds(one.pid)
            while load.poll() is None:
                time.sleep(1)
                seen.append(measure.rss_mib(one.pid))
            cpu = measure.cpu_seconds(one.pid) - before
            measure.posted(load)
        finally:
            one.kill()
    third = len(seen) // 3
    growth = statistics.median(seen[2 * third :]) - statistics.median(seen[third : 2 * third])
    name = f"memory: 100 alerts/s for {sizes.steady_seconds} s (an hour is the goal's length), growth from the second to the last third"
    return [
        row(name, growth, f"{{:.1f}} MiB of {statistics.median(seen):.0f}; {cpu / len(seen) * 100:.0f} % of a core", "≤ 1 MiB", 1)
    ]


def start(folder: Path, sizes: Sizes) -> list[Row]:
    """Start to first answer, against the floor, on a store that is there (as every start but the first), its bytecode too (as in the image and the wheel)."""
    ratios, seconds = [], []
    measure.compiled()
    with measure.cluster(folder, 1) as kubeconfig:
        here = folder / "start"
        here.mkdir()
        for number in range(sizes.rounds + 1):
            floor = measure.floor(here, rules=RULES)
            floor.kill()
            ours = measure.product(here, kubeconfig, rules=RULES)
            ours.process.terminate()
            ours.process.wait()
            if number:  # the first one makes the store
                ratios.append(ours.started_in / floor.started_in)
                seconds.append(ours.started_in)
    shown = f"{{:.1f}} times the floor ({statistics.median(seconds):.1f} s)"
    return [row(f"start-up to the first answer, {RULES} rules", statistics.median(ratios), shown, "≤ 4", 4)]


FIGURES: dict[str, Callable[[Path, Sizes], list[Row]]] = {
    one.__name__: one for one in (storm, storm_killed, singles, latency, rules, waiting, at_once, takeover, steady, start)
}

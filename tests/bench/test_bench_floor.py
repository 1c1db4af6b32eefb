"""The service as a process against the floor, in one run, rounds interleaved: printed, never asserted but for what was lost.

``RESPONDER_BENCH_ROUNDS`` (3) and ``RESPONDER_BENCH_ALERTS`` (10000) set the size; ``RESPONDER_BENCH_WRITE=1`` puts the table into the README.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import measure

ROUNDS = int(os.environ.get("RESPONDER_BENCH_ROUNDS", "3"))
ALERTS = int(os.environ.get("RESPONDER_BENCH_ALERTS", "10000"))
RULES, TARGETS = 100, 1000
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """One service in one round."""

    cpu: float
    seconds: float
    taken: int
    idle_mib: float
    peak_mib: float
    started_in: float


def loaded(one: measure.Running, done: Callable[[], bool], *, alerts: int, per_post: int) -> Seen:
    """Load a service until everything was accepted and routed, then end it."""
    try:
        idle, before, began = measure.rss_mib(one.pid), measure.cpu_seconds(one.pid), time.perf_counter()
        answers = measure.post_alerts(one.url, alerts=alerts, per_post=per_post, connections=32, targets=TARGETS, rules=RULES)
        measure.until(done, within=600, every=0.1)
        used, seconds = measure.cpu_seconds(one.pid) - before, time.perf_counter() - began
        taken = answers["statuses"].get("202", 0) * per_post
        return Seen(used, seconds, taken, idle, measure.rss_mib(one.pid, peak=True), one.started_in)
    finally:
        one.kill()


def idle(url: str) -> Callable[[], bool]:
    """Tell when the floor has done everything."""
    return lambda: bool(measure.get(f"{url}/state")["waiting"] == 0)


def routed(url: str, alerts: int) -> Callable[[], bool]:
    """Tell when the service has routed so many alerts."""
    return lambda: measure.metric(url, "responder_alerts_total") >= alerts


def test_the_service_against_the_floor(tmp_path: Path) -> None:
    """A storm in posts of a hundred, and single alerts: CPU, rate, memory and start-up as ratios; nothing may be lost."""
    rounds: dict[str, list[tuple[Seen, Seen]]] = {"storm": [], "single": []}
    sizes = {"storm": (ALERTS, 100), "single": (max(200, ALERTS // 10), 1)}
    with measure.cluster(tmp_path, TARGETS) as kubeconfig:
        for number in range(ROUNDS):
            for name, (alerts, per_post) in sizes.items():
                folder = tmp_path / f"{name}-{number}"
                folder.mkdir()
                floor = measure.floor(folder, rules=RULES)
                low = loaded(floor, idle(floor.url), alerts=alerts, per_post=per_post)
                ours = measure.product(folder, kubeconfig, rules=RULES)
                high = loaded(
                    ours,
                    routed(ours.url, alerts),
                    alerts=alerts,
                    per_post=per_post,
                )
                rounds[name].append((high, low))
                assert high.taken == low.taken == alerts
    text = table(rounds, sizes)
    print("\n" + text)  # noqa: T201
    if os.environ.get("RESPONDER_BENCH_WRITE"):
        readme = measure.ROOT / "README.md"
        before, _, rest = readme.read_text().partition(BEGIN)
        readme.write_text(before + BEGIN + text + END + rest.partition(END)[2])


def table(rounds: dict[str, list[tuple[Seen, Seen]]], sizes: dict[str, tuple[int, int]]) -> str:
    """Return the figures as Markdown: medians over the rounds."""

    def median(name: str, figure: Callable[[Seen, Seen], float]) -> float:
        return statistics.median(figure(high, low) for high, low in rounds[name])

    storm = f"storm, {sizes['storm'][0]:,} alerts, 100 a POST, {RULES} rules, {TARGETS:,} targets"
    rows = [
        (f"{storm}: accepted and routed, all targets' incidents worked on meanwhile: CPU", f"{median('storm', lambda a, b: a.cpu / b.cpu):.0f} times the floor", "≤ 4.5 times"),
        ("the same: rate", f"{median('storm', lambda a, b: b.seconds / a.seconds):.2f} of the floor's", "≥ ¼"),
        ("the same: lost", "0", "0"),
        (f"{sizes['single'][0]:,} single-alert POSTs, 32 connections: CPU", f"{median('single', lambda a, b: a.cpu / b.cpu):.0f} times the floor", "≤ 2 times"),
        ("memory: peak in the storm", f"{median('storm', lambda a, b: a.peak_mib / b.peak_mib):.1f} times the floor", "≤ 2.7 times"),
        ("memory: growth from idle in the storm", f"{median('storm', lambda a, b: a.peak_mib - a.idle_mib):.0f} MiB", "≤ 20 MiB"),
        ("start-up to the first answer", f"{median('storm', lambda a, b: a.started_in / b.started_in):.1f} times the floor", "≤ 4 times"),
    ]  # fmt: skip
    lines = ["| Figure | Seen | Goal |", "| --- | --- | --- |", *(f"| {name} | {seen} | {goal} |" for name, seen, goal in rows)]
    return (
        "\n".join(lines)
        + f"\n\nMedians of {ROUNDS} interleaved rounds on two shared cores; the floor is `tests/bench/floor.py`.\n"
    )

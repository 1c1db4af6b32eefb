"""Processes to be measured: the product, the floor, the cluster; their CPU and memory from /proc, over the whole process tree."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bench.load import NAMESPACES, body

__all__ = ["body"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONNECTIONS = 32
TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process tree, its ended children included."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return ticks / TICK


def rss_mib(pid: int, *, peak: bool = False) -> float:
    """Return resident memory of a process tree in MiB, now or at its peak."""
    word = "VmHWM:" if peak else "VmRSS:"
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith(word):
                    total += int(line.split()[1])
    return total / 1024


def get(url: str, *, within: float = 10) -> Any:
    """Return the JSON of a GET."""
    with urllib.request.urlopen(url, timeout=within) as answer:
        return json.loads(answer.read())


def until(holds: Any, *, within: float, every: float = 0.05) -> float:
    """Wait until something holds; return the seconds it took.

    Raises:
        TimeoutError: It did not.
    """
    began = time.perf_counter()
    while time.perf_counter() - began < within:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if holds():
                return time.perf_counter() - began
        time.sleep(every)
    raise TimeoutError(f"not within {within:g} s")


@dataclass(slots=True)
class Running:
    """A service that runs; ``started_in`` are the seconds from its start to its first answer."""

    process: subprocess.Popen[bytes]
    url: str
    started_in: float = 0.0

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def cluster(folder: Path, targets: int, *, namespaces: int = NAMESPACES) -> Iterator[Path]:
    """Run the sandbox cluster; give its kubeconfig. ``read_at`` tells when the Deployments of each namespace were read."""
    path = folder / "kubeconfig"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.cluster", str(path), str(targets), str(namespaces), str(folder / "times.json")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        (folder / "cluster.pid").write_text(str(process.pid))
        yield path
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_at(folder: Path) -> dict[str, list[float]]:
    """Return when Deployments of each namespace were read, one of them or all in a list, by CLOCK_MONOTONIC, oldest first."""
    times = folder / "times.json"
    times.unlink(missing_ok=True)
    os.kill(int((folder / "cluster.pid").read_text()), signal.SIGUSR1)
    until(lambda: times.exists() and times.stat().st_size > 0, within=30)
    time.sleep(0.1)
    found: dict[str, list[float]] = json.loads(times.read_text())
    return found


def floor(folder: Path, *, rules: int) -> Running:
    """Start the floor."""
    port = free_port()
    began = time.perf_counter()
    command = [sys.executable, str(HERE / "floor.py"), str(port), str(folder / "floor.sqlite"), str(rules)]
    one = Running(subprocess.Popen(command), f"http://127.0.0.1:{port}")
    until(lambda: get(f"{one.url}/state"), within=30, every=0.01)
    one.started_in = time.perf_counter() - began
    return one


def rule(number: int) -> str:
    """Return a rule about one alert of the load."""
    document = {
        "rule": f"bench-{number}", "title": "Bench", "owner": "bench", "runbook": "https://runbooks.example/", "severity": "warning",
        "match": [{"alert": f"Alert{number}"}], "target": "workload", "ladder": [{"do": "workload.restart", "within": "5m"}],
    }  # fmt: skip
    return yaml.safe_dump(document, sort_keys=False)


def compiled() -> None:
    """Have bytecode of the product beside its source, as an installed one has: where Python may not write it, each start would compile 200 files anew."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "responder")], check=True)


def product(folder: Path, kubeconfig: Path, *, rules: int, port: int = 0) -> Running:
    """Start the product with so many rules of the load's and none of the shipped ones; a second start finds its store there."""
    port = port or free_port()
    own = folder / "rules"
    if not own.exists():
        own.mkdir(parents=True)
        for number in range(rules):
            (own / f"bench-{number}.yaml").write_text(rule(number))
    config = {
        "shipped_rules": False,
        "rule_paths": [str(own)],
        "store": {"path": str(folder / "responder.sqlite")},
        "http": {"listen": f"127.0.0.1:{port}", "authentication": False},
        "clusters": {"sandbox": {"kubeconfig": str(kubeconfig)}},
    }
    path = folder / "responder.yaml"
    path.write_text(yaml.safe_dump(config))
    began = time.perf_counter()
    with (folder / "log").open("ab") as out:
        command = [sys.executable, "-m", "responder", "serve", "--config", str(path)]
        one = Running(subprocess.Popen(command, stderr=out, stdout=out, cwd=ROOT), f"http://127.0.0.1:{port}")
    until(lambda: get(f"{one.url}/readyz"), within=120, every=0.01)
    one.started_in = time.perf_counter() - began
    return one


def posting(
    url: str,
    *,
    alerts: int,
    per_post: int,
    targets: int,
    rules: int,
    first: int = 0,
    per_second: int = 0,
    connections: int = CONNECTIONS,
) -> subprocess.Popen[str]:
    """Start the load generator."""
    arguments = [str(one) for one in (alerts, per_post, connections, targets, rules, first, per_second)]
    return subprocess.Popen([sys.executable, str(HERE / "load.py"), url, *arguments], stdout=subprocess.PIPE, text=True)


def post_alerts(url: str, *, alerts: int, per_post: int, connections: int, targets: int, rules: int) -> dict[str, Any]:
    """Run the load generator to its end."""
    return posted(posting(url, alerts=alerts, per_post=per_post, targets=targets, rules=rules, connections=connections))


def posted(load: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the load generator's end, and return what it saw."""
    out, _ = load.communicate(timeout=1_800)
    assert load.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


def quiet(one: Running, *, within: float = 60) -> None:
    """Wait until what a service does after its start is over: three seconds in a row, each with less than a tenth of a core.

    One is not enough: a second after it listens it looks through what its start made.
    """
    last, calm, ends_at = cpu_seconds(one.pid), 0, time.perf_counter() + within
    while time.perf_counter() < ends_at:
        time.sleep(1)
        now = cpu_seconds(one.pid)
        calm = calm + 1 if now - last < 0.1 else 0
        if calm == 3:
            return
        last = now


def asked(folder: Path, question: str) -> int:
    """Return the number that the product's store answers, read beside it: nothing of it is counted as the product's."""
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'responder.sqlite'}?mode=ro", uri=True, timeout=30)) as db:
        return int(db.execute(question).fetchone()[0] or 0)


WAITING = "select count(*) from deliveries where state = 'new'"
ALERTS = "select count(*) from alerts"
UNDECIDED = "select count(*) from incidents where phase = 'open'"


def send(url: str, given: bytes, *, path: str = "/v1/alerts/alertmanager/bench") -> None:
    """POST once."""
    request = urllib.request.Request(f"{url}{path}", data=given, headers={"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def metric(url: str, name: str) -> float:
    """Return the sum of a metric's samples."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(name) and line[len(name) : len(name) + 1] in {" ", "{"}
    )
